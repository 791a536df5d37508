//! Which allocations are recorded and live: a filter that nearly always says no at once, and a table without locks.
//!
//! The allocator itself keeps order: an address is put in before the program has it, and taken out before it is given
//! back, so that no two threads ever handle one address at once. A forked child finds all of this zeroed.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use super::format::Origin;
use super::{draw, system};

/// Places of the filter: a power of two, known to the assembly of [`super::hooks`].
pub const FILTER: usize = 1 << 16;
/// A place of the filter that counts no more: all addresses there are looked up.
const FULL: u8 = u8::MAX;

/// How many live recorded addresses fall upon each place.
#[repr(C, align(4096))]
pub struct Filter([AtomicU8; FILTER]);

pub static FILTER_PLACES: Filter = Filter([const { AtomicU8::new(0) }; FILTER]);

/// The place of an address. Allocations beside each other have places beside each other, which spares the caches.
#[inline]
fn place(address: usize) -> &'static AtomicU8 {
    &FILTER_PLACES.0[((address >> 4) ^ (address >> 20)) & (FILTER - 1)]
}

/// Makes the filter let every address through, or none.
pub fn set_filter(open: bool) {
    for place in &FILTER_PLACES.0 {
        place.store(if open { FULL } else { 0 }, Ordering::Relaxed);
    }
}

/// Whether forked children will find the filter zeroed.
pub fn wipe_filter_on_fork() -> bool {
    system::wipe_on_fork((&raw const FILTER_PLACES).cast_mut().cast(), FILTER)
}

fn add_to_filter(address: usize) {
    let counted = |count| if count == FULL { None } else { Some(count + 1) };
    let _ = place(address).fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted);
}

fn take_from_filter(address: usize) {
    let counted = |count| if count == FULL || count == 0 { None } else { Some(count - 1) };
    let _ = place(address).fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted);
}

/// Whether the address may be of a recorded allocation.
#[inline]
pub fn may_be_recorded(address: usize) -> bool {
    place(address).load(Ordering::Relaxed) != 0
}

/// What is known of a live allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocation {
    pub size: u64,
    pub origin: Origin,
    pub made_ns: u64,
    /// As in [`super::format::Record::stack`].
    pub stack: u64,
}

/// An allocation as it is kept: the origin in the highest bits of a size, which are never used.
#[derive(Clone, Copy)]
struct Packed {
    size: u64,
    made_ns: u64,
    stack: u64,
}

const ORIGIN_SHIFT: u32 = 60;

impl Packed {
    fn of(allocation: Allocation) -> Packed {
        let Allocation { size, origin, made_ns, stack } = allocation;
        Packed { size: size | (origin as u64) << ORIGIN_SHIFT, made_ns, stack }
    }

    fn unpacked(self) -> Allocation {
        let origin = match self.size >> ORIGIN_SHIFT {
            0 => Origin::Malloc,
            1 => Origin::Map,
            2 => Origin::Python,
            _ => Origin::Program,
        };
        let size = self.size & ((1 << ORIGIN_SHIFT) - 1);
        Allocation { size, origin, made_ns: self.made_ns, stack: self.stack }
    }
}

/// A place for an allocation, 0 in `address` where it is free. The rest belongs to whoever owns the address.
#[repr(C)]
struct Entry {
    address: AtomicUsize,
    allocation: UnsafeCell<Packed>,
}

// SAFETY: `allocation` is only accessed by the thread that handles `address`, see the module.
unsafe impl Sync for Entry {}

/// Entries that an address may be in, one after the other: two or three cache lines.
const GROUP: usize = 4;
/// Groups that an address may be in.
const GROUPS: usize = 2;
/// Groups of the levels. Each is mapped when the one before is three quarters full.
const LEVELS: [usize; 5] = [1 << 9, 1 << 13, 1 << 17, 1 << 20, 1 << 23];

/// A table of tables: each level holds more than all before it.
pub struct Table {
    levels: [AtomicPtr<Entry>; LEVELS.len()],
    /// How many entries of each level are in use.
    used: [AtomicU64; LEVELS.len()],
    /// The deepest level in use: new allocations go there.
    deepest: AtomicUsize,
}

pub static LIVE: Table = Table {
    levels: [const { AtomicPtr::new(core::ptr::null_mut()) }; LEVELS.len()],
    used: [const { AtomicU64::new(0) }; LEVELS.len()],
    deepest: AtomicUsize::new(0),
};

impl Table {
    /// Puts an allocation in; false where there is no room, and the allocation stays unknown.
    pub fn insert(&self, address: usize, allocation: Allocation) -> bool {
        let mut level = self.deepest.load(Ordering::Acquire);
        if self.used[level].load(Ordering::Relaxed) > (LEVELS[level] * GROUP * 3 / 4) as u64 {
            level = self.deepen(level);
        }
        let inserted = self.insert_in(level, address, allocation)
            || self.deepen(level) != level
                && self.insert_in(self.deepest.load(Ordering::Acquire), address, allocation)
            || (0..level).any(|level| self.insert_in(level, address, allocation));
        if inserted {
            add_to_filter(address);
        }
        inserted
    }

    /// What is known of an address.
    pub fn get(&self, address: usize) -> Option<Allocation> {
        let (_, entry) = self.search(address)?;
        // SAFETY: this thread handles the address, and the entry is of it.
        Some(unsafe { *entry.allocation.get() }.unpacked())
    }

    /// Takes an allocation out; none where the address is not known.
    pub fn remove(&self, address: usize) -> Option<Allocation> {
        let (level, entry) = self.search(address)?;
        // SAFETY: this thread handles the address, and the entry is of it.
        let allocation = unsafe { *entry.allocation.get() }.unpacked();
        entry.address.store(0, Ordering::Release);
        self.used[level].fetch_sub(1, Ordering::Relaxed);
        take_from_filter(address);
        Some(allocation)
    }

    /// Forgets everything: in a forked child, whose parent's threads are not there.
    pub fn clear(&self) {
        for level in 0..LEVELS.len() {
            let entries = self.levels[level].load(Ordering::Relaxed);
            if !entries.is_null() {
                system::wipe(entries.cast(), bytes(level));
            }
            self.used[level].store(0, Ordering::Relaxed);
        }
        self.deepest.store(0, Ordering::Relaxed);
    }

    fn insert_in(&self, level: usize, address: usize, allocation: Allocation) -> bool {
        for entry in self.candidates(level, address) {
            let free = entry.address.load(Ordering::Relaxed) == 0;
            let take =
                || entry.address.compare_exchange(0, address, Ordering::Acquire, Ordering::Relaxed);
            if free && take().is_ok() {
                // SAFETY: the entry became this address's, which this thread handles.
                unsafe { *entry.allocation.get() = Packed::of(allocation) };
                self.used[level].fetch_add(1, Ordering::Relaxed);
                return true;
            }
        }
        false
    }

    /// The entry of an address, and its level.
    fn search(&self, address: usize) -> Option<(usize, &Entry)> {
        let deepest = self.deepest.load(Ordering::Acquire);
        (0..=deepest).rev().find_map(|level| Some((level, self.find(level, address)?)))
    }

    fn find(&self, level: usize, address: usize) -> Option<&Entry> {
        self.candidates(level, address)
            .find(|entry| entry.address.load(Ordering::Acquire) == address)
    }

    /// Where the address may be in a level; nowhere where it is not mapped.
    #[inline]
    fn candidates(&self, level: usize, address: usize) -> impl Iterator<Item = &Entry> {
        let mut entries = self.levels[level].load(Ordering::Acquire);
        if entries.is_null() {
            entries = self.map(level);
        }
        let count = if entries.is_null() { 0 } else { GROUP * GROUPS };
        let group = draw::mix(address as u64) as usize & (LEVELS[level] - 1);
        (0..count).map(move |at| {
            let group = (group ^ (at / GROUP)) & (LEVELS[level] - 1);
            // SAFETY: the level is mapped, never unmapped, and has this group; entries are shared by atomics and as
            // the module says.
            unsafe { &*entries.add(group * GROUP + at % GROUP) }
        })
    }

    /// Takes the next level into use, where there is one; the level to be used.
    fn deepen(&self, level: usize) -> usize {
        let next = level + 1;
        if next == LEVELS.len() || self.map(next).is_null() {
            return level;
        }
        self.deepest.fetch_max(next, Ordering::AcqRel);
        next
    }

    /// Maps a level unless it is mapped: null where there is no memory.
    #[cold]
    fn map(&self, level: usize) -> *mut Entry {
        let known = self.levels[level].load(Ordering::Acquire);
        if !known.is_null() {
            return known;
        }
        let Some(mapped) = system::map_private(bytes(level)) else {
            return core::ptr::null_mut();
        };
        system::wipe_on_fork(mapped, bytes(level));
        let (null, acquire) = (core::ptr::null_mut(), Ordering::Acquire);
        let exchanged =
            self.levels[level].compare_exchange(null, mapped.cast(), Ordering::AcqRel, acquire);
        match exchanged {
            Ok(_) => mapped.cast(),
            Err(others) => {
                // SAFETY: it was mapped here and nobody else knows it.
                unsafe { system::unmap(mapped, bytes(level)) };
                others
            }
        }
    }
}

const fn bytes(level: usize) -> usize {
    LEVELS[level] * GROUP * size_of::<Entry>()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Against a map of the standard library, with more allocations than the first three levels hold.
    #[test]
    fn the_table_gives_back_what_was_put_in() {
        let table = Table {
            levels: Default::default(),
            used: Default::default(),
            deepest: AtomicUsize::new(0),
        };
        let (mut known, mut random) = (HashMap::new(), 5);
        for round in 0..3_000_000u64 {
            let address = (draw::next(&mut random) as usize % (1 << 20) + 1) * 32;
            if let Some(expected) = known.remove(&address) {
                assert_eq!(table.get(address), Some(expected));
                assert_eq!(table.remove(address), Some(expected));
                assert_eq!(table.remove(address), None);
            } else {
                let allocation = Allocation {
                    size: round,
                    origin: if round % 2 == 0 { Origin::Malloc } else { Origin::Python },
                    made_ns: round * 3,
                    stack: !round,
                };
                assert!(table.insert(address, allocation));
                assert!(may_be_recorded(address));
                known.insert(address, allocation);
            }
        }
        assert!(table.deepest.load(Ordering::Relaxed) >= 2);
        assert!(known.len() > 400_000);
        for (address, allocation) in known {
            assert_eq!(table.remove(address), Some(allocation));
        }
        table.clear();
    }
}
