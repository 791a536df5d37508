//! What can be wrong with a configuration file or with what is to be set in it.

use std::io;
use std::path::PathBuf;

use crate::spec::did_you_mean;

/// Why there is no edited copy of a configuration file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {source}", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A name whose ending tells no format.
    #[error(
        "the configuration file {} is of no known format; its name must end in .yaml (or .yml), .toml or .json",
        .path.display()
    )]
    Format {
        /// Which.
        path: PathBuf,
    },
    /// The file is not what its name says.
    #[error("{}, line {line}: this is not {format} that can be edited: {message}", .path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What it should be.
        format: &'static str,
        /// Counted from 1.
        line: usize,
        /// What the reader of that format says.
        message: String,
    },
    /// A value cannot be set.
    #[error("{}: {error}", .path.display())]
    Edit {
        /// In which file.
        path: PathBuf,
        /// Why not.
        error: EditError,
    },
    /// The copy cannot be written.
    #[error("cannot write {}, the copy of a configuration file: {source}", .path.display())]
    Unwritable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Why a value cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// A path that is not written as one.
    #[error("`{text}` is no path to a key: {why}")]
    Path {
        /// As written.
        text: String,
        /// What is wrong.
        why: &'static str,
    },
    /// There is no such key.
    #[error(
        "there is no key `{path}` (what the file leaves out is given by `add`){}",
        did_you_mean(.hint.as_deref())
    )]
    Missing {
        /// The whole path.
        path: String,
        /// The nearest that is there.
        hint: Option<String>,
    },
    /// A list is shorter.
    #[error("there is no `{path}`: the list has {length} items, counted from 0")]
    Short {
        /// The path that ends in the index.
        path: String,
        /// Items that there are.
        length: usize,
    },
    /// What is there has no keys, or no items.
    #[error("there is no `{path}`: what stands before its end is {found}")]
    Leaf {
        /// The whole path.
        path: String,
        /// What is there.
        found: &'static str,
    },
    /// A key that is to be added is there.
    #[error("there is a key `{path}`; what the file holds is given by `set`")]
    Present {
        /// The whole path.
        path: String,
    },
    /// A key that the file has several times.
    #[error("there are several keys `{path}`")]
    Ambiguous {
        /// The whole path.
        path: String,
    },
    /// Only keys can be added.
    #[error("`{path}` cannot be added: items of a list cannot; set the whole list")]
    Item {
        /// The whole path.
        path: String,
    },
    /// What is there is more than a value.
    #[error("`{path}` is {found}, which would be lost; name a value within it")]
    Container {
        /// The whole path.
        path: String,
        /// What is there.
        found: &'static str,
    },
    /// A value with a YAML tag.
    #[error("`{path}` has a tag, which would change the meaning of what is set; remove the tag")]
    Tagged {
        /// The whole path.
        path: String,
    },
    /// A value that the format does not know.
    #[error("`{path}` cannot be {value}: {format} has no such value")]
    Value {
        /// The whole path.
        path: String,
        /// What was to be set.
        value: String,
        /// Of the file.
        format: &'static str,
    },
    /// A place that the edit would not be confined to.
    #[error(
        "`{path}` cannot be edited where it stands; write it as a plain value on a line of its own"
    )]
    Place {
        /// The whole path.
        path: String,
    },
}
