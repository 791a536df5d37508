//! The command as a person meets it: run as a process, judged by what it prints and what it leaves behind.
//!
//! The tests run in threads of one process under `cargo test`, and in one process each under nextest. They change nothing of
//! their own process.

#![allow(missing_docs, reason = "tests")]

mod analyze;
mod config;
mod documents;
mod habits;
mod hostile;
mod interrupts;
mod known_answers;
mod logging;
mod memory;
mod ordinary_user;
mod output;
mod python;
mod python_calls;
mod python_real;
mod python_steps;
mod reference;
mod scaling;
mod schemas;
mod spec_errors;
mod status;
mod steps;
mod support;
mod target_trouble;
mod wheel;
