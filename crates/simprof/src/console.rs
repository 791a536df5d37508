//! Output of the command: messages to standard error, results to standard output.
//!
//! On a terminal, messages are wrapped at its width, and colour marks problems; `NO_COLOR` turns colour off. Elsewhere
//! each message is one line without colour. A closed pipe does not stop a measurement.

use std::io::{self, IsTerminal, Write};

use console::{Style, Term};
use simprof_report::format::shorten;
use textwrap::Options;

use crate::text::without_controls;

/// Smallest width at which text is wrapped.
const NARROWEST: u16 = 40;

/// Writes a line to standard error. A failure to write is ignored: no other channel could report it.
pub fn message(line: &str) {
    show("", &Style::new(), line);
}

/// Writes a line in bold to standard error.
pub fn heading(line: &str) {
    show(line, &Style::new().bold(), "");
}

/// Reports on standard error what the user should know.
pub fn note(text: &str) {
    show("simprof: note: ", &Style::new().yellow(), text);
}

/// Reports a failure on standard error.
pub fn error(text: &str) {
    show("simprof: ", &Style::new().red().bold(), text);
}

/// Writes `head`, in a style if standard error shows colours, and `rest` to standard error.
fn show(head: &str, style: &Style, rest: &str) {
    let text = format!("{head}{rest}");
    let text = without_controls(&shorten(&text));
    let mut stderr = io::stderr().lock();
    let text = if stderr.is_terminal() { wrap(&text, Term::stderr().size().1) } else { text };
    let _ = match text.strip_prefix(head) {
        Some(rest) => writeln!(stderr, "{}{rest}", style.clone().for_stderr().apply_to(head)),
        None => writeln!(stderr, "{text}"),
    };
}

/// Breaks lines that are longer than `width` columns. Their continuations are indented by two columns more.
fn wrap(text: &str, width: u16) -> String {
    let width = usize::from(width.max(NARROWEST));
    let lines = text.split('\n').map(|line| {
        let indent = " ".repeat(2 + line.len() - line.trim_start_matches(' ').len());
        let options = Options::new(width).subsequent_indent(&indent).break_words(false);
        textwrap::fill(line, options)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Writes text to standard output.
///
/// # Errors
/// Returns an error if it cannot be written, also if the reader has closed the pipe.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(without_controls(text).as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_wrapped_with_a_hanging_indent() {
        let text = "  1 the first function to look at is step, which takes most of the time\nshort";
        let lines: Vec<String> = wrap(text, 44).lines().map(str::to_owned).collect();
        assert_eq!(
            lines,
            [
                "  1 the first function to look at is step,",
                "    which takes most of the time",
                "short"
            ]
        );
    }

    #[test]
    fn paths_are_not_broken() {
        let path = "/a/long/path/that/is/wider/than/the/terminal/phase1/PHASE1_REPORT.md";
        assert!(wrap(&format!("results: {path}"), 40).lines().any(|line| line.trim() == path));
    }
}
