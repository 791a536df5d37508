//! Python programs whose stacks, lines and waits are known, in real interpreters.

mod processes;
mod stacks;
mod support;
mod waits;
