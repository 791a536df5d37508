//! Programs to observe.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::memory::Memory;

/// Runs a program to its end with the library loaded.
pub fn observed(memory: &Memory, command: &mut Command) -> Output {
    let output = command
        .env("LD_PRELOAD", memory.library())
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
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/waits/programs/blocking.c");
    let program = folder.join(name);
    let status = Command::new("cc")
        .args(["-O1", "-w", "-pthread"])
        .args(flags)
        .arg("-o")
        .arg(&program)
        .arg(source)
        .status()
        .expect("there is a C compiler");
    assert!(status.success());
    program
}
