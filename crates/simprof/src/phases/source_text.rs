//! The source text beside lines of a report.

use std::path::Path;

use simprof_report::analysis::LoopCost;

/// Number of lines of a loop whose text is shown.
const LOOP_LINES: usize = 4;
/// Maximum size of a source file, in bytes. Larger files are not read.
const MAX_SOURCE_BYTES: u64 = 16 << 20;

/// Returns the text of a source file, or `None` if it cannot be read or is too large.
pub fn source(path: &str) -> Option<String> {
    simprof_record::source::read(Path::new(path), MAX_SOURCE_BYTES)
}

/// Returns the text of a line, or of the lines of a loop: the first ones, joined.
pub fn of_row(path: &str, line: u32, in_loop: Option<&LoopCost>) -> Option<String> {
    let Some(found) = in_loop else { return source_line(path, line) };
    let text = source(path)?;
    let texts: Vec<&str> = text.lines().collect();
    let own = found.lines.iter().filter(|at| at.file == path);
    let range = found.first_line..=found.last_line;
    let numbers = own.map(|at| at.line).filter(|number| range.contains(number)).take(LOOP_LINES);
    let shown: Vec<&str> = numbers
        .filter_map(|number| Some(texts.get((number as usize).checked_sub(1)?)?.trim()))
        .collect();
    (!shown.is_empty()).then(|| shown.join(" "))
}

/// Returns the text of a line, or `None` if it cannot be read.
pub fn source_line(path: &str, line: u32) -> Option<String> {
    let text = source(path)?;
    text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?).map(str::to_owned)
}
