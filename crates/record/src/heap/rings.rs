//! Reads the ring buffers of allocation records. Each record is read once and completely, or counted as lost.

use std::sync::atomic::Ordering;

use simprof_preload::heap::format::{self, Kind, LANES, Origin, RECORDS, SEQUENCE_SHIFT, unstamp};

use super::heap_memory::HeapMemory;

/// After this time without a finished record, its writer is assumed to have been killed, ns.
const WRITER_TIMEOUT_NS: u64 = 1_000_000_000;

/// An allocation or its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeapEvent {
    /// CLOCK_MONOTONIC, ns.
    pub time_ns: u64,
    /// When the allocation was made, CLOCK_MONOTONIC, ns.
    pub made_ns: u64,
    /// Size of the allocation, bytes.
    pub size: u64,
    /// Nodes of its stack, see [`format::Record::stack`].
    pub stack: u64,
    /// Slot of the process.
    pub slot: u32,
    /// Whether it is an allocation or its end.
    pub kind: Kind,
    /// The kind of allocator.
    pub origin: Origin,
    /// See [`format::flag`].
    pub flags: u16,
}

impl HeapEvent {
    /// Returns whether it is half of a `realloc`.
    pub fn is_reallocation(&self) -> bool {
        u64::from(self.flags) & format::flag::REALLOC != 0
    }

    /// Returns whether it is the remaining part of a mapping that was partly unmapped, not a new allocation.
    pub fn is_remainder(&self) -> bool {
        u64::from(self.flags) & format::flag::REMAINDER != 0
    }
}

/// Reads all ring buffers.
#[derive(Debug)]
pub struct RingReader {
    cursors: [Cursor; LANES],
    /// Records that their writers never finished, or that are invalid.
    torn: u64,
    /// Records that were read.
    taken: u64,
}

/// The state of reading one ring buffer.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    /// The next position to read.
    position: u64,
    /// Since when the record at that position is unfinished, ns; 0 if it is not.
    waiting_since_ns: u64,
}

impl Default for RingReader {
    fn default() -> Self {
        Self { cursors: [Cursor::default(); LANES], torn: 0, taken: 0 }
    }
}

impl RingReader {
    /// Appends all complete records, those of a thread in order. `now_ns` is the current time, or `u64::MAX` once all
    /// writers have ended.
    pub fn drain(&mut self, memory: &HeapMemory, now_ns: u64, into: &mut Vec<HeapEvent>) {
        let before = into.len();
        for number in 0..LANES {
            self.drain_lane(memory, number, now_ns, into);
        }
        self.taken += (into.len() - before) as u64;
    }

    /// Returns how many records were read so far.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Returns how many records were lost so far because a ring buffer was full.
    pub fn lost(&self, memory: &HeapMemory) -> u64 {
        let lost = (0..LANES).map(|number| memory.lane(number).lost.load(Ordering::Relaxed));
        lost.fold(0, u64::saturating_add)
    }

    /// Returns how many records were unfinished or invalid so far.
    pub fn torn(&self) -> u64 {
        self.torn
    }

    fn drain_lane(
        &mut self,
        memory: &HeapMemory,
        number: usize,
        now_ns: u64,
        into: &mut Vec<HeapEvent>,
    ) {
        let lane = memory.lane(number);
        let next = lane.next.load(Ordering::Acquire);
        let cursor = &mut self.cursors[number];
        // The target writes `next`, so it may be any value; a ring buffer never has more than RECORDS.
        let end = next.min(cursor.position.saturating_add(RECORDS));
        while cursor.position < end {
            let record = memory.record(number, cursor.position);
            let stamp = record.stamp.load(Ordering::Acquire);
            if stamp >> SEQUENCE_SHIFT != sequence(cursor.position) {
                if !cursor.has_timed_out(now_ns) {
                    break;
                }
                self.torn += 1;
            } else {
                match parse(record, stamp) {
                    Some(event) => into.push(event),
                    None => self.torn += 1,
                }
            }
            cursor.waiting_since_ns = 0;
            cursor.position += 1;
            // Free the records often, so that writers need not wait until the whole ring buffer was read.
            if cursor.position.is_multiple_of(512) {
                lane.taken.0.store(cursor.position, Ordering::Release);
            }
        }
        lane.taken.0.store(cursor.position, Ordering::Release);
    }
}

impl Cursor {
    /// Returns whether the unfinished record has timed out. Starts the time-out on the first call.
    fn has_timed_out(&mut self, now_ns: u64) -> bool {
        if self.waiting_since_ns == 0 {
            self.waiting_since_ns = now_ns.max(1);
        }
        now_ns == u64::MAX || now_ns.saturating_sub(self.waiting_since_ns) > WRITER_TIMEOUT_NS
    }
}

/// Returns the bits of a position's sequence that fit in a stamp.
fn sequence(position: u64) -> u64 {
    format::sequence(position) & (u64::MAX >> SEQUENCE_SHIFT)
}

/// Parses a record; `None` if its stamp is invalid.
fn parse(record: &format::Record, stamp: u64) -> Option<HeapEvent> {
    let (kind, origin) = unstamp(stamp)?;
    Some(HeapEvent {
        time_ns: record.time_ns.load(Ordering::Relaxed),
        made_ns: record.made_ns.load(Ordering::Relaxed),
        size: record.size.load(Ordering::Relaxed),
        stack: record.stack.load(Ordering::Relaxed),
        slot: (record.thread.load(Ordering::Relaxed) >> 32) as u32,
        kind,
        origin,
        flags: stamp as u16,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use simprof_preload::heap::format::flag;

    fn memory() -> HeapMemory {
        HeapMemory::create(1, 0, false).expect("memory")
    }

    /// Reserves a position, as the library does.
    fn begin(memory: &HeapMemory, lane: usize) -> u64 {
        memory.lane(lane).next.fetch_add(1, Ordering::Relaxed)
    }

    /// Writes a record at a position, as the library does.
    fn write(memory: &HeapMemory, lane: usize, position: u64, time_ns: u64) {
        let record = memory.record(lane, position);
        record.time_ns.store(time_ns, Ordering::Relaxed);
        record.made_ns.store(3, Ordering::Relaxed);
        record.size.store(40, Ordering::Relaxed);
        record.stack.store(9 | 4 << 32, Ordering::Relaxed);
        record.thread.store(7 | 2 << 32, Ordering::Relaxed);
        let stamp = format::stamp(position, Kind::Free, Origin::Map, flag::REALLOC);
        record.stamp.store(stamp, Ordering::Release);
    }

    fn push(memory: &HeapMemory, lane: usize, time_ns: u64) {
        let position = begin(memory, lane);
        write(memory, lane, position, time_ns);
    }

    fn drained(rings: &mut RingReader, memory: &HeapMemory, now_ns: u64) -> Vec<u64> {
        let mut events = Vec::new();
        rings.drain(memory, now_ns, &mut events);
        events.iter().map(|event| event.time_ns).collect()
    }

    #[test]
    fn each_record_is_read_once_with_all_fields() {
        let (memory, mut rings) = (memory(), RingReader::default());
        push(&memory, 3, 5);
        let mut events = Vec::new();
        rings.drain(&memory, 1, &mut events);
        let flags = (flag::REALLOC as u16) | (Origin::Map as u16) << 4 | Kind::Free as u16;
        let expected = HeapEvent {
            time_ns: 5,
            made_ns: 3,
            size: 40,
            stack: 9 | 4 << 32,
            slot: 2,
            kind: Kind::Free,
            origin: Origin::Map,
            flags,
        };
        assert_eq!(events, [expected]);
        assert!(expected.is_reallocation());
        assert!(drained(&mut rings, &memory, 2).is_empty());
        assert_eq!((rings.taken(), rings.lost(&memory)), (1, 0));
        assert_eq!(memory.lane(3).taken.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_ring_buffer_can_be_filled_repeatedly() {
        let (memory, mut rings) = (memory(), RingReader::default());
        for round in 0..3 {
            (0..RECORDS).for_each(|time| push(&memory, 0, round * RECORDS + time));
            let times = drained(&mut rings, &memory, 1);
            assert_eq!(times.len() as u64, RECORDS);
            assert_eq!(times[0], round * RECORDS);
        }
    }

    #[test]
    fn slow_writers_are_awaited_and_unfinished_records_counted() {
        let (memory, mut rings) = (memory(), RingReader::default());
        let slow = begin(&memory, 0);
        push(&memory, 0, 1);
        assert!(drained(&mut rings, &memory, 10).is_empty(), "order within a ring buffer is kept");
        write(&memory, 0, slow, 0);
        assert_eq!(drained(&mut rings, &memory, 20), [0, 1]);
        begin(&memory, 0);
        push(&memory, 0, 2);
        assert!(drained(&mut rings, &memory, 30).is_empty());
        assert_eq!(drained(&mut rings, &memory, 31 + WRITER_TIMEOUT_NS), [2]);
        begin(&memory, 1);
        push(&memory, 1, 3);
        assert_eq!(drained(&mut rings, &memory, u64::MAX), [3], "all writers have ended");
        memory.lane(5).lost.store(4, Ordering::Relaxed);
        assert_eq!((rings.lost(&memory), rings.torn()), (4, 2));
    }

    #[test]
    fn invalid_memory_yields_no_records() {
        let (memory, mut rings) = (memory(), RingReader::default());
        memory.lane(0).next.store(u64::MAX, Ordering::Relaxed);
        memory
            .record(0, 0)
            .stamp
            .store(format::sequence(0) << SEQUENCE_SHIFT | 0xff, Ordering::Relaxed);
        assert!(drained(&mut rings, &memory, u64::MAX).is_empty());
        assert_eq!((rings.lost(&memory), rings.torn()), (0, RECORDS));
    }
}
