//! Whole runs of the reference simulation.
//!
//! All tests are one program, which counts the allocations of each thread (see `heap_accounting`).

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

mod heap_accounting;
mod killed_runs;
mod runs;
