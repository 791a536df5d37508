//! Steps that the target marks, and steps that it prints.

use serde_json::Value;

use crate::support::{Workspace, c_program, sampling_allowed};

const STEPS: u64 = 40;

/// Returns phase 1 if the machine allows sampling, and nothing otherwise.
fn phases() -> &'static [&'static str] {
    if sampling_allowed() { &["1"] } else { &[] }
}

fn steps(workspace: &Workspace, spec: &str) -> Vec<(Value, Value)> {
    workspace.write("simprof.toml", spec);
    phases()
        .iter()
        .map(|phase| {
            let arguments = ["run", "--quick", "--rate", "5000", "--phase", phase];
            workspace.simprof(&arguments).assert_status(0);
            let summary = workspace.json(&format!("phase{phase}/phase{phase}_summary.json"));
            (summary["steps"].clone(), summary["profile"]["runs"].clone())
        })
        .collect()
}

fn check(found: &[(Value, Value)], source: &str, steps_per_run: u64) {
    for (steps, runs) in found {
        let runs = runs.as_u64().expect("a number of runs");
        assert_eq!(steps["count"], steps_per_run * runs, "{steps:#}");
        assert_eq!(steps["source"], source, "{steps:#}");
        let figure = |name: &str| steps[name].as_f64().expect(name);
        assert!(figure("per_second") > 0.0, "{steps:#}");
        assert!(figure("p50_ms") <= figure("p95_ms"), "{steps:#}");
        assert!(figure("p95_ms") <= figure("p99_ms"), "{steps:#}");
    }
}

#[test]
fn steps_marked_by_the_header_are_counted() {
    let workspace = Workspace::new();
    let program = c_program("steps");
    let spec = format!("[target]\ncommand = [{program:?}, \"{STEPS}\", \"mark\"]\n");
    check(&steps(&workspace, &spec), "marks", STEPS);
    if sampling_allowed() {
        let csv = workspace.text("phase1/steps.csv");
        let first_run = csv.lines().filter(|line| line.starts_with("0,")).count();
        assert_eq!(first_run as u64, STEPS);
    }
}

#[test]
fn a_pattern_that_matches_no_line_or_one_is_reported() {
    for (pattern, status, id) in
        [("^tick", 1, "step_pattern_not_matched"), ("^step 3 of", 0, "step_seen_once")]
    {
        let workspace = Workspace::new();
        let program = c_program("steps");
        workspace.write(
            "simprof.toml",
            &format!(
                "[target]\ncommand = [{program:?}, \"{STEPS}\", \"print\"]\nstep = {{ output = {pattern:?} }}\n"
            ),
        );
        let done = workspace.simprof(&["run", "--quick", "--phase", "4"]);
        done.assert_status(status);
        done.assert_reports(&["target.step", pattern]);
        let summary = workspace.json("phase4/phase4_summary.json");
        let notices = summary["notices"].as_array().expect("a list");
        assert!(notices.iter().any(|notice| notice["id"] == id), "{notices:?}");
        assert_eq!(summary["timeline"]["steps"], 0);
        let run = workspace.json("run.json");
        let problems = run["problems"].as_array().expect("a list");
        let causes: Vec<&Value> = problems.iter().map(|problem| &problem["cause"]).collect();
        let expected: &[&str] = if status == 0 { &[] } else { &["steps_never_seen"] };
        assert_eq!(causes, expected);
        assert_eq!(run["status"], if status == 0 { "ok" } else { "partial" });
    }
}

#[test]
fn steps_printed_as_lines_are_counted() {
    let workspace = Workspace::new();
    let program = c_program("steps");
    let spec = format!(
        "[target]\ncommand = [{program:?}, \"{STEPS}\", \"print\"]\n\
         step = {{ output = '^step (\\d+) of' }}\n"
    );
    // A printed line begins a step, so the end of the last step is unknown.
    check(&steps(&workspace, &spec), "output", STEPS - 1);
}
