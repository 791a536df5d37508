//! What this machine and a target allow, each lack with its consequence and its mend.

mod binary;
mod python;
mod system;
mod target;

use std::path::Path;

/// What is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Inquiry<'a> {
    /// The target's program, as a command names it.
    pub program: Option<&'a str>,
    /// The target's working directory.
    pub directory: Option<&'a Path>,
    /// Folder that results are to be written to, or will be made in.
    pub output: &'a Path,
}

/// How well something works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// As well as it can.
    Available,
    /// With a lack that figures show.
    Degraded,
    /// Not at all.
    Missing,
}

/// One thing that recording can or cannot do here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// What, in a few words.
    pub name: String,
    /// How well.
    pub state: State,
    /// What was found.
    pub detail: String,
    /// What a lack means for the results; empty where nothing lacks.
    pub consequence: String,
    /// What would mend it; empty where nothing lacks, or nothing can.
    pub mend: String,
}

impl Capability {
    fn available(name: &str, detail: impl Into<String>) -> Self {
        Self::new(name, State::Available, detail, "", "")
    }

    fn degraded(name: &str, detail: impl Into<String>, consequence: &str, mend: &str) -> Self {
        Self::new(name, State::Degraded, detail, consequence, mend)
    }

    fn missing(name: &str, detail: impl Into<String>, consequence: &str, mend: &str) -> Self {
        Self::new(name, State::Missing, detail, consequence, mend)
    }

    fn new(
        name: &str,
        state: State,
        detail: impl Into<String>,
        consequence: &str,
        mend: &str,
    ) -> Self {
        let (name, consequence, mend) = (name.to_owned(), consequence.to_owned(), mend.to_owned());
        Self { name, state, detail: detail.into(), consequence, mend }
    }
}

/// Looks at everything that recording needs. Opens a perf event on this process for a moment;
/// changes nothing.
pub fn capabilities(inquiry: &Inquiry<'_>) -> Vec<Capability> {
    let mut found = vec![
        system::sampling(),
        system::kernel_frames(),
        system::locked_memory(),
        system::storage_io(),
        system::proportional_set(),
        system::probes(),
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
    fn every_lack_has_a_consequence_and_no_name_comes_twice() {
        let output = Path::new("/tmp/not/yet/made");
        let inquiry = Inquiry { program: Some("sh"), directory: None, output };
        let found = capabilities(&inquiry);
        let mut names: Vec<_> = found.iter().map(|capability| &capability.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), found.len());
        for capability in &found {
            let lacks = capability.state != State::Available;
            assert_eq!(lacks, !capability.consequence.is_empty(), "{capability:?}");
            assert!(!capability.detail.is_empty(), "{capability:?}");
        }
    }
}
