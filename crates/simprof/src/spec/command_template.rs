//! Command templates: arguments, environment and configuration files with placeholders.

use std::collections::{BTreeMap, BTreeSet};

use simprof_model::Value;

use super::config::Config;
use super::config_template::ConfigTemplate;
use super::placeholder::{self, PlaceholderError, Strictness, TextTemplate};
use crate::configuration::EditError;

/// Why a command of the spec cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A placeholder is wrong.
    #[error(transparent)]
    Placeholder(#[from] PlaceholderError),
    /// The name of a configuration file has no known extension.
    #[error("{0}")]
    Format(String),
    /// The path to a key of a configuration file is malformed.
    #[error(transparent)]
    Path(#[from] EditError),
    /// A configuration file would be copied unchanged.
    #[error("no key is set; give `set` or `add`, or write the file's own path in the command")]
    NothingSet,
    /// A key has two values.
    #[error("`{path}` is set twice; remove one of them")]
    SetTwice {
        /// The path of the key.
        path: String,
    },
    /// The placeholder of a configuration file is used elsewhere, or is not a valid name.
    #[error(
        "`{name}` cannot be the placeholder of this file: the name is already used, empty, or contains `{{`, `}}` or `/`; set `placeholder` to another name"
    )]
    TakenPlaceholder {
        /// The name, as written.
        name: String,
    },
    /// The path of an edited copy is not passed to the program.
    #[error(
        "neither the command nor the environment contains `{}`, the path of the edited copy, so the edits would have no effect; put it where the program gets the path of the file",
        placeholder::written(.name)
    )]
    UnusedCopy {
        /// The placeholder of the file.
        name: String,
    },
}

/// A command with placeholders in its arguments, its environment and its configuration files.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandTemplate {
    argv: Vec<TextTemplate>,
    environment: BTreeMap<String, TextTemplate>,
    configs: Vec<ConfigTemplate>,
}

/// A command as the spec has it.
#[derive(Debug, Clone, Copy)]
pub struct CommandSource<'a> {
    /// The program and its arguments.
    pub argv: &'a [String],
    /// Environment variables.
    pub environment: &'a BTreeMap<String, String>,
    /// Configuration files.
    pub configs: &'a [Config],
}

impl CommandTemplate {
    /// Parses a command. `known` are the names that placeholders may have, besides those of its configuration files.
    ///
    /// # Errors
    /// Returns the key (`command`, `environment.NAME` or `config FILE`) and what is wrong there: the errors of
    /// [`TextTemplate::parse`] and [`ConfigTemplate::parse`], and a placeholder of a configuration file that is taken,
    /// invalid or unused.
    pub fn parse(
        source: CommandSource<'_>,
        known: &[&str],
        strictness: Strictness,
    ) -> Result<Self, (String, TemplateError)> {
        let taken = known;
        let copies = source.configs.iter().map(|config| config.placeholder.as_str());
        let known: Vec<&str> = known.iter().copied().chain(copies).collect();
        let text = |key: String, text: &String| {
            TextTemplate::parse(text, &known, strictness).map_err(|error| (key, error.into()))
        };
        let argv = source.argv.iter().map(|argument| text("command".into(), argument));
        let environment = source
            .environment
            .iter()
            .map(|(name, value)| Ok((name.clone(), text(format!("environment.{name}"), value)?)));
        let configs = source.configs.iter().map(|config| {
            check_placeholder(config, source, taken)
                .and_then(|()| ConfigTemplate::parse(config, &known))
                .map_err(|error| (format!("config {}", config.file.display()), error))
        });
        // Files come first. A wrong placeholder of a file also makes that placeholder unknown in the command, and only the
        // first error is reported.
        let configs = configs.collect::<Result<_, _>>()?;
        Ok(Self {
            argv: argv.collect::<Result<_, _>>()?,
            environment: environment.collect::<Result<_, _>>()?,
            configs,
        })
    }

    /// Returns the names of all placeholders.
    pub fn placeholders(&self) -> BTreeSet<&str> {
        let texts = self.argv.iter().chain(self.environment.values());
        let configs = self.configs.iter().flat_map(ConfigTemplate::placeholders);
        texts.flat_map(TextTemplate::placeholders).chain(configs).collect()
    }

    /// Returns the argument vector with the placeholders filled in.
    pub fn argv(&self, values: &BTreeMap<String, Value>) -> Vec<String> {
        self.argv.iter().map(|text| text.fill(values)).collect()
    }

    /// Returns the environment variables with the placeholders filled in.
    pub fn environment(&self, values: &BTreeMap<String, Value>) -> BTreeMap<String, String> {
        self.environment.iter().map(|(name, text)| (name.clone(), text.fill(values))).collect()
    }

    /// Returns the configuration files that the command reads.
    pub fn configs(&self) -> &[ConfigTemplate] {
        &self.configs
    }
}

/// Checks that the placeholder of a file is valid, unique, and reaches the program.
fn check_placeholder(
    config: &Config,
    source: CommandSource<'_>,
    taken: &[&str],
) -> Result<(), TemplateError> {
    let name = config.placeholder.clone();
    let same = source.configs.iter().filter(|other| other.placeholder == name).count();
    if same > 1 || taken.contains(&name.as_str()) || !placeholder::is_valid_name(&name) {
        return Err(TemplateError::TakenPlaceholder { name });
    }
    let texts: Vec<&String> = source.argv.iter().chain(source.environment.values()).collect();
    let reached = config.is_reached(source.configs, &texts);
    if reached { Ok(()) } else { Err(TemplateError::UnusedCopy { name }) }
}
