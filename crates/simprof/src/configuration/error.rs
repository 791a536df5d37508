//! Errors in configuration files and in their edits.

use std::io;
use std::path::PathBuf;

use crate::text::did_you_mean;

/// Why a configuration file cannot be copied and edited.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {source}", .path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The extension of the file is unknown.
    #[error(
        "the configuration file {} has no known format; its name must end in .yaml (or .yml), .toml or .json",
        .path.display()
    )]
    Format {
        /// Path of the file.
        path: PathBuf,
    },
    /// The file cannot be parsed.
    #[error("{}, line {line}: this is not valid {format}: {message}", .path.display())]
    Malformed {
        /// Path of the file.
        path: PathBuf,
        /// The format by its extension.
        format: &'static str,
        /// Line number, counted from 1.
        line: usize,
        /// The message of the parser.
        message: String,
    },
    /// A value cannot be set or added.
    #[error("{}: {error}", .path.display())]
    Edit {
        /// Path of the file.
        path: PathBuf,
        /// The error.
        error: EditError,
    },
    /// The copy cannot be written.
    #[error("cannot write {}, the copy of a configuration file: {source}", .path.display())]
    Unwritable {
        /// Path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// Why a value cannot be set or added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The path of a key is malformed.
    #[error("`{text}` is not a path to a key: {why}")]
    Path {
        /// The text, as written.
        text: String,
        /// The problem.
        why: &'static str,
    },
    /// The key does not exist.
    #[error(
        "the file has no key `{path}` (use `add` to add a key){}",
        did_you_mean(.hint.as_deref())
    )]
    Missing {
        /// The path of the key.
        path: String,
        /// The most similar path that exists.
        hint: Option<String>,
    },
    /// The index is past the end of the list.
    #[error("the file has no `{path}`: the list has {length} items, and the first has index 0")]
    Short {
        /// The path up to the index.
        path: String,
        /// Length of the list.
        length: usize,
    },
    /// A value on the path has no keys or no items.
    #[error("the file has no `{path}`: the value on the way is {found}")]
    Leaf {
        /// The path of the key.
        path: String,
        /// The kind of value in the file.
        found: &'static str,
    },
    /// The key to add already exists.
    #[error("the file already has a key `{path}`; use `set` to change it")]
    Present {
        /// The path of the key.
        path: String,
    },
    /// The file has the key several times.
    #[error("the file has several keys `{path}`; remove all but one")]
    Ambiguous {
        /// The path of the key.
        path: String,
    },
    /// Items of a list cannot be added.
    #[error("`{path}` cannot be added because it is an item of a list; set the whole list")]
    Item {
        /// The path of the key.
        path: String,
    },
    /// A single value would replace a table or a list.
    #[error("`{path}` is {found}, which would be lost; set a value inside it")]
    Container {
        /// The path of the key.
        path: String,
        /// The kind of value in the file.
        found: &'static str,
    },
    /// The value has a YAML tag.
    #[error(
        "`{path}` has a YAML tag, which would change the meaning of the new value; remove the tag from the file"
    )]
    Tagged {
        /// The path of the key.
        path: String,
    },
    /// The format cannot represent the value.
    #[error("`{path}` cannot be {value}: {format} has no such value")]
    Value {
        /// The path of the key.
        path: String,
        /// The value.
        value: String,
        /// The format of the file.
        format: &'static str,
    },
    /// The edit would change other values too.
    #[error(
        "`{path}` cannot be edited as it is written; write it as a plain value on a separate line"
    )]
    NotEditable {
        /// The path of the key.
        path: String,
    },
}
