//! Which allocations are recorded and live: a filter that nearly always says no at once, and a table without locks.
//!
//! The allocator itself keeps order: an address is put in before the program has it, and taken out before it is given
//! back, so that no two threads ever handle one address at once. A forked child finds all of this zeroed.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use super::format::Origin;
use super::{draw, room, shared, system};

/// Places of the filter: a power of two, known to the assembly of [`super::hooks`].
pub const FILTER: usize = 1 << 16;
/// A place of the filter that counts no more: all addresses there are looked up.
const FULL: u8 = u8::MAX;

/// How many live recorded addresses fall upon each place.
#[repr(C, align(4096))]
pub struct Filter([AtomicU8; FILTER]);

pub static FILTER_PLACES: Filter = Filter([const { AtomicU8::new(0) }; FILTER]);

/// The place of an address. Allocations beside each other share one, or have places beside each other, which spares the caches: at
/// the end of an allocation its place is nearly all that this library reads. Wider places would let too many through that are
/// beside a recorded one.
#[inline]
fn place(address: usize) -> &'static AtomicU8 {
    &FILTER_PLACES.0[((address >> 7) ^ (address >> 23)) & (FILTER - 1)]
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

/// Entries of a group, one after the other: as many as the smallest allocations that begin in [`NEAR`] bytes.
const GROUP: usize = 8;
/// Bytes of the program's memory whose allocations are in one group, as a power of two.
const NEAR: u32 = 7;
/// Bytes of the program's memory whose groups are beside each other, as a power of two: where an allocator gives the same few
/// places again and again, the same few lines of the table serve.
const PAGE: u32 = 12;
/// Groups of the levels. Each is mapped when a group of the one before is full. What is never touched takes no memory: of a
/// large level, twice as much as the pages with recorded allocations.
const LEVELS: [usize; 4] = [1 << 10, 1 << 15, 1 << 20, 1 << 25];
/// The level that takes what finds no room in its group of the last one, anywhere; or the deepest, where it is not as deep.
const REFUGE: usize = 1;
/// Of the memory that the process may still map, a level takes at most one part in so many.
const SHARE: usize = 8;

/// The group of an address, of any number of groups.
#[inline]
fn near(address: usize) -> usize {
    const WITHIN: usize = (1 << (PAGE - NEAR)) - 1;
    let page = draw::mix((address >> PAGE) as u64) as usize & !WITHIN;
    page | address >> NEAR & WITHIN
}

/// A table of tables: each level holds more than all before it.
pub struct Table {
    levels: [AtomicPtr<Entry>; LEVELS.len()],
    /// The deepest level in use: new allocations go there.
    deepest: AtomicUsize,
    /// Whether a level was not to be had: there are no more from then on.
    is_closed: AtomicBool,
    /// Whether any allocation had to be put elsewhere than into its own group.
    has_refugees: AtomicBool,
}

pub static LIVE: Table = Table::new();

impl Table {
    const fn new() -> Table {
        Table {
            levels: [const { AtomicPtr::new(core::ptr::null_mut()) }; LEVELS.len()],
            deepest: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
            has_refugees: AtomicBool::new(false),
        }
    }

    /// Puts an allocation in; false where there is no room, and the allocation stays unknown.
    pub fn insert(&self, address: usize, allocation: Allocation) -> bool {
        let mut level = self.deepest.load(Ordering::Acquire);
        let mut inserted = self.insert_in(level, near(address), address, allocation);
        while !inserted {
            let next = self.deepen(level);
            if next == level {
                inserted = self.insert_anywhere(address, allocation);
                break;
            }
            level = next;
            inserted = self.insert_in(level, near(address), address, allocation);
        }
        if inserted {
            add_to_filter(address);
        }
        inserted
    }

    /// Where its own group has no room and there is no further level.
    #[cold]
    fn insert_anywhere(&self, address: usize, allocation: Allocation) -> bool {
        self.has_refugees.store(true, Ordering::Release);
        let mut refuges = self.refuges(address);
        refuges.any(|(level, group)| self.insert_in(level, group, address, allocation))
    }

    /// Has what will be needed of the table for this address brought near.
    #[inline]
    pub fn prefetch(&self, address: usize) {
        let level = self.deepest.load(Ordering::Acquire);
        let entries = self.levels[level].load(Ordering::Acquire);
        let place = entries.wrapping_add((near(address) & (LEVELS[level] - 1)) * GROUP);
        system::prefetch(place);
        system::prefetch(place.wrapping_add(2));
    }

    /// What is known of an address.
    pub fn get(&self, address: usize) -> Option<Allocation> {
        let entry = self.search(address)?;
        // SAFETY: this thread handles the address, and the entry is of it.
        Some(unsafe { *entry.allocation.get() }.unpacked())
    }

    /// Takes an allocation out; none where the address is not known.
    pub fn remove(&self, address: usize) -> Option<Allocation> {
        let entry = self.search(address)?;
        // SAFETY: this thread handles the address, and the entry is of it.
        let allocation = unsafe { *entry.allocation.get() }.unpacked();
        entry.address.store(0, Ordering::Release);
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
        }
        self.deepest.store(0, Ordering::Relaxed);
        self.has_refugees.store(false, Ordering::Relaxed);
    }

    /// Puts an allocation into a group, where there is room.
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
                // SAFETY: the entry became this address's, which this thread handles.
                unsafe { *entry.allocation.get() = Packed::of(allocation) };
                return true;
            }
        }
        false
    }

    /// The entry of an address.
    fn search(&self, address: usize) -> Option<&Entry> {
        let is_it = |entry: &&Entry| entry.address.load(Ordering::Acquire) == address;
        let deepest = self.deepest.load(Ordering::Acquire);
        let group = near(address);
        let found =
            (0..=deepest).rev().find_map(|level| self.group(level, group).iter().find(is_it));
        if found.is_some() || !self.has_refugees.load(Ordering::Acquire) {
            return found;
        }
        let mut refuges = self.refuges(address);
        refuges.find_map(|(level, group)| self.group(level, group).iter().find(is_it))
    }

    /// Notes that the page of a group is in use, and tells of it the first time.
    #[inline]
    fn touch(&self, level: usize, number: usize, group: &[Entry]) {
        let Some(first) = group.first() else { return };
        let page = (number & (LEVELS[level] - 1)) * GROUP * size_of::<Entry>() / system::PAGE;
        let pages =
            self.levels[level].load(Ordering::Acquire).wrapping_byte_add(entry_bytes(level));
        // SAFETY: the group was found, so its level is mapped, with a bit for each page after the entries.
        let word = unsafe { &*pages.cast::<AtomicU64>().add(page / 64) };
        let bit = 1 << (page % 64);
        let is_known = word.load(Ordering::Relaxed) & bit != 0;
        if !is_known && word.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            // A page that is read before it is written costs a second fault, and all processors' attention.
            let _ = first.address.compare_exchange(0, 0, Ordering::Relaxed, Ordering::Relaxed);
            shared::touched(system::PAGE);
        }
    }

    /// Groups that anything may be in, with their level.
    fn refuges(&self, address: usize) -> impl Iterator<Item = (usize, usize)> {
        let first = draw::mix(address as u64) as usize;
        let level = REFUGE.min(self.deepest.load(Ordering::Acquire));
        (0..4).map(move |attempt| (level, first ^ attempt))
    }

    /// A group of a level, by a number whose low bits tell it; empty where the level is not mapped.
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
        // SAFETY: the level is mapped, never unmapped, and has this group; entries are shared by atomics and as the
        // module says.
        unsafe { core::slice::from_raw_parts(entries.add(group * GROUP), GROUP) }
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

    /// Whether a level leaves the program most of what it may map. The first is small, and nothing is recorded without it.
    fn is_affordable(&self, level: usize) -> bool {
        !self.is_closed.load(Ordering::Relaxed)
            && (level == 0 || bytes(level) <= room::left() / SHARE)
    }

    /// Maps a level unless it is mapped: null where there is no memory.
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
        system::take_small_pages(mapped, bytes(level));
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

/// Of a level: its entries, and a bit for each of their pages that is in use.
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

    /// Pages full of the smallest allocations, more than fit into the first levels: each is found, and what is beside another is
    /// not taken for it.
    #[test]
    fn dense_pages_have_room() {
        let table = Table::new();
        let addresses = || (0..300_000usize).map(|at| 0x7f00_0000_0000 + at * 16);
        let allocation =
            |size| Allocation { size, origin: Origin::Malloc, made_ns: 1, stack: size * 2 };
        for address in addresses() {
            assert!(table.insert(address, allocation(address as u64)));
        }
        assert!(!table.has_refugees.load(Ordering::Relaxed), "they fit where they belong");
        for address in addresses().rev() {
            assert_eq!(table.remove(address), Some(allocation(address as u64)));
            assert_eq!(table.get(address + 8), None);
        }
        table.clear();
    }

    /// The pages that are noted are those that the kernel has given.
    #[test]
    fn what_is_touched_is_known() {
        let table = Table::new();
        let allocation = Allocation { size: 1, origin: Origin::Malloc, made_ns: 1, stack: 1 };
        for at in 0..40usize {
            assert!(table.insert(0x7f00_0000_0000 + at * 0x3000, allocation));
        }
        assert_eq!(table.deepest.load(Ordering::Relaxed), 0);
        let entries = table.levels[0].load(Ordering::Relaxed);
        let mut resident = vec![0u8; entry_bytes(0) / system::PAGE];
        // SAFETY: the range is mapped, and there is room for a byte for each of its pages.
        let status =
            unsafe { libc::mincore(entries.cast(), entry_bytes(0), resident.as_mut_ptr()) };
        assert_eq!(status, 0);
        let given: u32 = resident.iter().map(|page| u32::from(page & 1)).sum();
        // SAFETY: these follow the entries.
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

    /// What finds no room in its group is found elsewhere.
    #[test]
    fn refugees_are_found() {
        let table = Table::new();
        table.deepest.store(LEVELS.len() - 1, Ordering::Relaxed);
        // No two allocations are this close: a group is soon full.
        let addresses = || (1..=60usize).map(|at| 0x1000 + at);
        let allocation =
            |size| Allocation { size, origin: Origin::Map, made_ns: size, stack: size };
        for address in addresses() {
            assert!(table.insert(address, allocation(address as u64)), "{address:x}");
        }
        assert!(table.has_refugees.load(Ordering::Relaxed));
        for address in addresses() {
            assert_eq!(table.remove(address), Some(allocation(address as u64)));
            assert_eq!(table.remove(address), None);
        }
        table.clear();
    }

    /// Against a map of the standard library, with more allocations than the first level holds.
    #[test]
    fn the_table_gives_back_what_was_put_in() {
        let table = Table::new();
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
        assert!(table.deepest.load(Ordering::Relaxed) >= 1);
        assert!(known.len() > 400_000);
        for (address, allocation) in known {
            assert_eq!(table.remove(address), Some(allocation));
        }
        table.clear();
    }
}
