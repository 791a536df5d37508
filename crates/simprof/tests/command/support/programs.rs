//! Builds the programs whose answers are known, each once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Where the sources are.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/programs");
/// Where the step marks' header is.
const HEADERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../probe/include");

/// The path of `tests/programs/NAME.c`, compiled with debug information.
pub fn c_program(name: &str) -> String {
    built(name, |program| run(c_compiler(name, program)))
}

/// As [`c_program`], as `NAME-KIND` with further options; none where the compiler cannot do so.
pub fn c_program_with(name: &str, kind: &str, options: &[&str]) -> Option<String> {
    let path = built(&format!("{name}-{kind}"), |program| {
        let mut command = c_compiler(name, program);
        let done = command.args(options).output().expect("the compiler runs");
        if !done.status.success() {
            std::fs::write(program, "").expect("an empty file instead");
        }
    });
    (std::fs::metadata(&path).expect("it was built").len() > 0).then_some(path)
}

fn c_compiler(name: &str, program: &Path) -> Command {
    let mut command = Command::new("cc");
    command.args(["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-I", HEADERS, "-o"]);
    command.arg(program).arg(source(&format!("{name}.c")));
    command
}

/// A C program without symbols.
pub fn stripped(name: &str) -> String {
    let whole = c_program(name);
    built(&format!("{name}-stripped"), |program| {
        let mut command = Command::new("strip");
        command.arg("-o").arg(program).arg(&whole);
        run(command);
    })
}

/// The path of `tests/programs/NAME.rs`, compiled as a release build with line tables.
pub fn rust_program(name: &str) -> String {
    built(name, |program| run(rust_compiler(name, program)))
}

/// As [`rust_program`], as `NAME-KIND` with further options.
pub fn rust_program_with(name: &str, kind: &str, options: &[&str]) -> String {
    built(&format!("{name}-{kind}"), |program| {
        let mut command = rust_compiler(name, program);
        command.args(options);
        run(command);
    })
}

fn rust_compiler(name: &str, program: &Path) -> Command {
    let mut command = Command::new(std::env::var("RUSTC").unwrap_or("rustc".into()));
    command.args(["--edition", "2021", "-g", "-C", "opt-level=2", "-o"]);
    command.arg(program).arg(source(&format!("{name}.rs")));
    command
}

/// The path of a source file.
pub fn source(file: &str) -> PathBuf {
    Path::new(SOURCES).join(file)
}

/// The number of the line of a source file that holds `mark`.
pub fn marked_line(file: &str, mark: &str) -> u64 {
    let text = std::fs::read_to_string(source(file)).expect("the source");
    let index = text.lines().position(|line| line.contains(mark)).expect("the mark is there");
    index as u64 + 1
}

/// Builds a program unless this process has done so.
fn built(name: &str, build: impl FnOnce(&Path)) -> String {
    static KNOWN: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    if let Some(path) = KNOWN.lock().expect("no panic while held").get(name) {
        return path.clone();
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // Others may build the same: each puts its own in place whole.
    let thread = std::thread::current().id();
    let fresh = folder.join(format!(".{name}-{}-{thread:?}", std::process::id()));
    build(&fresh);
    let path = folder.join(name);
    std::fs::rename(&fresh, &path).expect("the program is put in place");
    let path = path.to_str().expect("the target folder is text").to_owned();
    KNOWN.lock().expect("no panic while held").insert(name.to_owned(), path.clone());
    path
}

fn run(mut command: Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
