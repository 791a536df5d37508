//! Merges the native and the Python stack of a sample into a stack of the profile, each distinct pair once.

use std::collections::HashMap;

use simprof_model::{FrameId, ProfileBuilder, StackId};
use simprof_preload::format::{LEFT_OUT, flag};

use super::PythonTrace;
use super::code::{self, PythonFrames};
use super::role::Role;
use super::stack_merge::{self, Fit, Missing, PythonFrame};
use crate::sample::native_frames::NativeFrames;
use crate::sample::raw_stacks::{RawFrameId, RawStackId, RawStacks};

/// The file name of the Python scripts that simprof runs in the target.
const SCRIPT_FILE: &str = "<simprof>";

/// A merged stack.
#[derive(Debug, Clone, Copy)]
pub struct Merged {
    pub stack: Option<StackId>,
    /// Whether the stack is complete up to its root.
    pub reaches_root: bool,
    pub fit: Fit,
    /// Whether at least one Python frame could not be read.
    pub unreadable: bool,
}

/// What a merged stack is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    native: Option<RawStackId>,
    native_truncated: bool,
    node: u32,
    flags: u32,
}

/// Merges stacks. Removes the frames of simprof's own scripts, which call the program's step function, since they are not part
/// of the program.
pub struct StackMerger<'a> {
    recorded: &'a PythonTrace,
    stacks: &'a RawStacks,
    native: NativeFrames<'a>,
    python: PythonFrames<'a>,
    known: HashMap<Key, Merged>,
}

impl<'a> StackMerger<'a> {
    /// The frames of all `stacks` must have been expanded.
    pub fn new(recorded: &'a PythonTrace, stacks: &'a RawStacks, native: NativeFrames<'a>) -> Self {
        let python = PythonFrames::new(&recorded.tree, &recorded.directory);
        Self { recorded, stacks, native, python, known: HashMap::new() }
    }

    /// Returns the merged stack of a sample. `node` and `flags` are what the preload library recorded of its Python stack.
    pub fn merge(
        &mut self,
        native: Option<RawStackId>,
        native_truncated: bool,
        (node, flags): (u32, u32),
        builder: &mut ProfileBuilder,
    ) -> Merged {
        let key = Key { native, native_truncated, node, flags };
        if let Some(&merged) = self.known.get(&key) {
            return merged;
        }
        let (python, unreadable) = self.python_frames(node, flags, builder);
        let is_cut = flags & flag::CUT != 0;
        let missing = Missing { native: native_truncated, python: unreadable || is_cut };
        let (frames, fit) = stack_merge::merge(&self.native_frames(native), &python, missing);
        let merged = Merged {
            stack: builder.stack(frames.into_iter().flatten()),
            reaches_root: !is_cut
                && (!native_truncated || (fit == Fit::Completed && !python.is_empty())),
            fit,
            unreadable,
        };
        self.known.insert(key, merged);
        merged
    }

    /// Returns whether the innermost Python frame is of simprof's own scripts and has called only the interpreter's functions. A
    /// compiled function that such a script calls as a step belongs to the program.
    pub fn is_script(&self, native: Option<RawStackId>, node: u32) -> bool {
        let innermost = self.recorded.tree.stack(node).next();
        innermost.is_some_and(|(_, innermost)| self.is_script_code(innermost.code))
            && self
                .raw_frames(native)
                .flat_map(|frame| &self.native.get(frame).frames)
                .take_while(|frame| frame.role != Role::Evaluation)
                .all(|frame| frame.in_interpreter)
    }

    /// Returns the frames of a Python stack without native ones, from the root.
    pub fn python_only(
        &mut self,
        (node, flags): (u32, u32),
        builder: &mut ProfileBuilder,
    ) -> Vec<FrameId> {
        let (python, _) = self.python_frames(node, flags, builder);
        python.into_iter().filter_map(|python| python.frame).collect()
    }

    /// Returns the frames at a code address from the outermost, or nothing if the code belongs to the interpreter.
    pub fn program_frames(
        &mut self,
        frame: RawFrameId,
        builder: &mut ProfileBuilder,
    ) -> Vec<FrameId> {
        if !self.native.is_program(frame) {
            return Vec::new();
        }
        let expansion = self.native.expand(frame, builder);
        expansion.frames.iter().rev().map(|native| native.frame).collect()
    }

    /// Returns the Python frames of a stack from the root, `None` for those of simprof's scripts, and whether a frame could not
    /// be read.
    fn python_frames(
        &mut self,
        node: u32,
        flags: u32,
        builder: &mut ProfileBuilder,
    ) -> (Vec<PythonFrame<Option<FrameId>>>, bool) {
        let nodes: Vec<_> = self.recorded.tree.stack(node).map(|(_, node)| node).collect();
        let is_unreadable = |code: u32| {
            code != LEFT_OUT && (code == 0 || !self.recorded.tree.codes.contains_key(&code))
        };
        let mut unreadable = nodes.iter().any(|node| is_unreadable(node.code));
        let mut frames = Vec::with_capacity(nodes.len() + 1);
        let is_outermost_unreadable = nodes.last().is_some_and(|node| is_unreadable(node.code));
        if flags & flag::UNREADABLE != 0 && !is_outermost_unreadable {
            unreadable = true;
            frames.push(PythonFrame { entry: false, frame: Some(code::unreadable(builder)) });
        }
        for node in nodes.iter().rev() {
            let is_script = self.is_script_code(node.code);
            let frame = (!is_script).then(|| self.python.frame(node, builder));
            frames.push(PythonFrame { entry: node.entry, frame });
        }
        (frames, unreadable)
    }

    /// Returns whether a code object is of simprof's own scripts.
    fn is_script_code(&self, code: u32) -> bool {
        self.recorded.tree.codes.get(&code).is_some_and(|code| code.file == SCRIPT_FILE)
    }

    /// Returns the native frames of a stack from the root.
    fn native_frames(
        &self,
        stack: Option<RawStackId>,
    ) -> Vec<stack_merge::NativeFrame<Option<FrameId>>> {
        let from_leaf = self.raw_frames(stack).flat_map(|frame| &self.native.get(frame).frames);
        let mut frames: Vec<_> = from_leaf
            .map(|native| stack_merge::NativeFrame { role: native.role, frame: Some(native.frame) })
            .collect();
        frames.reverse();
        frames
    }

    /// Iterates over the raw frames of a stack from the leaf.
    fn raw_frames(&self, stack: Option<RawStackId>) -> impl Iterator<Item = RawFrameId> + '_ {
        let nodes = self.stacks.nodes();
        let ids = std::iter::successors(stack, |id| nodes[id.0 as usize].parent);
        ids.map(|id| nodes[id.0 as usize].frame)
    }
}
