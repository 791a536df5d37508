//! Checks what can be recorded of a target's program.

use std::fs;
use std::path::Path;

use super::Capability;
use super::binary::{self, Binary, Symbols};
use super::python;
use crate::program::{resolve, script_interpreter};

const PROGRAM: &str = "target";
const SYMBOLS: &str = "names of the target's functions";
const LINES: &str = "lines of the target's source";
const UNWINDING: &str = "stacks of the target";

pub fn target(program: &str, directory: Option<&Path>) -> Vec<Capability> {
    let path = match resolve(program, directory, &Default::default()) {
        Ok(path) => path,
        Err(error) => {
            let consequence = "nothing can be recorded";
            return vec![Capability::missing(PROGRAM, error.to_string(), consequence, "")];
        }
    };
    let data = match fs::read(&path) {
        Ok(data) => data,
        Err(error) => return vec![unreadable(&path, &error.to_string())],
    };
    if let Some(interpreter) = script_interpreter(&data) {
        return script(&path, &interpreter, &data);
    }
    match binary::inspect(&data, &path) {
        Some(binary) => native(&path, &binary),
        None => vec![unreadable(&path, "the file is neither an ELF program nor a script")],
    }
}

fn unreadable(path: &Path, reason: &str) -> Capability {
    Capability::degraded(
        PROGRAM,
        format!("{}: {reason}", path.display()),
        "it is unknown before the run whether its functions and lines can be named",
        "",
    )
}

/// Checks a script by its interpreter.
fn script(path: &Path, interpreter: &str, data: &[u8]) -> Vec<Capability> {
    let detail = format!("{} is a script for {interpreter}", path.display());
    if let Some(name) = python::script_interpreter(data) {
        let program = Capability::available(PROGRAM, detail);
        return vec![program, python::frames(python::find(&name).as_deref())];
    }
    if python::is_interpreter(path) {
        // A tool that starts one of several versions.
        return vec![Capability::available(PROGRAM, detail), python::frames(Some(path))];
    }
    vec![other_script(detail)]
}

fn other_script(detail: String) -> Capability {
    Capability::degraded(
        PROGRAM,
        detail,
        "stacks contain functions of the interpreter and of the programs that the script starts",
        "if the script only prepares and starts another program, profile that program instead",
    )
}

fn native(path: &Path, binary: &Binary) -> Vec<Capability> {
    let kind = if binary.is_static { "a statically linked" } else { "an" };
    let mut detail = format!("{} is {kind} ELF program", path.display());
    if python::is_interpreter(path) {
        return vec![Capability::available(PROGRAM, detail), python::frames(Some(path))];
    }
    if binary.has_debug_file {
        detail.push_str(" with a separate debug file");
    }
    let program = Capability::available(PROGRAM, detail);
    vec![program, symbols(binary), lines(binary), unwinding(binary)]
}

fn symbols(binary: &Binary) -> Capability {
    match binary.symbols {
        Symbols::All => Capability::available(SYMBOLS, "it has a symbol table"),
        _ if binary.has_debug_info || binary.has_debug_file => {
            Capability::available(SYMBOLS, "it has debug information")
        }
        Symbols::Exported => Capability::degraded(
            SYMBOLS,
            "it is stripped: only its exported functions have names",
            "most functions appear as module+0xoffset",
            "build it without stripping (Rust: `strip = false`; C: without `-s`)",
        ),
        Symbols::None => Capability::missing(
            SYMBOLS,
            "it is stripped: its functions have no names",
            "functions appear as module+0xoffset",
            "build it without stripping (Rust: `strip = false`; C: without `-s`)",
        ),
    }
}

fn lines(binary: &Binary) -> Capability {
    if let Some(first) = binary.missing_files.first() {
        let count = binary.missing_files.len();
        return Capability::degraded(
            LINES,
            format!("{count} files with its debug information are not found, such as {first}"),
            "inlined functions are missing from stacks, and their time counts as that of the functions around them",
            "keep the files where the build wrote them, or beside the program (.dwo, .dwp)",
        );
    }
    if binary.has_lines {
        return Capability::available(LINES, "it has line tables");
    }
    if binary.has_debug_file {
        return Capability::available(LINES, "its separate debug file has line tables");
    }
    Capability::missing(
        LINES,
        "it has no line tables",
        "time is not shown by source line, and inlined functions are missing from stacks",
        "build it with debug information (Rust: `debug = \"limited\"`; C: `-g`)",
    )
}

fn unwinding(binary: &Binary) -> Capability {
    if binary.has_unwind_tables {
        return Capability::available(UNWINDING, "it has unwind tables");
    }
    Capability::degraded(
        UNWINDING,
        "it has no unwind tables",
        "stacks are truncated unless all its functions keep frame pointers",
        "build it with `-fasynchronous-unwind-tables` or `-fno-omit-frame-pointer`",
    )
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    fn state(found: &[Capability], name: &str) -> Option<State> {
        found.iter().find(|capability| capability.name == name).map(|capability| capability.state)
    }

    #[test]
    fn this_program_has_all_capabilities() {
        let own = std::env::current_exe().expect("this program has a path");
        let found = target(own.to_str().expect("text"), None);
        for name in [PROGRAM, SYMBOLS, LINES, UNWINDING] {
            assert_eq!(state(&found, name), Some(State::Available), "{found:?}");
        }
    }

    #[test]
    fn a_stripped_program_has_no_names_and_lines() {
        let binary = Binary {
            has_debug_info: false,
            has_lines: false,
            has_debug_file: false,
            missing_files: Default::default(),
            symbols: Symbols::None,
            has_unwind_tables: false,
            is_static: true,
        };
        let found = native(Path::new("/bin/x"), &binary);
        assert_eq!(state(&found, SYMBOLS), Some(State::Missing));
        assert_eq!(state(&found, LINES), Some(State::Missing));
        assert_eq!(state(&found, UNWINDING), Some(State::Degraded));
        assert!(found[0].detail.contains("static"));
    }

    #[test]
    fn scripts_and_missing_programs_are_reported() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tool");
        fs::write(&path, "#!/bin/sh\n").expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&path, mode).expect("set");
        let found = target("./tool", Some(folder.path()));
        assert_eq!(state(&found, PROGRAM), Some(State::Degraded));
        assert!(found[0].consequence.contains("interpreter"));
        fs::write(&path, "#!/usr/bin/env python3\n").expect("written");
        let found = target("./tool", Some(folder.path()));
        assert_eq!(state(&found, PROGRAM), Some(State::Available));
        assert!(state(&found, python::FRAMES).is_some(), "{found:?}");
        assert_eq!(state(&target("no-such-program", None), PROGRAM), Some(State::Missing));
    }
}
