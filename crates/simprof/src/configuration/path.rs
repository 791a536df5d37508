//! Paths to keys of a configuration file: `model.grid[0].width`.

use std::fmt;

use super::error::EditError;

/// One segment of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    /// A key of a table.
    Key(String),
    /// An item of a list, counted from 0.
    Index(usize),
}

/// Keys and indexes that lead from the root of a file to a value.
///
/// Keys are separated by dots, indexes are in brackets. A key that is empty or contains a dot, a
/// bracket or a quote is written in double quotes: `"a.b".c`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyPath(pub(super) Vec<Segment>);

impl KeyPath {
    /// Parses a path.
    ///
    /// # Errors
    /// Returns an error if a key is empty, a quote or a bracket is not closed, or an index is not a
    /// whole number.
    pub fn parse(text: &str) -> Result<Self, EditError> {
        let wrong = |why| EditError::Path { text: text.to_owned(), why };
        let mut segments = Vec::new();
        let mut rest = text;
        loop {
            rest = if rest.starts_with('[') && segments.is_empty() {
                rest
            } else {
                let (key, after) = key(rest).map_err(wrong)?;
                segments.push(Segment::Key(key));
                after
            };
            while let Some(inner) = rest.strip_prefix('[') {
                let (index, after) =
                    inner.split_once(']').ok_or_else(|| wrong("a `[` without a `]`"))?;
                let index = index.parse().map_err(|_| wrong("an index must be a whole number"))?;
                segments.push(Segment::Index(index));
                rest = after;
            }
            match rest.strip_prefix('.') {
                Some(after) => rest = after,
                None if rest.is_empty() => return Ok(Self(segments)),
                None => return Err(wrong("keys must be separated by dots")),
            }
        }
    }

    /// Returns this path followed by `other`.
    pub fn join(&self, other: &KeyPath) -> KeyPath {
        KeyPath(self.0.iter().chain(&other.0).cloned().collect())
    }

    /// Returns the path followed by a segment.
    pub(super) fn with(&self, segment: Segment) -> KeyPath {
        KeyPath(self.0.iter().cloned().chain([segment]).collect())
    }
}

/// Parses the key at the start of `text`. Returns it and the rest.
fn key(text: &str) -> Result<(String, &str), &'static str> {
    let Some(inner) = text.strip_prefix('"') else {
        let end = text.find(['.', '[', ']', '"']).unwrap_or(text.len());
        let (key, rest) = text.split_at(end);
        return if key.is_empty() { Err("a key is empty") } else { Ok((key.to_owned(), rest)) };
    };
    let mut key = String::new();
    let mut letters = inner.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((key, &inner[at + 1..])),
            '\\' => key.extend(letters.next().map(|(_, escaped)| escaped)),
            plain => key.push(plain),
        }
    }
    Err("a quote is not closed")
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) => {
                    let dot = if index == 0 { "" } else { "." };
                    let bare = !key.is_empty() && !key.contains(['.', '[', ']', '"']);
                    if bare { write!(f, "{dot}{key}")? } else { write!(f, "{dot}{key:?}")? }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsing_and_formatting_a_path_is_lossless() {
        for text in ["a", "model.grid[0].width", "[3].x", "m[1][2]", "\"a.b\".c", "\"\"", "a b.c-d"]
        {
            let path = KeyPath::parse(text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(path.to_string(), text);
        }
        let quoted = KeyPath::parse(r#""say \"x\"".y"#).expect("a path");
        assert_eq!(quoted.0[0], Segment::Key("say \"x\"".into()));
    }

    #[test]
    fn malformed_paths_are_errors_with_the_reason() {
        for (text, why) in [
            ("", "empty"),
            ("a..b", "empty"),
            ("a.", "empty"),
            ("a[0", "without"),
            ("a[x]", "whole number"),
            ("a[-1]", "whole number"),
            ("a[0]b", "dots"),
            ("\"a", "quote"),
            ("a]", "dots"),
        ] {
            let error = KeyPath::parse(text).expect_err(text).to_string();
            assert!(error.contains(why) && error.contains(text), "{text}: {error}");
        }
    }
}
