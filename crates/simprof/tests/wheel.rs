//! The wheel: built by maturin, installed by pip, and then a command like any other.
//!
//! A test program of its own: building the wheel puts the executable anew that the other tests run.

#![allow(missing_docs, reason = "tests")]

#[path = "command/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with other tests")]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::{FAST, Place, install, make_environment, python_program, run, sampled};

/// The wheel, built as a development build so that nothing has to be compiled anew.
fn build(place: &Place) -> PathBuf {
    let tools = place.path("tools");
    make_environment(&tools);
    install(&tools.join("bin/python"), &["maturin>=1.16,<2"]);
    let wheels = place.path("wheels");
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    run(Command::new(tools.join("bin/maturin"))
        .args(["build", "--profile", "dev", "--offline", "--out"])
        .arg(&wheels)
        .current_dir(repository));
    let mut files = std::fs::read_dir(&wheels).expect("a folder").map(|file| file.expect("a file"));
    let wheel = files.next().expect("one wheel").path();
    assert!(files.next().is_none(), "there is one wheel");
    wheel
}

#[test]
fn the_wheel_installs_the_command_and_the_module() {
    let place = Place::new();
    let wheel = build(&place);
    let environment = place.path("environment");
    make_environment(&environment);
    let python = environment.join("bin/python");
    install(&python, &["--no-index", wheel.to_str().expect("text")]);

    run(Command::new(&python).args(["-c", "import simprof_probe; simprof_probe.step()"]));
    let simprof = environment.join("bin/simprof");
    let simprof = simprof.to_str().expect("text");
    let done = place.done(place.program(simprof, &["--version"]));
    assert_eq!(done.stdout, format!("simprof {}\n", env!("CARGO_PKG_VERSION")));

    let python = python.to_str().expect("text");
    let program = python_program("three_to_one.py");
    let mut arguments = vec!["run", "--phase", "1"];
    arguments.extend(FAST);
    arguments.extend(["--", python, &program, "500"]);
    let done = place.done(place.program(simprof, &arguments));
    if sampled(&done) {
        let summary = place.json("phase1/phase1_summary.json");
        assert_eq!(summary["functions"][0]["name"], "three_to_one.<module>", "{summary:#}");
    }
}
