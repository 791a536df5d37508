//! Reads the ring buffer of Python records. Each record is read once and completely, or counted as lost.

use std::collections::VecDeque;
use std::sync::atomic::{Ordering, fence};

use simprof_preload::format::{self, BUSY, Kind, RECORDS};

use super::PythonMemory;

/// A sample or a wait of a thread of a process that runs Python.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Time of the sample, or of the end of the wait, CLOCK_MONOTONIC, ns.
    pub time_ns: u64,
    /// Slot of the process.
    pub slot: u32,
    /// Thread id, as the process sees it.
    pub tid: u32,
    /// Node of the thread's innermost Python frame; 0 for none.
    pub node: u32,
    /// See [`format::flag`].
    pub flags: u32,
    /// The kind of record.
    pub event: Event,
}

/// The kind of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The thread was sampled.
    Sample,
    /// The thread waited.
    Wait(Wait),
}

/// A wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// Its duration, ns.
    pub duration_ns: u64,
    /// Waiting time that the record represents, ns.
    pub weight_ns: u64,
    /// See [`format::Cause`]; may be another value.
    pub cause: u32,
    /// Return address of the waiting function.
    pub caller: u64,
}

/// The state of reading the ring buffer.
#[derive(Debug, Default)]
pub struct Records {
    /// The next position to read.
    read: u64,
    /// Earlier positions whose writers had not finished.
    unfinished: Vec<u64>,
    lost: u64,
}

/// The state of the slot of a position.
enum RingSlot {
    Complete(Record),
    Unfinished,
    Overwritten,
}

impl Records {
    /// Appends all complete records, each once, and those of a thread in order.
    pub fn drain(&mut self, memory: &PythonMemory, into: &mut VecDeque<Record>) {
        let next = memory.next();
        for position in std::mem::take(&mut self.unfinished) {
            self.take(memory, position, next, into);
        }
        let oldest = next.saturating_sub(RECORDS);
        if self.read < oldest {
            self.lost = self.lost.saturating_add(oldest - self.read);
            self.read = oldest;
        }
        // The target writes `next`, so it may be any value, also a smaller one than before.
        while self.read < next {
            self.take(memory, self.read, next, into);
            self.read += 1;
        }
    }

    /// Returns how many records were overwritten or never finished. Call it after the last `drain`.
    pub fn lost(&self) -> u64 {
        self.lost.saturating_add(self.unfinished.len() as u64)
    }

    /// Appends, counts, or remembers the record at `position`.
    fn take(
        &mut self,
        memory: &PythonMemory,
        position: u64,
        next: u64,
        into: &mut VecDeque<Record>,
    ) {
        match read_slot(memory, position) {
            RingSlot::Complete(record) => into.push_back(record),
            RingSlot::Unfinished if next.saturating_sub(position) <= RECORDS => {
                self.unfinished.push(position);
            }
            RingSlot::Unfinished | RingSlot::Overwritten => self.lost = self.lost.saturating_add(1),
        }
    }
}

fn read_slot(memory: &PythonMemory, position: u64) -> RingSlot {
    let record = memory.record(position);
    let stamp = record.stamp.load(Ordering::Acquire);
    let sequence = position.wrapping_add(1) & (u64::MAX >> 8);
    if stamp == BUSY || stamp >> 8 < sequence {
        return RingSlot::Unfinished;
    }
    let kind = match stamp {
        _ if stamp >> 8 != sequence => return RingSlot::Overwritten,
        _ if stamp & 0xff == Kind::Sample as u64 => Kind::Sample,
        _ if stamp & 0xff == Kind::Wait as u64 => Kind::Wait,
        _ => return RingSlot::Overwritten,
    };
    let complete = read(record, kind);
    // The fields must be read before the stamp is read again.
    fence(Ordering::Acquire);
    let is_unchanged = record.stamp.load(Ordering::Relaxed) == stamp;
    if is_unchanged { RingSlot::Complete(complete) } else { RingSlot::Overwritten }
}

fn read(record: &format::Record, kind: Kind) -> Record {
    let thread = record.thread.load(Ordering::Relaxed);
    let stack = record.stack.load(Ordering::Relaxed);
    let event = match kind {
        Kind::Sample => Event::Sample,
        Kind::Wait => Event::Wait(Wait {
            duration_ns: record.duration_ns.load(Ordering::Relaxed),
            weight_ns: record.weight_ns.load(Ordering::Relaxed),
            cause: record.cause.load(Ordering::Relaxed) as u32,
            caller: record.caller.load(Ordering::Relaxed),
        }),
    };
    Record {
        time_ns: record.time_ns.load(Ordering::Relaxed),
        slot: (thread >> 32) as u32,
        tid: thread as u32,
        node: stack as u32,
        flags: (stack >> 32) as u32,
        event,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use simprof_preload::format::{Header, stamp};
    use std::mem::offset_of;
    use std::sync::atomic::AtomicU64;

    fn memory() -> PythonMemory {
        PythonMemory::create(0, 0, "", "").expect("memory")
    }

    /// Returns the count of started records, which normally only the library changes.
    fn next(memory: &PythonMemory) -> &AtomicU64 {
        memory.word(offset_of!(Header, next))
    }

    /// Writes a record as the library does, except for its stamp. Returns its position and stamp.
    fn begin(memory: &PythonMemory, kind: Kind, time_ns: u64) -> (u64, u64) {
        let position = next(memory).fetch_add(1, Ordering::Relaxed);
        let record = memory.record(position);
        record.stamp.store(BUSY, Ordering::Relaxed);
        record.time_ns.store(time_ns, Ordering::Relaxed);
        record.thread.store(7 | 2 << 32, Ordering::Relaxed);
        record.stack.store(9 | 4 << 32, Ordering::Relaxed);
        record.duration_ns.store(10, Ordering::Relaxed);
        record.weight_ns.store(11, Ordering::Relaxed);
        record.cause.store(3, Ordering::Relaxed);
        record.caller.store(0x1000, Ordering::Relaxed);
        (position, stamp(position, kind))
    }

    fn write(memory: &PythonMemory, kind: Kind, time_ns: u64) {
        let (position, stamp) = begin(memory, kind, time_ns);
        memory.record(position).stamp.store(stamp, Ordering::Release);
    }

    fn drained(records: &mut Records, memory: &PythonMemory) -> Vec<u64> {
        let mut found = VecDeque::new();
        records.drain(memory, &mut found);
        found.iter().map(|record| record.time_ns).collect()
    }

    #[test]
    fn each_record_is_read_once_with_all_fields() {
        let (memory, mut records) = (memory(), Records::default());
        write(&memory, Kind::Sample, 5);
        write(&memory, Kind::Wait, 6);
        let mut found = VecDeque::new();
        records.drain(&memory, &mut found);
        let sample =
            Record { time_ns: 5, slot: 2, tid: 7, node: 9, flags: 4, event: Event::Sample };
        let wait = Wait { duration_ns: 10, weight_ns: 11, cause: 3, caller: 0x1000 };
        assert_eq!(found, [sample, Record { time_ns: 6, event: Event::Wait(wait), ..sample }]);
        assert!(drained(&mut records, &memory).is_empty());
        assert_eq!(records.lost(), 0);
    }

    #[test]
    fn overwritten_records_are_counted() {
        let (memory, mut records) = (memory(), Records::default());
        (0..RECORDS + 5).for_each(|time| write(&memory, Kind::Sample, time));
        let times = drained(&mut records, &memory);
        assert_eq!((times.len() as u64, times[0]), (RECORDS, 5));
        assert_eq!(records.lost(), 5);
    }

    #[test]
    fn slow_writers_are_awaited_and_unfinished_records_counted() {
        let (memory, mut records) = (memory(), Records::default());
        let (position, stamp) = begin(&memory, Kind::Sample, 0);
        begin(&memory, Kind::Sample, 1);
        write(&memory, Kind::Sample, 2);
        assert_eq!(drained(&mut records, &memory), [2]);
        memory.record(position).stamp.store(stamp, Ordering::Release);
        assert_eq!(drained(&mut records, &memory), [0]);
        assert!(drained(&mut records, &memory).is_empty());
        assert_eq!(records.lost(), 1);
    }

    #[test]
    fn invalid_memory_yields_no_records() {
        let (memory, mut records) = (memory(), Records::default());
        next(&memory).store(u64::MAX, Ordering::Relaxed);
        (0..RECORDS).for_each(|at| memory.record(at).stamp.store(u64::MAX - 1, Ordering::Relaxed));
        assert!(drained(&mut records, &memory).is_empty());
        next(&memory).store(0, Ordering::Relaxed);
        assert!(drained(&mut records, &memory).is_empty());
    }
}
