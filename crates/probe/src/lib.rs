//! Step marks for simprof, for targets to link. A mark takes less than 100 ns.
//!
//! ```
//! for step in 0..3 {
//!     simprof_probe::step_begin(step);
//!     // ... one step of the simulation ...
//!     simprof_probe::step_end_with_population(step, 500);
//! }
//! ```
//!
//! When the program does not run under simprof, a call costs about a nanosecond and does nothing. Otherwise
//! each call appends a record to shared memory, which simprof reads while the program runs. A call never
//! blocks and reports no errors. Only the first call allocates memory. Calls are allowed from any thread, from
//! a forked child and from a signal handler. If the program is killed, all earlier marks remain. If simprof
//! reads too slowly, records are overwritten and counted as lost. C and C++ programs include
//! `include/simprof_probe.h`, which does the same.
//!
//! # The shared memory
//!
//! The environment variable `SIMPROF_MARKS` contains the path of a file of exactly [`format::FILE_BYTES`]
//! bytes. Map it shared and writable. The file begins with a header of 4,096 bytes. Numbers have the machine's
//! byte order.
//!
//! | offset | bytes | content |
//! | --- | --- | --- |
//! | 0 | 8 | [`format::MAGIC`], which names the format and its version |
//! | 8 | 8 | number of records: [`format::RECORDS`] |
//! | 64 | 8 | `next`: number of records begun so far |
//!
//! The records follow as a ring buffer, 32 bytes each:
//!
//! | offset | bytes | content |
//! | --- | --- | --- |
//! | 0 | 8 | stamp: sequence, kind and thread, see [`format::stamp`]; 0 at first, 1 while being written |
//! | 8 | 8 | CLOCK_MONOTONIC, ns |
//! | 16 | 8 | index of the step |
//! | 24 | 8 | population, with [`format::Kind::EndWithPopulation`] |
//!
//! A writer does the following:
//!
//! 1. It adds 1 to `next`. The value before is its position.
//! 2. It takes the record `position % RECORDS`: if the record's stamp is 0 or of an earlier position, it
//!    atomically replaces the stamp by 1. Otherwise it drops the mark. Another writer, whose position is a
//!    multiple of [`format::RECORDS`] ahead or behind, is then writing or has written to this record.
//! 3. It stores the other fields.
//! 4. It stores the stamp with release ordering. The sequence of the stamp is `position + 1`.
//!
//! A reader accepts a record if its stamp has the expected sequence both before and after the fields were
//! read. So each position is either read completely or counted as lost. A writer that is killed while writing
//! leaves one record of the ring unusable.
//!
//! # Allocations
//!
//! A program whose global allocator does not call `malloc` reports its allocations through `HeapProbe`. It
//! needs the feature `heap`.

mod append;
pub mod format;
#[cfg(feature = "heap")]
mod heap;
mod ring;

#[cfg(feature = "heap")]
pub use heap::HeapProbe;

use format::Kind;

/// Marks the beginning of the step with this index.
#[inline]
pub fn step_begin(index: u64) {
    ring::mark(Kind::Begin, index, 0);
}

/// Marks the end of the step with this index, which this thread began.
#[inline]
pub fn step_end(index: u64) {
    ring::mark(Kind::End, index, 0);
}

/// Marks the end of a step, with the number of live agents (or another measure of the model's size).
#[inline]
pub fn step_end_with_population(index: u64, population: u64) {
    ring::mark(Kind::EndWithPopulation, index, population);
}

/// Marks a boundary: the step that this thread began at the previous boundary ends, and the step with this
/// index begins. It needs only one call per step. Mark the end of the last step with [`step_end`], otherwise
/// it is not known.
#[inline]
pub fn step(index: u64) {
    ring::mark(Kind::Boundary, index, 0);
}

/// Returns whether marks are recorded. False if the program does not run under simprof.
pub fn is_recorded() -> bool {
    ring::is_recorded()
}
