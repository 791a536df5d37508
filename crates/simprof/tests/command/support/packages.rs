//! Virtual environments of Python, one with the packages that tests use.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use super::{python, source};

/// What the environment holds.
const REQUIREMENTS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/programs/requirements.txt");

/// The Python of a virtual environment that has the packages of `tests/programs/requirements.txt`.
///
/// It is made at first use, in the target folder, and made anew when the list changes.
pub fn python_with_packages() -> String {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-packages");
        let lock =
            File::create(folder.with_extension("lock")).expect("a file in the target folder");
        // Other test programs may make it at this moment.
        lock.lock().expect("the file can be locked");
        let python = folder.join("bin/python");
        let wanted = fs::read_to_string(REQUIREMENTS).expect("the list of packages");
        let made_of = folder.join("made-of.txt");
        if fs::read_to_string(&made_of).ok().as_ref() != Some(&wanted) {
            make_environment(&folder);
            install(&python, &["--requirement", REQUIREMENTS]);
            fs::write(&made_of, wanted).expect("the list is kept");
        }
        python.to_str().expect("the target folder is text").to_owned()
    })
    .clone()
}

/// Makes an empty virtual environment, in place of what was there.
pub fn make_environment(folder: &Path) {
    run(Command::new(python()).args(["-m", "venv", "--clear"]).arg(folder));
}

/// Installs packages into the environment that `python` is of.
pub fn install(python: &Path, what: &[&str]) {
    let options = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    run(Command::new(python).args(options).args(what));
}

/// The path of a test program in Python.
pub fn python_program(name: &str) -> String {
    let path = source(name).canonicalize().expect("the program is there");
    path.to_str().expect("the folder of the tests is text").to_owned()
}

pub fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
