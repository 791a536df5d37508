//! The reader's side of the ring of records: each is read whole, once, or counted as lost.

use std::collections::VecDeque;
use std::sync::atomic::{Ordering, fence};

use simprof_preload::format::{self, BUSY, Kind, RECORDS};

use super::Memory;

/// Something that happened to a thread of a process that runs Python.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// CLOCK_MONOTONIC, ns: of the interruption, or of the end of the wait.
    pub time_ns: u64,
    /// Position in the processes.
    pub place: u32,
    /// Thread id, as the process sees it.
    pub tid: u32,
    /// Node of its innermost Python frame; 0 for none.
    pub node: u32,
    /// See [`format::flag`].
    pub flags: u32,
    /// What happened.
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It was sampled.
    Sample,
    /// It waited.
    Wait(Wait),
}

/// A wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// Nanoseconds of waiting that it stands for.
    pub weight_ns: u64,
    /// See [`format::Cause`]; may be none of them.
    pub cause: u32,
    /// Address that the waiting function returns to.
    pub caller: u64,
}

/// Reads the ring.
#[derive(Debug, Default)]
pub struct Records {
    /// Position to be read next.
    read: u64,
    /// Positions before it whose writer had not finished.
    unfinished: Vec<u64>,
    lost: u64,
}

/// What there is at a position.
enum Found {
    Whole(Record),
    Unfinished,
    Overwritten,
}

impl Records {
    /// Appends all records that are whole, each once; those of one thread in their order.
    pub fn drain(&mut self, memory: &Memory, into: &mut VecDeque<Record>) {
        let next = memory.next();
        for position in std::mem::take(&mut self.unfinished) {
            self.look(memory, position, next, into);
        }
        let oldest = next.saturating_sub(RECORDS);
        if self.read < oldest {
            self.lost = self.lost.saturating_add(oldest - self.read);
            self.read = oldest;
        }
        // What a target wrote into its memory is not trusted to go forward only.
        while self.read < next {
            self.look(memory, self.read, next, into);
            self.read += 1;
        }
    }

    /// Records that were overwritten or never finished, when the last has been drained.
    pub fn lost(&self) -> u64 {
        self.lost.saturating_add(self.unfinished.len() as u64)
    }

    fn look(&mut self, memory: &Memory, position: u64, next: u64, into: &mut VecDeque<Record>) {
        match at(memory, position) {
            Found::Whole(record) => into.push_back(record),
            Found::Unfinished if next.saturating_sub(position) <= RECORDS => {
                self.unfinished.push(position);
            }
            Found::Unfinished | Found::Overwritten => self.lost = self.lost.saturating_add(1),
        }
    }
}

fn at(memory: &Memory, position: u64) -> Found {
    let record = memory.record(position);
    let stamp = record.stamp.load(Ordering::Acquire);
    let sequence = position.wrapping_add(1) & (u64::MAX >> 8);
    if stamp == BUSY || stamp >> 8 < sequence {
        return Found::Unfinished;
    }
    let kind = match stamp {
        _ if stamp >> 8 != sequence => return Found::Overwritten,
        _ if stamp & 0xff == Kind::Sample as u64 => Kind::Sample,
        _ if stamp & 0xff == Kind::Wait as u64 => Kind::Wait,
        _ => return Found::Overwritten,
    };
    let whole = read(record, kind);
    // The fields must have been read before the stamp is looked at again.
    fence(Ordering::Acquire);
    let still = record.stamp.load(Ordering::Relaxed) == stamp;
    if still { Found::Whole(whole) } else { Found::Overwritten }
}

fn read(record: &format::Record, kind: Kind) -> Record {
    let thread = record.thread.load(Ordering::Relaxed);
    let stack = record.stack.load(Ordering::Relaxed);
    let event = match kind {
        Kind::Sample => Event::Sample,
        Kind::Wait => Event::Wait(Wait {
            weight_ns: record.weight_ns.load(Ordering::Relaxed),
            cause: record.cause.load(Ordering::Relaxed) as u32,
            caller: record.caller.load(Ordering::Relaxed),
        }),
    };
    Record {
        time_ns: record.time_ns.load(Ordering::Relaxed),
        place: (thread >> 32) as u32,
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

    fn memory() -> Memory {
        Memory::create(0, 0, "", "").expect("memory")
    }

    /// The count of records, which in life only the library moves.
    fn next(memory: &Memory) -> &AtomicU64 {
        memory.word(offset_of!(Header, next))
    }

    /// Writes as the library does, up to the stamp; returns what would be the stamp.
    fn begin(memory: &Memory, kind: Kind, time_ns: u64) -> (u64, u64) {
        let position = next(memory).fetch_add(1, Ordering::Relaxed);
        let record = memory.record(position);
        record.stamp.store(BUSY, Ordering::Relaxed);
        record.time_ns.store(time_ns, Ordering::Relaxed);
        record.thread.store(7 | 2 << 32, Ordering::Relaxed);
        record.stack.store(9 | 4 << 32, Ordering::Relaxed);
        record.weight_ns.store(11, Ordering::Relaxed);
        record.cause.store(3, Ordering::Relaxed);
        record.caller.store(0x1000, Ordering::Relaxed);
        (position, stamp(position, kind))
    }

    fn write(memory: &Memory, kind: Kind, time_ns: u64) {
        let (position, stamp) = begin(memory, kind, time_ns);
        memory.record(position).stamp.store(stamp, Ordering::Release);
    }

    fn drained(records: &mut Records, memory: &Memory) -> Vec<u64> {
        let mut found = VecDeque::new();
        records.drain(memory, &mut found);
        found.iter().map(|record| record.time_ns).collect()
    }

    #[test]
    fn each_record_is_read_once_with_all_it_tells() {
        let (memory, mut records) = (memory(), Records::default());
        write(&memory, Kind::Sample, 5);
        write(&memory, Kind::Wait, 6);
        let mut found = VecDeque::new();
        records.drain(&memory, &mut found);
        let sample =
            Record { time_ns: 5, place: 2, tid: 7, node: 9, flags: 4, event: Event::Sample };
        let wait = Wait { weight_ns: 11, cause: 3, caller: 0x1000 };
        assert_eq!(found, [sample, Record { time_ns: 6, event: Event::Wait(wait), ..sample }]);
        assert!(drained(&mut records, &memory).is_empty());
        assert_eq!(records.lost(), 0);
    }

    #[test]
    fn what_was_overwritten_is_counted() {
        let (memory, mut records) = (memory(), Records::default());
        (0..RECORDS + 5).for_each(|time| write(&memory, Kind::Sample, time));
        let times = drained(&mut records, &memory);
        assert_eq!((times.len() as u64, times[0]), (RECORDS, 5));
        assert_eq!(records.lost(), 5);
    }

    #[test]
    fn a_writer_that_is_slow_is_waited_for_and_one_that_dies_is_counted() {
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
    fn nonsense_in_the_memory_is_lost_records_at_most() {
        let (memory, mut records) = (memory(), Records::default());
        next(&memory).store(u64::MAX, Ordering::Relaxed);
        (0..RECORDS).for_each(|at| memory.record(at).stamp.store(u64::MAX - 1, Ordering::Relaxed));
        assert!(drained(&mut records, &memory).is_empty());
        next(&memory).store(0, Ordering::Relaxed);
        assert!(drained(&mut records, &memory).is_empty());
    }
}
