//! Writing records to the ring: what happened, to whom and when.

use core::sync::atomic::{Ordering, fence};

use crate::format::{BUSY, Kind, RECORDS, stamp};
use crate::memory::Memory;
use crate::{process, thread};

/// What a record says; for a sample what begins with `duration_ns` is 0.
#[derive(Debug, Clone, Copy, Default)]
pub struct Entry {
    /// CLOCK_MONOTONIC, ns.
    pub time_ns: u64,
    /// The innermost node, or 0.
    pub node: u32,
    /// See [`crate::format::flag`].
    pub flags: u32,
    /// How long the wait was, ns.
    pub duration_ns: u64,
    /// Nanoseconds of waiting that the record stands for.
    pub weight_ns: u64,
    /// See [`crate::format::Cause`].
    pub cause: u32,
    /// Address that the waiting function returns to.
    pub caller: usize,
}

/// Appends a record of this thread. Does nothing in a process that has no place.
#[inline]
pub fn append(memory: Memory, kind: Kind, entry: &Entry) {
    let Some(process) = process::current() else { return };
    let position = memory.header().next.fetch_add(1, Ordering::Relaxed);
    let record = &memory.records()[(position % RECORDS) as usize];
    let before = record.stamp.load(Ordering::Relaxed);
    // A record that is still being written, or that a later writer had already, is left to it: this one is lost.
    if before == BUSY || before >> 8 > position {
        return;
    }
    // What is written next must not be seen before the record is taken.
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
