//! JSON: finds the positions of values, and writes values.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::ParseError;
use super::tree::{Content, Entry, Kind, Node, Scalar};

/// Parses a text.
pub fn parse(text: &str) -> Result<Node, ParseError> {
    // This also rejects nesting that is too deep for the recursive functions below.
    serde_json::from_str::<serde_json::Value>(text).map_err(unreadable)?;
    let root: &RawValue = serde_json::from_str(text).map_err(unreadable)?;
    node(root.get(), text).map_err(unreadable)
}

fn unreadable(error: serde_json::Error) -> ParseError {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default().to_owned();
    ParseError { line: error.line(), message }
}

/// Parses the value in `raw`, which is a part of `text`.
fn node(raw: &str, text: &str) -> serde_json::Result<Node> {
    let start = raw.as_ptr() as usize - text.as_ptr() as usize;
    let scalar = |kind, text: &str| Content::Scalar(Scalar { kind, text: text.to_owned() });
    let content = match raw.as_bytes().first() {
        Some(b'{') => {
            let Object(entries) = serde_json::from_str(raw)?;
            let entry = |(key, raw): (String, &RawValue)| {
                Ok(Entry { key, key_span: 0..0, value: node(raw.get(), text)? })
            };
            Content::Table(entries.into_iter().map(entry).collect::<serde_json::Result<_>>()?)
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(raw)?;
            Content::List(
                items
                    .into_iter()
                    .map(|raw| node(raw.get(), text))
                    .collect::<serde_json::Result<_>>()?,
            )
        }
        Some(b'"') => scalar(Kind::Text, &serde_json::from_str::<String>(raw)?),
        Some(b't' | b'f') => scalar(Kind::Boolean, raw),
        Some(b'n') => scalar(Kind::Null, raw),
        _ if raw.contains(['.', 'e', 'E']) => scalar(Kind::Float, raw),
        _ => scalar(Kind::Integer, raw),
    };
    Ok(Node::new(start..start + raw.len(), content))
}

/// All keys and values of an object in order, including duplicate keys.
struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Object(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// Formats a value. Returns `None` for numbers that JSON cannot represent.
pub fn literal(value: &toml::Value) -> Option<String> {
    use toml::Value;
    Some(match value {
        Value::String(text) => quoted(text),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.is_finite().then(|| format!("{number:?}"))?,
        Value::Boolean(truth) => truth.to_string(),
        Value::Datetime(time) => quoted(&time.to_string()),
        Value::Array(items) => {
            let items: Option<Vec<String>> = items.iter().map(literal).collect();
            format!("[{}]", items?.join(", "))
        }
        Value::Table(table) => {
            let entry =
                |(key, value): (&String, _)| Some(format!("{}: {}", quoted(key), literal(value)?));
            let entries: Option<Vec<String>> = table.iter().map(entry).collect();
            format!("{{{}}}", entries?.join(", "))
        }
    })
}

/// Returns a text in quotes.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
