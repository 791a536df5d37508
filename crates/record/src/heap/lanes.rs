//! The reader's side of the rings: each record is read whole, once, or counted as lost.

use std::sync::atomic::Ordering;

use simprof_preload::heap::format::{self, Kind, LANES, Origin, RECORDS, SEQUENCE_SHIFT, unstamp};

use super::memory::Memory;

/// A record whose writer does not finish it for this long was killed amid its work, ns.
const STUCK_NS: u64 = 1_000_000_000;

/// An allocation was made, or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// CLOCK_MONOTONIC, ns.
    pub time_ns: u64,
    /// When the allocation was made.
    pub made_ns: u64,
    /// Its bytes.
    pub size: u64,
    /// Nodes of its stack, see [`format::Record::stack`].
    pub stack: u64,
    /// Position in the processes.
    pub place: u32,
    /// What happened.
    pub kind: Kind,
    /// Who allocated.
    pub origin: Origin,
    /// See [`format::flag`].
    pub flags: u16,
}

impl Event {
    /// Whether it is a half of a `realloc`.
    pub fn is_reallocation(&self) -> bool {
        u64::from(self.flags) & format::flag::REALLOC != 0
    }

    /// Whether it is what lives on of another allocation, and was not allocated anew.
    pub fn is_rest(&self) -> bool {
        u64::from(self.flags) & format::flag::REMAINDER != 0
    }
}

/// Reads the lanes.
#[derive(Debug)]
pub struct Lanes {
    read: [Reader; LANES],
    /// Records that their writer never finished, or that are none.
    torn: u64,
    /// Records taken.
    taken: u64,
}

/// What is known of one lane.
#[derive(Debug, Clone, Copy, Default)]
struct Reader {
    /// Position to be read next.
    position: u64,
    /// Since when that record is begun but not written, ns; 0 where it is not.
    waiting_since: u64,
}

impl Default for Lanes {
    fn default() -> Self {
        Self { read: [Reader::default(); LANES], torn: 0, taken: 0 }
    }
}

impl Lanes {
    /// Appends all records that are whole; those of one thread in their order. `now_ns` is the time, or the end of time once
    /// nobody writes any more.
    pub fn drain(&mut self, memory: &Memory, now_ns: u64, into: &mut Vec<Event>) {
        let before = into.len();
        for number in 0..LANES {
            self.drain_lane(memory, number, now_ns, into);
        }
        self.taken += (into.len() - before) as u64;
    }

    /// Records taken so far.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Records that found no room so far.
    pub fn lost(&self, memory: &Memory) -> u64 {
        let lost = (0..LANES).map(|number| memory.lane(number).lost.load(Ordering::Relaxed));
        lost.fold(0, u64::saturating_add)
    }

    /// Records that their writers never finished, so far.
    pub fn torn(&self) -> u64 {
        self.torn
    }

    fn drain_lane(&mut self, memory: &Memory, number: usize, now_ns: u64, into: &mut Vec<Event>) {
        let lane = memory.lane(number);
        let next = lane.next.load(Ordering::Acquire);
        let reader = &mut self.read[number];
        // A lane never holds more than its ring: what a target wrote there is not trusted to say so.
        let end = next.min(reader.position.saturating_add(RECORDS));
        while reader.position < end {
            let record = memory.record(number, reader.position);
            let stamp = record.stamp.load(Ordering::Acquire);
            if stamp >> SEQUENCE_SHIFT != sequence(reader.position) {
                if !reader.is_stuck(now_ns) {
                    break;
                }
                self.torn += 1;
            } else {
                match event(record, stamp) {
                    Some(event) => into.push(event),
                    None => self.torn += 1,
                }
            }
            reader.waiting_since = 0;
            reader.position += 1;
            // Often enough that a writer never waits for the whole of a pass.
            if reader.position.is_multiple_of(512) {
                lane.taken.0.store(reader.position, Ordering::Release);
            }
        }
        lane.taken.0.store(reader.position, Ordering::Release);
    }
}

impl Reader {
    /// Whether the record at hand is waited for in vain; notes when the waiting began.
    fn is_stuck(&mut self, now_ns: u64) -> bool {
        if self.waiting_since == 0 {
            self.waiting_since = now_ns.max(1);
        }
        now_ns == u64::MAX || now_ns.saturating_sub(self.waiting_since) > STUCK_NS
    }
}

/// The bits of a sequence that a stamp has room for.
fn sequence(position: u64) -> u64 {
    format::sequence(position) & (u64::MAX >> SEQUENCE_SHIFT)
}

fn event(record: &format::Record, stamp: u64) -> Option<Event> {
    let (kind, origin) = unstamp(stamp)?;
    Some(Event {
        time_ns: record.time_ns.load(Ordering::Relaxed),
        made_ns: record.made_ns.load(Ordering::Relaxed),
        size: record.size.load(Ordering::Relaxed),
        stack: record.stack.load(Ordering::Relaxed),
        place: (record.thread.load(Ordering::Relaxed) >> 32) as u32,
        kind,
        origin,
        flags: stamp as u16,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use simprof_preload::heap::format::flag;

    fn memory() -> Memory {
        Memory::create(1, 0, false).expect("memory")
    }

    /// Takes a position, as the library does.
    fn begin(memory: &Memory, lane: usize) -> u64 {
        memory.lane(lane).next.fetch_add(1, Ordering::Relaxed)
    }

    /// Writes what the library writes at a position.
    fn write(memory: &Memory, lane: usize, position: u64, time_ns: u64) {
        let record = memory.record(lane, position);
        record.time_ns.store(time_ns, Ordering::Relaxed);
        record.made_ns.store(3, Ordering::Relaxed);
        record.size.store(40, Ordering::Relaxed);
        record.stack.store(9 | 4 << 32, Ordering::Relaxed);
        record.thread.store(7 | 2 << 32, Ordering::Relaxed);
        let stamp = format::stamp(position, Kind::Free, Origin::Map, flag::REALLOC);
        record.stamp.store(stamp, Ordering::Release);
    }

    fn push(memory: &Memory, lane: usize, time_ns: u64) {
        let position = begin(memory, lane);
        write(memory, lane, position, time_ns);
    }

    fn drained(lanes: &mut Lanes, memory: &Memory, now_ns: u64) -> Vec<u64> {
        let mut events = Vec::new();
        lanes.drain(memory, now_ns, &mut events);
        events.iter().map(|event| event.time_ns).collect()
    }

    #[test]
    fn each_record_is_read_once_with_all_it_tells() {
        let (memory, mut lanes) = (memory(), Lanes::default());
        push(&memory, 3, 5);
        let mut events = Vec::new();
        lanes.drain(&memory, 1, &mut events);
        let flags = (flag::REALLOC as u16) | (Origin::Map as u16) << 4 | Kind::Free as u16;
        let expected = Event {
            time_ns: 5,
            made_ns: 3,
            size: 40,
            stack: 9 | 4 << 32,
            place: 2,
            kind: Kind::Free,
            origin: Origin::Map,
            flags,
        };
        assert_eq!(events, [expected]);
        assert!(expected.is_reallocation());
        assert!(drained(&mut lanes, &memory, 2).is_empty());
        assert_eq!((lanes.taken(), lanes.lost(&memory)), (1, 0));
        assert_eq!(memory.lane(3).taken.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_ring_can_be_filled_again_and_again() {
        let (memory, mut lanes) = (memory(), Lanes::default());
        for round in 0..3 {
            (0..RECORDS).for_each(|time| push(&memory, 0, round * RECORDS + time));
            let times = drained(&mut lanes, &memory, 1);
            assert_eq!(times.len() as u64, RECORDS);
            assert_eq!(times[0], round * RECORDS);
        }
    }

    #[test]
    fn a_writer_that_is_slow_is_waited_for_and_one_that_dies_is_counted() {
        let (memory, mut lanes) = (memory(), Lanes::default());
        let slow = begin(&memory, 0);
        push(&memory, 0, 1);
        assert!(drained(&mut lanes, &memory, 10).is_empty(), "order within a lane is kept");
        write(&memory, 0, slow, 0);
        assert_eq!(drained(&mut lanes, &memory, 20), [0, 1]);
        begin(&memory, 0);
        push(&memory, 0, 2);
        assert!(drained(&mut lanes, &memory, 30).is_empty());
        assert_eq!(drained(&mut lanes, &memory, 31 + STUCK_NS), [2]);
        begin(&memory, 1);
        push(&memory, 1, 3);
        assert_eq!(drained(&mut lanes, &memory, u64::MAX), [3], "nobody writes any more");
        memory.lane(5).lost.store(4, Ordering::Relaxed);
        assert_eq!((lanes.lost(&memory), lanes.torn()), (4, 2));
    }

    #[test]
    fn nonsense_in_the_memory_is_lost_records_at_most() {
        let (memory, mut lanes) = (memory(), Lanes::default());
        memory.lane(0).next.store(u64::MAX, Ordering::Relaxed);
        memory
            .record(0, 0)
            .stamp
            .store(format::sequence(0) << SEQUENCE_SHIFT | 0xff, Ordering::Relaxed);
        assert!(drained(&mut lanes, &memory, u64::MAX).is_empty());
        assert_eq!((lanes.lost(&memory), lanes.torn()), (0, RECORDS));
    }
}
