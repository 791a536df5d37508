//! Plans and runs measurements, and times an operation inside a process.
//!
//! [`grid`] computes the parameter points. [`schedule`] orders their processes. [`campaign`] runs them through a
//! [`campaign::Executor`]. Inside such a process, [`harness`] times the operation and [`protocol`] reports the results.

pub mod campaign;
pub mod grid;
pub mod harness;
pub mod protocol;
pub mod schedule;
