//! Sets or adds one value in the text of a configuration file.

use std::fmt;
use std::ops::Range;

use toml::Value;

use super::error::EditError;
use super::path::{KeyPath, Segment};
use super::tree::{Content, Entry, Kind, Node, Scalar};
use super::{Format, toml_, yaml};

/// How a key is edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The key exists and gets another value.
    Set,
    /// The key does not exist and is added.
    Add,
}

/// An edit of one key.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    /// The key.
    pub path: KeyPath,
    /// Whether the key is set or added.
    pub mode: Mode,
    /// The new value.
    pub value: Value,
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.path, toml_::literal(&self.value))
    }
}

impl Edit {
    /// Returns the text with this edit. `tree` is the parsed text.
    pub(super) fn apply(
        &self,
        format: Format,
        text: &str,
        tree: &Node,
    ) -> Result<String, EditError> {
        match self.mode {
            Mode::Set => self.set(format, text, tree),
            Mode::Add => self.add(format, text, tree),
        }
    }

    fn set(&self, format: Format, text: &str, tree: &Node) -> Result<String, EditError> {
        let node = tree.find(&self.path)?;
        self.check_replaceable(node)?;
        let literal = self.literal(format, &converted(&self.value, node))?;
        let range = self.range(format, text, tree, node).ok_or_else(|| self.not_editable())?;
        let gap = if text[..range.start].ends_with([':', '-']) { " " } else { "" };
        let edited = splice(text, range, &format!("{gap}{literal}"));
        let mut expected = tree.clone();
        let node = expected.find_mut(&self.path).ok_or_else(|| self.not_editable())?;
        node.content = self.read(format, &literal)?;
        self.confirm(format, edited, &expected)
    }

    fn check_replaceable(&self, node: &Node) -> Result<(), EditError> {
        let path = || self.path.to_string();
        match (&node.content, &self.value) {
            _ if node.tagged => Err(EditError::Tagged { path: path() }),
            (Content::List(_), Value::Array(_)) => Ok(()),
            (Content::Table(_) | Content::List(_), _) => {
                Err(EditError::Container { path: path(), found: node.kind_name() })
            }
            _ => Ok(()),
        }
    }

    /// Returns the bytes to replace. In YAML, an empty value and a list without brackets start
    /// after the colon.
    fn range(&self, format: Format, text: &str, tree: &Node, node: &Node) -> Option<Range<usize>> {
        let is_bare = format == Format::Yaml
            && (node.span.is_empty() || matches!(node.content, Content::List(_)))
            && !text[node.span.start..].starts_with('[');
        if !is_bare {
            return Some(node.span.clone());
        }
        let (parent, last) = split(&self.path)?;
        let Content::Table(entries) = &tree.find(&parent).ok()?.content else { return None };
        let key = entries.iter().find(|entry| Segment::Key(entry.key.clone()) == last)?;
        let gap = text[key.key_span.end..].find(':')?;
        let colon = key.key_span.end + gap + 1;
        let empty = matches!(node.content, Content::Scalar(_));
        Some(colon..if empty { colon } else { node.end().max(colon) })
    }

    fn add(&self, format: Format, text: &str, tree: &Node) -> Result<String, EditError> {
        let (parent, mut key) = split(&self.path).ok_or_else(|| self.not_editable())?;
        let (mut parent, mut value) = (parent, self.value.clone());
        // Missing parent tables are added together with the key.
        loop {
            match tree.find(&parent) {
                Ok(_) => break,
                Err(EditError::Missing { .. }) => {}
                Err(other) => return Err(other),
            }
            value = Value::Table([(self.key(&key)?.to_owned(), value)].into_iter().collect());
            (parent, key) = split(&parent).ok_or_else(|| self.not_editable())?;
        }
        let table = tree.find(&parent)?;
        let key = self.key(&key)?;
        let Content::Table(entries) = &table.content else {
            return Err(EditError::Leaf { path: self.path.to_string(), found: table.kind_name() });
        };
        if entries.iter().any(|entry| entry.key == key) {
            return Err(EditError::Present { path: self.path.to_string() });
        }
        let literal = self.literal(format, &value)?;
        let insertion = Insertion { parent: &parent, table, entries, key, literal: &literal };
        let (at, inserted) = insertion.find(format, text).ok_or_else(|| self.not_editable())?;
        let mut expected = tree.clone();
        let content = self.read(format, &literal)?;
        let Some(Content::Table(entries)) =
            expected.find_mut(&parent).map(|node| &mut node.content)
        else {
            return Err(self.not_editable());
        };
        let entry = Entry { key: key.to_owned(), key_span: 0..0, value: Node::new(0..0, content) };
        entries.push(entry);
        self.confirm(format, splice(text, at..at, &inserted), &expected)
    }

    fn key<'k>(&self, segment: &'k Segment) -> Result<&'k str, EditError> {
        match segment {
            Segment::Key(key) => Ok(key),
            Segment::Index(_) => Err(EditError::Item { path: self.path.to_string() }),
        }
    }

    fn literal(&self, format: Format, value: &Value) -> Result<String, EditError> {
        format.literal(value).ok_or_else(|| EditError::Value {
            path: self.path.to_string(),
            value: value.to_string(),
            format: format.name(),
        })
    }

    /// Returns the content of a literal as the format's parser reads it.
    fn read(&self, format: Format, literal: &str) -> Result<Content, EditError> {
        let (text, path) = match format {
            Format::Toml => (format!("x = {literal}"), "x"),
            Format::Yaml => (format!("x: {literal}"), "x"),
            Format::Json => (format!("{{\"x\": {literal}}}"), "x"),
        };
        let tree = format.parse(&text).map_err(|_| self.not_editable())?;
        Ok(tree.find(&KeyPath::parse(path)?)?.content.clone())
    }

    /// Returns the edited text if parsing it gives `expected`, that is if nothing else has changed.
    fn confirm(
        &self,
        format: Format,
        edited: String,
        expected: &Node,
    ) -> Result<String, EditError> {
        match format.parse(&edited) {
            Ok(tree) if same(&tree, expected) => Ok(edited),
            _ => Err(self.not_editable()),
        }
    }

    fn not_editable(&self) -> EditError {
        EditError::NotEditable { path: self.path.to_string() }
    }
}

/// A key to add, and the table that it is added to.
struct Insertion<'a> {
    parent: &'a KeyPath,
    table: &'a Node,
    entries: &'a [Entry],
    key: &'a str,
    literal: &'a str,
}

impl Insertion<'_> {
    /// Returns the position to insert at, and the text to insert.
    fn find(&self, format: Format, text: &str) -> Option<(usize, String)> {
        match format {
            Format::Json => Some(self.in_braces(&super::json::quoted(self.key), ": ")),
            Format::Yaml if text[self.table.span.start..].starts_with('{') => {
                Some(self.in_braces(&yaml::quoted(self.key), ": "))
            }
            Format::Yaml => self.in_block(text),
            Format::Toml => self.in_toml(text),
        }
    }

    fn in_braces(&self, key: &str, relation: &str) -> (usize, String) {
        let comma = if self.entries.is_empty() { "" } else { ", " };
        (self.table.span.start + 1, format!("{key}{relation}{}{comma}", self.literal))
    }

    /// Inserts before the first key of a YAML table, with its indentation.
    fn in_block(&self, text: &str) -> Option<(usize, String)> {
        let first = self.entries.first()?.key_span.start;
        let indentation = " ".repeat(text[line_start(text, first)..first].chars().count());
        Some((first, format!("{}: {}\n{indentation}", yaml::quoted(self.key), self.literal)))
    }

    /// Inserts into a TOML table: at the start of the file for the root, after a header, inside
    /// braces, or beside dotted keys.
    fn in_toml(&self, text: &str) -> Option<(usize, String)> {
        let pair = format!("{} = {}", toml_::quoted(self.key), self.literal);
        let span = self.table.span.clone();
        if self.parent.0.is_empty() {
            return Some((0, format!("{pair}\n")));
        }
        let written = &text[span.clone()];
        let line = line_start(text, span.start);
        let before = &text[line..span.start];
        match written.chars().next()? {
            '{' => Some(self.in_braces(&toml_::quoted(self.key), " = ")),
            '[' => {
                let end = text[span.end..].find('\n').map_or(text.len(), |gap| span.end + gap);
                Some((end, format!("\n{pair}")))
            }
            // The table has no header, only a header of a table inside it: insert a header.
            _ if before.trim_start().starts_with('[') => {
                let names: Option<Vec<String>> = self.parent.0.iter().map(header_part).collect();
                Some((line, format!("[{}]\n{pair}\n", names?.join("."))))
            }
            _ => Some((line, format!("{before}{written}.{pair}\n"))),
        }
    }
}

fn header_part(segment: &Segment) -> Option<String> {
    match segment {
        Segment::Key(key) => Some(toml_::quoted(key)),
        Segment::Index(_) => None,
    }
}

fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |newline| newline + 1)
}

fn split(path: &KeyPath) -> Option<(KeyPath, Segment)> {
    let (last, before) = path.0.split_last()?;
    Some((KeyPath(before.to_vec()), last.clone()))
}

fn splice(text: &str, range: Range<usize>, inserted: &str) -> String {
    [&text[..range.start], inserted, &text[range.end..]].concat()
}

/// Converts the value to the type of the existing node: an integer to a float, and the texts `true`
/// and `false` to booleans.
fn converted(value: &Value, node: &Node) -> Value {
    let Content::Scalar(Scalar { kind, .. }) = &node.content else { return value.clone() };
    match (value, kind) {
        (Value::Integer(number), Kind::Float) => Value::Float(*number as f64),
        (Value::String(text), Kind::Boolean) => {
            text.parse().map_or_else(|_| value.clone(), Value::Boolean)
        }
        _ => value.clone(),
    }
}

/// Returns true if two trees have the same content. The order of keys does not matter.
fn same(one: &Node, other: &Node) -> bool {
    let equal = match (&one.content, &other.content) {
        (Content::Table(ones), Content::Table(others)) => {
            let pairs = sorted(ones).into_iter().zip(sorted(others));
            ones.len() == others.len()
                && pairs.into_iter().all(|(a, b)| a.key == b.key && same(&a.value, &b.value))
        }
        (Content::List(ones), Content::List(others)) => {
            ones.len() == others.len() && ones.iter().zip(others).all(|(a, b)| same(a, b))
        }
        (Content::Scalar(one), Content::Scalar(other)) => one == other,
        (Content::Alias(one), Content::Alias(other)) => one == other,
        _ => false,
    };
    equal && one.tagged == other.tagged
}

fn sorted(entries: &[Entry]) -> Vec<&Entry> {
    let mut entries: Vec<&Entry> = entries.iter().collect();
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    entries
}
