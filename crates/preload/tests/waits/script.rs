//! A script that is run in the target: always before the program, and at nobody's cost.

use std::process::{Command, Stdio};

use crate::memory::Memory;
use crate::program::observed;
use crate::pythons::pythons;

/// Tells the program that it was there, in a module that the interpreter always has.
const SCRIPT: &str = "import sys\nsys.was_there = True\n";
/// Fails where the script was not run before.
const PROGRAM: &str = "import sys\nsys.exit(0 if hasattr(sys, 'was_there') else 9)\n";

#[test]
fn the_script_is_run_first_however_the_interpreter_is_started() {
    for python in pythons() {
        let memory = Memory::with_script(SCRIPT);
        let file = memory.folder().join("program.py");
        std::fs::write(&file, PROGRAM).expect("written");
        let file = file.to_str().expect("temporary paths are text");
        let table: [&[&str]; 4] =
            [&[file], &["-I", "-S", file], &["-c", PROGRAM], &["-I", "-S", "-E", "-c", PROGRAM]];
        for arguments in table {
            let mut command = Command::new(&python.path);
            command.args(arguments).stdin(Stdio::null());
            observed(&memory, &mut command);
            // Without any standard stream.
            let mut command = Command::new("sh");
            command.args(["-c", "exec \"$@\" <&- >&- 2>&-", "sh"]).arg(&python.path);
            observed(&memory, command.args(arguments));
        }
    }
}

#[test]
fn what_a_script_waits_for_is_not_the_programs() {
    let script = "import time\ndef own(): time.sleep(0.02)\nown()\n";
    let program = "import time\ndef nap(): time.sleep(0.01)\nnap()\n";
    for python in pythons() {
        let memory = Memory::with_script(script);
        observed(&memory, Command::new(&python.path).args(["-c", program]));
        let waits = memory.waits();
        let is_of = |name: &str| waits.iter().any(|wait| wait.stack.iter().any(|n| n == name));
        assert!(is_of("nap") && !is_of("own"), "{waits:?}");
    }
}
