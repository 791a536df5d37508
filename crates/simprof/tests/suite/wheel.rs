//! The wheel: maturin builds it, pip installs it, and the installed command records a program.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use simprof_testkit::cache::cache_root;
use simprof_testkit::packages::{install, make_environment, python_with_maturin};
use simprof_testkit::program::workspace as repository;
use simprof_testkit::run;

use crate::support::{FAST, Workspace, python_program, sampled};

/// Builds the wheel, with little optimisation.
///
/// It has a separate target folder, because cargo would otherwise replace the executable that other tests run at the same time. The
/// folder is kept, so that only changed crates are compiled again. Cargo may need the network: maturin asks for the dependencies of
/// all platforms, and a fresh machine has downloaded only those of its own platform.
fn build(workspace: &Workspace) -> PathBuf {
    let maturin = python_with_maturin().with_file_name("maturin");
    let wheels = workspace.path("wheels");
    run(Command::new(maturin)
        .args(["build", "--profile", "wheel-test", "--locked", "--out"])
        .arg(&wheels)
        .env("CARGO_TARGET_DIR", cache_root().join("wheel-target"))
        .current_dir(repository()));
    let files: Vec<_> = fs::read_dir(&wheels).expect("maturin created it").flatten().collect();
    let [wheel] = &files[..] else { panic!("one wheel is expected: {files:?}") };
    wheel.path()
}

#[test]
fn the_wheel_installs_the_command_and_the_module() {
    let workspace = Workspace::new();
    let wheel = build(&workspace);
    let python = make_environment(&workspace.path("environment"));
    install(&python, &["--no-index", wheel.to_str().expect("the path is UTF-8")]);

    run(Command::new(&python)
        .args(["-c", "import simprof_probe, simprof_probe.bench; simprof_probe.step()"]));
    let simprof = workspace.text_path("environment/bin/simprof");
    let done = workspace.done(workspace.program(&simprof, &["--version"]));
    assert_eq!(done.stdout, format!("simprof {}\n", env!("CARGO_PKG_VERSION")));

    let python = python.to_str().expect("the path is UTF-8");
    let program = python_program("three_to_one.py");
    let mut arguments = vec!["run", "--phase", "1"];
    arguments.extend(FAST);
    arguments.extend(["--", python, &program, "500"]);
    let done = workspace.done(workspace.program(&simprof, &arguments));
    if sampled(&done) {
        let summary = workspace.json("phase1/phase1_summary.json");
        let rows = summary["functions"].as_array().expect("functions");
        assert!(rows.iter().any(|row| row["name"] == "three_to_one.three"), "{summary:#}");
    }
}
