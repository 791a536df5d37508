//! What a configuration file holds, with the place of each value in its text.

use std::ops::Range;

use super::error::EditError;
use super::path::{KeyPath, Segment};
use crate::spec::nearest;

/// Tables and lists deeper than this are not read.
pub const DEEPEST: usize = 128;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its bytes in the text. Of tables and lists that have no brackets: where they begin, roughly.
    pub span: Range<usize>,
    /// What it is.
    pub content: Content,
    /// Whether a YAML tag stands before it.
    pub tagged: bool,
}

/// What a value is.
#[derive(Debug, Clone)]
pub enum Content {
    /// Keys with values, in the order of the text where the reader keeps it.
    Table(Vec<Entry>),
    /// Items.
    List(Vec<Node>),
    /// A single value.
    Scalar(Scalar),
    /// A YAML alias, by its anchor's number.
    Alias(usize),
}

/// A key of a table.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its text.
    pub key: String,
    /// Its bytes in the text, where the format needs them.
    pub key_span: Range<usize>,
    /// Its value.
    pub value: Node,
}

/// A single value.
#[derive(Debug, Clone, PartialEq)]
pub struct Scalar {
    /// What it is read as.
    pub kind: Kind,
    /// What the text means; of numbers and the like as it is written.
    pub text: String,
}

/// What a single value is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
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
    /// A value without a tag.
    pub fn new(span: Range<usize>, content: Content) -> Self {
        Self { span, content, tagged: false }
    }

    /// What it is, for people.
    pub fn found(&self) -> &'static str {
        match &self.content {
            Content::Table(_) => "a table",
            Content::List(_) => "a list",
            Content::Alias(_) => "a YAML alias",
            Content::Scalar(_) => "a single value",
        }
    }

    /// Where the last thing within it ends.
    pub fn end(&self) -> usize {
        let last = match &self.content {
            Content::Table(entries) => entries.iter().map(|entry| entry.value.end()).max(),
            Content::List(items) => items.last().map(Node::end),
            Content::Scalar(_) | Content::Alias(_) => None,
        };
        self.span.end.max(last.unwrap_or(0))
    }

    /// The value at `path`.
    ///
    /// # Errors
    /// Where there is none: with the nearest that there is.
    pub fn find(&self, path: &KeyPath) -> Result<&Node, EditError> {
        let mut node = self;
        for depth in 0..path.0.len() {
            node = node.child(path, depth).map_err(|error| self.with_hint(error, path, depth))?;
        }
        Ok(node)
    }

    /// As [`Node::find`], to be changed.
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
            _ => Err(EditError::Leaf { path: so_far(), found: self.found() }),
        }
    }

    /// Adds the nearest path to an error that names a missing key.
    fn with_hint(&self, error: EditError, path: &KeyPath, depth: usize) -> EditError {
        match (error, &path.0[depth]) {
            (EditError::Missing { path: text, .. }, Segment::Key(key)) => {
                EditError::Missing { path: text, hint: self.hint(key, path, depth) }
            }
            (other, _) => other,
        }
    }

    /// A key beside the one that is missing, else one of its name, or of the last name of the path, anywhere.
    fn hint(&self, key: &str, path: &KeyPath, depth: usize) -> Option<String> {
        let parent = KeyPath(path.0[..depth].to_vec());
        let all = self.all_paths();
        let beside =
            all.iter().filter(|other| other.0.len() == depth + 1 && other.0[..depth] == parent.0);
        if let Some(like) = nearest(key, &beside.filter_map(last_key).collect::<Vec<_>>()) {
            return Some(parent.with(Segment::Key(like)).to_string());
        }
        let wanted = last_key(path).unwrap_or(key);
        let named = nearest(wanted, &all.iter().filter_map(last_key).collect::<Vec<_>>())?;
        all.iter().find(|other| last_key(other) == Some(&named)).map(ToString::to_string)
    }

    /// The path of every value within it.
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
