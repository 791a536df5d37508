//! Checks whether Python frames can be recorded.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use simprof_preload::supported::{CPYTHON, PYTHON_FRAMES_LINUX, is_supported_cpython};

use super::Capability;
use crate::{program, sample};

/// Name of the capability.
pub const FRAMES: &str = "Python frames";
/// The consequence if it is missing.
const CONSEQUENCE: &str = "stacks contain only functions of the interpreter, so no time is shown by Python function or line";

/// Returns the Python interpreter that a script's first line names; `None` if it names none.
pub fn script_interpreter(data: &[u8]) -> Option<String> {
    let line = data.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let name = line.split_whitespace().find(|word| is_interpreter(Path::new(word)))?;
    Some(name.to_owned())
}

/// Returns the path of an interpreter by its name.
pub fn find(name: &str) -> Option<PathBuf> {
    program::resolve(name, None, &Default::default()).ok()
}

/// Returns whether a program is Python, by its name without its version.
pub fn is_interpreter(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    ["python", "pypy"].iter().any(|known| {
        name.strip_prefix(known).is_some_and(|rest| {
            rest.chars().all(|character| character.is_ascii_digit() || ".dt".contains(character))
        })
    })
}

/// Checks whether Python frames of an interpreter can be recorded. If the interpreter is not found, checks only the system.
pub fn frames(interpreter: Option<&Path>) -> Capability {
    let problem = interpreter.and_then(interpreter_problem).or_else(system_problem);
    if let Some((detail, fix)) = problem {
        return Capability::missing(FRAMES, detail, CONSEQUENCE, &fix);
    }
    let Some(path) = interpreter.and_then(|path| path.canonicalize().ok()) else {
        let detail = format!("recorded if the interpreter turns out to be {CPYTHON}");
        return Capability::available(FRAMES, detail);
    };
    let detail = match version(&path) {
        Some(minor) => format!("recorded with each sample and each wait of CPython 3.{minor}"),
        None => format!("recorded if {} is {CPYTHON}", path.display()),
    };
    Capability::available(FRAMES, detail)
}

/// Returns what prevents recording frames of an interpreter, and the fix; `None` if nothing does.
fn interpreter_problem(path: &Path) -> Option<(String, String)> {
    let path = path.canonicalize().ok()?;
    let shown = path.display();
    if path.file_name()?.to_string_lossy().starts_with("pypy") {
        return Some((format!("{shown} is PyPy"), use_supported()));
    }
    if is_free_threaded(&path) {
        let detail = format!("{shown} is a free-threaded build, which simprof does not support");
        return Some((detail, use_supported()));
    }
    if let Some(minor) = version(&path).filter(|&minor| !is_supported_cpython(minor)) {
        let detail = format!("simprof does not support CPython 3.{minor}");
        return Some((detail, use_supported()));
    }
    if fs::metadata(&path).ok()?.mode() & (libc::S_ISUID | libc::S_ISGID) != 0 {
        let detail = format!(
            "{shown} is set-user-id or set-group-id, so simprof's library cannot be loaded into it"
        );
        return Some((detail, "run a copy of it without that mode bit".to_owned()));
    }
    let data = fs::read(&path).ok()?;
    match program::loader(&data) {
        // It is a script that starts the interpreter.
        _ if !data.starts_with(b"\x7fELF") => None,
        None => {
            let detail = format!(
                "{shown} is linked statically, so simprof's library cannot be loaded into it"
            );
            Some((detail, "use an interpreter that is linked dynamically".to_owned()))
        }
        Some(loader) if loader.contains("ld-musl") => {
            let detail = format!(
                "{shown} uses the musl C library, and simprof's library needs the GNU C library"
            );
            Some((detail, "use an interpreter built for the GNU C library".to_owned()))
        }
        Some(_) => None,
    }
}

/// Returns what prevents the system from recording Python frames, and the fix; `None` if nothing does.
fn system_problem() -> Option<(String, String)> {
    let error = sample::probe_signalling().err()?;
    let fix = format!(
        "use {PYTHON_FRAMES_LINUX}, and allow sampling of stacks (see the row `sampled stacks`)"
    );
    Some((error, fix))
}

fn use_supported() -> String {
    format!("run the target with {CPYTHON}")
}

/// Returns the minor version in the file's name.
fn version(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    let digits = name.strip_prefix("python3.")?;
    digits.trim_end_matches(['d', 't', 'm']).parse().ok()
}

/// Returns whether the file's name ends as those of free-threaded builds do: `python3.14t`.
fn is_free_threaded(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    version(path).is_some() && name.trim_end_matches('d').ends_with('t')
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn python_is_recognised_by_its_name() {
        for (name, expected) in [
            ("/x/python", true),
            ("/x/python3.12", true),
            ("/x/pypy3", true),
            ("/x/python-like", false),
            ("/x/sim", false),
        ] {
            assert_eq!(is_interpreter(Path::new(name)), expected, "{name}");
        }
    }

    #[test]
    fn the_interpreter_of_a_script_is_found() {
        let table = [
            ("#!/usr/bin/env python3\nx", Some("python3")),
            ("#!/usr/bin/env -S python3.12 -u\n", Some("python3.12")),
            ("#! /usr/bin/python\n", Some("/usr/bin/python")),
            ("#!/bin/sh\npython3", None),
            ("python3", None),
        ];
        for (text, expected) in table {
            assert_eq!(script_interpreter(text.as_bytes()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn unsupported_interpreters_are_reported() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, is_supported) in [
            ("python3.8", false),
            ("python3.9", true),
            ("python3.13t", false),
            ("python3.14", true),
            ("python3.15", false),
            ("pypy3", false),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, "").expect("written");
            assert_eq!(interpreter_problem(&path).is_none(), is_supported, "{name}");
        }
        let found = frames(Some(&folder.path().join("python3.8")));
        assert!(found.state == State::Missing && found.detail.contains("3.8"), "{found:?}");
    }
}
