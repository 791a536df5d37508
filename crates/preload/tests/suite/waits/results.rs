//! Interposed functions return what the real ones return.

use std::path::Path;
use std::process::Command;

use crate::waits::memory::Memory;
use crate::waits::program::{blocking, observed};
use simprof_testkit::pythons;

/// Returns the results of the program without the library.
fn expected(memory: &Memory) -> String {
    let program = blocking(memory.folder(), "alone", &[]);
    let results = memory.folder().join("expected");
    let status = Command::new(program).arg(&results).status().expect("it can be started");
    assert!(status.success());
    std::fs::read_to_string(results).expect("it writes its results")
}

#[test]
fn a_c_program_sees_the_same_results_and_is_not_recorded() {
    let memory = Memory::new(1);
    let program = blocking(memory.folder(), "program", &[]);
    let results = memory.folder().join("results");
    observed(&memory, Command::new(program).arg(&results));
    assert_eq!(std::fs::read_to_string(results).expect("its results"), expected(&memory));
    assert_eq!(memory.waits(), []);
}

#[test]
fn timed_calls_return_the_same_results() {
    let memory = Memory::new(1);
    let expected = expected(&memory);
    let module = blocking(memory.folder(), "blocking.so", &["-shared", "-fPIC"]);
    for python in pythons() {
        let memory = Memory::new(1);
        let results = memory.folder().join("results");
        let program = "import ctypes, sys; ctypes.PyDLL(sys.argv[1]).run(sys.argv[2].encode())";
        observed(
            &memory,
            Command::new(&python.path).args(["-c", program]).arg(&module).arg(&results),
        );
        let found = std::fs::read_to_string(results).expect("its results");
        assert_eq!(found, expected, "{}", python.path.display());
        let causes: std::collections::BTreeSet<u32> =
            memory.waits().iter().map(|wait| wait.cause).collect();
        assert!((2..=6).all(|cause| causes.contains(&cause)), "{causes:?}");
    }
}

#[test]
fn forks_and_signals_during_waits_work() {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/waits/trouble.py");
    for python in pythons() {
        let memory = Memory::new(1);
        let output = observed(&memory, Command::new(&python.path).arg(&program));
        let printed = String::from_utf8_lossy(&output.stdout);
        assert_eq!(printed.trim(), "30 10 True", "Python {:?}", python.version);
    }
}
