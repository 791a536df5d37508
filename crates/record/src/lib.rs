//! Launches a program and observes it: sampled stacks, symbols, resources, step marks.

pub mod sample;
