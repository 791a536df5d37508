//! A recording before symbolisation: samples, stacks as addresses in modules, threads, and counts of losses.

use super::module::ModuleTable;
use super::python::{Attached, PythonTrace};
use super::raw_stacks::{RawStackId, RawStacks};
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

/// Everything that was recorded of one run.
#[derive(Debug)]
pub(super) struct Trace {
    pub modules: ModuleTable,
    pub stacks: RawStacks,
    pub samples: Vec<RawSample>,
    pub threads: Vec<RawThread>,
    pub counts: Counts,
    /// The records of the preload library; `None` if it was not loaded.
    pub python: Option<PythonTrace>,
}
