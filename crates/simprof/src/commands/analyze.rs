//! `simprof analyze`: what a profile says that another program recorded.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::Result;
use serde::Serialize;
use simprof_model::{CallProfile, Profile};
use simprof_record::RecordError;
use simprof_record::import::{Imported, Unit, import};
use simprof_report::calls::{Modules, analyse, describe};
use simprof_report::stacks::{analyse_stacks, describe_stacks};

use crate::cli::AnalyzeArgs;
use crate::console::print;
use crate::exit::{Ended, Wrong};

/// Larger files are refused: what has no end, such as a device, must not fill the memory.
const LARGEST: u64 = 1 << 30;

/// Prints what the profile says.
///
/// # Errors
/// Where the file cannot be read or is no profile of a known format, which is the command's fault, and where
/// standard output cannot be written.
pub fn run(arguments: &AnalyzeArgs) -> Result<Ended> {
    let path = &arguments.file;
    let bytes = read(path).map_err(|error| wrong(path, &error, mend(&error)))?;
    let (format, imported) =
        import(&bytes).map_err(|error| wrong(path, &error, mend_of_content(&error)))?;
    let text = match imported {
        Imported::Calls(profile) => calls(&profile, format, arguments)?,
        Imported::Stacks(profile, unit) => stacks(&profile, format, unit, arguments)?,
    };
    print(&text)?;
    Ok(Ended::Well)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it has more than 1 GiB"));
    }
    Ok(bytes)
}

fn mend(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "name a file that exists; `python -m cProfile -o FILE PROGRAM` writes one"
        }
        io::ErrorKind::IsADirectory => "name a file in it",
        io::ErrorKind::PermissionDenied => "get the permission to read it",
        io::ErrorKind::FileTooLarge => "analyse a part of it",
        _ => "name another file",
    }
}

fn mend_of_content(error: &RecordError) -> &'static str {
    match error {
        RecordError::ProfileMalformed { .. } => {
            "write it again, and let the program that writes it end by itself"
        }
        _ => "name a profile of one of these formats",
    }
}

fn wrong(path: &Path, error: &dyn std::error::Error, mend: &str) -> anyhow::Error {
    let reason = crate::replicate::describe(error);
    Wrong(format!("cannot analyse {}: {reason}; {mend}", path.display())).into()
}

/// A profile that was made here names packages that are here; one made elsewhere names what is not, or is other.
fn calls(profile: &CallProfile, format: &str, arguments: &AnalyzeArgs) -> Result<String> {
    let is_package = |folder: &str| Path::new(folder).join("__init__.py").is_file();
    let analysis = analyse(profile, format, &Modules::new(profile, &is_package));
    if arguments.json {
        return json(&analysis);
    }
    Ok(describe(&analysis, &title(arguments), arguments.top as usize))
}

fn stacks(profile: &Profile, format: &str, unit: Unit, arguments: &AnalyzeArgs) -> Result<String> {
    let unit = match unit {
        Unit::Nanoseconds => "ns",
        Unit::Bytes => "bytes",
        Unit::Samples => "samples",
    };
    let analysis = analyse_stacks(profile, format, unit);
    if arguments.json {
        return json(&analysis);
    }
    Ok(describe_stacks(&analysis, &title(arguments), arguments.top as usize))
}

fn title(arguments: &AnalyzeArgs) -> String {
    arguments.file.display().to_string()
}

/// JSON in which names are whole and cannot command a terminal: control characters are escaped, those too that JSON
/// lets stand.
fn json(analysis: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(analysis)?;
    let mut escaped = String::with_capacity(text.len() + 1);
    for character in text.chars() {
        if character.is_control() && character != '\n' {
            write!(escaped, "\\u{:04x}", u32::from(character))?;
        } else {
            escaped.push(character);
        }
    }
    Ok(escaped + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_names_and_the_terminal() {
        let name = "a\u{1b}[2J\u{9b}\u{7f}\n\"é";
        let text = json(&vec![name]).expect("text is JSON");
        assert!(!text.trim_end().chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&text).expect("JSON"), [name]);
    }
}
