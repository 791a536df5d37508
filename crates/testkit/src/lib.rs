//! Helpers that the tests of several crates share: temporary folders, compiled programs, Python interpreters, waiting.
//!
//! Everything here panics when it fails, because a test has nothing better to do. Results that are expensive to make are kept
//! in the target folder (see [`cache`]), because nextest runs each test in a process of its own.

pub mod cache;
pub mod folder;
pub mod packages;
pub mod process;
pub mod program;
pub mod python;

pub use folder::TestFolder;
pub use process::{is_alive, is_root, run, wait_for, wait_for_end};
pub use python::{Python, installed_pythons, newest_python, python, pythons};
