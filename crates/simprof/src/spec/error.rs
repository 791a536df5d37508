//! What can be wrong with a spec, said so that it can be mended.

use std::io;
use std::path::PathBuf;

/// What is wrong with a spec.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file cannot be read.
    #[error("cannot read the spec {path}: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not TOML, an unknown key or a value of a wrong type.
    #[error("{origin}: {message}{hint}")]
    Invalid {
        /// Which spec.
        origin: String,
        /// Where and what, over several lines.
        message: String,
        /// `; did you mean ...`, or nothing.
        hint: String,
    },
    /// A name where a parameter must be.
    #[error("there is no parameter `{name}`{}", did_you_mean(.hint.as_deref()))]
    UnknownParameter {
        /// As written.
        name: String,
        /// The nearest that exists.
        hint: Option<String>,
    },
    /// `--set` without a value.
    #[error("`{text}` sets nothing; write name=value")]
    Assignment {
        /// As typed.
        text: String,
    },
    /// A value out of range.
    #[error("{key} is {value}; it must be {want}")]
    Value {
        /// Of what.
        key: String,
        /// As written.
        value: String,
        /// What it must be.
        want: &'static str,
    },
    /// Steps by calls of what is no Python function.
    #[error(
        "target.step: `{name}` does not name a Python function; write step = \"package.module:Class.step\" (a script's own functions are of the module `__main__`), or let a program in another language mark its steps (simprof-probe, simprof_probe.h) or tell them by its output: step = {{ output = \"^step (\\\\d+)\" }}"
    )]
    StepFunction {
        /// As written.
        name: String,
    },
    /// A step pattern that is not a regular expression.
    #[error("the step pattern `{pattern}` is not a regular expression: {source}")]
    Pattern {
        /// As written.
        pattern: String,
        /// Why not.
        source: Box<regex::Error>,
    },
}

impl SpecError {
    /// Adds the nearest known key to what the TOML reader says.
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

/// The candidate that is most like `name`, where one is like it at all.
pub fn nearest(name: &str, candidates: &[&str]) -> Option<String> {
    let score = |candidate: &str| strsim::jaro_winkler(name, candidate);
    let best = candidates.iter().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    (score(best) > 0.7).then(|| (*best).to_owned())
}

/// `; did you mean ...` or nothing.
pub fn did_you_mean(hint: Option<&str>) -> String {
    hint.map_or_else(String::new, |hint| format!("; did you mean `{hint}`?"))
}
