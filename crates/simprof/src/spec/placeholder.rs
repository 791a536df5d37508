//! Placeholders: `{name}` in a text of the spec, replaced by a value for each process.
//!
//! All code that depends on how a placeholder is written is in this file. No shell is involved.

use std::collections::BTreeMap;

use simprof_model::Value;

use crate::text::{did_you_mean, nearest};

/// Placeholders that every command may use, without declaring a parameter.
pub const BUILT_IN: [&str; 3] = ["seed", "simprof", "scratch"];

/// Returns the placeholder `{name}` as it is written in a text.
pub fn written(name: &str) -> String {
    format!("{{{name}}}")
}

/// Returns true if one of `texts` contains the placeholder `{name}`.
pub fn is_used<'t>(name: &str, texts: impl IntoIterator<Item = &'t String>) -> bool {
    let placeholder = written(name);
    texts.into_iter().any(|text| text.contains(&placeholder))
}

/// Returns true if a placeholder can have this name: not empty, without braces, and usable as the name of a folder.
pub fn is_valid_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['{', '}', '/'])
}

/// Doubles the braces of a text, so that none of them begins a placeholder.
pub fn escaped(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}")
}

/// What to do with a placeholder that names no parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// It is an error. This is how a spec is read.
    Strict,
    /// It is ordinary text. This is how a command after `--` is read: its arguments may contain braces.
    Literal,
}

/// Why a text with placeholders cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceholderError {
    /// The placeholder has no parameter of its name.
    #[error("`{}` in `{text}` names no parameter{}{ESCAPE}", written(.name), did_you_mean(.hint.as_deref()))]
    Unknown {
        /// The name, as written.
        name: String,
        /// The text that contains it.
        text: String,
        /// The most similar name that exists.
        hint: Option<String>,
    },
    /// `{` without `}`.
    #[error("`{text}` has a `{{` without a `}}`{ESCAPE}")]
    Unclosed {
        /// The text.
        text: String,
    },
}

const ESCAPE: &str = " (write `{{` for a literal brace)";

/// A text with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextTemplate(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Plain(String),
    Placeholder(String),
}

impl TextTemplate {
    /// Parses a text. `known` are the names that placeholders may have.
    ///
    /// # Errors
    /// With [`Strictness::Strict`], returns an error if a placeholder has an unknown name or is not closed.
    pub fn parse(
        text: &str,
        known: &[&str],
        strictness: Strictness,
    ) -> Result<Self, PlaceholderError> {
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
            } else if let Some(name) = leading_placeholder(tail, text, known, strictness)? {
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
        Ok(Self(pieces))
    }

    /// Returns the names of the placeholders.
    pub fn placeholders(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Placeholder(name) => Some(name.as_str()),
            Piece::Plain(_) => None,
        })
    }

    /// Returns the name of the placeholder if the whole text is one placeholder.
    pub fn sole_placeholder(&self) -> Option<&str> {
        let mut pieces =
            self.0.iter().filter(|piece| !matches!(piece, Piece::Plain(text) if text.is_empty()));
        match (pieces.next(), pieces.next()) {
            (Some(Piece::Placeholder(name)), None) => Some(name),
            _ => None,
        }
    }

    /// Returns the text with every placeholder replaced by its value. A placeholder without a value stays.
    pub fn fill(&self, values: &BTreeMap<String, Value>) -> String {
        let value =
            |name: &String| values.get(name).map_or_else(|| written(name), ToString::to_string);
        self.0
            .iter()
            .map(|piece| match piece {
                Piece::Plain(text) => text.clone(),
                Piece::Placeholder(name) => value(name),
            })
            .collect()
    }
}

/// Returns the name at the start of `tail` if it is a placeholder.
fn leading_placeholder<'a>(
    tail: &'a str,
    text: &str,
    known: &[&str],
    strictness: Strictness,
) -> Result<Option<&'a str>, PlaceholderError> {
    let Some(inner) = tail.strip_prefix('{') else { return Ok(None) };
    let name = inner.find('}').map(|end| &inner[..end]);
    match (name, strictness) {
        (Some(name), _) if known.contains(&name) => Ok(Some(name)),
        (_, Strictness::Literal) => Ok(None),
        (None, Strictness::Strict) => Err(PlaceholderError::Unclosed { text: text.to_owned() }),
        (Some(name), Strictness::Strict) => Err(PlaceholderError::Unknown {
            name: name.to_owned(),
            text: text.to_owned(),
            hint: nearest(name, known),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str, strictness: Strictness) -> Result<String, PlaceholderError> {
        let values =
            [("n".to_owned(), Value::Integer(3)), ("kind".to_owned(), Value::Text("a b".into()))];
        Ok(TextTemplate::parse(text, &["n", "kind"], strictness)?.fill(&values.into()))
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
    fn unknown_placeholders_in_a_spec_are_errors() {
        let unknown = fill("{m}", Strictness::Strict).expect_err("unknown name");
        assert!(unknown.to_string().contains("`{m}`"), "{unknown}");
        assert!(matches!(fill("{n", Strictness::Strict), Err(PlaceholderError::Unclosed { .. })));
    }

    #[test]
    fn a_typed_command_may_contain_braces() {
        for text in [r#"{"a": {"b": 1}}"#, "{m}", "{", "}}{{"] {
            assert_eq!(fill(text, Strictness::Literal).as_deref(), Ok(text));
        }
        assert_eq!(fill("x{n}", Strictness::Literal).as_deref(), Ok("x3"));
    }

    #[test]
    fn an_escaped_text_has_no_placeholders() {
        let escaped = escaped("{n} {\"a\": {}}");
        let parsed = TextTemplate::parse(&escaped, &["n"], Strictness::Strict).expect("escaped");
        assert_eq!(parsed.placeholders().count(), 0);
        assert_eq!(parsed.fill(&BTreeMap::new()), "{n} {\"a\": {}}");
    }
}
