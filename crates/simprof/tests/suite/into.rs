//! `simprof run --into`: phases that are added to an earlier run.

use crate::support::{FAST, Workspace, c_program, sampled};

fn run<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["run"];
    arguments.extend(FAST);
    arguments.extend(more);
    arguments
}

#[test]
fn phases_that_run_one_by_one_join_in_one_cross_reference() {
    let workspace = Workspace::new();
    let program = c_program("inlined");
    let first = workspace.simprof(&run(&["--phase", "1", "--", &program, "40"]));
    if !sampled(&first) {
        return;
    }
    let before = workspace.text("phase1/phase1_summary.json");
    // The command is that of the run.
    workspace.simprof(&run(&["--phase", "3", "--into", "latest"])).assert_status(0);
    assert_eq!(workspace.text("phase1/phase1_summary.json"), before, "phase 1 is kept");
    let text = workspace.text("CROSS_REFERENCE.md");
    assert!(text.contains("**Phase 3**: `"), "phase 3 has lines: {text}");
    assert!(!text.contains("Phase 1 did not run"), "{text}");
    let manifest = workspace.manifest();
    assert_eq!(manifest["status"], "ok", "{manifest:#}");
    let phases = manifest["phases"].as_array().expect("phases").iter();
    assert_eq!(
        phases.map(|phase| phase["phase"].as_str()).collect::<Vec<_>>(),
        [Some("macro"), Some("line")]
    );
    assert_eq!(manifest["joined"].as_array().expect("command lines").len(), 1);
    let chosen = workspace.json("phase3/phase3_summary.json");
    assert_eq!(chosen["functions"][0]["chosen_by"], "phase 1", "{chosen:#}");

    let manifest = workspace.text("run.json");
    for (arguments, problem) in [
        (run(&["--phase", "3", "--into", "latest"]), "has phase 3 (line) already"),
        (run(&["--phase", "4", "--into", "latest", "--", &program, "41"]), "this command profiles"),
        (run(&["--phase", "4", "--into", "latest", "--seed", "7"]), "has seed 1"),
        (run(&["--phase", "4", "--into", "elsewhere"]), "there is no run in elsewhere"),
        (vec!["run", "--phase", "4", "--into", "latest"], "that run is quick"),
    ] {
        let done = workspace.simprof(&arguments);
        done.assert_status(2);
        done.assert_reports(&[problem]);
        assert_eq!(workspace.text("run.json"), manifest, "{problem}: the run is unchanged");
    }
}

#[test]
fn a_phase_that_failed_is_measured_again() {
    let workspace = Workspace::new();
    let flag = workspace.text_path("works");
    let script = format!("test -e '{flag}' || exit 3");
    let command = ["--", "sh", "-c", &script];
    workspace.simprof(&run(&[&["--phase", "4"], &command[..]].concat())).assert_status(1);
    std::fs::write(&flag, "").expect("the folder is writable");
    workspace.simprof(&run(&["--phase", "4", "--into", "latest"])).assert_status(0);
    assert_eq!(workspace.manifest()["status"], "ok");
    assert!(workspace.latest("phase4-replaced").exists(), "the failed attempt is kept");
}
