//! Runs the Python interpreters of this machine in tests.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns `python3` and all other installed versions from 3.9 on.
pub fn interpreters() -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("python3")];
    found.extend((9..=15).map(|minor| PathBuf::from(format!("python3.{minor}"))));
    let root = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".pyenv")));
    let versions = root.and_then(|root| std::fs::read_dir(root.join("versions")).ok());
    found.extend(versions.into_iter().flatten().flatten().map(|v| v.path().join("bin/python")));
    found.retain(|path| run(path, "import sys; print(sys.version_info >= (3, 9))") == "True\n");
    assert!(!found.is_empty(), "tests need python3");
    found
}

/// Returns the output of a script; empty if the interpreter does not start.
pub fn run(interpreter: &Path, script: &str) -> String {
    let output = Command::new(interpreter).args(["-c", script]).output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}
