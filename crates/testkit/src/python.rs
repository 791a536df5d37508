//! The Python interpreters of this machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

use simprof_preload::supported::is_supported_cpython;

use crate::cache::cached_folder;

/// The variable that lists further interpreters, separated by colons. `./test` sets it to the output of `tests/interpreters.py`.
const EXTRA: &str = "SIMPROF_TEST_PYTHONS";

/// An interpreter of Python 3.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Python {
    /// Major and minor version.
    pub version: (u32, u32),
    /// `sys.version`.
    pub build: String,
    /// Whether it is a free-threaded build, without the GIL. simprof does not support such builds.
    pub is_free_threaded: bool,
    /// Whether it was assembled for tests. Such an interpreter has no `site` module, ignores the variables `PYTHON*`, and its
    /// outermost frames are functions of `__startup__.py`.
    pub is_assembled: bool,
    /// The real path of the executable.
    pub path: PathBuf,
}

impl Python {
    /// Returns the path as text.
    pub fn text(&self) -> &str {
        self.path.to_str().expect("paths of interpreters are UTF-8")
    }

    /// Returns a command that runs the interpreter.
    pub fn command(&self) -> Command {
        Command::new(&self.path)
    }

    /// Returns whether simprof can record the Python frames of this interpreter.
    pub fn is_followed(&self) -> bool {
        self.version.0 == 3 && is_supported_cpython(self.version.1) && !self.is_free_threaded
    }

    /// Returns the interpreter as a shared library, or `None` if it was not built as one.
    pub fn shared_library(&self) -> Option<PathBuf> {
        let (major, minor) = self.version;
        let name = format!("lib/libpython{major}.{minor}.so.1.0");
        let path = self.path.parent()?.parent()?.join(name);
        path.exists().then_some(path)
    }
}

/// The variable that, if set, makes [`pythons`] return only one interpreter.
const ONE: &str = "SIMPROF_TEST_ONE_PYTHON";

/// Returns every Python 3 of this machine, by version: those of the folders in `PATH`, of pyenv, and of `SIMPROF_TEST_PYTHONS`.
///
/// Each build occurs once. Assembled interpreters stand in for versions that are not installed.
pub fn all_pythons() -> &'static [Python] {
    static FOUND: OnceLock<Vec<Python>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let mut found: Vec<Python> =
            candidates().iter().filter_map(|(path, assembled)| probe(path, *assembled)).collect();
        found.sort();
        found.dedup_by(|a, b| a.build == b.build);
        let kind = |python: &Python| (python.version, python.is_free_threaded);
        let installed: BTreeSet<_> =
            found.iter().filter(|python| !python.is_assembled).map(kind).collect();
        found.retain(|python| !python.is_assembled || !installed.contains(&kind(python)));
        assert!(!found.is_empty(), "the tests need a Python 3 in PATH");
        found
    })
}

/// Returns the interpreters whose Python frames simprof can record. There is at least one.
pub fn pythons() -> Vec<Python> {
    if std::env::var_os(ONE).is_some() {
        return vec![python().clone()];
    }
    let followed: Vec<Python> =
        all_pythons().iter().filter(|python| python.is_followed()).cloned().collect();
    assert!(!followed.is_empty(), "the tests need a Python that simprof supports");
    followed
}

/// Returns the interpreters of [`pythons`] without the assembled ones.
pub fn installed_pythons() -> Vec<Python> {
    pythons().into_iter().filter(|python| !python.is_assembled).collect()
}

/// Returns the newest installed interpreter that simprof supports.
pub fn newest_python() -> Python {
    installed_pythons().pop().expect("one is supported")
}

/// Returns the interpreter that the command `python3` runs. A launcher such as pyenv's is resolved.
pub fn python() -> &'static Python {
    static FOUND: OnceLock<Python> = OnceLock::new();
    FOUND.get_or_init(|| {
        let output =
            Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
        let output = output.expect("the tests need python3 in PATH");
        let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        let path = path.canonicalize().expect("python3 knows its executable");
        probe(&path, false).expect("python3 is a Python 3")
    })
}

/// Returns the real paths of all executables that may be interpreters, and whether each was assembled.
fn candidates() -> BTreeSet<(PathBuf, bool)> {
    let mut paths: Vec<(PathBuf, bool)> = Vec::new();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/bin", "/usr/local/bin"].map(PathBuf::from);
    for folder in std::env::split_paths(&path).chain(usual) {
        // The launchers of pyenv are shell scripts. The interpreters that they start are found below.
        if !folder.ends_with("shims") {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            paths.extend(
                entries
                    .map(|entry| entry.path())
                    .filter(|path| is_name(path))
                    .map(|path| (path, false)),
            );
        }
    }
    let pyenv = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv"));
    for root in pyenv.into_iter().chain(home) {
        let versions = fs::read_dir(root.join("versions")).into_iter().flatten().flatten();
        paths.extend(versions.map(|version| (version.path().join("bin/python"), false)));
    }
    let extra = std::env::var_os(EXTRA).unwrap_or_default();
    paths.extend(std::env::split_paths(&extra).map(|path| (path, true)));
    paths
        .into_iter()
        .filter_map(|(path, assembled)| Some((path.canonicalize().ok()?, assembled)))
        .collect()
}

/// Returns whether a file is named `python3` or `python3.N`.
fn is_name(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let rest = name.strip_prefix("python3").unwrap_or("?");
    rest.is_empty() || rest.strip_prefix('.').is_some_and(|minor| minor.parse::<u32>().is_ok())
}

/// Asks an executable for its version. Returns `None` if it is not a Python 3. The answer is cached until the file changes.
fn probe(path: &Path, is_assembled: bool) -> Option<Python> {
    let data = path.metadata().ok()?;
    let modified = data.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let folder = cached_folder("python-version", (path, data.len(), modified), |folder| {
        let script = "import sys; print('%d %d' % sys.version_info[:2]); \
            print('t' in getattr(sys, 'abiflags', '')); print(sys.version.replace('\\n', ' '))";
        let output = Command::new(path).args(["-c", script]).output();
        let answer = output.map(|output| output.stdout).unwrap_or_default();
        fs::write(folder.join("answer"), answer).expect("the cache can be written");
    });
    let answer = fs::read_to_string(folder.join("answer")).ok()?;
    let mut lines = answer.lines();
    let (major, minor) = lines.next()?.split_once(' ')?;
    let version = (major.parse().ok()?, minor.parse().ok()?);
    let is_free_threaded = lines.next()? == "True";
    let build = lines.next()?.to_owned();
    (version.0 == 3).then(|| Python {
        version,
        build,
        is_free_threaded,
        is_assembled,
        path: path.to_owned(),
    })
}
