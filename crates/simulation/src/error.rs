//! What can go wrong: a bad parameter, a full disk, a database that refuses.

use std::io;
use std::path::PathBuf;

/// A name that is not among the choices of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} `{given}` (known: {known})")]
pub struct UnknownName {
    /// What was looked for, for example `index kind`.
    pub what: &'static str,
    /// The name given.
    pub given: String,
    /// The names that exist, separated by commas.
    pub known: String,
}

/// Any failure of the simulation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A parameter is out of its range.
    #[error("{field}: {reason}")]
    Config {
        /// The field of [`crate::Config`] at fault, with dots for nested ones.
        field: &'static str,
        /// What is wrong with its value and what would be right.
        reason: String,
    },
    /// A name is not among the choices of its kind.
    #[error(transparent)]
    UnknownName(#[from] UnknownName),
    /// A database is already at the path; it is never overwritten.
    #[error("{}: already exists; remove it or name another path", path.display())]
    DatabaseExists {
        /// The path asked for.
        path: PathBuf,
    },
    /// The database refused an operation.
    #[error("{}: cannot {operation}", path.display())]
    Database {
        /// The database file.
        path: PathBuf,
        /// What was attempted, for example `write rows`.
        operation: &'static str,
        /// SQLite's own reason.
        #[source]
        source: rusqlite::Error,
    },
    /// The writer thread ended before it was told to.
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
        /// What was attempted.
        operation: &'static str,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// A parameter error.
    pub(crate) fn config(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Config { field, reason: reason.into() }
    }
}
