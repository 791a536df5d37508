//! The programs of `tests/programs`, whose results are known.

use std::path::{Path, PathBuf};

use simprof_testkit::program::{self, compile, probe_headers, try_compile, workspace};

/// Compiles `tests/programs/NAME.c` with debug information and returns the path of the executable.
pub fn c_program(name: &str) -> String {
    c_program_with(name, name, &[]).unwrap_or_else(|| panic!("{name}.c does not compile"))
}

/// Compiles like [`c_program`], with further options, into the executable `executable`. `None` if the compiler does not support
/// the options.
pub fn c_program_with(name: &str, executable: &str, options: &[&str]) -> Option<String> {
    let headers = probe_headers();
    let usual = ["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-I"];
    let options = [&usual[..], &[headers.to_str().expect("the path is UTF-8")], options].concat();
    try_compile(&source(&format!("{name}.c")), executable, &options).map(text)
}

/// Returns a C program without symbols, named `NAME-stripped`.
pub fn stripped(name: &str) -> String {
    text(program::stripped(Path::new(&c_program(name))))
}

/// Compiles `tests/programs/NAME.rs` as a release build with line tables and returns the path of the executable.
pub fn rust_program(name: &str) -> String {
    rust_program_with(name, name, &[])
}

/// Compiles like [`rust_program`], with further options, into the executable `executable`.
pub fn rust_program_with(name: &str, executable: &str, options: &[&str]) -> String {
    let options = [&["-g", "-C", "opt-level=2"][..], options].concat();
    text(compile(&source(&format!("{name}.rs")), executable, &options))
}

/// Returns the path of a source file of `tests/programs`.
fn source(file: &str) -> PathBuf {
    workspace().join("tests/programs").join(file)
}

/// Returns the path of a Python program of `tests/programs`.
pub fn python_program(name: &str) -> String {
    text(source(name))
}

/// Returns the number of the first line of a source file that contains `mark`.
pub fn marked_line(file: &str, mark: &str) -> u64 {
    let text = std::fs::read_to_string(source(file)).expect("the source exists");
    let index = text.lines().position(|line| line.contains(mark)).expect("the mark exists");
    index as u64 + 1
}

/// Returns a path as text.
fn text(path: PathBuf) -> String {
    path.into_os_string().into_string().expect("the folder of the tests is UTF-8")
}
