//! Codes and nodes that were looked up lately. The tables in the shared memory are so large that nearly each access to them misses
//! the caches; here a few lines serve for most. What is in the tables never changes, so neither does what is kept of them.

use crate::codes::Head;
use crate::table::mix;
use crate::tree::Frame;

/// How many of each are kept, a power of two: others take their places.
const CODES: usize = 64;
const NODES: usize = 512;
/// How many frames from the root are kept of the last stack: the next one mostly begins with the same.
const PATH: usize = 128;

/// What one room of [`crate::scratch`] keeps; all zeros where it keeps nothing.
pub struct Recent {
    /// Whose codes these are: position of the process, plus 1.
    process: u32,
    codes: [Code; CODES],
    nodes: [Node; NODES],
    path: [Node; PATH],
}

/// A code object, and its number; 0 where there is none.
#[derive(Clone, Copy)]
struct Code {
    head: Head,
    number: u32,
}

/// A frame that was called from the node `parent`, and its node; 0 where there is none.
#[derive(Clone, Copy)]
struct Node {
    parent: u32,
    frame: Frame,
    node: u32,
}

impl Node {
    const NOTHING: Node =
        Node { parent: 0, frame: Frame { code: 0, instruction: 0, flags: 0 }, node: 0 };

    #[inline]
    fn is(&self, parent: u32, frame: Frame) -> bool {
        self.node != 0 && self.parent == parent && self.frame == frame
    }
}

impl Recent {
    pub const NOTHING: Recent = Recent {
        process: 0,
        codes: [Code { head: Head { address: 0, identity: [0; 3], first_line: 0 }, number: 0 };
            CODES],
        nodes: [Node::NOTHING; NODES],
        path: [Node::NOTHING; PATH],
    };

    /// The same, for this process: a forked one has other codes than its parent.
    pub fn of(&mut self, process: u32) -> &mut Recent {
        if self.process != process + 1 {
            self.process = process + 1;
            // One by one: as a whole it would be made on the stack first, and that of a signal handler is small.
            self.codes.iter_mut().for_each(|code| code.number = 0);
            self.nodes.iter_mut().chain(&mut self.path).for_each(|node| node.node = 0);
        }
        self
    }

    /// The number of a code object, by `find` where it is not known.
    #[inline]
    pub fn code(&mut self, head: &Head, find: impl FnOnce() -> Option<u32>) -> Option<u32> {
        let known = &mut self.codes[mix(0, head.address as u64) as usize % CODES];
        if known.number == 0 || known.head != *head {
            *known = Code { head: *head, number: find()? };
        }
        Some(known.number)
    }

    /// The node of `frame` called from `parent`, so many frames from the root, by `find` where it is not known.
    #[inline]
    pub fn node(
        &mut self,
        depth: usize,
        parent: u32,
        frame: Frame,
        find: impl FnOnce() -> Option<u32>,
    ) -> Option<u32> {
        let last = &mut self.path[depth % PATH];
        if !last.is(parent, frame) {
            let called = u64::from(frame.code) ^ u64::from(frame.instruction) << 32;
            let known = &mut self.nodes[mix(u64::from(parent), called) as usize % NODES];
            if !known.is(parent, frame) {
                *known = Node { parent, frame, node: find()? };
            }
            *last = *known;
        }
        Some(last.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(address: usize) -> Head {
        Head { address, identity: [1, 2, address], first_line: 3 }
    }

    #[test]
    fn what_is_known_is_not_looked_up_again() {
        let mut recent = Recent::NOTHING;
        let recent = recent.of(0);
        // More than there are places, so that some take others'.
        for round in 0..3 {
            for at in 1..=2 * NODES as u32 {
                let frame = Frame { code: at, instruction: at % 3, flags: 0 };
                let depth = (at % 300) as usize;
                let found = recent.node(depth, at % 5, frame, || Some(at));
                assert_eq!(found, Some(at), "round {round}");
                for depth in [depth, depth + 1] {
                    let found = recent.node(depth, at % 5, frame, || unreachable!("it is known"));
                    assert_eq!(found, Some(at));
                }
                let head = head(at as usize * 64);
                assert_eq!(recent.code(&head, || Some(at)), Some(at));
                assert_eq!(recent.code(&head, || unreachable!("it is known")), Some(at));
            }
        }
        let other = Frame { code: 1, instruction: 1, flags: crate::format::ENTRY };
        for depth in 0..PATH {
            assert_eq!(recent.node(depth, 1, other, || Some(9)), Some(9), "all of a frame counts");
        }
        let moved = Head { first_line: 4, ..head(64) };
        assert_eq!(recent.code(&moved, || Some(9)), Some(9), "all of a code counts");
    }

    #[test]
    fn what_is_not_found_is_not_known() {
        let mut recent = Recent::NOTHING;
        let recent = recent.of(0);
        assert_eq!(recent.code(&head(64), || None), None);
        assert_eq!(recent.code(&head(64), || Some(5)), Some(5));
    }

    #[test]
    fn another_process_begins_anew() {
        let mut recent = Recent::NOTHING;
        assert_eq!(recent.of(0).code(&head(64), || Some(5)), Some(5));
        assert_eq!(recent.of(0).code(&head(64), || Some(6)), Some(5));
        assert_eq!(recent.of(1).code(&head(64), || Some(7)), Some(7));
    }
}
