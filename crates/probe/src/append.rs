//! Appends a record to the shared memory. All writers share this code.
//!
//! This file and `format` need nothing but Rust's core library. The library that simprof loads into targets is
//! compiled from them too.

use core::sync::atomic::{AtomicU64, Ordering, fence};

use super::format::{
    BUSY, HEADER_BYTES, Kind, NEXT_OFFSET, RECORD_BYTES, RECORDS, is_free_for, stamp,
};

/// One record of the ring.
#[repr(C)]
struct Record {
    stamp: AtomicU64,
    time_ns: AtomicU64,
    index: AtomicU64,
    population: AtomicU64,
}

const _: () = assert!(size_of::<Record>() == RECORD_BYTES);

/// Content of a record.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    pub kind: Kind,
    pub index: u64,
    pub population: u64,
    /// CLOCK_MONOTONIC, ns.
    pub time_ns: u64,
    /// Thread id.
    pub thread: u32,
}

/// Appends a record, unless another writer is writing to the same slot.
///
/// # Safety
/// `memory` must be `FILE_BYTES` of this format, mapped writable, aligned to 8 and never unmapped.
pub unsafe fn append(memory: *mut u8, mark: Mark) {
    // SAFETY: within the memory and aligned; it is only ever accessed as an atomic.
    let next = unsafe { &*memory.add(NEXT_OFFSET).cast::<AtomicU64>() };
    let position = next.fetch_add(1, Ordering::Relaxed);
    let offset = HEADER_BYTES + (position % RECORDS) as usize * RECORD_BYTES;
    // SAFETY: as above; the offset is below FILE_BYTES.
    let record = unsafe { &*memory.add(offset).cast::<Record>() };
    let before = record.stamp.load(Ordering::Relaxed);
    if !is_free_for(before, position) {
        return;
    }
    // The stores below must not become visible before the slot is taken.
    let taken = record.stamp.compare_exchange(before, BUSY, Ordering::Acquire, Ordering::Relaxed);
    if taken.is_err() {
        return;
    }
    fence(Ordering::Release);
    record.time_ns.store(mark.time_ns, Ordering::Relaxed);
    record.index.store(mark.index, Ordering::Relaxed);
    record.population.store(mark.population, Ordering::Relaxed);
    record.stamp.store(stamp(position, mark.kind, mark.thread), Ordering::Release);
}
