//! Programs in C, C++ and Rust that tests run, each compiled once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::cached_folder;
use crate::process::run;

/// Returns the folder of the workspace.
pub fn workspace() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    path.canonicalize().expect("the workspace exists")
}

/// Returns the folder of the header for step marks.
pub fn probe_headers() -> PathBuf {
    workspace().join("crates/probe/include")
}

/// Compiles a source file with these options, unless the result is cached. Returns the path of the executable `name`, or `None` if
/// the compiler fails.
///
/// The language follows from the extension: `.c`, `.cc` or `.rs`. The result is kept until the source, a header beside it, the
/// probe or the options change.
pub fn try_compile(source: &Path, name: &str, options: &[&str]) -> Option<PathBuf> {
    let (compiler, language) = match source.extension().and_then(|extension| extension.to_str()) {
        Some("rs") => (std::env::var("RUSTC").unwrap_or("rustc".into()), "--edition=2024"),
        Some("cc") => ("c++".to_owned(), "-std=c++17"),
        _ => ("cc".to_owned(), "-std=gnu11"),
    };
    let key = (name, &compiler, options, contents(source));
    let folder = cached_folder(&format!("program-{name}"), key, |folder| {
        let mut command = Command::new(&compiler);
        command.arg(language).arg("-o").arg(folder.join(name)).arg(source).args(options);
        let output = command.output().unwrap_or_else(|error| panic!("{compiler}: {error}"));
        if !output.status.success() {
            fs::write(folder.join("errors"), &output.stderr).expect("the cache can be written");
        }
    });
    let program = folder.join(name);
    program.exists().then_some(program)
}

/// Compiles like [`try_compile`], and panics if the compiler fails.
pub fn compile(source: &Path, name: &str, options: &[&str]) -> PathBuf {
    try_compile(source, name, options)
        .unwrap_or_else(|| panic!("{} does not compile with {options:?}", source.display()))
}

/// Returns a copy of a program without symbols, named `NAME-stripped`.
pub fn stripped(program: &Path) -> PathBuf {
    let name = format!("{}-stripped", program.file_name().expect("a file").to_string_lossy());
    let key = fs::read(program).expect("the program can be read");
    let folder = cached_folder(&format!("program-{name}"), key, |folder| {
        run(Command::new("strip").arg("-o").arg(folder.join(&name)).arg(program));
    });
    folder.join(name)
}

/// Returns the contents of all files that a compiled program may depend on.
fn contents(source: &Path) -> Vec<Vec<u8>> {
    let folder = source.parent().expect("a source is in a folder");
    let mut files = vec![source.to_owned()];
    let probe = workspace().join("crates/probe");
    for (folder, extension) in
        [(folder, "h"), (&probe.join("include"), "h"), (&probe.join("src"), "rs")]
    {
        let entries =
            fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        files.extend(
            entries.filter(|path| path.extension().is_some_and(|found| found == extension)),
        );
    }
    files.sort();
    let read = |path: &PathBuf| {
        fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    files.iter().map(read).collect()
}
