//! Python frames and waits of processes that run Python.
//!
//! A process that runs Python requests to be *armed*: to be sampled by events that also raise SIGTRAP in the sampled thread.
//! The preload library's handler records the thread's Python stack in shared memory. The stacks are attached to the samples,
//! and after symbolisation they are merged with the native stacks.

mod arming;
mod attach;
mod builder;
mod code;
mod counts;
mod file_limit;
mod images;
mod interpreter;
mod line_table;
mod listener;
mod merged_stacks;
mod module_name;
mod python_notices;
mod role;
mod scopes;
mod stack_merge;
#[cfg(test)]
mod testing;
mod waits;

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use simprof_preload::format::{Process, state};

use super::raw_stacks::RawFrameId;
use crate::preload::Tree;

pub(super) use arming::Output;
pub(super) use attach::{Attached, SampleKey, attach};
pub(super) use builder::PythonBuilder;
pub(crate) use file_limit::original as original_file_limit;
pub(crate) use interpreter::interpreter_name;
pub(super) use listener::Listener;
pub(super) use merged_stacks::StackMerger;
pub(super) use python_notices::PythonNotices;
pub(crate) use python_notices::unsampled_notices;
pub(super) use role::{Role, is_evaluation, preload_role, role};

/// The records of the preload library in the processes of a target.
#[derive(Debug, Clone, Default)]
pub(super) struct PythonTrace {
    /// Python stacks and code objects.
    pub tree: Tree,
    /// Stacks of samples, in the order in which they were read.
    pub stacks: Vec<PythonStack>,
    /// Waits, in the order in which they were read.
    pub waits: Vec<PythonWait>,
    pub processes: Vec<PythonProcess>,
    /// Records that were overwritten or never finished.
    pub lost_records: u64,
    /// Stacks and code objects that were dropped because the shared memory was full.
    pub full: u64,
    /// Processes for which there was no free slot.
    pub processes_lost: u64,
    /// Whether Python frames were requested.
    pub frames: bool,
    /// Working directory of the target.
    pub directory: PathBuf,
}

/// The Python stack of a thread at a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PythonStack {
    /// CLOCK_MONOTONIC, ns.
    pub time_ns: u64,
    pub pid: u32,
    pub tid: u32,
    /// Position in [`Tree::nodes`].
    pub node: u32,
    /// See [`simprof_preload::format::flag`].
    pub flags: u32,
}

/// A wait of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PythonWait {
    /// The stack and time of its end.
    pub stack: PythonStack,
    /// Waiting time that this record stands for, ns. Time in which the thread was ready to run is excluded as far as it is known.
    pub weight_ns: u64,
    /// See [`simprof_preload::format::Cause`].
    pub cause: u32,
    /// The frame that called the waiting function; `None` if no code is mapped there.
    pub caller: Option<RawFrameId>,
}

/// A process image that loaded the preload library and has a slot in the shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PythonProcess {
    /// See [`simprof_preload::format::state`].
    pub state: u32,
    pub pid: u32,
    /// When it took the slot, CLOCK_MONOTONIC, ns.
    pub time_ns: u64,
    /// `PY_VERSION_HEX`, or 0 if unknown.
    pub version: u32,
    /// Why there are no Python frames: see [`simprof_preload::format::reason`], or an error number after a refusal.
    pub reason: u32,
    pub free_threaded: bool,
}

impl PythonProcess {
    /// Reads a slot of the shared memory; `None` if it is free.
    fn read(process: &Process) -> Option<Self> {
        let state = process.state.load(Ordering::Acquire);
        (state != state::FREE).then(|| Self {
            state,
            pid: process.pid.load(Ordering::Relaxed),
            time_ns: process.time_ns.load(Ordering::Relaxed),
            version: process.version.load(Ordering::Relaxed),
            reason: process.reason.load(Ordering::Relaxed),
            free_threaded: process.free_threaded.load(Ordering::Relaxed) != 0,
        })
    }
}
