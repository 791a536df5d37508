//! The heap library in programs that know what they allocate.

mod programs;
mod recorder;

mod ends;
mod exact;
mod python;
mod sampled;
mod stacks;
mod stress;
