//! What a target may link: step marks for simprof at a few nanoseconds each.
//!
//! ```
//! for step in 0..3 {
//!     simprof_probe::step_begin(step);
//!     // ... one step of the simulation ...
//!     simprof_probe::step_end_with_population(step, 500);
//! }
//! ```
//!
//! When the program does not run under simprof, a call costs about a nanosecond and does nothing.
//! Otherwise each call appends a record to memory that simprof shares and reads while the program
//! runs. A call never blocks, never allocates after the first one, never fails, and may be made
//! from any thread, from a forked child and from a signal handler; what the program wrote before
//! it was killed is there. Where simprof cannot keep up, records are lost and counted. C and C++
//! programs include `include/simprof_probe.h`, which does the same.
//!
//! # The shared memory
//!
//! The environment variable `SIMPROF_MARKS` is the path of a file of exactly
//! [`format::FILE_BYTES`] bytes, to be mapped shared and writable. It begins with a header of
//! 4,096 bytes; all numbers are of the machine's byte order.
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 8 | [`format::MAGIC`], which names the format and its version |
//! | 8 | 8 | number of records: [`format::RECORDS`] |
//! | 64 | 8 | `next`: how many records were ever begun |
//!
//! After it come the records in a ring, 32 bytes each:
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 8 | stamp: sequence, kind and thread, see [`format::stamp`]; 0 at first, 1 while being written |
//! | 8 | 8 | CLOCK_MONOTONIC, ns |
//! | 16 | 8 | index of the step |
//! | 24 | 8 | population, with [`format::Kind::EndWithPopulation`] |
//!
//! A writer adds 1 to `next`, which gives it a position (the value before). It takes the record
//! `position % RECORDS` by exchanging its stamp, where that is of an earlier position, for 1; where
//! that fails another writer is at the same record, a whole ring ahead or behind, and the mark is
//! given up. It writes the other fields and then, with release ordering, the stamp, whose sequence
//! is `position + 1`. A reader takes a record for whole when the stamp has the sequence it expects
//! both before and after it read the fields. So each position is either read whole or counted as
//! lost; a writer that is killed at its work leaves one record of the ring unusable.
//!
//! # Allocations
//!
//! A program whose global allocator does not call `malloc` tells of its allocations by `HeapProbe`, with the feature `heap`.

mod append;
pub mod format;
#[cfg(feature = "heap")]
mod heap;
mod ring;

#[cfg(feature = "heap")]
pub use heap::HeapProbe;

use format::Kind;

/// Marks the begin of the step with this number.
#[inline]
pub fn step_begin(index: u64) {
    ring::mark(Kind::Begin, index, 0);
}

/// Marks the end of the step with this number, which this thread began.
#[inline]
pub fn step_end(index: u64) {
    ring::mark(Kind::End, index, 0);
}

/// Marks the end of a step, and how many agents (or what else measures the model's size) live.
#[inline]
pub fn step_end_with_population(index: u64, population: u64) {
    ring::mark(Kind::EndWithPopulation, index, population);
}

/// Marks a boundary: the step that this thread began with the boundary before ends, and the step
/// with this number begins. For loops with one call per step; the last step is not seen to end
/// unless [`step_end`] says so.
#[inline]
pub fn step(index: u64) {
    ring::mark(Kind::Boundary, index, 0);
}

/// Whether marks are being recorded. False where the program does not run under simprof.
pub fn is_recorded() -> bool {
    ring::is_recorded()
}
