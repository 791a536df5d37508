//! Writes records to the ring buffer.

use core::sync::atomic::{Ordering, fence};

use crate::format::{BUSY, Kind, stamp};
use crate::shared_memory::SharedMemory;
use crate::{process, thread};

/// Content of a record. For a sample the fields from `duration_ns` on are 0.
#[derive(Debug, Clone, Copy, Default)]
pub struct Entry {
    /// CLOCK_MONOTONIC, ns.
    pub time_ns: u64,
    /// Node of the leaf frame, or 0.
    pub node: u32,
    /// See [`crate::format::flag`].
    pub flags: u32,
    /// Duration of the wait, ns.
    pub duration_ns: u64,
    /// Waiting time that the record represents, ns.
    pub weight_ns: u64,
    /// See [`crate::format::Cause`].
    pub cause: u32,
    /// Return address of the blocking function.
    pub caller: usize,
}

/// Appends a record of this thread. Does nothing in a process without a slot.
#[inline]
pub fn append(memory: SharedMemory, kind: Kind, entry: &Entry) {
    let Some(process) = process::current() else { return };
    let position = memory.header().next.fetch_add(1, Ordering::Relaxed);
    let record = memory.record(position);
    let before = record.stamp.load(Ordering::Relaxed);
    // This record is lost if the slot is still being written or already has a later record.
    if before == BUSY || before >> 8 > position {
        return;
    }
    // The stores below must not become visible before the slot is taken.
    let taken = record.stamp.compare_exchange(before, BUSY, Ordering::Acquire, Ordering::Relaxed);
    if taken.is_err() {
        return;
    }
    fence(Ordering::Release);
    record.time_ns.store(entry.time_ns, Ordering::Relaxed);
    let thread = u64::from(thread::id()) | u64::from(process) << 32;
    record.thread.store(thread, Ordering::Relaxed);
    record.stack.store(u64::from(entry.node) | u64::from(entry.flags) << 32, Ordering::Relaxed);
    record.duration_ns.store(entry.duration_ns, Ordering::Relaxed);
    record.weight_ns.store(entry.weight_ns, Ordering::Relaxed);
    record.cause.store(u64::from(entry.cause), Ordering::Relaxed);
    record.caller.store(entry.caller as u64, Ordering::Relaxed);
    record.stamp.store(stamp(position, kind), Ordering::Release);
}
