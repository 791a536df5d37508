//! The simprof command.

fn main() {}
