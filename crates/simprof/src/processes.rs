//! The interface through which a session runs one process of the target and records it.
//!
//! [`Runner`](crate::runner::Runner) implements it with real processes. Tests use recorded results.

#[cfg(test)]
pub mod fake;

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use simprof_measure::grid::Parameters;
use simprof_model::{Profile, Steps};
use simprof_record::sample::{Samples, symbolise};
use simprof_record::{RecordError, Recording};
use simprof_report::analysis::mark_spinning;

use crate::folder::Scratch;
use crate::python::CallCounts;
use crate::spec::CommandTemplate;

/// What to record of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observe {
    /// Stacks and resources.
    Stacks {
        /// Samples per second of CPU time.
        rate_hz: u32,
    },
    /// Allocations and resources.
    Allocations {
        /// Mean distance between two sampled bytes; 1 records every allocation.
        interval_bytes: u64,
    },
    /// Resources over time.
    Resources,
    /// Only how it ended and its totals. Nothing that could disturb a benchmark.
    Nothing,
}

/// One process to start.
#[derive(Debug)]
pub struct Invocation<'a> {
    /// The command.
    pub command: &'a CommandTemplate,
    /// Values of its placeholders.
    pub parameters: &'a Parameters,
    /// Seed for the process.
    pub seed: u64,
    /// What to record.
    pub observe: Observe,
    /// Temporary folders of the process.
    pub scratch: Scratch,
    /// Path of its output without extension: standard output is written to `.out`, standard error to `.err`.
    pub log: &'a Path,
}

/// A process that has ended.
#[derive(Debug)]
pub struct Observed {
    /// What was recorded, without the stack samples.
    pub recording: Recording,
    /// The stack samples, if they were requested and the machine permits sampling.
    pub stacks: Option<Stacks>,
}

/// Stack samples of one run, before symbols are read.
#[derive(Debug)]
#[cfg_attr(test, expect(clippy::large_enum_variant, reason = "tests have few values"))]
pub enum Stacks {
    /// Samples of a process.
    Sampled(Box<Samples>),
    /// A recorded profile.
    #[cfg(test)]
    Recorded(Profile),
}

impl Stacks {
    /// Returns the number of samples.
    pub fn count(&self) -> u64 {
        match self {
            Self::Sampled(samples) => samples.count(),
            #[cfg(test)]
            Self::Recorded(profile) => profile.samples.len() as u64,
        }
    }

    /// Returns the number of samples that figures are based on: those inside steps, or all of a run without steps.
    pub fn count_of_work(&self, steps: &Steps) -> u64 {
        if steps.steps.is_empty() {
            return self.count();
        }
        match self {
            Self::Sampled(samples) => samples.count_within(&steps.spans()),
            #[cfg(test)]
            Self::Recorded(profile) => {
                let spans = steps.spans();
                let is_in = |time| spans.iter().any(|&(begin, end)| (begin..end).contains(&time));
                profile.samples.iter().filter(|sample| is_in(sample.time_ns)).count() as u64
            }
        }
    }

    /// Symbolises the samples of several runs and joins them into one profile, in which spinning is a cost of its own.
    pub fn symbolise(runs: Vec<Self>) -> Profile {
        let mut samples = Vec::new();
        #[cfg(test)]
        let mut recorded = Vec::new();
        for run in runs {
            match run {
                Self::Sampled(run) => samples.push(*run),
                #[cfg(test)]
                Self::Recorded(run) => recorded.push(run),
            }
        }
        #[cfg(test)]
        if !recorded.is_empty() {
            return fake::joined(&recorded);
        }
        let mut profile = symbolise(samples);
        mark_spinning(&mut profile);
        profile
    }
}

/// Runs processes of the target.
pub trait Processes: Debug {
    /// Runs one process to its end.
    ///
    /// # Errors
    /// Returns an error if it cannot be started or recorded. A failure of the process is not an error: it is in the
    /// recording.
    fn run(&self, invocation: &Invocation<'_>) -> Result<Observed, RecordError>;

    /// Runs one process to its end, within a time limit, and counts every call of its Python code.
    ///
    /// # Errors
    /// Returns an error as [`Processes::run`].
    fn count_calls(
        &self,
        invocation: &Invocation<'_>,
        limit: Duration,
    ) -> Result<(Recording, CallCounts), RecordError>;

    /// Returns true once the user has asked to stop.
    fn is_cancelled(&self) -> bool;
}
