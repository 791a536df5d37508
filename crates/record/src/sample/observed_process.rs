//! A running process of the target: its mappings, its threads, and the names of its code.

use std::collections::HashMap;
use std::sync::Arc;

use super::address_space::AddressSpace;
use super::perf_map::PerfMap;
use super::raw_stacks::RawFrameId;
use super::trace::Trace;

/// A running process.
pub(super) struct Process {
    /// Shared with forked children until one of them changes or uses it.
    pub space: Arc<AddressSpace>,
    pub threads: u32,
    pub generated: PerfMap,
    /// Frames of code that belongs to no file and has no name yet, by their addresses.
    unnamed: HashMap<u64, RawFrameId>,
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
        let frame = trace.stacks.frame(space.locate(address));
        self.unnamed.insert(address, frame);
        frame
    }

    /// Names the frames that got a name only after they were sampled.
    pub fn name_frames(&mut self, pid: u32, trace: &mut Trace) {
        if self.unnamed.is_empty() {
            return;
        }
        self.generated.refresh(pid, u64::MAX, trace.modules.started());
        for (address, frame) in self.unnamed.drain() {
            if let Some(function) = self.generated.at(address) {
                trace.generated.name_late(frame, &function.name);
            }
        }
    }
}
