//! The content of a configuration file, with the position of each value in the text.

use std::ops::Range;

use super::error::EditError;
use super::path::{KeyPath, Segment};
use crate::text::nearest;

/// Maximum nesting depth of tables and lists.
pub const MAX_DEPTH: usize = 128;

/// A value and its position.
#[derive(Debug, Clone)]
pub struct Node {
    /// Range of bytes in the text. For tables and lists without brackets, only the start is
    /// meaningful, and it is approximate.
    pub span: Range<usize>,
    /// The value.
    pub content: Content,
    /// True if it has a YAML tag.
    pub tagged: bool,
}

/// The content of a value.
#[derive(Debug, Clone)]
pub enum Content {
    /// Keys and values, in the order of the text if the parser keeps it.
    Table(Vec<Entry>),
    /// Items of a list.
    List(Vec<Node>),
    /// A single value.
    Scalar(Scalar),
    /// A YAML alias, by the number of its anchor.
    Alias(usize),
}

/// A key of a table.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The text of the key.
    pub key: String,
    /// Range of bytes in the text. Empty for formats whose edits do not need it.
    pub key_span: Range<usize>,
    /// The value.
    pub value: Node,
}

/// A single value.
#[derive(Debug, Clone, PartialEq)]
pub struct Scalar {
    /// The type of the value.
    pub kind: Kind,
    /// The content of a text; for other types, the value as it is written.
    pub text: String,
}

/// The type of a single value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No value.
    Null,
    /// True or false.
    Boolean,
    /// A whole number.
    Integer,
    /// A number with a fraction.
    Float,
    /// Text.
    Text,
    /// A date or time.
    Time,
}

impl Node {
    /// Creates a value without a tag.
    pub fn new(span: Range<usize>, content: Content) -> Self {
        Self { span, content, tagged: false }
    }

    /// Names the kind of value for messages.
    pub fn kind_name(&self) -> &'static str {
        match &self.content {
            Content::Table(_) => "a table",
            Content::List(_) => "a list",
            Content::Alias(_) => "a YAML alias",
            Content::Scalar(_) => "a single value",
        }
    }

    /// Returns the end of the last value inside it.
    pub fn end(&self) -> usize {
        let last = match &self.content {
            Content::Table(entries) => entries.iter().map(|entry| entry.value.end()).max(),
            Content::List(items) => items.last().map(Node::end),
            Content::Scalar(_) | Content::Alias(_) => None,
        };
        self.span.end.max(last.unwrap_or(0))
    }

    /// Returns the value at `path`.
    ///
    /// # Errors
    /// Returns an error with the most similar path if it does not exist.
    pub fn find(&self, path: &KeyPath) -> Result<&Node, EditError> {
        let mut node = self;
        for depth in 0..path.0.len() {
            node = node.child(path, depth).map_err(|error| self.with_hint(error, path, depth))?;
        }
        Ok(node)
    }

    /// Returns the value at `path` for changes.
    pub fn find_mut(&mut self, path: &KeyPath) -> Option<&mut Node> {
        path.0.iter().try_fold(self, |node, segment| match (segment, &mut node.content) {
            (Segment::Key(key), Content::Table(entries)) => {
                entries.iter_mut().find(|entry| entry.key == *key).map(|entry| &mut entry.value)
            }
            (Segment::Index(index), Content::List(items)) => items.get_mut(*index),
            _ => None,
        })
    }

    fn child(&self, path: &KeyPath, depth: usize) -> Result<&Node, EditError> {
        let so_far = || KeyPath(path.0[..=depth].to_vec()).to_string();
        match (&path.0[depth], &self.content) {
            (Segment::Key(key), Content::Table(entries)) => {
                let mut named = entries.iter().filter(|entry| entry.key == *key);
                match (named.next(), named.next()) {
                    (Some(entry), None) => Ok(&entry.value),
                    (Some(_), Some(_)) => Err(EditError::Ambiguous { path: so_far() }),
                    (None, _) => Err(EditError::Missing { path: path.to_string(), hint: None }),
                }
            }
            (Segment::Index(index), Content::List(items)) => items
                .get(*index)
                .ok_or_else(|| EditError::Short { path: so_far(), length: items.len() }),
            _ => Err(EditError::Leaf { path: so_far(), found: self.kind_name() }),
        }
    }

    /// Adds the most similar path to an error about a missing key.
    fn with_hint(&self, error: EditError, path: &KeyPath, depth: usize) -> EditError {
        match (error, &path.0[depth]) {
            (EditError::Missing { path: text, .. }, Segment::Key(key)) => {
                EditError::Missing { path: text, hint: self.hint(key, path, depth) }
            }
            (other, _) => other,
        }
    }

    /// Suggests a path for a missing key: a similar key in the same table, else a similar one
    /// anywhere to the last key of the path.
    fn hint(&self, key: &str, path: &KeyPath, depth: usize) -> Option<String> {
        let parent = KeyPath(path.0[..depth].to_vec());
        let all = self.all_paths();
        let siblings =
            all.iter().filter(|other| other.0.len() == depth + 1 && other.0[..depth] == parent.0);
        if let Some(similar) = nearest(key, &siblings.filter_map(last_key).collect::<Vec<_>>()) {
            return Some(parent.with(Segment::Key(similar)).to_string());
        }
        let wanted = last_key(path).unwrap_or(key);
        let named = nearest(wanted, &all.iter().filter_map(last_key).collect::<Vec<_>>())?;
        all.iter().find(|other| last_key(other) == Some(&named)).map(ToString::to_string)
    }

    /// Returns the paths of all values inside it.
    pub fn all_paths(&self) -> Vec<KeyPath> {
        let mut all = Vec::new();
        self.paths(&KeyPath::default(), &mut all);
        all
    }

    fn paths(&self, here: &KeyPath, all: &mut Vec<KeyPath>) {
        let children: Vec<(Segment, &Node)> = match &self.content {
            Content::Table(entries) => entries
                .iter()
                .map(|entry| (Segment::Key(entry.key.clone()), &entry.value))
                .collect(),
            Content::List(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| (Segment::Index(index), item))
                .collect(),
            Content::Scalar(_) | Content::Alias(_) => return,
        };
        for (segment, child) in children {
            let path = here.with(segment);
            child.paths(&path, all);
            all.push(path);
        }
    }
}

fn last_key(path: &KeyPath) -> Option<&str> {
    match path.0.last() {
        Some(Segment::Key(key)) => Some(key),
        _ => None,
    }
}
