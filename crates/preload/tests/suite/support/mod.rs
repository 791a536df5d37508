//! A small profiler. It starts a program with the library, opens events on the processes that request sampling, and reads their
//! records.

#![allow(dead_code, unused_imports, reason = "the tests and an example each use a part")]

pub mod lines;
pub mod memory;
pub mod server;

pub use memory::{LEFT_OUT, Memory, Sample, StackFrame};
pub use server::{Options, Recording, record};
