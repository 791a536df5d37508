//! Virtual environments of Python.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::cached_folder;
use crate::process::run;
use crate::program::workspace;
use crate::python::python;

/// Returns the interpreter of a virtual environment with the packages of `tests/programs/requirements.txt`.
///
/// The environment is created on first use and kept until the list or the interpreter changes.
pub fn python_with_packages() -> PathBuf {
    let requirements = workspace().join("tests/programs/requirements.txt");
    let list =
        fs::read_to_string(&requirements).expect("the list of packages is part of the repository");
    let requirements = requirements.to_str().expect("the path is UTF-8");
    cached_environment("python-packages", &list, &["--requirement", requirements])
}

/// Returns the interpreter of a virtual environment with maturin.
pub fn python_with_maturin() -> PathBuf {
    let requirement = "maturin>=1.16,<2";
    cached_environment("python-maturin", requirement, &[requirement])
}

fn cached_environment(name: &str, key: &str, packages: &[&str]) -> PathBuf {
    let base = python();
    let folder = cached_folder(name, (key, &base.path, &base.build), |folder| {
        // The folder exists already; `venv` fills it.
        install(&make_environment(folder), packages);
    });
    folder.join("bin/python")
}

/// Creates an empty virtual environment. Returns its interpreter.
pub fn make_environment(folder: &Path) -> PathBuf {
    run(python().command().args(["-m", "venv"]).arg(folder));
    folder.join("bin/python")
}

/// Installs packages into the environment of an interpreter.
pub fn install(python: &Path, packages: &[&str]) {
    let options = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    run(Command::new(python).args(options).args(packages));
}
