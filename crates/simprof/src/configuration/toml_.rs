//! TOML: finds the positions of values, and writes values.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ParseError;
use super::tree::{Content, Entry, Kind, Node, Scalar};

/// Parses a text.
pub fn parse(text: &str) -> Result<Node, ParseError> {
    let root = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        ParseError { line, message: error.message().to_owned() }
    })?;
    Ok(Node::new(0..0, table(root.get_ref())))
}

fn table(table: &DeTable<'_>) -> Content {
    let entries = table.iter().map(|(key, value)| Entry {
        key: key.get_ref().to_string(),
        key_span: key.span(),
        value: node(value),
    });
    Content::Table(entries.collect())
}

fn node(value: &Spanned<DeValue<'_>>) -> Node {
    let scalar = |kind, text: &str| Content::Scalar(Scalar { kind, text: text.to_owned() });
    let content = match value.get_ref() {
        DeValue::Table(entries) => table(entries),
        DeValue::Array(items) => Content::List(items.iter().map(node).collect()),
        DeValue::String(text) => scalar(Kind::Text, text),
        DeValue::Integer(number) => {
            scalar(Kind::Integer, &format!("{} base {}", number.as_str(), number.radix()))
        }
        DeValue::Float(number) => scalar(Kind::Float, number.as_str()),
        DeValue::Boolean(truth) => scalar(Kind::Boolean, &truth.to_string()),
        DeValue::Datetime(time) => scalar(Kind::Time, &time.to_string()),
    };
    Node::new(value.span(), content)
}

/// Formats a value on one line.
pub fn literal(value: &toml::Value) -> String {
    use toml::Value;
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(literal).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Table(table) => {
            let entry =
                |(key, value): (&String, &Value)| format!("{} = {}", quoted(key), literal(value));
            let entries: Vec<String> = table.iter().map(entry).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Value::String(text) => quoted(text),
        Value::Float(number) if number.is_finite() => format!("{number:?}"),
        other => other.to_string(),
    }
}

/// Returns a text in double quotes on one line.
pub fn quoted(text: &str) -> String {
    // JSON strings can contain this character, TOML strings cannot.
    super::json::quoted(text).replace('\u{7f}', "\\u007F")
}
