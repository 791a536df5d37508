//! Scripts run by the Python interpreters of this machine, for tests.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the interpreters of this machine that simprof supports.
pub fn interpreters() -> Vec<PathBuf> {
    simprof_testkit::pythons().into_iter().map(|python| python.path).collect()
}

/// Returns what a script prints; empty if the interpreter does not run.
pub fn run(interpreter: &Path, script: &str) -> String {
    let output = Command::new(interpreter).args(["-c", script]).output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}
