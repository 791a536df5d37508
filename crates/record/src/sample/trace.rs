//! A recording before symbolisation: samples, stacks as addresses in modules, threads, and counts of losses.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::module::{ModuleIndex, ModuleTable};
use super::python::{Attached, PythonTrace};
use super::raw_stacks::{RawFrame, RawStackId, RawStacks};
use super::scheduling::Scheduled;
use super::unwind::WalkEnd;

/// A sample with its interned stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RawSample {
    /// CLOCK_MONOTONIC, ns.
    pub time_ns: u64,
    /// Nanoseconds or cycles since the event's previous sample.
    pub period: u64,
    /// Position in [`Trace::threads`].
    pub thread: u32,
    /// `None` if neither registers nor a call chain came with the sample.
    pub stack: Option<RawStackId>,
    pub end: WalkEnd,
    /// Whether the thread was in the kernel.
    pub in_kernel: bool,
    /// The Python stack. While recording, [`Attached::Lost`] stands for one that is still to be attached.
    pub python: Attached,
}

/// A thread of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawThread {
    pub pid: u32,
    pub tid: u32,
    pub name: String,
}

/// When a process began and ended, CLOCK_MONOTONIC, ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lifetime {
    pub from_ns: u64,
    /// `None` if it outlived the recording.
    pub until_ns: Option<u64>,
}

/// Losses that the kernel reported, and records that could not be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    /// Samples that were dropped because the buffer was full.
    pub lost_samples: u64,
    /// Lifecycle records that were dropped because the buffer was full.
    pub lost_lifecycle: u64,
    /// How often the kernel paused sampling because samples came too fast.
    pub throttled: u64,
    /// Malformed records. A run of unreadable bytes counts as one.
    pub malformed: u64,
}

/// Functions of generated code.
#[derive(Debug, Default)]
pub(super) struct GeneratedCode {
    names: Vec<Arc<str>>,
    by_name: HashMap<Arc<str>, u64>,
}

impl GeneratedCode {
    /// Returns the frame of a function with this name.
    pub fn frame(&mut self, name: &Arc<str>) -> RawFrame {
        let position = *self.by_name.entry(Arc::clone(name)).or_insert_with(|| {
            self.names.push(Arc::clone(name));
            self.names.len() as u64 - 1
        });
        RawFrame { module: ModuleIndex::GENERATED, address: position }
    }

    /// Returns the name of a frame; `None` if it is not one of generated code with a name.
    pub fn name(&self, frame: RawFrame) -> Option<&str> {
        let position = (frame.module == ModuleIndex::GENERATED).then_some(frame.address)?;
        self.names.get(usize::try_from(position).ok()?).map(AsRef::as_ref)
    }
}

/// Everything that was recorded of one run.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub modules: ModuleTable,
    pub stacks: RawStacks,
    pub samples: Vec<RawSample>,
    pub threads: Vec<RawThread>,
    /// Times at which processes executed a program, by process id, in order.
    pub execs: HashMap<u32, Vec<u64>>,
    /// Children that armed processes forked and that executed no program, by process id.
    pub forks: HashMap<u32, Lifetime>,
    /// What the threads did, by their position in `threads`; empty if the kernel does not report switches.
    pub scheduled: Scheduled,
    /// Kernel frames of waits, leaf first.
    pub kernel_chains: Vec<Vec<u64>>,
    pub counts: Counts,
    pub generated: GeneratedCode,
    /// The records of the preload library; `None` if it was not loaded.
    pub python: Option<PythonTrace>,
}

/// Processes that live for less are too short to be sampled, ns.
const SHORTEST_NS: u64 = 20_000_000;

impl Trace {
    /// Returns the number of processes that an armed process forked without the preload library's knowledge: they have neither
    /// samples nor a slot in the shared memory.
    pub fn unsampled_forks(&self) -> usize {
        let Some(python) = self.python.as_ref().filter(|python| python.processes_lost == 0) else {
            return 0;
        };
        let registered = python.processes.iter().map(|process| process.pid);
        let sampled = self.samples.iter().map(|sample| self.threads[sample.thread as usize].pid);
        let seen: HashSet<u32> = registered.chain(sampled).collect();
        let is_long = |life: &Lifetime| {
            life.until_ns.is_none_or(|until_ns| until_ns >= life.from_ns + SHORTEST_NS)
        };
        self.forks.iter().filter(|(pid, life)| is_long(life) && !seen.contains(pid)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::python::PythonProcess;

    #[test]
    fn forks_without_samples_and_slot_are_counted() {
        let life = |until_ns| Lifetime { from_ns: 5, until_ns };
        let forks = [
            (20, life(None)),
            (21, life(Some(5 + SHORTEST_NS))),
            (22, life(Some(4 + SHORTEST_NS))),
            (23, life(None)),
            (24, life(None)),
        ];
        let process = PythonProcess {
            state: 0,
            pid: 23,
            time_ns: 6,
            version: 0,
            reason: 0,
            free_threaded: false,
        };
        let python = PythonTrace { processes: vec![process], ..PythonTrace::default() };
        let sample = RawSample {
            time_ns: 7,
            period: 1,
            thread: 0,
            stack: None,
            end: WalkEnd::Root,
            in_kernel: false,
            python: Attached::None,
        };
        let mut trace = Trace {
            samples: vec![sample],
            threads: vec![RawThread { pid: 24, tid: 24, name: String::new() }],
            forks: HashMap::from(forks),
            python: Some(python),
            ..Trace::default()
        };
        assert_eq!(trace.unsampled_forks(), 2, "20 and 21");
        trace.python = None;
        assert_eq!(trace.unsampled_forks(), 0, "no process is armed without the library");
    }
}
