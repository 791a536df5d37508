//! Programs to observe: Python of every version that is installed, and C.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::memory::Memory;

/// The interpreters of this machine, one of each minor version from 3.9 on: of the search path and of pyenv.
pub fn pythons() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for minor in 9..=13 {
        let named = format!("python3.{minor}");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let on_path = std::env::split_paths(&path).map(|folder| folder.join(&named));
        let in_pyenv =
            pyenv_versions(minor).into_iter().map(|version| version.join("bin").join(&named));
        found.extend(in_pyenv.chain(on_path).find(|python| runs(python)));
    }
    assert!(!found.is_empty(), "no Python from 3.9 to 3.13 is installed");
    found
}

fn pyenv_versions(minor: u32) -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv"));
    let Some(root) = std::env::var_os("PYENV_ROOT").map(PathBuf::from).or(home) else {
        return Vec::new();
    };
    let Ok(entries) = std::fs::read_dir(root.join("versions")) else { return Vec::new() };
    let prefix = format!("3.{minor}.");
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
        })
        .collect()
}

fn runs(python: &Path) -> bool {
    Command::new(python).arg("-c").arg("").output().is_ok_and(|output| output.status.success())
}

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
