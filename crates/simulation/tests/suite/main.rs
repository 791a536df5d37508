//! Whole runs of the reference simulation.
//!
//! All tests are one program, which counts the allocations of each thread (see `memory`).

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

mod killed;
mod memory;
mod runs;
