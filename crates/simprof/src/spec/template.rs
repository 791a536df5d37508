//! Command lines with `{name}` placeholders, filled in without a shell.

use std::collections::{BTreeMap, BTreeSet};

use simprof_model::Value;

use super::error::{did_you_mean, nearest};

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

/// A command with placeholders in its arguments and environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandTemplate {
    argv: Vec<Text>,
    environment: BTreeMap<String, Text>,
}

impl CommandTemplate {
    /// Reads a command.
    ///
    /// # Errors
    /// As [`Text::parse`].
    pub fn parse(
        argv: &[String],
        environment: &BTreeMap<String, String>,
        known: &[&str],
        strictness: Strictness,
    ) -> Result<Self, TemplateError> {
        let text = |text: &String| Text::parse(text, known, strictness);
        let argv = argv.iter().map(text).collect::<Result<_, _>>()?;
        let environment = environment
            .iter()
            .map(|(name, value)| Ok((name.clone(), text(value)?)))
            .collect::<Result<_, TemplateError>>()?;
        Ok(Self { argv, environment })
    }

    /// Names of all its placeholders.
    pub fn placeholders(&self) -> BTreeSet<&str> {
        self.argv.iter().chain(self.environment.values()).flat_map(Text::placeholders).collect()
    }

    /// argv with the placeholders filled in.
    pub fn argv(&self, values: &BTreeMap<String, Value>) -> Vec<String> {
        self.argv.iter().map(|text| text.fill(values)).collect()
    }

    /// The environment with the placeholders filled in.
    pub fn environment(&self, values: &BTreeMap<String, Value>) -> BTreeMap<String, String> {
        self.environment.iter().map(|(name, text)| (name.clone(), text.fill(values))).collect()
    }
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
