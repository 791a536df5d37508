//! What following a Python program needs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use simprof_preload::supported::{CPYTHON, PYTHON_FRAMES_LINUX, is_supported_cpython};

use super::Capability;
use crate::{program, sample};

/// What is told of.
pub const FRAMES: &str = "Python frames";
/// What a lack means.
const CONSEQUENCE: &str =
    "stacks are those of the interpreter: time cannot be told by Python function or line";

/// The interpreter that a script's first line names, where that is Python.
pub fn of_script(data: &[u8]) -> Option<String> {
    let line = data.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let name = line.split_whitespace().find(|word| is_interpreter(Path::new(word)))?;
    Some(name.to_owned())
}

/// The file that an interpreter's name stands for.
pub fn find(name: &str) -> Option<PathBuf> {
    program::resolve(name, None, &Default::default()).ok()
}

/// Whether a program is Python, by its name without its version.
pub fn is_interpreter(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    ["python", "pypy"].iter().any(|known| {
        name.strip_prefix(known).is_some_and(|rest| {
            rest.chars().all(|character| character.is_ascii_digit() || ".dt".contains(character))
        })
    })
}

/// Whether Python frames can be had of an interpreter; that is not told where it cannot be found.
pub fn frames(interpreter: Option<&Path>) -> Capability {
    let lack = interpreter.and_then(lack_of_program).or_else(lack_of_system);
    if let Some((detail, mend)) = lack {
        return Capability::missing(FRAMES, detail, CONSEQUENCE, &mend);
    }
    let Some(path) = interpreter.and_then(|path| path.canonicalize().ok()) else {
        return Capability::available(FRAMES, "the interpreter is found when it runs");
    };
    let detail = match version(&path) {
        Some(minor) => format!("CPython 3.{minor}, with each sample and each wait"),
        None => format!("{}, if it is {CPYTHON}", path.display()),
    };
    Capability::available(FRAMES, detail)
}

/// What an interpreter lacks, and what would mend it.
fn lack_of_program(path: &Path) -> Option<(String, String)> {
    let path = path.canonicalize().ok()?;
    let shown = path.display();
    if path.file_name()?.to_string_lossy().starts_with("pypy") {
        return Some((format!("{shown} is PyPy"), use_supported()));
    }
    if let Some(minor) = version(&path).filter(|&minor| !is_supported_cpython(minor)) {
        let detail = format!("CPython 3.{minor} is not a version that simprof knows");
        return Some((detail, use_supported()));
    }
    if fs::metadata(&path).ok()?.mode() & (libc::S_ISUID | libc::S_ISGID) != 0 {
        let detail = format!("{shown} changes its user, so that nothing can be loaded into it");
        return Some((detail, "run a copy of it without that right".to_owned()));
    }
    let data = fs::read(&path).ok()?;
    match program::loader(&data) {
        // Scripts that look for an interpreter.
        _ if !data.starts_with(b"\x7fELF") => None,
        None => {
            let detail =
                format!("{shown} is linked statically, so that nothing can be loaded into it");
            Some((detail, "use an interpreter that is linked dynamically".to_owned()))
        }
        Some(loader) if loader.contains("ld-musl") => {
            let detail = format!(
                "{shown} uses the musl C library, which simprof's library cannot be loaded beside"
            );
            Some((detail, "use an interpreter built for the GNU C library".to_owned()))
        }
        Some(_) => None,
    }
}

/// What the system lacks.
fn lack_of_system() -> Option<(String, String)> {
    let error = sample::probe_signalling().err()?;
    let fix =
        format!("use {PYTHON_FRAMES_LINUX}, and get the right to sample (see sampled stacks)");
    Some((error, fix))
}

fn use_supported() -> String {
    format!("run the target with {CPYTHON}")
}

/// The minor version that the name of the file states.
fn version(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    let digits = name.strip_prefix("python3.")?;
    digits.trim_end_matches(['d', 't', 'm']).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn python_is_known_by_its_name() {
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
    fn the_first_line_of_a_script_names_it() {
        let table = [
            ("#!/usr/bin/env python3\nx", Some("python3")),
            ("#!/usr/bin/env -S python3.12 -u\n", Some("python3.12")),
            ("#! /usr/bin/python\n", Some("/usr/bin/python")),
            ("#!/bin/sh\npython3", None),
            ("python3", None),
        ];
        for (text, expected) in table {
            assert_eq!(of_script(text.as_bytes()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn versions_that_are_not_followed_are_told() {
        let place = tempfile::tempdir().expect("a folder");
        for (name, is_followed) in [
            ("python3.8", false),
            ("python3.9", true),
            ("python3.13t", true),
            ("python3.14", true),
            ("python3.15", false),
            ("pypy3", false),
        ] {
            let path = place.path().join(name);
            fs::write(&path, "").expect("written");
            assert_eq!(lack_of_program(&path).is_none(), is_followed, "{name}");
        }
        let found = frames(Some(&place.path().join("python3.8")));
        assert!(found.state == State::Missing && found.detail.contains("3.8"), "{found:?}");
    }
}
