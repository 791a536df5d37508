//! Sampled stacks of a running program.
