//! A small profiler: starts a program with the library, opens events on the processes that ask, and reads what they tell.

#![allow(dead_code, unused_imports)]

pub mod lines;
pub mod memory;
pub mod pythons;
pub mod server;

pub use memory::{Memory, Sample, StackFrame};
pub use pythons::{Python, pythons};
pub use server::{Options, Recording, record};
