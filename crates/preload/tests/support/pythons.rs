//! The interpreters of this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An interpreter.
#[derive(Debug, Clone)]
pub struct Python {
    pub path: PathBuf,
    /// Major and minor version.
    pub version: (u32, u32),
}

/// One interpreter of each place and version that the library reads; at least one.
pub fn pythons() -> Vec<Python> {
    let mut candidates: Vec<PathBuf> = Vec::new();
    let home = std::env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv")));
    if let Some(home) = home
        && let Ok(versions) = std::fs::read_dir(home.join("versions"))
    {
        candidates.extend(versions.flatten().map(|version| version.path().join("bin/python")));
    }
    for folder in ["/usr/bin", "/usr/local/bin"] {
        candidates.push(Path::new(folder).join("python3"));
        candidates.extend((9..15).map(|minor| Path::new(folder).join(format!("python3.{minor}"))));
    }
    candidates.push("python3".into());
    let mut found = BTreeMap::new();
    for candidate in candidates {
        if let Some((path, version)) = ask(&candidate)
            && (3, 9) <= version
        {
            found.insert(path, version);
        }
    }
    assert!(!found.is_empty(), "the tests need an interpreter of 3.9 or later");
    found.into_iter().map(|(path, version)| Python { path, version }).collect()
}

/// Where an interpreter really is, and its version.
fn ask(path: &Path) -> Option<(PathBuf, (u32, u32))> {
    let code =
        "import os, sys; print(os.path.realpath(sys.executable)); print(*sys.version_info[:2])";
    let output = Command::new(path).args(["-I", "-c", code]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut lines = text.lines();
    let path = PathBuf::from(lines.next()?);
    let (major, minor) = lines.next()?.split_once(' ')?;
    Some((path, (major.parse().ok()?, minor.parse().ok()?)))
}
