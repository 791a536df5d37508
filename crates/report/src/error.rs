//! Errors of this crate.

use std::io;

/// Why a component rule is invalid or an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A glob pattern is not valid.
    #[error("pattern {pattern:?} is not valid")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why it is not valid.
        source: globset::Error,
    },
    /// The profile is empty.
    #[error("the profile has no samples with weight")]
    NoSamples,
    /// Writing failed.
    #[error("cannot write the {export} export")]
    Write {
        /// Name of the export.
        export: &'static str,
        /// The underlying error.
        source: io::Error,
    },
}
