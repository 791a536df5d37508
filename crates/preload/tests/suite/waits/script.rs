//! A script that is run in the target: always before the program, and at nobody's cost.

use std::process::{Command, Stdio};

use crate::waits::memory::Memory;
use crate::waits::program::{locks_library, observed, observed_beside};
use simprof_testkit::pythons;

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

/// Each time that the interpreter is asked to call the library it takes a lock, which is a semaphore up to 3.12.
#[test]
fn the_interpreter_is_hardly_ever_asked_in_vain() {
    for python in pythons().iter().filter(|python| python.version < (3, 13)) {
        let [without, with] = [Memory::new(1), Memory::with_script(SCRIPT)].map(|memory| {
            let counter = locks_library(memory.folder());
            let told = memory.folder().join("locks");
            let mut command = Command::new(&python.path);
            command.args(["-c", "import json, decimal, email.message"]);
            command.env("LOCKS", &told).stdin(Stdio::null());
            observed_beside(&memory, &mut command, &counter);
            let count = std::fs::read_to_string(told).expect("it was told");
            count.parse::<u64>().expect("a number")
        });
        assert!(
            with < without + 5000,
            "{} takes {with} locks, not {without}",
            python.path.display()
        );
    }
}
