//! Reads the records of several ring buffers in order of time, without copying them.
//!
//! Each CPU writes to its own buffers, and each buffer is in order of time. A record is handled once it is older than a
//! horizon: by then, everything before the horizon is visible in all buffers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use linux_perf_event_reader::{RawData, RawEventRecord, RecordParseInfo, RecordType};

/// Bytes of a record header: type, flags, size.
const HEADER: u64 = 8;

/// The unread part of a ring buffer. Positions only grow; the position modulo the buffer size is the offset.
#[derive(Debug, Clone)]
pub(super) struct View<'a> {
    bytes: &'a [u8],
    tail: u64,
    head: u64,
    layout: RecordParseInfo,
    malformed: u64,
}

/// A record with its time.
#[derive(Debug, Clone)]
pub(super) struct TimedRecord<'a> {
    /// CLOCK_MONOTONIC, ns.
    pub time_ns: u64,
    pub record: RawEventRecord<'a>,
}

impl<'a> View<'a> {
    /// Views the bytes from `tail` to `head` of a buffer whose length is a power of two.
    pub fn new(bytes: &'a [u8], tail: u64, head: u64, layout: RecordParseInfo) -> Self {
        Self { bytes, tail, head, layout, malformed: 0 }
    }

    /// Returns the position up to which the view has been read.
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// Returns whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.tail == self.head
    }

    /// Returns how often bytes were skipped because they are not a valid record.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Reads the next record; `None` at the end.
    ///
    /// After an invalid header the start of the next record is unknown, so the rest of the view is skipped and counted.
    fn pop(&mut self) -> Option<TimedRecord<'a>> {
        let available = self.head.checked_sub(self.tail)?;
        if available == 0 {
            return None;
        }
        match self.record_at_tail(available) {
            Some((record, size)) => {
                self.tail += size;
                Some(record)
            }
            None => {
                self.malformed += 1;
                self.tail = self.head;
                None
            }
        }
    }

    fn record_at_tail(&self, available: u64) -> Option<(TimedRecord<'a>, u64)> {
        if available > self.bytes.len() as u64 {
            return None;
        }
        let mut header = self.range(HEADER.min(available))?;
        let mut word = [0; 8];
        header.read_exact(&mut word).ok()?;
        let kind = u32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
        let misc = u16::from_ne_bytes([word[4], word[5]]);
        let size = u64::from(u16::from_ne_bytes([word[6], word[7]]));
        if size < HEADER || size > available {
            return None;
        }
        let mut data = self.range(size)?;
        data.skip(HEADER as usize).ok()?;
        let record = RawEventRecord::new(RecordType(kind), misc, data, self.layout);
        let time_ns = timestamp(&record)?;
        Some((TimedRecord { time_ns, record }, size))
    }

    /// Returns the next `length` bytes, in two pieces if they wrap around.
    fn range(&self, length: u64) -> Option<RawData<'a>> {
        let capacity = self.bytes.len();
        let start = usize::try_from(self.tail % capacity as u64).ok()?;
        let end = start + usize::try_from(length).ok()?;
        if end <= capacity {
            return Some(RawData::Single(self.bytes.get(start..end)?));
        }
        Some(RawData::Split(self.bytes.get(start..)?, self.bytes.get(..end - capacity)?))
    }
}

/// Reads the time of a record at the offset that its layout gives.
fn timestamp(record: &RawEventRecord<'_>) -> Option<u64> {
    let mut data = record.data;
    let offset = if record.record_type == RecordType::SAMPLE {
        record.parse_info.sample_record_time_offset_from_start?.into()
    } else {
        data.len().checked_sub(record.parse_info.nonsample_record_time_offset_from_end?.into())?
    };
    data.skip(offset).ok()?;
    let mut word = [0; 8];
    data.read_exact(&mut word).ok()?;
    Some(u64::from_ne_bytes(word))
}

/// Calls `handle` with every record before `horizon_ns`, oldest first, and advances the views past them.
pub(super) fn for_each_before<'a>(
    views: &mut [View<'a>],
    horizon_ns: u64,
    mut handle: impl FnMut(TimedRecord<'a>),
) {
    let mut pending: Vec<Option<TimedRecord<'a>>> = Vec::with_capacity(views.len());
    let mut order = BinaryHeap::with_capacity(views.len());
    for (index, view) in views.iter_mut().enumerate() {
        pending.push(next_before(view, horizon_ns));
        if let Some(record) = &pending[index] {
            order.push(Reverse((record.time_ns, index)));
        }
    }
    while let Some(Reverse((_, index))) = order.pop() {
        let Some(record) = pending[index].take() else { continue };
        handle(record);
        pending[index] = next_before(&mut views[index], horizon_ns);
        if let Some(record) = &pending[index] {
            order.push(Reverse((record.time_ns, index)));
        }
    }
}

/// Pops the next record if it is before the horizon.
fn next_before<'a>(view: &mut View<'a>, horizon_ns: u64) -> Option<TimedRecord<'a>> {
    let tail = view.tail;
    let record = view.pop()?;
    if record.time_ns >= horizon_ns {
        view.tail = tail;
        return None;
    }
    Some(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::event;

    /// A record of an unknown kind: header, `payload` words, then thread, time and CPU.
    fn record(kind: u32, time_ns: u64, payload: &[u64]) -> Vec<u8> {
        let size = u16::try_from(8 + 8 * payload.len() + 24).expect("small");
        let mut bytes = Vec::new();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(0_u16.to_ne_bytes());
        bytes.extend(size.to_ne_bytes());
        for word in payload.iter().chain(&[7, time_ns, 0]) {
            bytes.extend(word.to_ne_bytes());
        }
        bytes
    }

    fn layout() -> RecordParseInfo {
        event::layout(&event::lifecycle_attr())
    }

    /// Returns a ring buffer of `capacity` bytes with `content` from position `start` on.
    fn ring(content: &[u8], capacity: usize, start: usize) -> Vec<u8> {
        let mut bytes = vec![0xee; capacity];
        for (offset, byte) in content.iter().enumerate() {
            bytes[(start + offset) % capacity] = *byte;
        }
        bytes
    }

    fn times_before(views: &mut [View<'_>], horizon_ns: u64) -> Vec<u64> {
        let mut times = Vec::new();
        for_each_before(views, horizon_ns, |timed| times.push(timed.time_ns));
        times
    }

    #[test]
    fn records_of_all_buffers_are_read_in_order_of_time() {
        let first = [record(99, 10, &[]), record(99, 40, &[1]), record(99, 50, &[])].concat();
        let second = [record(99, 20, &[1, 2]), record(99, 30, &[])].concat();
        let (a, b) = (ring(&first, 256, 0), ring(&second, 256, 0));
        let mut views = [
            View::new(&a, 0, first.len() as u64, layout()),
            View::new(&b, 0, second.len() as u64, layout()),
        ];
        assert_eq!(times_before(&mut views, 50), [10, 20, 30, 40]);
        assert_eq!(times_before(&mut views, u64::MAX), [50], "a record at the horizon waits");
        assert_eq!(views[0].tail(), first.len() as u64);
        assert_eq!(views[1].tail(), second.len() as u64);
    }

    #[test]
    fn a_record_may_wrap_around_the_end() {
        let content = record(99, 5, &[1, 2, 3]);
        for start in (0..64).step_by(8) {
            let bytes = ring(&content, 64, start);
            let (tail, head) = (start as u64, (start + content.len()) as u64);
            let mut views = [View::new(&bytes, tail, head, layout())];
            let mut words = Vec::new();
            for_each_before(&mut views, u64::MAX, |timed| {
                words = timed.record.data.as_slice().into_owned();
            });
            assert_eq!(words, content[8..], "starting at {start}");
        }
    }

    #[test]
    fn malformed_records_are_counted_and_skipped() {
        let short = [99, 0, 0, 0, 0, 0, 4, 0];
        let endless = [99, 0, 0, 0, 0, 0, 0xff, 0xff];
        let timeless = [99, 0, 0, 0, 0, 0, 8, 0];
        for content in [&short[..], &endless, &timeless, &short[..3]] {
            let bytes = ring(content, 64, 0);
            let mut views = [View::new(&bytes, 0, content.len() as u64, layout())];
            assert_eq!(times_before(&mut views, u64::MAX), [0; 0]);
            assert_eq!(views[0].malformed(), 1, "{content:?}");
            assert_eq!(views[0].tail(), content.len() as u64);
        }
        let bytes = [0; 64];
        let mut views = [View::new(&bytes, 0, 65, layout()), View::new(&bytes, 8, 0, layout())];
        assert_eq!(times_before(&mut views, u64::MAX), [0; 0], "impossible positions");
    }
}
