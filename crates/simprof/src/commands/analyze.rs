//! `simprof analyze`: analyses a profile that another tool recorded.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::Result;
use serde::Serialize;
use simprof_model::CallProfile;
use simprof_record::import::{Imported, ImportedStacks, Unit, import};
use simprof_record::{RecordError, source};
use simprof_report::analysis::ComponentRules;
use simprof_report::calls::{Modules, analyse, describe};
use simprof_report::stacks::{StackInput, analyse_stacks, describe_stacks};

use crate::cli::AnalyzeArgs;
use crate::console::print;
use crate::exit::{Completion, UsageError};
use crate::spec::{FILE_NAME, Spec};
use crate::text::error_chain;

use super::run::rules;

/// Maximum size of a profile. Without a limit, reading a device such as /dev/zero would exhaust the
/// memory.
const MAX_BYTES: u64 = 1 << 30;

/// Prints the analysis.
///
/// # Errors
/// Returns a [`UsageError`] if the file cannot be read or has no known format, and another error if
/// standard output cannot be written.
pub fn run(arguments: &AnalyzeArgs) -> Result<Completion> {
    let path = &arguments.file;
    let bytes = read(path).map_err(|error| usage_error(path, &error, fix_for_reading(&error)))?;
    let (format, imported) =
        import(&bytes).map_err(|error| usage_error(path, &error, fix_for_content(&error)))?;
    let rules = component_rules(arguments)?;
    let text = match imported {
        Imported::Calls(profile) => calls(&profile, format, &rules, arguments)?,
        Imported::Stacks(imported) => stacks(&imported, format, &rules, arguments)?,
    };
    print(&text)?;
    Ok(Completion::Success)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 GiB"));
    }
    Ok(bytes)
}

/// Returns the components of the given spec, or of the one in the current folder.
fn component_rules(arguments: &AnalyzeArgs) -> Result<ComponentRules> {
    let default = Path::new(FILE_NAME);
    match arguments.spec.as_deref().or_else(|| default.is_file().then_some(default)) {
        Some(path) => rules(&Spec::load(path).map_err(|error| UsageError(error_chain(&error)))?),
        None => Ok(ComponentRules::default()),
    }
}

fn fix_for_reading(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "give the path of a profile; `python -m cProfile -o FILE PROGRAM` writes one"
        }
        io::ErrorKind::IsADirectory => "give the path of a file in it",
        io::ErrorKind::PermissionDenied => {
            "change its permissions, or run as a user who can read it"
        }
        io::ErrorKind::FileTooLarge => "record a shorter run",
        _ => "try another file",
    }
}

fn fix_for_content(error: &RecordError) -> &'static str {
    match error {
        RecordError::ProfileMalformed { .. } => {
            "record it again, and do not interrupt the program that writes it"
        }
        RecordError::ProfileInvalid { .. } => "correct the file, or record it again",
        _ => "give a profile in one of these formats",
    }
}

fn usage_error(path: &Path, error: &dyn std::error::Error, fix: &str) -> anyhow::Error {
    let reason = error_chain(error);
    UsageError(format!("cannot analyse {}: {reason}; {fix}", path.display())).into()
}

/// Analyses a call profile. A module is a package if its folder on this machine has an
/// `__init__.py`; a profile recorded on another machine may name folders that do not exist here.
fn calls(
    profile: &CallProfile,
    format: &str,
    rules: &ComponentRules,
    arguments: &AnalyzeArgs,
) -> Result<String> {
    let is_package = |folder: &str| source::is_package(Path::new(folder));
    let analysis = analyse(profile, format, &Modules::new(profile, &is_package), rules);
    if arguments.json {
        return json(&analysis);
    }
    Ok(describe(&analysis, &title(arguments), arguments.top as usize))
}

fn stacks(
    imported: &ImportedStacks,
    format: &str,
    rules: &ComponentRules,
    arguments: &AnalyzeArgs,
) -> Result<String> {
    let ImportedStacks { profile, unit, units, notices } = imported;
    let unit = match unit {
        Unit::Nanoseconds => "ns",
        Unit::Bytes => "bytes",
        Unit::Samples => "samples",
    };
    let analysis =
        analyse_stacks(&StackInput { profile, format, unit, units: *units, notices, rules });
    if arguments.json {
        return json(&analysis);
    }
    Ok(describe_stacks(&analysis, &title(arguments), arguments.top as usize))
}

fn title(arguments: &AnalyzeArgs) -> String {
    arguments.file.display().to_string()
}

/// Returns JSON with complete names. All control characters are escaped, also those that JSON
/// allows (DEL and C1), so that names cannot control the terminal.
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
    fn json_keeps_names_and_escapes_control_characters() {
        let name = "a\u{1b}[2J\u{9b}\u{7f}\n\"é";
        let text = json(&vec![name]).expect("text is JSON");
        assert!(!text.trim_end().chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&text).expect("JSON"), [name]);
    }
}
