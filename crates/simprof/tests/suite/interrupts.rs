//! Ctrl-C and SIGKILL in each of the four phases, and two runs at once.

use serde_json::Value;

use simprof_testkit::wait_for;

use crate::support::{Started, Workspace, c_program, sampling_allowed};

/// Number of runs of the target that succeed before one hangs.
const EARLY: u64 = 3;

/// Starts a phase in which the fourth process of the target hangs, and waits until that process runs.
fn start(workspace: &Workspace, phase: u8) -> Started {
    workspace.write("hang.toml", &spec());
    let started = workspace.start(&[
        "run",
        "--quick",
        "--rate",
        "5000",
        "--spec",
        "hang.toml",
        "--phase",
        &phase.to_string(),
    ]);
    let count = workspace.path("count");
    wait_for("the process that hangs", || {
        let ran = std::fs::metadata(&count).map_or(0, |count| count.len());
        (ran > EARLY && workspace.processes().len() > 1).then_some(())
    });
    started
}

fn spec() -> String {
    let program = c_program("trouble");
    format!(
        "[target]\ncommand = [{program:?}, \"later\", \"count\", \"{EARLY}\", \"{{size}}\"]\n\
         [parameters]\nsize = {{ default = 1, sweep = [1, 2, 4, 8, 16] }}\n\
         [[benchmark]]\ncomponent = \"work\"\noperation = \"chain\"\nmetric = \"work_ns\"\n\
         command = [{program:?}, \"report\", \"count\", \"{EARLY}\", \"{{n}}\"]\n\
         baseline = {{ n = 1 }}\nsweep = {{ n = [1, 2, 4, 8, 16] }}\n"
    )
}

/// Returns the phases that can run on this machine.
fn phases() -> &'static [u8] {
    if sampling_allowed() { &[1, 2, 3, 4] } else { &[2, 4] }
}

/// Returns the number of replicates with this status in the manifest.
fn replicates(manifest: &Value, status: &str) -> usize {
    let measurements = manifest["phases"][0]["measurements"].as_array().expect("measurements");
    let replicates = measurements
        .iter()
        .flat_map(|measurement| measurement["replicates"].as_array().expect("replicates"));
    replicates.filter(|replicate| replicate["status"] == status).count()
}

#[test]
fn an_interrupted_run_keeps_its_results() {
    for &phase in phases() {
        let workspace = Workspace::new();
        let started = start(&workspace, phase);
        started.signal(libc::SIGINT);
        let done = started.end();
        done.assert_status(1);
        workspace.assert_nothing_left();
        done.assert_reports(&["interrupted"]);
        let manifest = workspace.manifest();
        assert_eq!(manifest["status"], "interrupted", "phase {phase}: {manifest:#}");
        assert_eq!(replicates(&manifest, "ok"), EARLY as usize, "phase {phase}: {manifest:#}");
        assert_eq!(manifest["phases"][0]["status"], "partial", "phase {phase}: {manifest:#}");
        let summary = workspace.json(&format!("phase{phase}/phase{phase}_summary.json"));
        assert_eq!(summary["status"], "partial", "phase {phase}: {summary:#}");
        let status = workspace.simprof(&["status"]);
        status.assert_status(1);
        assert!(status.stdout.contains("interrupted"), "phase {phase}: {status:#?}");
        assert!(!workspace.latest(".scratch").exists(), "phase {phase}");
    }
}

#[test]
fn a_killed_run_leaves_no_process_and_keeps_its_results() {
    for &phase in phases() {
        let workspace = Workspace::new();
        let started = start(&workspace, phase);
        let pid = started.pid();
        started.signal(libc::SIGKILL);
        assert_eq!(started.end().status, None, "a signal ended it");
        workspace.assert_nothing_left();
        let manifest = workspace.manifest();
        assert_eq!(manifest["status"], "running", "phase {phase}: a killed run cannot update it");
        assert_eq!(replicates(&manifest, "ok"), EARLY as usize, "phase {phase}: {manifest:#}");
        let status = workspace.simprof(&["status"]);
        status.assert_status(1);
        let printed = &status.stdout;
        assert!(
            printed.contains(&format!("was killed (process {pid})")),
            "phase {phase}: {printed}"
        );
        assert!(printed.contains("ended early"), "phase {phase}: {printed}");
        assert!(
            printed.contains(&format!("phase{phase}/phase{phase}.log")),
            "phase {phase}: {printed}"
        );
        assert!(!printed.contains("left"), "phase {phase}: no remaining time is shown: {printed}");
        // The files of a killed run do not prevent another run.
        let again = workspace.simprof(&["run", "--quick", "--phase", "4", "--", "true"]);
        again.assert_status(0);
    }
}

#[test]
fn a_second_interrupt_ends_the_run_at_once() {
    let workspace = Workspace::new();
    let started = start(&workspace, 4);
    started.signal(libc::SIGINT);
    started.signal(libc::SIGTERM);
    let done = started.end();
    assert_ne!(done.status, Some(0), "{done:#?}");
    workspace.assert_nothing_left();
    assert_eq!(replicates(&workspace.manifest(), "ok"), EARLY as usize);
}

#[test]
fn a_second_run_in_the_same_folder_is_refused() {
    let workspace = Workspace::new();
    let first = start(&workspace, 4);
    let busy = workspace.simprof(&["run", "--quick", "--phase", "4", "--", "true"]);
    busy.assert_status(2);
    let owner = format!("(process {})", first.pid());
    busy.assert_reports(&["another run", &owner, "profiling_results", "--output-dir"]);
    let elsewhere = ["run", "--quick", "--phase", "4", "--output-dir", "other", "--", "true"];
    workspace.simprof(&elsewhere).assert_status(0);
    assert_eq!(workspace.manifest()["status"], "running", "the first run continues");
    first.signal(libc::SIGINT);
    first.end().assert_status(1);
    workspace.assert_nothing_left();
    workspace.simprof(&["run", "--quick", "--phase", "4", "--", "true"]).assert_status(0);
}
