//! The tree of stacks: a node for each distinct frame called from a distinct stack.

use core::sync::atomic::Ordering;

use crate::format::WRITTEN;
use crate::shared_memory::SharedMemory;
use crate::table::{intern, mix, reserve};

/// One frame of a stack, without its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Number of the code object; 0 if the frame could not be read.
    pub code: u32,
    /// Offset of the instruction, bytes; `u32::MAX` if the frame has not started.
    pub instruction: u32,
    /// [`crate::format::ENTRY`] or 0.
    pub flags: u32,
}

/// Returns the node of `frame` called from `parent`. `None` if the tree is full.
#[inline]
pub fn node(memory: SharedMemory, parent: u32, frame: Frame) -> Option<u32> {
    let flags = frame.flags | WRITTEN;
    let low = u64::from(frame.code) | u64::from(frame.instruction) << 32;
    let hash = mix(mix(0x5851_f42d_4c95_7f2d, low), u64::from(parent) | u64::from(flags) << 32);
    let is_it = |position: u32| {
        let Some(node) = memory.node(position) else { return false };
        node.parent.load(Ordering::Relaxed) == parent
            && node.code.load(Ordering::Relaxed) == frame.code
            && node.instruction.load(Ordering::Relaxed) == frame.instruction
            && node.flags.load(Ordering::Relaxed) == flags
    };
    intern(
        |generation| memory.node_slots(generation),
        hash,
        is_it,
        || {
            let (position, node) =
                reserve(&memory.header().nodes, |position| memory.node(position))?;
            node.parent.store(parent, Ordering::Relaxed);
            node.code.store(frame.code, Ordering::Relaxed);
            node.instruction.store(frame.instruction, Ordering::Relaxed);
            node.flags.store(flags, Ordering::Release);
            Some(position)
        },
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Barrier;

    use super::*;
    use crate::format::{NODES, size};
    use crate::shared_memory;

    fn frame(code: u32, instruction: u32) -> Frame {
        Frame { code, instruction, flags: code & crate::format::ENTRY }
    }

    #[test]
    fn equal_frames_with_equal_parents_share_a_node() {
        let memory = shared_memory::for_tests();
        let root = node(memory, 0, frame(1, 2)).expect("the table is not full");
        assert_eq!(node(memory, 0, frame(1, 2)), Some(root));
        let others = [
            node(memory, 0, frame(1, 3)),
            node(memory, 0, frame(2, 2)),
            node(memory, root, frame(1, 2)),
            node(memory, 0, Frame { flags: 0, ..frame(1, 2) }),
        ];
        let distinct: HashSet<_> = others.into_iter().chain([Some(root)]).collect();
        assert_eq!(distinct.len(), 5);
    }

    #[test]
    fn threads_that_insert_the_same_agree() {
        const THREADS: usize = 8;
        const FRAMES: u32 = 2000;
        let memory = shared_memory::for_tests();
        let barrier = Barrier::new(THREADS);
        let insert = || {
            barrier.wait();
            (0..FRAMES).map(|at| node(memory, at % 7, frame(at / 50 + 1, at))).collect::<Vec<_>>()
        };
        let all: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(insert)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("the thread does not panic"))
                .collect()
        });
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
        let distinct: HashSet<_> = all[0].iter().flatten().collect();
        assert_eq!(distinct.len(), FRAMES as usize);
        for (at, position) in (0..FRAMES).zip(&all[0]) {
            let position = position.expect("the table is not full");
            let node = memory.node(position).expect("it was inserted");
            assert_eq!(node.instruction.load(Ordering::Relaxed), at);
            assert_eq!(node.parent.load(Ordering::Relaxed), at % 7);
        }
    }

    #[test]
    fn a_tree_grows_beyond_its_first_generation() {
        let memory = shared_memory::for_tests();
        let count = 3 * size::NODES[0] as u32;
        let insert = |at: u32| node(memory, at % 1000, frame(at / 50 + 1, at));
        let first: Vec<_> = (0..count).map(insert).collect();
        assert!(first.iter().all(Option::is_some));
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), count as usize);
        assert_eq!((0..count).map(insert).collect::<Vec<_>>(), first);
        assert_eq!(memory.header().nodes.load(Ordering::Relaxed), count.into());
    }

    #[test]
    fn a_tree_that_may_not_grow_is_full() {
        let memory = shared_memory::for_tests();
        memory.later.close();
        let count = 2 * size::NODES[0] as u32;
        let insert = |at: u32| node(memory, 0, frame(1, at));
        let first: Vec<_> = (0..count).map(insert).collect();
        // Node 0 is not used.
        let inserted = first.iter().flatten().count();
        assert!(inserted > size::NODES[0] / 2 && inserted < size::NODES[0], "{inserted}");
        assert_eq!((0..count).map(insert).collect::<Vec<_>>(), first);
        assert!(memory.header().nodes.load(Ordering::Relaxed) < size::NODES[0] as u64);
    }

    #[test]
    fn a_full_tree_returns_none_for_new_frames_only() {
        let memory = shared_memory::for_tests();
        let first = node(memory, 0, frame(1, 1)).expect("the table is not full");
        memory.header().nodes.store(NODES as u64 - 2, Ordering::Relaxed);
        assert_eq!(node(memory, 0, frame(1, 2)), Some(NODES as u32 - 1));
        for at in 3..10 {
            assert_eq!(node(memory, 0, frame(1, at)), None);
        }
        assert_eq!(node(memory, 0, frame(1, 1)), Some(first));
        assert!(memory.header().nodes.load(Ordering::Relaxed) < NODES as u64 + 1);
    }
}
