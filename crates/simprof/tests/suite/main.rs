//! Tests of the command as a process: its exit status, its output, the files that it writes and the processes that remain.
//!
//! The tests run in threads of one process under `cargo test`, and in one process each under nextest. They do not change the state
//! of their own process.

#![allow(missing_docs, reason = "tests")]

mod analyze;
mod benchmarks;
mod budget;
mod config;
mod documents;
mod habits;
mod hostile;
mod interrupts;
mod into;
mod known_answers;
mod limits;
mod logging;
mod memory;
mod ordinary_user;
mod output;
mod python;
mod python_calls;
mod python_real;
mod python_steps;
mod reference;
mod run_parts;
mod scaling;
mod schemas;
mod spec_errors;
mod status;
mod steps;
mod support;
mod target_trouble;
mod threads;
mod wheel;
