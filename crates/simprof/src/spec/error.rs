//! Errors in a spec.

use std::io;
use std::path::PathBuf;

use crate::text::{did_you_mean, nearest};

/// An error in a spec.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file cannot be read.
    #[error("cannot read the spec {path}: {source}")]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// It is not TOML, or has an unknown key or a value of a wrong type.
    #[error("{origin}: {message}{hint}")]
    Invalid {
        /// Name of the spec.
        origin: String,
        /// The position and the problem, in several lines.
        message: String,
        /// `; did you mean ...`, or empty.
        hint: String,
    },
    /// A parameter does not exist.
    #[error("there is no parameter `{name}`{}", did_you_mean(.hint.as_deref()))]
    UnknownParameter {
        /// The text, as written.
        name: String,
        /// The most similar parameter that exists.
        hint: Option<String>,
    },
    /// `--set` without `=`.
    #[error("--set: `{text}` has no value; write name=value")]
    Assignment {
        /// The text, as typed.
        text: String,
    },
    /// A value is out of range.
    #[error("{key} is {value}; it must be {want}")]
    Value {
        /// The key.
        key: String,
        /// The text, as written.
        value: String,
        /// The values that are allowed.
        want: &'static str,
    },
    /// The name of a step function is malformed.
    #[error(
        "target.step: `{name}` does not name a Python function; write step = \"package.module:Class.step\" or step = {{ begin = \"package.module:Class.step\" }} (`__main__` is the module of a script). For a program in another language, mark steps with simprof-probe or simprof_probe.h, or recognise them in its output: step = {{ output = \"^step (\\\\d+)\" }}"
    )]
    StepFunction {
        /// The text, as written.
        name: String,
    },
    /// A step pattern is not a regular expression.
    #[error("the step pattern `{pattern}` is not a regular expression: {source}")]
    Pattern {
        /// The text, as written.
        pattern: String,
        /// The error of the regular expression parser.
        source: Box<regex::Error>,
    },
}

impl SpecError {
    /// Converts an error of the TOML parser, and adds the most similar key to it.
    pub fn from_toml(origin: &str, error: &toml::de::Error) -> Self {
        let mut names = error.message().split('`').skip(1).step_by(2);
        let hint = match names.next() {
            Some(unknown) if error.message().starts_with("unknown field") => {
                nearest(unknown, &names.collect::<Vec<_>>())
            }
            _ => None,
        };
        let message = error.to_string().trim_end().to_owned();
        Self::Invalid { origin: origin.to_owned(), message, hint: did_you_mean(hint.as_deref()) }
    }
}
