//! Caches of recent lookups. The tables in the shared memory are so large that nearly every access misses the
//! processor's caches. A few cache lines here answer most lookups. Entries of the tables never change, so
//! cached values never become stale.

use crate::codes::CodeIdentity;
use crate::table::mix;
use crate::tree::Frame;

/// A key and the table's value for it; value 0 if the entry is empty. Two entries share a cache line.
#[derive(Clone, Copy)]
#[repr(align(32))]
struct Cached<K> {
    key: K,
    value: u32,
}

impl<K: Copy + PartialEq> Cached<K> {
    #[inline]
    fn is(&self, key: &K) -> bool {
        self.value != 0 && self.key == *key
    }
}

/// The last two values of each hash. All zeros if empty. `SETS` is a power of two.
pub struct LookupCache<K, const SETS: usize>([[Cached<K>; 2]; SETS]);

impl<K: Copy + PartialEq, const SETS: usize> LookupCache<K, SETS> {
    /// Returns an empty cache. Any `key` will do.
    pub const fn empty(key: K) -> Self {
        Self([[Cached { key, value: 0 }; 2]; SETS])
    }

    /// Returns the value of `key`, which has this hash. Calls `find` if it is not cached.
    #[inline]
    pub fn get(&mut self, hash: u64, key: &K, find: impl FnOnce() -> Option<u32>) -> Option<u32> {
        let set = &mut self.0[hash as usize % SETS];
        if !set[0].is(key) {
            set.swap(0, 1);
            if !set[0].is(key) {
                set[0] = Cached { key: *key, value: find()? };
            }
        }
        Some(set[0].value)
    }

    /// Empties the cache entry by entry. A whole new cache would first be built on the stack, and a signal
    /// handler's stack is small.
    fn clear(&mut self) {
        self.0.iter_mut().flatten().for_each(|cached| cached.value = 0);
    }
}

/// A frame, and the node that it was called from.
type Called = (u32, Frame);

const EMPTY_HEAD: CodeIdentity = CodeIdentity { address: 0, identity: [0; 3], first_line: 0 };
const EMPTY_CALL: Called = (0, Frame { code: 0, instruction: 0, flags: 0 });

/// Number of frames from the root that are kept of the last stack. The next stack mostly begins with the same
/// frames. Python's own limit of recursion is 1000.
const PATH: usize = 1024;

/// Cached code objects and Python stacks of one buffer of [`crate::scratch`]; all zeros if empty.
pub struct PythonCache {
    /// Process that the entries belong to: index of its slot, plus 1.
    process: u32,
    codes: LookupCache<CodeIdentity, 32>,
    nodes: LookupCache<Called, 256>,
    path: [Cached<Called>; PATH],
}

impl PythonCache {
    pub const EMPTY: PythonCache = PythonCache {
        process: 0,
        codes: LookupCache::empty(EMPTY_HEAD),
        nodes: LookupCache::empty(EMPTY_CALL),
        path: [Cached { key: EMPTY_CALL, value: 0 }; PATH],
    };

    /// Returns the cache for this process. It is emptied if the process changed: a forked child has other
    /// codes than its parent.
    pub fn for_process(&mut self, process: u32) -> &mut PythonCache {
        if self.process != process + 1 {
            self.process = process + 1;
            self.codes.clear();
            self.nodes.clear();
            self.path.iter_mut().for_each(|cached| cached.value = 0);
        }
        self
    }

    /// Returns the number of a code object. Calls `find` if it is not cached.
    #[inline]
    pub fn code(&mut self, head: &CodeIdentity, find: impl FnOnce() -> Option<u32>) -> Option<u32> {
        self.codes.get(mix(0, head.address as u64), head, find)
    }

    /// Returns the node of `frame`, at this depth from the root, called from `parent`. Calls `find` if it is
    /// not cached.
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
            *last = Cached { key, value };
        }
        Some(last.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(address: usize) -> CodeIdentity {
        CodeIdentity { address, identity: [1, 2, address], first_line: 3 }
    }

    #[test]
    fn cached_keys_are_not_looked_up_again() {
        let mut recent = PythonCache::EMPTY;
        let recent = recent.for_process(0);
        // More keys than entries, so that some evict others.
        for round in 0..3 {
            for at in 1..=1000 {
                let frame = Frame { code: at, instruction: at % 3, flags: 0 };
                let depth = (at % 300) as usize;
                let found = recent.node(depth, at % 5, frame, || Some(at));
                assert_eq!(found, Some(at), "round {round}");
                for depth in [depth, depth + 1] {
                    let found = recent.node(depth, at % 5, frame, || unreachable!("it is cached"));
                    assert_eq!(found, Some(at));
                }
                let head = head(at as usize * 64);
                assert_eq!(recent.code(&head, || Some(at)), Some(at));
                assert_eq!(recent.code(&head, || unreachable!("it is cached")), Some(at));
            }
        }
        let other = Frame { code: 1, instruction: 1, flags: crate::format::ENTRY };
        for depth in 0..PATH {
            assert_eq!(recent.node(depth, 1, other, || Some(9)), Some(9), "the flags are compared");
        }
        let moved = CodeIdentity { first_line: 4, ..head(64) };
        assert_eq!(recent.code(&moved, || Some(9)), Some(9), "the line is compared");
    }

    #[test]
    fn failed_lookups_are_not_cached() {
        let mut recent = PythonCache::EMPTY;
        let recent = recent.for_process(0);
        assert_eq!(recent.code(&head(64), || None), None);
        assert_eq!(recent.code(&head(64), || Some(5)), Some(5));
    }

    #[test]
    fn another_process_starts_with_an_empty_cache() {
        let mut recent = PythonCache::EMPTY;
        assert_eq!(recent.for_process(0).code(&head(64), || Some(5)), Some(5));
        assert_eq!(recent.for_process(0).code(&head(64), || Some(6)), Some(5));
        assert_eq!(recent.for_process(1).code(&head(64), || Some(7)), Some(7));
    }
}
