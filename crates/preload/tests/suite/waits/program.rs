//! Runs and compiles programs whose waits are recorded.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use simprof_testkit::run;

use crate::waits::memory::Memory;

/// Runs a program to its end with the library loaded.
pub fn observed(memory: &Memory, command: &mut Command) -> Output {
    observed_beside(memory, command, Path::new(""))
}

/// Runs a program like [`observed`], with another library loaded after simprof's.
pub fn observed_beside(memory: &Memory, command: &mut Command, other: &Path) -> Output {
    let output = command
        .env("LD_PRELOAD", format!("{}:{}", memory.library().display(), other.display()))
        .env("SIMPROF_PRELOAD", memory.path())
        .output()
        .expect("it can be started");
    assert!(
        output.status.success(),
        "{:?}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Compiles `programs/blocking.c`.
pub fn blocking(folder: &Path, name: &str, flags: &[&str]) -> PathBuf {
    compiled("blocking.c", folder.join(name), flags)
}

/// Compiles `programs/locks.c`, a library.
pub fn locks_library(folder: &Path) -> PathBuf {
    compiled("locks.c", folder.join("locks.so"), &["-shared", "-fPIC"])
}

fn compiled(source: &str, program: PathBuf, flags: &[&str]) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/waits");
    let mut command = Command::new("cc");
    command.args(["-O1", "-w", "-pthread"]).args(flags).arg("-o").arg(&program);
    run(command.arg(folder.join(source)));
    program
}
