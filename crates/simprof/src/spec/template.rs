//! Command lines with `{name}` placeholders, filled in without a shell.

use std::collections::{BTreeMap, BTreeSet};

use simprof_model::Value;

use super::config::Config;
use super::config_template::ConfigTemplate;
use super::error::{did_you_mean, nearest};
use crate::configuration::EditError;

/// What to do with a placeholder that names no parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// It is an error: a spec says what it means.
    Strict,
    /// It is ordinary text: a command line may hold braces of its own.
    Literal,
}

/// Why a command cannot be read or filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A placeholder that names nothing.
    #[error("`{{{name}}}` in `{text}` names no parameter{}{}", did_you_mean(.hint.as_deref()), braces())]
    Unknown {
        /// As written.
        name: String,
        /// The argument it stands in.
        text: String,
        /// The nearest that exists.
        hint: Option<String>,
    },
    /// A configuration file whose name tells no format.
    #[error("{0}")]
    Format(String),
    /// A path to a key of a configuration file that is none.
    #[error(transparent)]
    Path(#[from] EditError),
    /// A configuration file that would be copied as it is.
    #[error("nothing is set; give `set` or `add`, or name the file itself in the command")]
    NothingSet,
    /// A key with two values.
    #[error("`{path}` is set twice")]
    SetTwice {
        /// The path of the key.
        path: String,
    },
    /// A placeholder of a configuration file that means something else, or nothing.
    #[error(
        "`{name}` cannot be its placeholder, since something else has that name or it is none; give `placeholder` another"
    )]
    TakenPlaceholder {
        /// As written.
        name: String,
    },
    /// A configuration file whose copy nobody is told of.
    #[error(
        "neither the command nor the environment has `{{{name}}}`, which stands for the path of the edited copy, so what is set would change nothing; put it where the program is told of the file"
    )]
    UnusedCopy {
        /// Its placeholder.
        name: String,
    },
    /// `{` without `}`.
    #[error("`{text}` has a `{{` without a `}}`{}", braces())]
    Unclosed {
        /// The argument.
        text: String,
    },
}

fn braces() -> &'static str {
    " (write `{{` for a brace that is meant as such)"
}

/// Text with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Plain(String),
    Placeholder(String),
}

impl Text {
    /// Reads text; `known` are the names that placeholders may have.
    ///
    /// # Errors
    /// With [`Strictness::Strict`], where a placeholder names nothing or does not end.
    pub fn parse(
        text: &str,
        known: &[&str],
        strictness: Strictness,
    ) -> Result<Text, TemplateError> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let tail = &rest[at..];
            if strictness == Strictness::Strict
                && (tail.starts_with("{{") || tail.starts_with("}}"))
            {
                plain.push_str(&tail[..1]);
                rest = &tail[2..];
            } else if let Some(name) = placeholder(tail, text, known, strictness)? {
                pieces.push(Piece::Plain(std::mem::take(&mut plain)));
                pieces.push(Piece::Placeholder(name.to_owned()));
                rest = &tail[name.len() + 2..];
            } else {
                plain.push_str(&tail[..1]);
                rest = &tail[1..];
            }
        }
        plain.push_str(rest);
        pieces.push(Piece::Plain(plain));
        Ok(Text(pieces))
    }

    /// Names of its placeholders.
    pub fn placeholders(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Placeholder(name) => Some(name.as_str()),
            Piece::Plain(_) => None,
        })
    }

    /// The placeholder that is all of the text, where it is one.
    pub fn sole_placeholder(&self) -> Option<&str> {
        let mut pieces =
            self.0.iter().filter(|piece| !matches!(piece, Piece::Plain(text) if text.is_empty()));
        match (pieces.next(), pieces.next()) {
            (Some(Piece::Placeholder(name)), None) => Some(name),
            _ => None,
        }
    }

    /// The text with every placeholder replaced by its value.
    pub fn fill(&self, values: &BTreeMap<String, Value>) -> String {
        let value = |name: &String| {
            values.get(name).map_or_else(|| format!("{{{name}}}"), ToString::to_string)
        };
        self.0
            .iter()
            .map(|piece| match piece {
                Piece::Plain(text) => text.clone(),
                Piece::Placeholder(name) => value(name),
            })
            .collect()
    }
}

/// The name at the start of `tail`, where it is a placeholder.
fn placeholder<'a>(
    tail: &'a str,
    text: &str,
    known: &[&str],
    strictness: Strictness,
) -> Result<Option<&'a str>, TemplateError> {
    let Some(inner) = tail.strip_prefix('{') else { return Ok(None) };
    let name = inner.find('}').map(|end| &inner[..end]);
    match (name, strictness) {
        (Some(name), _) if known.contains(&name) => Ok(Some(name)),
        (_, Strictness::Literal) => Ok(None),
        (None, Strictness::Strict) => Err(TemplateError::Unclosed { text: text.to_owned() }),
        (Some(name), Strictness::Strict) => Err(TemplateError::Unknown {
            name: name.to_owned(),
            text: text.to_owned(),
            hint: nearest(name, known),
        }),
    }
}

/// A command with placeholders in its arguments, its environment and the configuration files that it reads.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandTemplate {
    argv: Vec<Text>,
    environment: BTreeMap<String, Text>,
    configs: Vec<ConfigTemplate>,
}

/// What the spec says of a command.
#[derive(Debug, Clone, Copy)]
pub struct CommandSource<'a> {
    /// argv.
    pub argv: &'a [String],
    /// Variables.
    pub environment: &'a BTreeMap<String, String>,
    /// Configuration files.
    pub configs: &'a [Config],
}

impl CommandTemplate {
    /// Reads a command; `known` are the names that placeholders may have beside those of its configuration files.
    ///
    /// # Errors
    /// The key (`command`, `environment.NAME`, `config FILE`) and what is wrong there: as [`Text::parse`] and
    /// [`ConfigTemplate::parse`].
    pub fn parse(
        source: CommandSource<'_>,
        known: &[&str],
        strictness: Strictness,
    ) -> Result<Self, (String, TemplateError)> {
        let taken = known;
        let copies = source.configs.iter().map(|config| config.placeholder.as_str());
        let known: Vec<&str> = known.iter().copied().chain(copies).collect();
        let text = |key: String, text: &String| {
            Text::parse(text, &known, strictness).map_err(|error| (key, error))
        };
        let argv = source.argv.iter().map(|argument| text("command".into(), argument));
        let environment = source
            .environment
            .iter()
            .map(|(name, value)| Ok((name.clone(), text(format!("environment.{name}"), value)?)));
        let configs = source.configs.iter().map(|config| {
            check_copy(config, source, taken)
                .and_then(|()| ConfigTemplate::parse(config, &known))
                .map_err(|error| (format!("config {}", config.file.display()), error))
        });
        // The files first: a placeholder of theirs that is wrong makes those of the command wrong too.
        let configs = configs.collect::<Result<_, _>>()?;
        Ok(Self {
            argv: argv.collect::<Result<_, _>>()?,
            environment: environment.collect::<Result<_, _>>()?,
            configs,
        })
    }

    /// Names of all its placeholders.
    pub fn placeholders(&self) -> BTreeSet<&str> {
        let texts = self.argv.iter().chain(self.environment.values());
        let configs = self.configs.iter().flat_map(ConfigTemplate::placeholders);
        texts.flat_map(Text::placeholders).chain(configs).collect()
    }

    /// argv with the placeholders filled in.
    pub fn argv(&self, values: &BTreeMap<String, Value>) -> Vec<String> {
        self.argv.iter().map(|text| text.fill(values)).collect()
    }

    /// The environment with the placeholders filled in.
    pub fn environment(&self, values: &BTreeMap<String, Value>) -> BTreeMap<String, String> {
        self.environment.iter().map(|(name, text)| (name.clone(), text.fill(values))).collect()
    }

    /// The configuration files that it reads.
    pub fn configs(&self) -> &[ConfigTemplate] {
        &self.configs
    }
}

/// Each copy has a placeholder of its own, and somebody is told of it.
fn check_copy(
    config: &Config,
    source: CommandSource<'_>,
    taken: &[&str],
) -> Result<(), TemplateError> {
    let name = config.placeholder.clone();
    let alike = source.configs.iter().filter(|other| other.placeholder == name).count();
    if alike > 1
        || taken.contains(&name.as_str())
        || name.is_empty()
        || name.contains(['{', '}', '/'])
    {
        return Err(TemplateError::TakenPlaceholder { name });
    }
    let told: Vec<&String> = source.argv.iter().chain(source.environment.values()).collect();
    let reached = config.is_reached(source.configs, &told);
    if reached { Ok(()) } else { Err(TemplateError::UnusedCopy { name }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str, strictness: Strictness) -> Result<String, TemplateError> {
        let values =
            [("n".to_owned(), Value::Integer(3)), ("kind".to_owned(), Value::Text("a b".into()))];
        Ok(Text::parse(text, &["n", "kind"], strictness)?.fill(&values.into()))
    }

    #[test]
    fn placeholders_are_filled_in() {
        for (text, expected) in [
            ("plain", "plain"),
            ("{n}", "3"),
            ("--n={n},{kind};", "--n=3,a b;"),
            ("{{n}} {n}", "{n} 3"),
            ("ü{n}ü", "ü3ü"),
            ("", ""),
        ] {
            assert_eq!(fill(text, Strictness::Strict).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_spec_must_mean_what_it_says() {
        let unknown = fill("{m}", Strictness::Strict).expect_err("names nothing");
        assert!(unknown.to_string().contains("`{m}`"), "{unknown}");
        assert!(matches!(fill("{n", Strictness::Strict), Err(TemplateError::Unclosed { .. })));
    }

    #[test]
    fn a_typed_command_may_hold_braces() {
        for text in [r#"{"a": {"b": 1}}"#, "{m}", "{", "}}{{"] {
            assert_eq!(fill(text, Strictness::Literal).as_deref(), Ok(text));
        }
        assert_eq!(fill("x{n}", Strictness::Literal).as_deref(), Ok("x3"));
    }
}
