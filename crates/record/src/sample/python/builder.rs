//! Builds the Python part of a profile: merged stacks, waits, and counts of missing frames.

use simprof_model::{ProfileBuilder, PythonProvenance};

use super::attach::Attached;
use super::counts::PythonCounts;
use super::images::Images;
use super::merged_stacks::{Merged, StackMerger};
use super::python_notices::PythonNotices;
use super::role::Role;
use super::{PythonTrace, waits};
use crate::sample::native_frames::NativeFrames;
use crate::sample::thread_states::RunStates;
use crate::sample::trace::{RawSample, Trace};

/// Adds the Python part of one recording to a profile.
pub struct PythonBuilder<'a> {
    trace: &'a Trace,
    recorded: &'a PythonTrace,
    merger: StackMerger<'a>,
    counts: PythonCounts,
    /// By raw stack: whether the interpreter's evaluation function is in it.
    evaluates: Vec<bool>,
    /// By raw stack: whether the sample is of the preload library's own work.
    in_preload: Vec<bool>,
    images: Images<'a>,
}

impl<'a> PythonBuilder<'a> {
    /// Returns `None` if the preload library was not loaded. The frames of all stacks must have been expanded.
    pub fn new(trace: &'a Trace, frames: NativeFrames<'a>) -> Option<Self> {
        let recorded = trace.python.as_ref()?;
        let evaluates = stacks_with(trace, &frames, Role::Evaluation);
        let mut in_preload = stacks_with(trace, &frames, Role::Preload);
        for (in_preload, node) in in_preload.iter_mut().zip(trace.stacks.nodes()) {
            // A sample in a wrapper is the library's own work, unless the wrapper has called the C function that it wraps.
            *in_preload |= frames.get(node.frame).frames[0].in_preload;
        }
        Some(Self {
            trace,
            recorded,
            merger: StackMerger::new(recorded, &trace.stacks, frames),
            counts: PythonCounts::default(),
            evaluates,
            in_preload,
            images: Images::new(&trace.execs, &recorded.processes),
        })
    }

    /// Returns whether a sample is of the profiler's own work in the target. Such a sample is counted here, and must not be added
    /// to the profile.
    pub fn skips(&mut self, sample: &RawSample) -> bool {
        let in_script = match sample.python {
            Attached::Stack { node, .. } => self.merger.is_script(sample.stack, node),
            _ => false,
        };
        let skips =
            in_script || sample.stack.is_some_and(|stack| self.in_preload[stack.0 as usize]);
        if skips {
            self.counts.count_own(sample.python);
        }
        skips
    }

    /// Counts a sample and returns its merged stack; `None` if it has only a native one, which is truncated if `native_truncated`.
    pub fn stack(
        &mut self,
        sample: &RawSample,
        native_truncated: bool,
        builder: &mut ProfileBuilder,
    ) -> Option<Merged> {
        let merged = match sample.python {
            Attached::Stack { node, flags } if node != 0 => {
                Some(self.merger.merge(sample.stack, native_truncated, (node, flags), builder))
            }
            _ => None,
        };
        self.counts.count(sample.python, merged.as_ref());
        if sample.python == Attached::None {
            self.look_for_python(sample);
        }
        merged
    }

    /// Adds the waits of threads that run Python.
    pub fn add_waits(&mut self, states: &RunStates, builder: &mut ProfileBuilder) {
        waits::add(self.recorded, &self.trace.threads, states, &mut self.merger, builder);
    }

    /// Returns the counts, and adds the facts of the run to `notices`.
    pub fn finish(self, notices: &mut PythonNotices) -> Option<PythonProvenance> {
        let unloaded = if self.recorded.frames { self.images.unloaded() } else { 0 };
        notices.add_run(self.recorded, unloaded);
        self.counts.provenance(self.recorded)
    }

    /// Remembers a process that runs Python without the preload library.
    fn look_for_python(&mut self, sample: &RawSample) {
        let pid = self.trace.threads[sample.thread as usize].pid;
        let evaluates = sample.stack.is_some_and(|stack| self.evaluates[stack.0 as usize]);
        if evaluates {
            self.images.add_python(pid, sample.time_ns);
        }
    }
}

/// Returns for each raw stack whether a function of that role is in it.
fn stacks_with(trace: &Trace, frames: &NativeFrames<'_>, role: Role) -> Vec<bool> {
    let mut found: Vec<bool> = Vec::with_capacity(trace.stacks.nodes().len());
    for node in trace.stacks.nodes() {
        let here = frames.get(node.frame).frames.iter().any(|frame| frame.role == role);
        found.push(here || node.parent.is_some_and(|parent| found[parent.0 as usize]));
    }
    found
}
