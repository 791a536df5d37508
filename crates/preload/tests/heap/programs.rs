//! The programs of these tests, compiled once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Compiles `programs/NAME` with more arguments, unless that was done; where the program is.
pub fn compiled(name: &str, arguments: &[&str]) -> PathBuf {
    static COMPILING: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/heap/programs").join(name);
    let tag: String = arguments.concat().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("heap-{name}-{tag}"));
    let mut done = COMPILING.lock().unwrap_or_else(PoisonError::into_inner);
    if !done.contains(&target) {
        let (compiler, first) = match source.extension().and_then(|extension| extension.to_str()) {
            Some("cc") => ("g++", "-std=c++17"),
            Some("rs") => ("rustc", "--edition=2024"),
            _ => ("gcc", "-std=gnu11"),
        };
        let mut command = Command::new(compiler);
        command.arg(first).arg("-o").arg(&target).arg(&source).args(arguments);
        let status = command.status().expect("a compiler is needed");
        assert!(status.success(), "{name} compiles");
        done.push(target.clone());
    }
    target
}
