//! Why a finding or a file could not be made.

use std::io;

/// Why a finding or a file could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A pattern over names cannot be read.
    #[error("pattern {pattern:?} is not valid")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        source: globset::Error,
    },
    /// There is nothing to show.
    #[error("the profile has no samples with weight")]
    NoSamples,
    /// The file's writer refused.
    #[error("cannot write the {export} export")]
    Write {
        /// Name of the export.
        export: &'static str,
        /// Why not.
        source: io::Error,
    },
}
