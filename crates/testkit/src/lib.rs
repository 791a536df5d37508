//! Helpers that the tests of several crates share: temporary folders, compiled programs, Python interpreters, waiting.
//!
//! The helpers panic on failure. Expensive results are kept in the target folder (see [`cache`]), because nextest runs each test in
//! a separate process.

pub mod cache;
pub mod folder;
pub mod packages;
pub mod process;
pub mod program;
pub mod python;

pub use folder::TestFolder;
pub use process::{is_alive, is_root, run, wait_for, wait_for_end};
pub use python::{Python, installed_pythons, newest_python, python, pythons};
