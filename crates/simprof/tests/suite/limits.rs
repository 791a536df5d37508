//! Targets and runs under low limits of resources: the target behaves as without simprof, it is recorded as far as possible, and
//! what is missing is reported.

use serde_json::Value;

use crate::support::{
    Done, Workspace, c_program, has_notice, python_program, record_stacks, sampling_allowed,
};

/// Limits that a target needs no more of, in the words of the shell.
const LOW_LIMITS: &str = "ulimit -v 300000; ulimit -n 8; ulimit -l 0; ulimit -s 512; ulimit -c 0";

/// Runs phase 3 with memory on a target in a shell, which executes two programs: one in a child, one in its place.
fn record_in_shell(workspace: &Workspace, limits: &str, program: &str) -> Done {
    let script = format!("{limits}; {program} && exec {program}");
    let arguments = ["run", "--phase", "3", "--quick", "--rate", "5000", "--memory-interval", "1"];
    workspace.simprof(&[&arguments[..], &["--", "sh", "-c", &script]].concat())
}

fn summary(workspace: &Workspace) -> Value {
    workspace.json("phase3/phase3_summary.json")
}

/// Returns the statuses of all measurements of the run.
fn statuses(workspace: &Workspace) -> Vec<String> {
    let manifest = workspace.manifest();
    let phases = manifest["phases"].as_array().expect("phases").iter();
    let measurements =
        phases.flat_map(|phase| phase["measurements"].as_array().expect("measurements"));
    measurements
        .map(|measurement| measurement["status"].as_str().expect("a status").into())
        .collect()
}

/// Records a program under low limits, and asserts that nothing is missing.
fn assert_recorded(program: &str) {
    let workspace = Workspace::new();
    let done = record_in_shell(&workspace, LOW_LIMITS, program);
    done.assert_status(if sampling_allowed() { 0 } else { 1 });
    let summary = summary(&workspace);
    let memory = &summary["memory"];
    assert!(memory["allocated"]["count"].as_f64().is_some_and(|count| count > 1.0), "{memory:#}");
    for part in [&summary, memory] {
        for id in ["heap_processes_refused", "python_frames_missing", "limit_shared"] {
            assert!(!has_notice(part, id), "{id}: {part:#}");
        }
    }
}

#[test]
fn a_native_target_under_low_limits_is_recorded() {
    assert_recorded(&format!("{} 50", c_program("three_to_one")));
}

#[test]
fn a_python_target_under_low_limits_is_recorded() {
    assert_recorded(&format!("python3 {} 20", python_program("memory.py")));
}

#[test]
fn a_failure_at_a_limit_of_address_space_names_simprof_as_a_possible_cause() {
    let workspace = Workspace::new();
    let script = "ulimit -v 100000; exec python3 -c 'bytearray(200 << 20)'";
    workspace
        .simprof(&["run", "--phase", "1", "--quick", "--", "sh", "-c", script])
        .assert_status(1);
    let summary = workspace.json("phase1/phase1_summary.json");
    assert!(has_notice(&summary, "limit_shared"), "{summary:#}");
}

#[test]
fn a_limit_on_the_size_of_files_ends_neither_simprof_nor_the_target() {
    let workspace = Workspace::new();
    let simprof = env!("CARGO_BIN_EXE_simprof");
    let program = format!("{} 50", c_program("three_to_one"));
    let script =
        format!("ulimit -f 4000; exec {simprof} run --phase 3 --quick --memory -- {program}");
    let done = workspace.done(workspace.program("sh", &["-c", &script]));
    assert!(done.status.is_some(), "{done:#?}");
    assert!(!statuses(&workspace).is_empty(), "{done:#?}");
}

/// The sampling of a Python program goes on under a filter that kills the process at an unexpected system call.
#[test]
fn a_python_target_that_confines_itself_is_sampled() {
    let workspace = Workspace::new();
    let command = ["python3", &python_program("confined.py"), "1000000"];
    if !sampling_allowed() {
        return;
    }
    // The separate run that counts calls writes its counts at the end of the program, which the filter forbids.
    record_stacks(&workspace, &command);
    assert_eq!(statuses(&workspace)[0], "ok");
    assert_eq!(workspace.text("phase1/default.out").trim(), "survived");
    let summary = workspace.json("phase1/phase1_summary.json");
    assert!(!has_notice(&summary, "python_frames_lost"), "{summary:#}");
    let functions = summary["functions"].as_array().expect("functions").iter();
    let is = |function: &&Value| function["name"] == "confined.after";
    let after = functions.clone().find(is).unwrap_or_else(|| panic!("{summary:#}"));
    let share = after["total_share"].as_f64().expect("a share");
    assert!((0.6..0.9).contains(&share), "three quarters of the work: {after:#}");
}
