//! What was looked up lately. The tables in the shared memory are so large that nearly each access to them misses the caches; here
//! a few lines serve for most. What is in the tables never changes, so neither does what is kept of them.

use crate::codes::Head;
use crate::table::mix;
use crate::tree::Frame;

/// What a table has for a key; 0 where nothing is known. Two of them are beside each other in one line of the caches.
#[derive(Clone, Copy)]
#[repr(align(32))]
struct Known<K> {
    key: K,
    value: u32,
}

impl<K: Copy + PartialEq> Known<K> {
    #[inline]
    fn is(&self, key: &K) -> bool {
        self.value != 0 && self.key == *key
    }
}

/// Values of a table by their keys, the last two of each hash; all zeros where nothing is known. `SETS` is a power of two.
pub struct Recent<K, const SETS: usize>([[Known<K>; 2]; SETS]);

impl<K: Copy + PartialEq, const SETS: usize> Recent<K, SETS> {
    /// Nothing is known; `key` is any.
    pub const fn nothing(key: K) -> Self {
        Self([[Known { key, value: 0 }; 2]; SETS])
    }

    /// The value of a key with this hash, by `find` where it is not known.
    #[inline]
    pub fn get(&mut self, hash: u64, key: &K, find: impl FnOnce() -> Option<u32>) -> Option<u32> {
        let set = &mut self.0[hash as usize % SETS];
        if !set[0].is(key) {
            set.swap(0, 1);
            if !set[0].is(key) {
                set[0] = Known { key: *key, value: find()? };
            }
        }
        Some(set[0].value)
    }

    /// Forgets all. One by one: as a whole it would be made on the stack first, and that of a signal handler is small.
    fn clear(&mut self) {
        self.0.iter_mut().flatten().for_each(|known| known.value = 0);
    }
}

/// A frame, and the node that it was called from.
type Called = (u32, Frame);

const NO_HEAD: Head = Head { address: 0, identity: [0; 3], first_line: 0 };
const NO_CALL: Called = (0, Frame { code: 0, instruction: 0, flags: 0 });

/// How many frames from the root are kept of the last stack: the next one mostly begins with the same.
const PATH: usize = 128;

/// Code objects and Python stacks, as one room of [`crate::scratch`] keeps them; all zeros where it keeps nothing.
pub struct Python {
    /// Whose codes these are: position of the process, plus 1.
    process: u32,
    codes: Recent<Head, 32>,
    nodes: Recent<Called, 256>,
    path: [Known<Called>; PATH],
}

impl Python {
    pub const NOTHING: Python = Python {
        process: 0,
        codes: Recent::nothing(NO_HEAD),
        nodes: Recent::nothing(NO_CALL),
        path: [Known { key: NO_CALL, value: 0 }; PATH],
    };

    /// The same, for this process: a forked one has other codes than its parent.
    pub fn of(&mut self, process: u32) -> &mut Python {
        if self.process != process + 1 {
            self.process = process + 1;
            self.codes.clear();
            self.nodes.clear();
            self.path.iter_mut().for_each(|known| known.value = 0);
        }
        self
    }

    /// The number of a code object, by `find` where it is not known.
    #[inline]
    pub fn code(&mut self, head: &Head, find: impl FnOnce() -> Option<u32>) -> Option<u32> {
        self.codes.get(mix(0, head.address as u64), head, find)
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
        let key = (parent, frame);
        let last = &mut self.path[depth % PATH];
        if !last.is(&key) {
            let called = u64::from(frame.code) ^ u64::from(frame.instruction) << 32;
            let value = self.nodes.get(mix(u64::from(parent), called), &key, find)?;
            *last = Known { key, value };
        }
        Some(last.value)
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
        let mut recent = Python::NOTHING;
        let recent = recent.of(0);
        // More than there are places, so that some take others'.
        for round in 0..3 {
            for at in 1..=1000 {
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
        let mut recent = Python::NOTHING;
        let recent = recent.of(0);
        assert_eq!(recent.code(&head(64), || None), None);
        assert_eq!(recent.code(&head(64), || Some(5)), Some(5));
    }

    #[test]
    fn another_process_begins_anew() {
        let mut recent = Python::NOTHING;
        assert_eq!(recent.of(0).code(&head(64), || Some(5)), Some(5));
        assert_eq!(recent.of(0).code(&head(64), || Some(6)), Some(5));
        assert_eq!(recent.of(1).code(&head(64), || Some(7)), Some(7));
    }
}
