//! What to run, how often and in what order; and the harness that times one piece of code.
//!
//! A [`grid`] says which points are measured, a [`schedule`] in what order their fresh processes
//! run, [`campaign`] runs them through an [`campaign::Executor`]. Inside such a process,
//! [`harness`] times the operation and [`protocol`] is how it reports.

pub mod campaign;
pub mod grid;
pub mod harness;
pub mod protocol;
pub mod schedule;
