//! The heap library in programs that report their own allocations.

mod programs;
mod recorder;

mod deepbind;
mod ends;
mod exact;
mod filters;
mod python;
mod sampled;
mod stacks;
mod stress;
