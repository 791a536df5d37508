//! What a target's program allows.

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
        None => vec![unreadable(&path, "it is neither an ELF file nor a script")],
    }
}

fn unreadable(path: &Path, reason: &str) -> Capability {
    Capability::degraded(
        PROGRAM,
        format!("{}: {reason}", path.display()),
        "what its functions and lines allow cannot be told before it runs",
        "",
    )
}

/// A script is what its interpreter makes of it.
fn script(path: &Path, interpreter: &str, data: &[u8]) -> Vec<Capability> {
    let detail = format!("{} is a script for {interpreter}", path.display());
    if let Some(name) = python::of_script(data) {
        let program = Capability::available(PROGRAM, detail);
        return vec![program, python::frames(python::find(&name).as_deref())];
    }
    if python::is_interpreter(path) {
        // Of a tool that chooses among several versions.
        return vec![Capability::available(PROGRAM, detail), python::frames(Some(path))];
    }
    vec![other_script(detail)]
}

fn other_script(detail: String) -> Capability {
    Capability::degraded(
        PROGRAM,
        detail,
        "stacks are those of the interpreter and of the programs that it starts",
        "name the program that the script starts, where it only prepares it",
    )
}

fn native(path: &Path, binary: &Binary) -> Vec<Capability> {
    let kind = if binary.is_static { "a static" } else { "an" };
    let mut detail = format!("{} is {kind} ELF program", path.display());
    if python::is_interpreter(path) {
        return vec![Capability::available(PROGRAM, detail), python::frames(Some(path))];
    }
    if binary.has_debug_file {
        detail.push_str(" with a file of debug information");
    }
    let program = Capability::available(PROGRAM, detail);
    vec![program, symbols(binary), lines(binary), unwinding(binary)]
}

fn symbols(binary: &Binary) -> Capability {
    match binary.symbols {
        Symbols::All => Capability::available(SYMBOLS, "it has a symbol table"),
        _ if binary.has_debug_info || binary.has_debug_file => {
            Capability::available(SYMBOLS, "from its debug information")
        }
        Symbols::Exported => Capability::degraded(
            SYMBOLS,
            "it is stripped: only exported functions have names",
            "most functions appear as module+0xoffset",
            "build it without stripping (Rust: strip = false; C: without -s)",
        ),
        Symbols::None => Capability::missing(
            SYMBOLS,
            "it is stripped of all names",
            "functions appear as module+0xoffset",
            "build it without stripping (Rust: strip = false; C: without -s)",
        ),
    }
}

fn lines(binary: &Binary) -> Capability {
    if binary.has_lines {
        return Capability::available(LINES, "it has line tables");
    }
    if binary.has_debug_file {
        return Capability::available(LINES, "in a file of their own");
    }
    Capability::missing(
        LINES,
        "it has no line tables",
        "time cannot be told by source line, and inlined functions are not seen",
        "build it with debug information (Rust: debug = \"limited\"; C: -g)",
    )
}

fn unwinding(binary: &Binary) -> Capability {
    if binary.has_unwind_tables {
        return Capability::available(UNWINDING, "it has unwind tables");
    }
    Capability::degraded(
        UNWINDING,
        "it has no unwind tables",
        "stacks are whole only where its functions keep frame pointers, which cannot be told",
        "build it with -fasynchronous-unwind-tables or -fno-omit-frame-pointer",
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
    fn this_program_has_all() {
        let own = std::env::current_exe().expect("this program has a path");
        let found = target(own.to_str().expect("text"), None);
        for name in [PROGRAM, SYMBOLS, LINES, UNWINDING] {
            assert_eq!(state(&found, name), Some(State::Available), "{found:?}");
        }
    }

    #[test]
    fn a_stripped_program_lacks_names_and_lines() {
        let binary = Binary {
            has_debug_info: false,
            has_lines: false,
            has_debug_file: false,
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
    fn scripts_and_what_is_missing_are_told() {
        let place = tempfile::tempdir().expect("a folder");
        let path = place.path().join("tool");
        fs::write(&path, "#!/bin/sh\n").expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&path, mode).expect("set");
        let found = target("./tool", Some(place.path()));
        assert_eq!(state(&found, PROGRAM), Some(State::Degraded));
        assert!(found[0].consequence.contains("interpreter"));
        fs::write(&path, "#!/usr/bin/env python3\n").expect("written");
        let found = target("./tool", Some(place.path()));
        assert_eq!(state(&found, PROGRAM), Some(State::Available));
        assert!(state(&found, python::FRAMES).is_some(), "{found:?}");
        assert_eq!(state(&target("no-such-program", None), PROGRAM), Some(State::Missing));
    }
}
