//! The native stacks of a profile, by the raw stack that each stands for.

use simprof_model::{ProfileBuilder, StackId};

use super::native_frames::NativeFrames;
use super::raw_stacks::RawStackId;
use super::trace::{RawSample, Trace};
use super::unwind::WalkEnd;

/// The native stacks, by [`RawStackId`].
pub(super) struct NativeStacks(Vec<NativeStack>);

#[derive(Debug, Clone, Copy)]
struct NativeStack {
    id: StackId,
    /// Whether a thread starts at its outermost function.
    reaches_root: bool,
    /// Whether its innermost function has a symbol.
    named: bool,
}

impl NativeStacks {
    /// Adds all stacks of a trace to the profile.
    pub fn build(
        trace: &Trace,
        frames: &mut NativeFrames<'_>,
        builder: &mut ProfileBuilder,
    ) -> Self {
        let mut stacks: Vec<NativeStack> = Vec::with_capacity(trace.stacks.nodes().len());
        for node in trace.stacks.nodes() {
            let expansion = frames.expand(node.frame, builder);
            let parent = node.parent.map(|parent| stacks[parent.0 as usize]);
            let from_root = expansion.frames.iter().rev();
            let leaf = from_root.fold(parent.map(|parent| parent.id), |caller, native| {
                Some(builder.child(caller, native.frame))
            });
            stacks.push(NativeStack {
                id: leaf.expect("every address has at least one frame"),
                reaches_root: parent.map_or(expansion.is_root, |parent| parent.reaches_root),
                named: expansion.named,
            });
        }
        Self(stacks)
    }

    /// Returns the profile's stack for a raw stack.
    pub fn id(&self, stack: RawStackId) -> StackId {
        self.get(stack).id
    }

    /// Returns whether the innermost function of a raw stack has a symbol.
    pub fn is_named(&self, stack: RawStackId) -> bool {
        self.get(stack).named
    }

    /// Returns whether the native stack of a sample is truncated.
    pub fn is_truncated(&self, sample: &RawSample) -> bool {
        let reaches_root = sample.stack.is_some_and(|stack| self.get(stack).reaches_root);
        sample.end == WalkEnd::Truncated && !reaches_root
    }

    fn get(&self, stack: RawStackId) -> NativeStack {
        self.0[stack.0 as usize]
    }
}
