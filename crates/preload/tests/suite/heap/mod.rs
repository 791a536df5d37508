//! The heap library in programs that report their own allocations.

mod programs;
mod recorder;

mod ends;
mod exact;
mod python;
mod sampled;
mod stacks;
mod stress;
