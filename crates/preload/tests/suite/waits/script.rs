//! A Python script that the library runs in the target before the program.

use std::process::{Command, Stdio};

use crate::waits::memory::Memory;
use crate::waits::program::{locks_library, observed, observed_beside};
use simprof_testkit::pythons;

/// A script that leaves a mark for the program in the module `sys`.
const SCRIPT: &str = "import sys\nsys.was_there = True\n";
/// A program that fails if the script did not run before.
const PROGRAM: &str = "import sys\nsys.exit(0 if hasattr(sys, 'was_there') else 9)\n";

#[test]
fn the_script_runs_first_however_the_interpreter_is_started() {
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
            // With all standard streams closed.
            let mut command = Command::new("sh");
            command.args(["-c", "exec \"$@\" <&- >&- 2>&-", "sh"]).arg(&python.path);
            observed(&memory, command.args(arguments));
        }
    }
}

#[test]
fn waits_of_the_script_are_not_recorded() {
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

/// The interpreter takes a lock for each call of the library that is requested with `Py_AddPendingCall`. Up to 3.12 that lock is a
/// semaphore, whose use another library can count.
#[test]
fn the_script_hook_costs_few_interpreter_calls() {
    for python in pythons().iter().filter(|python| python.version < (3, 13)) {
        let [without, with] = [Memory::new(1), Memory::with_script(SCRIPT)].map(|memory| {
            let counter = locks_library(memory.folder());
            let locks = memory.folder().join("locks");
            let mut command = Command::new(&python.path);
            command.args(["-c", "import json, decimal, email.message"]);
            command.env("LOCKS", &locks).stdin(Stdio::null());
            observed_beside(&memory, &mut command, &counter);
            let count = std::fs::read_to_string(locks).expect("the library wrote it");
            count.parse::<u64>().expect("a number")
        });
        assert!(
            with < without + 5000,
            "{} takes {with} locks, not {without}",
            python.path.display()
        );
    }
}
