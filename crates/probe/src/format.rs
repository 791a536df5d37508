//! Constants and functions for the format of the shared memory. The crate's documentation describes the
//! format.

/// Name of the environment variable that holds the path of the shared memory.
pub const VARIABLE: &core::ffi::CStr = c"SIMPROF_MARKS";

/// First 8 bytes of the memory; the last character is the version.
pub const MAGIC: u64 = u64::from_ne_bytes(*b"simprof1");

/// Size of the header, bytes.
pub const HEADER_BYTES: usize = 4096;

/// Size of a record, bytes.
pub const RECORD_BYTES: usize = 32;

/// Number of records in the ring buffer; a power of two.
pub const RECORDS: u64 = 1 << 15;

/// Size of the file, bytes.
pub const FILE_BYTES: usize = HEADER_BYTES + RECORDS as usize * RECORD_BYTES;

/// Offset of the number of records in the header, bytes.
pub const RECORDS_OFFSET: usize = 8;

/// Offset of `next` in the header, bytes.
pub const NEXT_OFFSET: usize = 64;

/// Number of bits of the stamp that hold the thread id.
pub const THREAD_BITS: u32 = 22;

/// Number of bits of the stamp that hold the kind.
pub const KIND_BITS: u32 = 4;

/// Stamp of a record that is being written.
pub const BUSY: u64 = 1;

/// Number of bits of a stamp below its sequence.
pub const SEQUENCE_SHIFT: u32 = THREAD_BITS + KIND_BITS;

/// The kind of a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A step begins.
    Begin = 1,
    /// A step ends.
    End = 2,
    /// A step ends, with a population.
    EndWithPopulation = 3,
    /// One step ends and the next begins.
    Boundary = 4,
}

/// Returns the stamp of a record. From the highest bits to the lowest it has the sequence (the lower 38 bits
/// of `position + 1`), the kind and the thread id. It is never 0, because no kind is 0.
#[inline]
pub const fn stamp(position: u64, kind: Kind, thread: u32) -> u64 {
    let thread = thread as u64 & ((1 << THREAD_BITS) - 1);
    sequence(position) << SEQUENCE_SHIFT | (kind as u64) << THREAD_BITS | thread
}

/// Returns the sequence of a position: the lower 38 bits of `position + 1`.
#[inline]
pub const fn sequence(position: u64) -> u64 {
    position.wrapping_add(1) << SEQUENCE_SHIFT >> SEQUENCE_SHIFT
}

/// Returns whether a slot with this stamp may be taken for `position`: the slot is empty or has a record of an
/// earlier position, and no writer is writing to it.
#[inline]
pub const fn is_free_for(stamp: u64, position: u64) -> bool {
    let ahead = sequence(position) << SEQUENCE_SHIFT;
    let behind = stamp >> SEQUENCE_SHIFT << SEQUENCE_SHIFT;
    stamp != BUSY && ahead.wrapping_sub(behind).cast_signed() > 0
}

/// Returns sequence, kind and thread id of a stamp. `None` if it is not a stamp of this format.
pub const fn unstamp(stamp: u64) -> Option<(u64, Kind, u32)> {
    let thread = (stamp & ((1 << THREAD_BITS) - 1)) as u32;
    let kind = match stamp >> THREAD_BITS & ((1 << KIND_BITS) - 1) {
        1 => Kind::Begin,
        2 => Kind::End,
        3 => Kind::EndWithPopulation,
        4 => Kind::Boundary,
        _ => return None,
    };
    Some((stamp >> SEQUENCE_SHIFT, kind, thread))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_can_be_decoded() {
        for position in [0, 1, RECORDS, (1 << 38) - 2, u64::MAX] {
            for (kind, thread) in [(Kind::Begin, 1), (Kind::Boundary, (1 << 22) - 1)] {
                let stamp = stamp(position, kind, thread);
                assert_ne!(stamp, 0);
                assert_eq!(unstamp(stamp), Some((sequence(position), kind, thread)));
            }
        }
        assert_eq!(unstamp(0), None);
        assert_eq!(unstamp(BUSY), None);
        assert_eq!(unstamp(u64::MAX), None);
    }

    #[test]
    fn the_header_for_c_has_the_same_numbers() {
        let header = include_str!("../include/simprof_probe.h");
        for line in [
            format!("#define SIMPROF_HEADER_BYTES {HEADER_BYTES}u"),
            format!("#define SIMPROF_RECORD_BYTES {RECORD_BYTES}u"),
            format!("#define SIMPROF_RECORDS (UINT64_C(1) << {})", RECORDS.trailing_zeros()),
            format!("#define SIMPROF_NEXT_OFFSET {NEXT_OFFSET}u"),
            format!("#define SIMPROF_THREAD_BITS {THREAD_BITS}"),
            format!("#define SIMPROF_SEQUENCE_SHIFT {SEQUENCE_SHIFT}"),
            format!("#define SIMPROF_BUSY UINT64_C({BUSY})"),
        ] {
            assert!(
                header.lines().any(|found| found == line),
                "simprof_probe.h does not contain {line:?}"
            );
        }
    }

    #[test]
    fn a_slot_is_taken_from_earlier_positions_only() {
        assert!(is_free_for(0, 0));
        assert!(!is_free_for(BUSY, 0));
        let last = stamp(5, Kind::End, 9);
        assert!(is_free_for(last, 5 + RECORDS));
        assert!(!is_free_for(last, 5));
        assert!(!is_free_for(stamp(5 + RECORDS, Kind::End, 9), 5));
        // The sequence wraps after 2^38.
        let end = (1 << 38) - 10;
        assert!(is_free_for(stamp(end, Kind::End, 9), end + RECORDS));
        assert!(!is_free_for(stamp(end + RECORDS, Kind::End, 9), end));
    }
}
