//! `simprof init`: writes a commented simprof.toml.

use std::fs::File;
use std::io::{ErrorKind, Write};

use anyhow::{Context, Result};

use crate::cli::InitArgs;
use crate::console::message;
use crate::exit::{Completion, UsageError};
use crate::spec::{INIT, escaped};

/// The line of the template with the command.
const COMMAND_LINE: &str =
    "command = [\"./simulation\", \"--agents\", \"{agents}\", \"--steps\", \"{steps}\"]";

/// Writes the template.
///
/// # Errors
/// Returns an error if the file exists and `--force` is not given, or if it cannot be written.
pub fn run(arguments: &InitArgs) -> Result<Completion> {
    let path = &arguments.output;
    let mut options = File::options();
    options.write(true).create_new(!arguments.force).create(true).truncate(true);
    let mut file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let text = format!(
                "{} already exists; use `--force` to replace it, or `--output FILE` to write another file",
                path.display()
            );
            return Err(UsageError(text).into());
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot write {}", path.display()));
        }
    };
    file.write_all(text(&arguments.command).as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))?;
    message(&format!(
        "simprof: wrote {}; `simprof run --plan` shows what a run would do",
        path.display()
    ));
    Ok(Completion::Success)
}

/// Returns the template. If a command is given, it replaces the example, and the example parameters
/// are commented out.
fn text(command: &[String]) -> String {
    if command.is_empty() {
        return INIT.to_owned();
    }
    let argv: Vec<String> =
        command.iter().map(|argument| toml::Value::String(escaped(argument)).to_string()).collect();
    let commented = INIT
        .lines()
        .map(|line| {
            if line.starts_with("agents =") || line.starts_with("steps =") {
                format!("# {line}")
            } else {
                line.to_owned()
            }
        })
        .collect::<Vec<_>>()
        .join("\n");
    commented.replace(COMMAND_LINE, &format!("command = [{}]", argv.join(", "))) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Spec;

    #[test]
    fn the_template_contains_the_command() {
        let command = ["./my prog", "--json={\"a\":1}", "quo\"te"].map(str::to_owned);
        let spec = Spec::parse(&text(&command), "init").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(spec.target.command, ["./my prog", "--json={{\"a\":1}}", "quo\"te"]);
        assert!(spec.parameters.is_empty());
        assert!(INIT.contains(COMMAND_LINE));
    }
}
