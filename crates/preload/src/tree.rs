//! The tree of stacks: a node for each distinct frame called from a distinct stack.

use core::sync::atomic::Ordering;

use crate::format::{NODES, WRITTEN};
use crate::memory::Memory;
use crate::table::{intern, mix};

/// One frame of a stack, without its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// The code's number; 0 where the frame could not be read.
    pub code: u32,
    /// Offset of the instruction, bytes; `u32::MAX` where it has not started.
    pub instruction: u32,
    /// [`crate::format::ENTRY`] or 0.
    pub flags: u32,
}

/// The node of `frame` called from `parent`; none where the tree is full.
#[inline]
pub fn node(memory: Memory, parent: u32, frame: Frame) -> Option<u32> {
    let flags = frame.flags | WRITTEN;
    let low = u64::from(frame.code) | u64::from(frame.instruction) << 32;
    let hash = mix(mix(0x5851_f42d_4c95_7f2d, low), u64::from(parent) | u64::from(flags) << 32);
    let is_it = |position: u32| {
        let Some(node) = memory.nodes().get(position as usize) else { return false };
        node.parent.load(Ordering::Relaxed) == parent
            && node.code.load(Ordering::Relaxed) == frame.code
            && node.instruction.load(Ordering::Relaxed) == frame.instruction
            && node.flags.load(Ordering::Relaxed) == flags
    };
    intern(memory.node_slots(), hash, is_it, || {
        let position = take(memory)?;
        let node = &memory.nodes()[position as usize];
        node.parent.store(parent, Ordering::Relaxed);
        node.code.store(frame.code, Ordering::Relaxed);
        node.instruction.store(frame.instruction, Ordering::Relaxed);
        node.flags.store(flags, Ordering::Release);
        Some(position)
    })
}

/// An unused node. The count stops growing where it ends, so that it never wraps.
fn take(memory: Memory) -> Option<u32> {
    let next = &memory.header().nodes;
    if next.load(Ordering::Relaxed) + 1 >= NODES as u64 {
        return None;
    }
    let position = next.fetch_add(1, Ordering::Relaxed) + 1;
    (position < NODES as u64).then_some(position as u32)
}
