//! The errors of the simulation.

use std::io;
use std::path::PathBuf;

/// A name that is not one of the known names of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} `{given}` (known: {known})")]
pub struct UnknownName {
    /// The kind of name, for example `index kind`.
    pub what: &'static str,
    /// The name given.
    pub given: String,
    /// The known names, separated by commas.
    pub known: String,
}

/// An error of the simulation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A parameter is out of range.
    #[error("{field}: {reason}")]
    Config {
        /// The invalid field of [`crate::Config`]. Nested fields have dots.
        field: &'static str,
        /// The invalid value and the allowed range.
        reason: String,
    },
    /// A name is not one of the known names of its kind.
    #[error(transparent)]
    UnknownName(#[from] UnknownName),
    /// A file exists at the path of the database. It is never overwritten.
    #[error("{}: already exists; remove it or name another path", path.display())]
    DatabaseExists {
        /// The requested path.
        path: PathBuf,
    },
    /// SQLite returned an error.
    #[error("{}: cannot {operation}", path.display())]
    Database {
        /// The database file.
        path: PathBuf,
        /// The operation that failed, for example `write rows to it`.
        operation: &'static str,
        /// The error of SQLite.
        #[source]
        source: rusqlite::Error,
    },
    /// The writer thread ended too early.
    #[error("{}: the writer thread stopped early", path.display())]
    WriterStopped {
        /// The database file.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("{}: cannot {operation}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The operation that failed.
        operation: &'static str,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Creates an error about a parameter.
    pub(crate) fn config(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Config { field, reason: reason.into() }
    }
}
