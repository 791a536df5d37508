//! The live recorded mappings: a table without locks.

use core::cell::UnsafeCell;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::format::Origin;
use super::live::Allocation;
use super::shared;

/// Maximum number of live recorded mappings.
const MAPPINGS: usize = 4096;
/// Value of `start` while a thread uses the slot.
const BUSY: usize = 1;

/// A slot for a mapping. The thread that sets `start` to [`BUSY`] owns the rest.
struct Slot {
    /// 0 if the slot is free.
    start: AtomicUsize,
    end: AtomicUsize,
    allocation: UnsafeCell<Allocation>,
}

// SAFETY: only the thread that set `start` to BUSY accesses `allocation`.
unsafe impl Sync for Slot {}

const NOTHING: Allocation = Allocation { size: 0, origin: Origin::Map, made_ns: 0, stack: 0 };

static SLOTS: [Slot; MAPPINGS] = [const {
    Slot {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        allocation: UnsafeCell::new(NOTHING),
    }
}; MAPPINGS];

/// Number of slots that have ever been used: those from here on are free.
static USED: AtomicUsize = AtomicUsize::new(0);

/// A recorded mapping, outside the table.
pub struct Mapping {
    pub range: Range<usize>,
    pub allocation: Allocation,
}

/// Empties the table in a forked child: its parent's mappings are not recorded again.
pub fn forked() {
    let used = USED.swap(0, Ordering::Relaxed).min(MAPPINGS);
    for slot in &SLOTS[..used] {
        slot.start.store(0, Ordering::Relaxed);
    }
}

/// Returns whether any mapping has been recorded in this process.
pub fn is_any() -> bool {
    USED.load(Ordering::Relaxed) != 0
}

/// Inserts a mapping. Returns false if the table is full; then the mapping is not known.
pub fn insert(mapping: Mapping) -> bool {
    let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
    let is_free = |slot: &&Slot| {
        slot.start.load(relaxed) == 0
            && slot.start.compare_exchange(0, BUSY, acquire, relaxed).is_ok()
    };
    let Some(at) = SLOTS.iter().position(|slot| is_free(&slot)) else {
        shared::count(|header| &header.live_full);
        return false;
    };
    let slot = &SLOTS[at];
    // SAFETY: this thread owns the slot.
    unsafe { *slot.allocation.get() = mapping.allocation };
    slot.end.store(mapping.range.end, relaxed);
    USED.fetch_max(at + 1, Ordering::Release);
    slot.start.store(mapping.range.start, Ordering::Release);
    true
}

/// Removes the mapping with exactly this range.
pub fn remove(range: &Range<usize>) {
    take(|found| found == range);
}

/// Removes the first mapping that overlaps a range, and returns it.
pub fn take_overlapping(range: &Range<usize>) -> Option<Mapping> {
    take(|found| found.start < range.end && range.start < found.end)
}

/// Removes the mappings that overlap a range, at most `N`, and returns them.
pub fn take_all_overlapping<const N: usize>(range: &Range<usize>) -> [Option<Mapping>; N] {
    let mut is_more = true;
    core::array::from_fn(|_| {
        let taken = is_more.then(|| take_overlapping(range)).flatten();
        is_more = taken.is_some();
        taken
    })
}

/// Removes the first mapping whose range `is_wanted` accepts, and returns it.
fn take(is_wanted: impl Fn(&Range<usize>) -> bool) -> Option<Mapping> {
    let used = USED.load(Ordering::Acquire).min(MAPPINGS);
    SLOTS[..used].iter().find_map(|slot| {
        let start = slot.start.load(Ordering::Acquire);
        if start <= BUSY || !is_wanted(&(start..slot.end.load(Ordering::Relaxed))) {
            return None;
        }
        let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
        slot.start.compare_exchange(start, BUSY, acquire, relaxed).ok()?;
        // SAFETY: this thread owns the slot.
        let allocation = unsafe { *slot.allocation.get() };
        let range = start..slot.end.load(Ordering::Relaxed);
        slot.start.store(0, Ordering::Release);
        Some(Mapping { range, allocation })
    })
}
