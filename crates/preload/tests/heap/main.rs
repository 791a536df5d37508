//! The heap library in programs that know what they allocate.

#![cfg(target_arch = "x86_64")]

mod programs;
mod recorder;
#[path = "../support/mod.rs"]
mod support;

mod ends;
mod exact;
mod python;
mod sampled;
mod stacks;
mod stress;
