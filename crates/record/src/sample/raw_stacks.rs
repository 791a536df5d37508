//! Interned stacks of addresses in modules: the form in which the stacks of samples are kept until symbolisation.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::module::ModuleIndex;

/// A code address within a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RawFrame {
    pub module: ModuleIndex,
    /// Address as the module's file states it. Return addresses are reduced by one.
    pub address: u64,
}

/// Position in [`RawStacks::frames`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct RawFrameId(pub u32);

/// Position in [`RawStacks::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct RawStackId(pub u32);

/// A frame called from `parent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct RawNode {
    pub parent: Option<RawStackId>,
    pub frame: RawFrameId,
}

/// A tree of stacks. Parents come before their children.
#[derive(Debug, Default)]
pub(super) struct RawStacks {
    frames: Vec<RawFrame>,
    nodes: Vec<RawNode>,
    frame_ids: FastMap<RawFrame, RawFrameId>,
    node_ids: FastMap<RawNode, RawStackId>,
}

impl RawStacks {
    /// Interns a frame.
    pub fn frame(&mut self, frame: RawFrame) -> RawFrameId {
        *self.frame_ids.entry(frame).or_insert_with(|| {
            self.frames.push(frame);
            RawFrameId(last_index(self.frames.len()))
        })
    }

    /// Adds a frame that no other lookup returns, so that it can be replaced later.
    pub fn separate_frame(&mut self, frame: RawFrame) -> RawFrameId {
        self.frames.push(frame);
        RawFrameId(last_index(self.frames.len()))
    }

    /// Replaces a frame in all stacks that contain it.
    pub fn replace(&mut self, id: RawFrameId, frame: RawFrame) {
        self.frames[id.0 as usize] = frame;
    }

    /// Interns the stack in which `parent` calls `frame`.
    pub fn child(&mut self, parent: Option<RawStackId>, frame: RawFrameId) -> RawStackId {
        let node = RawNode { parent, frame };
        *self.node_ids.entry(node).or_insert_with(|| {
            self.nodes.push(node);
            RawStackId(last_index(self.nodes.len()))
        })
    }

    /// Returns the frames of a stack, leaf first.
    pub fn frames_from_leaf(&self, stack: Option<RawStackId>) -> impl Iterator<Item = RawFrame> {
        let node = |stack: RawStackId| self.nodes[stack.0 as usize];
        let nodes = std::iter::successors(stack.map(node), move |at| at.parent.map(node));
        nodes.map(|node| self.frames[node.frame.0 as usize])
    }

    /// Returns the frames, by [`RawFrameId`]. Those that were added separately or replaced may equal others.
    pub fn frames(&self) -> &[RawFrame] {
        &self.frames
    }

    /// Returns the tree, by [`RawStackId`].
    pub fn nodes(&self) -> &[RawNode] {
        &self.nodes
    }
}

fn last_index(length: usize) -> u32 {
    u32::try_from(length - 1).expect("a recording has fewer than 2^32 distinct stacks")
}

/// A map for keys that are addresses and small numbers. Its hash does not resist deliberate collisions: a target could use
/// them to slow the recorder down, which would cost it samples and nothing else.
pub(crate) type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<FoldHasher>>;

/// Hashes words by folded multiplication, several times faster than the standard hasher.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FoldHasher(u64);

impl Hasher for FoldHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        // The factor is 2^64 divided by the golden ratio: odd, with evenly spread bits (Knuth, vol. 3, 6.4).
        let product = u128::from(self.0 ^ word ^ 0x2545_f491_4f6c_dd1d) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        self.write_u64(word as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_stacks_share_their_nodes() {
        let mut stacks = RawStacks::default();
        let frame = |address| RawFrame { module: ModuleIndex::UNKNOWN, address };
        let main = stacks.frame(frame(1));
        let work = stacks.frame(frame(2));
        assert_eq!(stacks.frame(frame(1)), main);
        let root = stacks.child(None, main);
        let leaf = stacks.child(Some(root), work);
        let root_again = stacks.child(None, main);
        assert_eq!(stacks.child(Some(root_again), work), leaf);
        assert_ne!(stacks.child(None, work), leaf);
        assert!(stacks.frames_from_leaf(Some(leaf)).eq([frame(2), frame(1)]));
        assert_eq!(stacks.frames_from_leaf(None).next(), None);
        assert_eq!((stacks.frames().len(), stacks.nodes().len()), (2, 3));
        let separate = stacks.separate_frame(frame(1));
        assert_ne!(separate, main);
        stacks.replace(separate, frame(2));
        assert_eq!((stacks.frame(frame(1)), stacks.frame(frame(2))), (main, work));
        assert_eq!(stacks.frames()[separate.0 as usize], frame(2));
    }
}
