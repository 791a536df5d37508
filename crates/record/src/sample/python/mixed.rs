//! The stacks of samples whose Python stack is known: native and Python frames merged, each distinct pair once.

use std::collections::{HashMap, HashSet};

use simprof_model::{FrameId, ProfileBuilder, StackId};
use simprof_preload::format::flag;

use super::Told;
use super::code::{self, PythonFrames};
use super::merge::{Fit, Missing, NativeFrame, PythonFrame, merge};
use super::plumbing::Role;
use crate::sample::profile::Expansion;
use crate::sample::raw_stacks::{RawFrameId, RawStackId, RawStacks};

/// The file that simprof's own texts in Python seem to come from.
const OWN_FILE: &str = "<simprof>";

/// A native frame of the profile, and what it is to Python.
#[derive(Debug, Clone, Copy)]
pub struct Expanded {
    pub frame: FrameId,
    pub role: Role,
    /// Whether it is of the module that has the interpreter.
    pub in_interpreter: bool,
    /// Whether it is of the library that the profiler loads.
    pub in_probe: bool,
}

/// A merged stack.
#[derive(Debug, Clone, Copy)]
pub struct Merged {
    pub stack: Option<StackId>,
    /// Whether it reaches its root.
    pub whole: bool,
    pub fit: Fit,
    /// Whether at least one of its Python frames could not be read.
    pub unreadable: bool,
}

/// What a merged stack is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    native: Option<RawStackId>,
    native_cut: bool,
    node: u32,
    flags: u32,
}

/// Merges stacks.
pub struct Mixed<'a> {
    told: &'a Told,
    raw: &'a RawStacks,
    /// By raw frame.
    expansions: &'a [Expansion],
    frames: PythonFrames<'a>,
    /// Frames of simprof's own texts, which stand around calls of a step function: they tell nothing of the program.
    own: HashSet<FrameId>,
    known: HashMap<Key, Merged>,
}

impl<'a> Mixed<'a> {
    pub fn new(told: &'a Told, raw: &'a RawStacks, expansions: &'a [Expansion]) -> Self {
        let frames = PythonFrames::new(&told.tree, &told.directory);
        Self { told, raw, expansions, frames, own: HashSet::new(), known: HashMap::new() }
    }

    /// The stack of a sample. `native_cut` tells whether its native stack misses its root; `node` and `flags` are what came of
    /// its Python stack.
    pub fn stack(
        &mut self,
        native: Option<RawStackId>,
        native_cut: bool,
        (node, flags): (u32, u32),
        builder: &mut ProfileBuilder,
    ) -> Merged {
        let key = Key { native, native_cut, node, flags };
        if let Some(&merged) = self.known.get(&key) {
            return merged;
        }
        let (python, unreadable) = self.python(node, flags, builder);
        let missing = Missing { native: native_cut, python: unreadable || flags & flag::CUT != 0 };
        let (mut frames, fit) = merge(&self.native(native), &python, missing);
        frames.retain(|frame| !self.own.contains(frame));
        let merged = Merged {
            stack: builder.stack(frames),
            whole: !native_cut || (fit == Fit::Completed && !python.is_empty()),
            fit,
            unreadable,
        };
        self.known.insert(key, merged);
        merged
    }

    /// Whether the innermost Python frame is of simprof's own texts, and runs nothing but the interpreter: a compiled function that is
    /// called as a step is the program's.
    pub fn is_own(&self, native: Option<RawStackId>, node: u32) -> bool {
        let is_own_text = self.told.tree.stack(node).next().is_some_and(|(_, innermost)| {
            self.told.tree.codes.get(&innermost.code).is_some_and(|code| code.file == OWN_FILE)
        });
        let nodes = self.raw.nodes();
        is_own_text
            && std::iter::successors(native, |id| nodes[id.0 as usize].parent)
                .flat_map(|id| self.expanded(nodes[id.0 as usize].frame))
                .take_while(|frame| frame.role != Role::Evaluation)
                .all(|frame| frame.in_interpreter)
    }

    /// The Python frames of a node alone, from the root.
    pub fn python_alone(
        &mut self,
        (node, flags): (u32, u32),
        builder: &mut ProfileBuilder,
    ) -> Vec<FrameId> {
        let (python, _) = self.python(node, flags, builder);
        let frames = python.iter().map(|python| python.frame);
        frames.filter(|frame| !self.own.contains(frame)).collect()
    }

    /// The native frames that a raw frame stands for, innermost first.
    pub fn expanded(&self, frame: RawFrameId) -> &'a [Expanded] {
        &self.expansions[frame.0 as usize].frames
    }

    /// The Python frames of a stack from the root, and whether one of them could not be read.
    fn python(
        &mut self,
        node: u32,
        flags: u32,
        builder: &mut ProfileBuilder,
    ) -> (Vec<PythonFrame<FrameId>>, bool) {
        let nodes: Vec<_> = self.told.tree.stack(node).map(|(_, node)| node).collect();
        let is_unreadable = |code: u32| code == 0 || !self.told.tree.codes.contains_key(&code);
        let mut unreadable = nodes.iter().any(|node| is_unreadable(node.code));
        let mut frames = Vec::with_capacity(nodes.len() + 1);
        let outermost_is = nodes.last().is_some_and(|node| is_unreadable(node.code));
        if flags & flag::UNREADABLE != 0 && !outermost_is {
            unreadable = true;
            frames.push(PythonFrame { entry: false, frame: code::unreadable(builder) });
        }
        for node in nodes.iter().rev() {
            let frame = self.frames.frame(node, builder);
            if self.told.tree.codes.get(&node.code).is_some_and(|code| code.file == OWN_FILE) {
                self.own.insert(frame);
            }
            frames.push(PythonFrame { entry: node.entry, frame });
        }
        (frames, unreadable)
    }

    /// The native frames of a stack from the root.
    fn native(&self, stack: Option<RawStackId>) -> Vec<NativeFrame<FrameId>> {
        let nodes = self.raw.nodes();
        let chain = std::iter::successors(stack, |id| nodes[id.0 as usize].parent);
        let from_leaf = chain.flat_map(|id| self.expanded(nodes[id.0 as usize].frame));
        let mut frames: Vec<_> = from_leaf
            .map(|expanded| NativeFrame { role: expanded.role, frame: expanded.frame })
            .collect();
        frames.reverse();
        frames
    }
}
