//! Figures per step are of what happens inside steps; the other parts of a run are listed apart.

use serde_json::Value;
use simprof_testkit::python;

use crate::support::{
    FAST, Workspace, assert_share, c_program, marked_line, python_program, sampled, truth,
    truth_file,
};

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("not a number: {value}"))
}

/// Returns the element with this value in `field`.
fn row<'v>(rows: &'v Value, field: &str, name: &str) -> Option<&'v Value> {
    rows.as_array().expect("a list").iter().find(|row| row[field] == name)
}

fn share(rows: &Value, field: &str, name: &str) -> f64 {
    row(rows, field, name).map_or(0.0, |row| number(&row["share"]))
}

fn sum_of_shares(rows: &Value) -> f64 {
    rows.as_array().expect("a list").iter().map(|row| number(&row["share"])).sum()
}

/// Records phase 1 of a spec. Returns its summary, or `None` if this machine does not allow sampling.
fn record(workspace: &Workspace, spec: &str) -> Option<Value> {
    workspace.write("simprof.toml", spec);
    let done = workspace.simprof(&[&["run", "--phase", "1"], &FAST[..]].concat());
    sampled(&done).then(|| workspace.json("phase1/phase1_summary.json"))
}

#[test]
fn the_parts_of_a_run_are_those_that_the_program_measured() {
    let workspace = Workspace::new();
    let command = [c_program("parts"), "40".into(), truth_file(&workspace)];
    let spec =
        format!("[target]\ncommand = {command:?}\n[components]\nact = ['act']\nrest = ['*']\n");
    let Some(summary) = record(&workspace, &spec) else { return };
    let truth: [f64; 4] = truth(&workspace, &summary);
    let samples = number(&summary["profile"]["samples"]);
    let parts = &summary["parts"];
    assert!((sum_of_shares(parts) - 1.0).abs() < 1e-9, "{parts:#}");
    for (part, seconds) in ["set_up", "steps", "between_steps", "tear_down"].iter().zip(truth) {
        let expected = seconds / truth.iter().sum::<f64>();
        assert_share(expected, share(parts, "part", part), 1.0, samples);
    }
    for (part, main) in [("set_up", "load"), ("steps", "act"), ("tear_down", "save")] {
        assert_eq!(row(parts, "part", part).expect(part)["mostly"], main, "{parts:#}");
    }
    let components = &summary["components"];
    assert!((sum_of_shares(components) - 1.0).abs() < 1e-9, "{components:#}");
    assert!(share(components, "name", "act") > 0.9, "{components:#}");
    assert!(row(&summary["functions"], "name", "load").is_none(), "{summary:#}");
    let outside = &summary["outside_steps"];
    let inside = share(parts, "part", "steps");
    assert!((number(&outside["cpu_share"]) - (1.0 - inside)).abs() < 1e-9, "{outside:#}");
    // A program that reads the raw samples or the folded stacks still gets the whole run.
    let folded = workspace.text("phase1/profile.folded");
    assert!(folded.lines().any(|line| line.starts_with("[set-up];") && line.contains(";load")));
    let weight = |line: &str| line.rsplit(' ').next().and_then(|text| text.parse::<u64>().ok());
    let folded: u64 = folded.lines().filter_map(weight).sum();
    let samples = workspace.json("phase1/profile.json")["samples"].clone();
    let samples = samples.as_array().expect("samples").iter();
    assert_eq!(folded, samples.map(|sample| sample["weight"].as_u64().expect("ns")).sum::<u64>());
}

#[test]
fn memory_per_step_is_what_steps_allocate() {
    let workspace = Workspace::new();
    let program = c_program("parts");
    let arguments =
        ["run", "--quick", "--phase", "3", "--memory-interval", "1", "--", &program, "20"];
    if !sampled(&workspace.simprof(&arguments)) {
        return;
    }
    let memory = &workspace.json("phase3/phase3_summary.json")["memory"];
    assert_eq!(memory["per_step"]["allocated_bytes"], 4096.0, "{memory:#}");
    assert_eq!(memory["per_step"]["allocations"], 1.0, "{memory:#}");
    assert_eq!(memory["in_steps"]["bytes"], 20 * 4096, "{memory:#}");
    for (mark, per_step) in [("LOAD LINE", 0.0), ("ACT LINE", 4096.0)] {
        let line = marked_line("parts.c", mark);
        let rows = memory["lines"].as_array().expect("lines");
        let row = rows.iter().find(|row| row["line"] == line).expect("the line allocates");
        assert_eq!(row["allocated_bytes_per_step"], per_step, "{row:#}");
    }
}

#[test]
fn imports_are_not_work_of_the_components_that_they_load() {
    let program = python_program("slow_import.py");
    let rules = "[components]\nslow = ['slow_module*']\nown = ['*move', '*step']\n";
    let python = python();
    let python = python.text();
    for (arguments, step, part) in [
        (&[python, &program][..], true, "imports"),
        (&[python, &program, "lazy"], true, "imports_in_steps"),
        (&[python, &program], false, "imports"),
    ] {
        let workspace = Workspace::new();
        let step = if step { "step = '__main__:step'\n" } else { "" };
        let spec = format!("[target]\ncommand = {arguments:?}\n{step}{rules}");
        let Some(summary) = record(&workspace, &spec) else { return };
        let import = row(&summary["parts"], "part", part).expect("the import is sampled");
        assert!(number(&import["share"]) > 0.2, "{arguments:?}: {:#}", summary["parts"]);
        assert_eq!(import["mostly"], "slow_module.<module>", "{arguments:?}");
        let slow = share(&summary["components"], "name", "slow");
        assert!(slow < 0.05, "{arguments:?} {step}: {:#}", summary["components"]);
        let first = &summary["bottlenecks"][0]["name"];
        assert!(first.as_str().is_some_and(|name| name.ends_with("move")), "{first}");
    }
}
