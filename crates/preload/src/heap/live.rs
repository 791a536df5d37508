//! The live recorded allocations: a filter that rejects nearly all other addresses immediately, and a
//! lock-free table.
//!
//! The allocator itself guarantees the order. An address is inserted before the program receives it, and
//! removed before it is given back, so no two threads ever handle the same address at once. A forked child
//! finds everything zeroed.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use super::format::Origin;
use super::{byte_sampling, memory_limits, shared, system};
use crate::seccomp;

/// Number of slots of the filter: a power of two that the assembly of [`super::hooks`] relies on.
pub const FILTER_SLOTS: usize = 1 << 16;
/// Value of a slot that has overflowed: it no longer counts, and all its addresses are looked up.
const SATURATED: u8 = u8::MAX;

/// A counting filter: each slot counts the live recorded addresses that map to it.
#[repr(C, align(4096))]
pub struct Filter([AtomicU8; FILTER_SLOTS]);

pub static FILTER: Filter = Filter([const { AtomicU8::new(0) }; FILTER_SLOTS]);

/// Returns the slot of an address.
///
/// Neighbouring allocations share a slot or have neighbouring slots. This reduces cache misses: when an
/// unrecorded allocation ends, the library reads little else than the slot. If more addresses shared a slot, too
/// many unrecorded neighbours of recorded allocations would pass the filter.
#[inline]
fn filter_slot(address: usize) -> &'static AtomicU8 {
    &FILTER.0[((address >> 7) ^ (address >> 23)) & (FILTER_SLOTS - 1)]
}

/// Makes the filter pass all addresses, or none.
pub fn set_filter(pass_all: bool) {
    for slot in &FILTER.0 {
        slot.store(if pass_all { SATURATED } else { 0 }, Ordering::Relaxed);
    }
}

/// Asks the kernel to zero the filter in forked children. Returns whether it will.
pub fn wipe_filter_on_fork() -> bool {
    system::wipe_on_fork((&raw const FILTER).cast_mut().cast(), FILTER_SLOTS)
}

fn add_to_filter(address: usize) {
    let counted = |count| if count == SATURATED { None } else { Some(count + 1) };
    let _ = filter_slot(address).fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted);
}

fn take_from_filter(address: usize) {
    let counted = |count| if count == SATURATED || count == 0 { None } else { Some(count - 1) };
    let _ = filter_slot(address).fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted);
}

/// Returns whether the address may belong to a recorded allocation. Only then it may be looked up in [`LIVE`].
#[inline]
pub fn may_be_recorded(address: usize) -> bool {
    // In the table, 0 marks a free entry.
    address != 0 && filter_slot(address).load(Ordering::Relaxed) != 0
}

/// A live allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocation {
    pub size: u64,
    pub origin: Origin,
    pub made_ns: u64,
    /// As in [`super::format::Record::stack`].
    pub stack: u64,
}

/// An allocation as the table stores it: the highest bits of the size, which are otherwise unused, hold the
/// origin.
#[derive(Clone, Copy)]
struct Packed {
    size: u64,
    made_ns: u64,
    stack: u64,
}

const ORIGIN_SHIFT: u32 = 60;

impl Packed {
    fn new(allocation: Allocation) -> Packed {
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

/// A slot for an allocation; `address` is 0 if it is free. The rest belongs to the thread that handles the
/// address.
#[repr(C)]
struct Entry {
    address: AtomicUsize,
    allocation: UnsafeCell<Packed>,
}

// SAFETY: only the thread that handles `address` accesses `allocation`, see the module documentation.
unsafe impl Sync for Entry {}

/// Entries per group: as many as the smallest allocations that begin in [`NEAR`] bytes.
const GROUP: usize = 8;
/// Binary logarithm of the bytes of the program's memory whose allocations share a group.
const NEAR: u32 = 7;
/// Binary logarithm of the bytes of the program's memory whose groups are neighbours. So if an allocator returns
/// the same few addresses again and again, the same few cache lines of the table are used.
const PAGE: u32 = 12;
/// Number of groups per level. Each level is mapped when a group of the previous one is full. Untouched pages
/// use no memory. A large level uses twice as much memory as the pages that contain recorded allocations.
const LEVELS: [usize; 4] = [1 << 10, 1 << 15, 1 << 20, 1 << 25];
/// The level that takes allocations whose group is full in the last level. If the deepest level in use is
/// lower, that level takes them.
const OVERFLOW: usize = 1;
/// A level uses at most 1 / SHARE of the memory that the process may still map.
const SHARE: usize = 8;

/// Returns the group number of an address. The caller reduces it to the number of groups of the level.
#[inline]
fn group_number(address: usize) -> usize {
    const WITHIN: usize = (1 << (PAGE - NEAR)) - 1;
    let page = byte_sampling::mix((address >> PAGE) as u64) as usize & !WITHIN;
    page | address >> NEAR & WITHIN
}

/// A table in levels. Each level is larger than all before it.
pub struct Table {
    levels: [AtomicPtr<Entry>; LEVELS.len()],
    /// The deepest level in use: new allocations go there.
    deepest: AtomicUsize,
    /// Whether a level could not be mapped: no more are tried.
    is_closed: AtomicBool,
    /// Whether any allocation was put into another group than its own.
    has_overflowed: AtomicBool,
}

pub static LIVE: Table = Table::new();

impl Table {
    const fn new() -> Table {
        Table {
            levels: [const { AtomicPtr::new(core::ptr::null_mut()) }; LEVELS.len()],
            deepest: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
            has_overflowed: AtomicBool::new(false),
        }
    }

    /// Maps the first levels, before a seccomp filter may forbid that.
    #[cfg(simprof_heap)]
    pub fn prepare(&self) {
        for level in [0, OVERFLOW] {
            self.map(level);
        }
    }

    /// Inserts an allocation. Returns false if the table is full; then the allocation is not known.
    pub fn insert(&self, address: usize, allocation: Allocation) -> bool {
        let mut level = self.deepest.load(Ordering::Acquire);
        let mut inserted = self.insert_in(level, group_number(address), address, allocation);
        while !inserted {
            let next = self.deepen(level);
            if next == level {
                inserted = self.insert_overflow(address, allocation);
                break;
            }
            level = next;
            inserted = self.insert_in(level, group_number(address), address, allocation);
        }
        if inserted {
            add_to_filter(address);
        }
        inserted
    }

    /// Inserts an allocation whose group is full when there is no further level.
    #[cold]
    fn insert_overflow(&self, address: usize, allocation: Allocation) -> bool {
        self.has_overflowed.store(true, Ordering::Release);
        let mut groups = self.overflow_groups(address);
        groups.any(|(level, group)| self.insert_in(level, group, address, allocation))
    }

    /// Prefetches the parts of the table that this address needs.
    #[inline]
    pub fn prefetch(&self, address: usize) {
        let level = self.deepest.load(Ordering::Acquire);
        let entries = self.levels[level].load(Ordering::Acquire);
        let entry = entries.wrapping_add((group_number(address) & (LEVELS[level] - 1)) * GROUP);
        system::prefetch(entry);
        system::prefetch(entry.wrapping_add(2));
    }

    /// Returns the allocation at an address.
    pub fn get(&self, address: usize) -> Option<Allocation> {
        let entry = self.search(address)?;
        // SAFETY: this thread handles the address, and the entry is the address's.
        Some(unsafe { *entry.allocation.get() }.unpacked())
    }

    /// Removes an allocation and returns it. `None` if the address is not known.
    pub fn remove(&self, address: usize) -> Option<Allocation> {
        let entry = self.search(address)?;
        // SAFETY: this thread handles the address, and the entry is the address's.
        let allocation = unsafe { *entry.allocation.get() }.unpacked();
        entry.address.store(0, Ordering::Release);
        take_from_filter(address);
        Some(allocation)
    }

    /// Empties the table: in a forked child, which does not have its parent's threads.
    pub fn clear(&self) {
        for level in 0..LEVELS.len() {
            let entries = self.levels[level].load(Ordering::Relaxed);
            if !entries.is_null() {
                system::wipe(entries.cast(), bytes(level));
            }
        }
        self.deepest.store(0, Ordering::Relaxed);
        self.has_overflowed.store(false, Ordering::Relaxed);
    }

    /// Inserts an allocation into a group. Returns false if the group is full.
    fn insert_in(
        &self,
        level: usize,
        number: usize,
        address: usize,
        allocation: Allocation,
    ) -> bool {
        let group = self.group(level, number);
        self.touch(level, number, group);
        for entry in group {
            let free = entry.address.load(Ordering::Relaxed) == 0;
            let take =
                || entry.address.compare_exchange(0, address, Ordering::Acquire, Ordering::Relaxed);
            if free && take().is_ok() {
                // SAFETY: the entry is now this address's, which this thread handles.
                unsafe { *entry.allocation.get() = Packed::new(allocation) };
                return true;
            }
        }
        false
    }

    /// Finds the entry of an address.
    fn search(&self, address: usize) -> Option<&Entry> {
        let is_it = |entry: &&Entry| entry.address.load(Ordering::Acquire) == address;
        let deepest = self.deepest.load(Ordering::Acquire);
        let group = group_number(address);
        let found =
            (0..=deepest).rev().find_map(|level| self.group(level, group).iter().find(is_it));
        if found.is_some() || !self.has_overflowed.load(Ordering::Acquire) {
            return found;
        }
        let mut groups = self.overflow_groups(address);
        groups.find_map(|(level, group)| self.group(level, group).iter().find(is_it))
    }

    /// Marks the page of a group as used, and counts it the first time.
    #[inline]
    fn touch(&self, level: usize, number: usize, group: &[Entry]) {
        let Some(first) = group.first() else { return };
        let page = (number & (LEVELS[level] - 1)) * GROUP * size_of::<Entry>() / system::PAGE;
        let pages =
            self.levels[level].load(Ordering::Acquire).wrapping_byte_add(entry_bytes(level));
        // SAFETY: the group exists, so its level is mapped, with a bit for each page after the entries.
        let word = unsafe { &*pages.cast::<AtomicU64>().add(page / 64) };
        let bit = 1 << (page % 64);
        let is_known = word.load(Ordering::Relaxed) & bit != 0;
        if !is_known && word.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            // A page that is read before it is written costs a second page fault and a TLB shootdown.
            let _ = first.address.compare_exchange(0, 0, Ordering::Relaxed, Ordering::Relaxed);
            shared::add_own_bytes(system::PAGE);
        }
    }

    /// Returns the groups, with their level, that take allocations whose own group is full.
    fn overflow_groups(&self, address: usize) -> impl Iterator<Item = (usize, usize)> {
        let first = byte_sampling::mix(address as u64) as usize;
        let level = OVERFLOW.min(self.deepest.load(Ordering::Acquire));
        (0..4).map(move |attempt| (level, first ^ attempt))
    }

    /// Returns a group of a level. Only the low bits of `number` count. Empty if the level cannot be mapped.
    #[inline]
    fn group(&self, level: usize, number: usize) -> &[Entry] {
        let mut entries = self.levels[level].load(Ordering::Acquire);
        if entries.is_null() {
            entries = self.map(level);
        }
        if entries.is_null() {
            return &[];
        }
        let group = number & (LEVELS[level] - 1);
        // SAFETY: the level is mapped, is never unmapped, and has this group. Entries are shared as the
        // module documentation describes.
        unsafe { core::slice::from_raw_parts(entries.add(group * GROUP), GROUP) }
    }

    /// Starts to use the next level, if there is one. Returns the level to use.
    fn deepen(&self, level: usize) -> usize {
        let next = level + 1;
        if next == LEVELS.len() || self.map(next).is_null() {
            return level;
        }
        self.deepest.fetch_max(next, Ordering::AcqRel);
        next
    }

    /// Returns whether a level is at most 1 / [`SHARE`] of the memory that the process may still map. The first
    /// level always is: it is small, and nothing can be recorded without it.
    fn is_affordable(&self, level: usize) -> bool {
        !self.is_closed.load(Ordering::Relaxed)
            // Without it, a forked child would find its parent's allocations.
            && seccomp::allows(system::number::MADVISE)
            && (level == 0 || bytes(level) <= memory_limits::mappable_bytes() / SHARE)
    }

    /// Maps a level unless it is mapped. Returns null if there is no memory.
    #[cold]
    fn map(&self, level: usize) -> *mut Entry {
        let known = self.levels[level].load(Ordering::Acquire);
        if !known.is_null() {
            return known;
        }
        let Some(mapped) =
            self.is_affordable(level).then(|| system::map_private(bytes(level))).flatten()
        else {
            self.is_closed.store(true, Ordering::Relaxed);
            return core::ptr::null_mut();
        };
        system::wipe_on_fork(mapped, bytes(level));
        system::disable_huge_pages(mapped, bytes(level));
        let (null, acquire) = (core::ptr::null_mut(), Ordering::Acquire);
        let exchanged =
            self.levels[level].compare_exchange(null, mapped.cast(), Ordering::AcqRel, acquire);
        match exchanged {
            Ok(_) => mapped.cast(),
            Err(others) => {
                // SAFETY: it was mapped above and no other code knows its address.
                unsafe { system::unmap(mapped, bytes(level)) };
                others
            }
        }
    }
}

/// Size of a level: its entries, and a bit for each of their pages that is in use.
const fn bytes(level: usize) -> usize {
    let words = (entry_bytes(level) / system::PAGE).div_ceil(64);
    (entry_bytes(level) + words * 8).next_multiple_of(system::PAGE)
}

const fn entry_bytes(level: usize) -> usize {
    LEVELS[level] * GROUP * size_of::<Entry>()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Pages full of the smallest allocations, more than fit into the first levels: each is found, and not
    /// mistaken for its neighbour.
    #[test]
    fn dense_pages_fit() {
        let table = Table::new();
        let addresses = || (0..300_000usize).map(|at| 0x7f00_0000_0000 + at * 16);
        let allocation =
            |size| Allocation { size, origin: Origin::Malloc, made_ns: 1, stack: size * 2 };
        for address in addresses() {
            assert!(table.insert(address, allocation(address as u64)));
        }
        assert!(!table.has_overflowed.load(Ordering::Relaxed), "each fits into its own group");
        for address in addresses().rev() {
            assert_eq!(table.remove(address), Some(allocation(address as u64)));
            assert_eq!(table.get(address + 8), None);
        }
        table.clear();
    }

    /// The pages that are marked are those that the kernel made resident.
    #[test]
    fn touched_pages_are_counted() {
        let table = Table::new();
        let allocation = Allocation { size: 1, origin: Origin::Malloc, made_ns: 1, stack: 1 };
        for at in 0..40usize {
            assert!(table.insert(0x7f00_0000_0000 + at * 0x3000, allocation));
        }
        assert_eq!(table.deepest.load(Ordering::Relaxed), 0);
        let entries = table.levels[0].load(Ordering::Relaxed);
        let mut resident = vec![0u8; entry_bytes(0) / system::PAGE];
        // SAFETY: the range is mapped, and the vector has a byte for each of its pages.
        let status =
            unsafe { libc::mincore(entries.cast(), entry_bytes(0), resident.as_mut_ptr()) };
        assert_eq!(status, 0);
        let given: u32 = resident.iter().map(|page| u32::from(page & 1)).sum();
        // SAFETY: the bits follow the entries.
        let words = unsafe {
            core::slice::from_raw_parts(
                entries.byte_add(entry_bytes(0)).cast::<u64>(),
                resident.len() / 64,
            )
        };
        let noted: u32 = words.iter().map(|word| word.count_ones()).sum();
        assert_eq!(noted, given);
        assert!(noted > 10 && noted < 64, "{noted}");
        table.clear();
    }

    /// Allocations whose group is full are found in the overflow groups.
    #[test]
    fn overflowed_allocations_are_found() {
        let table = Table::new();
        table.deepest.store(LEVELS.len() - 1, Ordering::Relaxed);
        // No two real allocations are this close, so a group fills up quickly.
        let addresses = || (1..=60usize).map(|at| 0x1000 + at);
        let allocation =
            |size| Allocation { size, origin: Origin::Map, made_ns: size, stack: size };
        for address in addresses() {
            assert!(table.insert(address, allocation(address as u64)), "{address:x}");
        }
        assert!(table.has_overflowed.load(Ordering::Relaxed));
        for address in addresses() {
            assert_eq!(table.remove(address), Some(allocation(address as u64)));
            assert_eq!(table.remove(address), None);
        }
        table.clear();
    }

    /// 0 is the address of free entries, and the argument of many calls of `free` and `realloc`.
    #[test]
    fn nothing_is_recorded_at_address_zero() {
        let table = Table::new();
        let allocation = Allocation { size: 1, origin: Origin::Python, made_ns: 1, stack: 1 };
        let same_slot_as_zero = 1 << 23 | 1 << 7;
        assert!(table.insert(same_slot_as_zero, allocation));
        assert!(may_be_recorded(same_slot_as_zero));
        assert!(!may_be_recorded(0));
        table.clear();
    }

    /// Compares with a map of the standard library, with more allocations than the first level holds.
    #[test]
    fn the_table_returns_what_was_inserted() {
        let table = Table::new();
        let (mut known, mut random) = (HashMap::new(), 5);
        for round in 0..3_000_000u64 {
            let address = (byte_sampling::next(&mut random) as usize % (1 << 20) + 1) * 32;
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
        assert!(table.deepest.load(Ordering::Relaxed) >= 1);
        assert!(known.len() > 400_000);
        for (address, allocation) in known {
            assert_eq!(table.remove(address), Some(allocation));
        }
        table.clear();
    }
}
