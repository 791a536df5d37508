//! The Pythons of this machine.

use std::path::PathBuf;
use std::process::Command;

/// Every Python that is there and runs: those of the folders of PATH by their usual names, pyenv's, and those whose
/// paths SIMPROF_TEST_PYTHONS lists with colons between.
pub fn pythons() -> Vec<PathBuf> {
    let names = std::iter::once("python3".to_owned())
        .chain((6..20).map(|minor| format!("python3.{minor}")));
    let mut candidates: Vec<PathBuf> = names.map(PathBuf::from).collect();
    let pyenv = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pyenv"));
    for root in pyenv.into_iter().chain(home) {
        let versions = std::fs::read_dir(root.join("versions")).into_iter().flatten().flatten();
        candidates.extend(versions.map(|version| version.path().join("bin/python")));
    }
    let listed = std::env::var_os("SIMPROF_TEST_PYTHONS").unwrap_or_default();
    candidates.extend(std::env::split_paths(&listed));
    let mut found: Vec<(String, PathBuf)> =
        candidates.into_iter().filter_map(|python| Some((version(&python)?, python))).collect();
    found.sort();
    found.dedup_by(|a, b| a.0 == b.0);
    assert!(!found.is_empty(), "no python3 is in PATH");
    found.into_iter().map(|(_, python)| python).collect()
}

/// The Python that is meant by `python3`.
pub fn python() -> PathBuf {
    let python = PathBuf::from("python3");
    assert!(version(&python).is_some(), "no python3 is in PATH");
    python
}

/// As [`pythons`], without those that SIMPROF_TEST_PYTHONS lists: put together from parts, they do not take all options and
/// variables that an installed one does.
pub fn installed_pythons() -> Vec<PathBuf> {
    let listed = std::env::var_os("SIMPROF_TEST_PYTHONS").unwrap_or_default();
    let listed: Vec<PathBuf> = std::env::split_paths(&listed).collect();
    pythons().into_iter().filter(|python| !listed.contains(python)).collect()
}

/// What a Python 3 says of itself; none where it does not run. Launchers of versions that are not there do not.
fn version(python: &PathBuf) -> Option<String> {
    let output =
        Command::new(python).args(["-c", "import sys; print(sys.version)"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && text.starts_with('3')).then_some(text)
}
