//! Recordings of programs whose answer is known.
//!
//! All tests are one program, which `cargo test` runs in threads of one process and nextest in one process per test. Tests that
//! change something of their own process (a seccomp filter, the user) therefore run this program again as a child.

mod privileges;
mod processes;
mod python;
mod recording;
mod sampling;
mod support;
mod symbols;
