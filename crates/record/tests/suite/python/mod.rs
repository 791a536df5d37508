//! Python programs whose stacks, lines and waits are known, under real interpreters.

mod processes;
mod stacks;
mod support;
mod waits;
