//! Python frames for samples: processes that run Python are armed, tell their Python stacks by shared memory, and what
//! they tell is joined with the samples.

mod account;
mod arming;
mod code;
mod file_limit;
mod join;
mod line_table;
mod listener;
mod merge;
mod mixed;
mod module_name;
mod plumbing;
mod scopes;
#[cfg(test)]
mod testing;
mod waits;
mod weaver;

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use simprof_preload::format::{Process, state};

use super::raw_stacks::RawFrameId;
use crate::preload::Tree;

pub(super) use account::PythonCaveats;
pub(crate) use account::{interpreter_name, unsampled_notices};
pub(super) use arming::Output;
pub(crate) use file_limit::original as original_file_limit;
pub(super) use join::{Attached, Sampled, join};
pub(super) use listener::Listener;
pub(super) use mixed::{Expanded, Mixed};
pub(super) use plumbing::{Role, is_evaluation, probe_role, role};
pub(super) use weaver::Weaver;

/// What processes that run Python told, besides the perf events.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    /// Python stacks and code.
    pub tree: Tree,
    /// Stacks of samples, in the order that they came in.
    pub stacks: Vec<ToldStack>,
    /// Waits, in the order that they came in.
    pub waits: Vec<ToldWait>,
    /// The processes.
    pub processes: Vec<ToldProcess>,
    /// Records that were overwritten or never finished.
    pub lost_records: u64,
    /// Stacks and code objects that found no room.
    pub full: u64,
    /// Processes that found no free place.
    pub processes_lost: u64,
    /// Whether Python frames were asked for.
    pub frames: bool,
    /// Working directory of the target.
    pub directory: PathBuf,
}

/// The Python stack of a thread that was sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ToldStack {
    pub time_ns: u64,
    pub pid: u32,
    pub tid: u32,
    /// In [`Tree::nodes`].
    pub node: u32,
    /// See [`simprof_preload::format::flag`].
    pub flags: u32,
}

/// A thread that waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ToldWait {
    /// Of its end.
    pub stack: ToldStack,
    pub weight_ns: u64,
    /// See [`simprof_preload::format::Cause`].
    pub cause: u32,
    /// Where the waiting function was called, where code is known to be mapped there.
    pub caller: Option<RawFrameId>,
}

/// A process image that loaded the library and has something to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ToldProcess {
    /// See [`simprof_preload::format::state`].
    pub state: u32,
    pub pid: u32,
    /// `PY_VERSION_HEX`, or 0.
    pub version: u32,
    /// Why not.
    pub reason: u32,
    pub free_threaded: bool,
}

impl ToldProcess {
    /// What there is in a place of the memory; none where nobody has it.
    fn read(process: &Process) -> Option<Self> {
        let state = process.state.load(Ordering::Acquire);
        (state != state::FREE).then(|| Self {
            state,
            pid: process.pid.load(Ordering::Relaxed),
            version: process.version.load(Ordering::Relaxed),
            reason: process.reason.load(Ordering::Relaxed),
            free_threaded: process.free_threaded.load(Ordering::Relaxed) != 0,
        })
    }
}
