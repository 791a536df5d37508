//! Paths to keys of a configuration file: `model.grid[0].width`.

use std::fmt;

use super::error::EditError;

/// One part of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    /// A key of a table.
    Key(String),
    /// An item of a list, counted from 0.
    Index(usize),
}

/// Keys and indexes from the root of a file to a value.
///
/// Keys are separated by points, indexes stand in brackets; a key that holds a point, a bracket, a quote or
/// nothing is put in double quotes: `"a.b".c`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyPath(pub(super) Vec<Segment>);

impl KeyPath {
    /// Reads a path.
    ///
    /// # Errors
    /// Where it is empty, a key is, a quote or a bracket does not end, or an index is no whole number.
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
                None => return Err(wrong("keys must be separated by points")),
            }
        }
    }

    /// This path, continued by `other`.
    pub fn join(&self, other: &KeyPath) -> KeyPath {
        KeyPath(self.0.iter().chain(&other.0).cloned().collect())
    }

    /// The path with a further part.
    pub(super) fn with(&self, segment: Segment) -> KeyPath {
        KeyPath(self.0.iter().cloned().chain([segment]).collect())
    }
}

/// The key at the start of `text`, and what follows it.
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
    Err("a quote does not end")
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) => {
                    let point = if place == 0 { "" } else { "." };
                    let bare = !key.is_empty() && !key.contains(['.', '[', ']', '"']);
                    if bare { write!(f, "{point}{key}")? } else { write!(f, "{point}{key:?}")? }
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
    fn a_path_is_read_and_written_alike() {
        for text in ["a", "model.grid[0].width", "[3].x", "m[1][2]", "\"a.b\".c", "\"\"", "a b.c-d"]
        {
            let path = KeyPath::parse(text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(path.to_string(), text);
        }
        let quoted = KeyPath::parse(r#""say \"x\"".y"#).expect("a path");
        assert_eq!(quoted.0[0], Segment::Key("say \"x\"".into()));
    }

    #[test]
    fn what_is_no_path_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "empty"),
            ("a..b", "empty"),
            ("a.", "empty"),
            ("a[0", "without"),
            ("a[x]", "whole number"),
            ("a[-1]", "whole number"),
            ("a[0]b", "points"),
            ("\"a", "quote"),
            ("a]", "points"),
        ] {
            let error = KeyPath::parse(text).expect_err(text).to_string();
            assert!(error.contains(why) && error.contains(text), "{text}: {error}");
        }
    }
}
