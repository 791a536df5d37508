//! Checks what can be recorded on this machine and of a target. Each missing capability has a consequence and a fix.

mod binary;
mod python;
mod system;
mod target;

use std::path::Path;

pub use python::is_interpreter as is_python_interpreter;

/// What to check.
#[derive(Debug, Clone, Copy)]
pub struct Inquiry<'a> {
    /// The target's program, as a command names it.
    pub program: Option<&'a str>,
    /// The target's working directory.
    pub directory: Option<&'a Path>,
    /// Folder for the results. It need not exist.
    pub output: &'a Path,
}

/// How well a capability works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// It works.
    Available,
    /// It works, but results are less complete or less accurate.
    Degraded,
    /// It does not work.
    Missing,
}

/// Something that recording needs, and how well it works here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// A short name.
    pub name: String,
    /// How well it works.
    pub state: State,
    /// What the check found.
    pub detail: String,
    /// What this means for results; empty if it is available.
    pub consequence: String,
    /// How to fix it; empty if it is available or cannot be fixed.
    pub fix: String,
}

impl Capability {
    fn available(name: &str, detail: impl Into<String>) -> Self {
        Self::new(name, State::Available, detail, "", "")
    }

    fn degraded(name: &str, detail: impl Into<String>, consequence: &str, fix: &str) -> Self {
        Self::new(name, State::Degraded, detail, consequence, fix)
    }

    fn missing(name: &str, detail: impl Into<String>, consequence: &str, fix: &str) -> Self {
        Self::new(name, State::Missing, detail, consequence, fix)
    }

    fn new(
        name: &str,
        state: State,
        detail: impl Into<String>,
        consequence: &str,
        fix: &str,
    ) -> Self {
        let (name, consequence, fix) = (name.to_owned(), consequence.to_owned(), fix.to_owned());
        Self { name, state, detail: detail.into(), consequence, fix }
    }
}

/// Checks everything that recording needs.
///
/// It opens perf events on this process and closes them at once. It changes nothing.
pub fn capabilities(inquiry: &Inquiry<'_>) -> Vec<Capability> {
    let mut found = vec![
        system::sampling(),
        system::kernel_frames(),
        system::locked_memory(),
        system::storage_io(),
        system::proportional_set(),
        system::cores(),
        system::governor(),
        system::load(),
        system::clock_source(),
        system::disk(inquiry.output),
    ];
    if let Some(program) = inquiry.program {
        found.extend(target::target(program, inquiry.directory));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capabilities_have_a_consequence_and_names_are_unique() {
        let output = Path::new("/tmp/not/yet/made");
        let inquiry = Inquiry { program: Some("sh"), directory: None, output };
        let found = capabilities(&inquiry);
        let mut names: Vec<_> = found.iter().map(|capability| &capability.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), found.len());
        for capability in &found {
            let is_limited = capability.state != State::Available;
            assert_eq!(is_limited, !capability.consequence.is_empty(), "{capability:?}");
            assert!(!capability.detail.is_empty(), "{capability:?}");
        }
    }
}
