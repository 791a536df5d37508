//! `simprof init`: writes a commented simprof.toml.

use std::fs::File;
use std::io::{ErrorKind, Write};

use anyhow::{Context, Result};

use crate::cli::InitArgs;
use crate::console::say;
use crate::exit::{Ended, Wrong};
use crate::spec::INIT;

/// The line of the template that names the command.
const COMMAND_LINE: &str =
    "command = [\"./simulation\", \"--agents\", \"{agents}\", \"--steps\", \"{steps}\"]";

/// Writes the spec.
///
/// # Errors
/// Where the file exists and may not be replaced, or cannot be written.
pub fn run(arguments: &InitArgs) -> Result<Ended> {
    let path = &arguments.output;
    let mut options = File::options();
    options.write(true).create_new(!arguments.force).create(true).truncate(true);
    let mut file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let text = format!(
                "{} exists; `--force` replaces it, `--output FILE` writes another",
                path.display()
            );
            return Err(Wrong(text).into());
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot write {}", path.display()));
        }
    };
    file.write_all(text(&arguments.command).as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))?;
    say(&format!("simprof: wrote {}; `simprof run --plan` shows what it means", path.display()));
    Ok(Ended::Well)
}

/// The template, with the command that was given in it; then nothing is swept yet.
fn text(command: &[String]) -> String {
    if command.is_empty() {
        return INIT.to_owned();
    }
    let escaped = |argument: &String| argument.replace('{', "{{").replace('}', "}}");
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
    fn the_template_holds_the_command() {
        let command = ["./my prog", "--json={\"a\":1}", "quo\"te"].map(str::to_owned);
        let spec = Spec::parse(&text(&command), "init").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(spec.target.command, ["./my prog", "--json={{\"a\":1}}", "quo\"te"]);
        assert!(spec.parameters.is_empty());
        assert!(INIT.contains(COMMAND_LINE));
    }
}
