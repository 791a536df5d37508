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
