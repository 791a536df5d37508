//! A running process of the target: its mappings, its threads, and the names of its code.

use std::collections::HashMap;
use std::sync::Arc;

use super::address_space::AddressSpace;
use super::perf_map::PerfMap;
use super::raw_stacks::{RawFrame, RawFrameId};
use super::trace::Trace;

/// A running process.
pub(super) struct Process {
    /// Shared with forked children until one of them changes or uses it.
    pub space: Arc<AddressSpace>,
    pub threads: u32,
    pub generated: PerfMap,
    /// Frames of code that belongs to no file and has no name yet, in this process only: another one may have other code there.
    unnamed: HashMap<RawFrame, RawFrameId>,
}

impl Process {
    /// Returns a process without mappings.
    pub fn new() -> Self {
        Self::forked(Arc::new(AddressSpace::new()), PerfMap::default())
    }

    /// Returns a process that starts with these mappings and names.
    pub fn forked(space: Arc<AddressSpace>, generated: PerfMap) -> Self {
        Self { space, threads: 1, generated, unnamed: HashMap::new() }
    }

    /// Returns the frame of a code address.
    pub fn frame_at(&mut self, address: u64, trace: &mut Trace) -> RawFrameId {
        let space = Arc::make_mut(&mut self.space);
        if let Some(frame) = space.file_frame_at(address, &mut trace.stacks) {
            return frame;
        }
        if let Some(function) = self.generated.at(address) {
            return trace.stacks.frame(trace.generated.frame(&function.name));
        }
        let frame = space.locate(address);
        *self.unnamed.entry(frame).or_insert_with(|| trace.stacks.separate_frame(frame))
    }

    /// Reads the names that process `pid` has listed since the last time, unless that was shortly before `now_ns`.
    pub fn refresh_names(&mut self, pid: u32, now_ns: u64, trace: &mut Trace) {
        if self.generated.refresh(pid, now_ns, trace.modules.started()) {
            self.name_frames(trace);
        }
    }

    /// Reads all names that process `pid` has listed, once it has ended or executes another program.
    pub fn finish_names(&mut self, pid: u32, trace: &mut Trace) {
        if !self.unnamed.is_empty() && self.generated.finish(pid, trace.modules.started()) {
            self.name_frames(trace);
        }
    }

    /// A frame without a name gets the first name that is listed for its address.
    fn name_frames(&mut self, trace: &mut Trace) {
        self.unnamed.retain(|frame, &mut id| {
            // Code without a file is located at its address in the process.
            let Some(function) = self.generated.at(frame.address) else { return true };
            trace.stacks.replace(id, trace.generated.frame(&function.name));
            false
        });
    }
}
