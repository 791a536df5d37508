//! The samples of one run before symbolisation, and the conditions that they were taken under.

use std::collections::HashMap;

use simprof_model::{Notice, ThreadCpu};

use super::event::Event;
use super::trace::Trace;
use super::{Refusal, Sampling};

/// The samples of one run, not symbolised yet.
#[derive(Debug)]
pub struct Samples {
    pub(super) trace: Trace,
    pub(super) info: RunInfo,
}

impl Samples {
    /// Adds what was observed by other means than sampling: the target's CPU time in the kernel, and its threads.
    pub(crate) fn add_observed(&mut self, target_system_ns: u64, threads: &[ThreadCpu]) {
        self.info.target_system_ns = target_system_ns;
        let runnable = |thread: &ThreadCpu| Some(((thread.pid, thread.tid), thread.runnable_ns?));
        self.info.thread_runnable_ns = threads.iter().filter_map(runnable).collect();
    }

    /// Returns the number of samples.
    pub fn count(&self) -> u64 {
        self.trace.samples.len() as u64
    }

    /// Returns the number of samples within disjoint spans of time, given in order as begin and end in ns of CLOCK_MONOTONIC.
    pub fn count_within(&self, spans: &[(u64, u64)]) -> u64 {
        let is_within = |time_ns: u64| {
            let after = spans.partition_point(|&(begin, _)| begin <= time_ns);
            after.checked_sub(1).is_some_and(|last| time_ns < spans[last].1)
        };
        self.trace.samples.iter().filter(|sample| is_within(sample.time_ns)).count() as u64
    }
}

/// How a run was sampled.
#[derive(Debug)]
pub(super) struct RunInfo {
    /// The settings that were requested.
    pub sampling: Sampling,
    /// The event that was used.
    pub event: Event,
    /// Events that the system refused before.
    pub refusals: Vec<Refusal>,
    /// Notices of the sampler itself.
    pub notices: Vec<Notice>,
    /// CPU time of the target and all its children, ns.
    pub target_cpu_ns: u64,
    /// The part of it in the kernel, ns.
    pub target_system_ns: u64,
    /// Time in which threads were ready to run, ns, by process and thread id, as the kernel counts it for each thread. It includes the
    /// time from a wake-up to the CPU.
    pub thread_runnable_ns: HashMap<(u32, u32), u64>,
    /// CPU time of the draining thread, ns.
    pub recorder_cpu_ns: u64,
}
