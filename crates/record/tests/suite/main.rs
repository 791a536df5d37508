//! Recordings of programs whose results are known.
//!
//! All tests are one program. `cargo test` runs them in threads of one process, nextest in one process per test. Tests that change
//! the state of a process (a seccomp filter, the user) therefore run this program again as a child.

mod privileges;
mod processes;
mod python;
mod recording;
mod sampling;
mod support;
mod symbols;
mod unwinding;
