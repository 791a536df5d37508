//! Published programs: Mesa's example models at two sizes, and a tool that fills a database.

use std::fmt::Write;

use serde_json::Value;

use crate::support::{FAST, Workspace, python_program, python_with_packages, sampled};

/// Runs phase 1 on `command`, with the calls of the function `step` as steps. Returns the summary.
fn record(workspace: &Workspace, step: Option<&str>, command: &[&str]) -> Option<Value> {
    let words = command.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ");
    let mut spec = format!("[target]\ncommand = [{words}]\n");
    if let Some(step) = step {
        writeln!(spec, "step = {step:?}").expect("writing to a string cannot fail");
    }
    workspace.write("simprof.toml", &spec);
    let mut arguments = vec!["run", "--phase", "1"];
    arguments.extend(FAST);
    sampled(&workspace.simprof(&arguments)).then(|| workspace.json("phase1/phase1_summary.json"))
}

/// Returns the share of a function and all that it calls.
fn total_share(summary: &Value, name: &str) -> f64 {
    let rows = summary["functions"].as_array().expect("functions");
    let row = rows.iter().find(|row| row["name"] == name);
    let share = row.unwrap_or_else(|| panic!("no {name} in {rows:#?}"))["total_share"].as_f64();
    share.expect("a share")
}

fn assert_few_incomplete(summary: &Value) {
    let account = &summary["profile"]["python"];
    let count = |which: &str| account[which].as_u64().unwrap_or_else(|| panic!("{account:#}"));
    let incomplete = count("lost") + count("unreadable");
    assert!(count("samples") > 200, "{account:#}");
    assert!(incomplete as f64 <= 0.01 * count("samples") as f64, "{account:#}");
}

fn mesa(model: &str, step: &str, agent: &str, sizes: [(u32, u32); 2]) {
    let workspace = Workspace::new();
    let (python, program) = (python_with_packages(), python_program("mesa_model.py"));
    for (size, steps) in sizes {
        let numbers = [size, steps].map(|number| number.to_string());
        let command = [&*python, &program, model, &numbers[0], &numbers[1]];
        let Some(summary) = record(&workspace, Some(step), &command) else { return };
        let (count, runs) = (&summary["steps"]["count"], &summary["profile"]["runs"]);
        let runs = runs.as_u64().expect("a number of runs");
        assert_eq!(count.as_u64(), Some(runs * u64::from(steps)), "{summary:#}");
        let of_step = total_share(&summary, &step.replace(':', "."));
        let of_agent = total_share(&summary, agent);
        assert!(of_agent > 0.01 && of_agent < of_step, "{of_agent} of {of_step}");
        assert_few_incomplete(&summary);
    }
}

#[test]
fn mesas_flockers() {
    let folder = "mesa.examples.basic.boid_flockers";
    let step = format!("{folder}.model:BoidFlockers.step");
    mesa("flockers", &step, &format!("{folder}.agents.Boid.step"), [(50, 40), (200, 20)]);
}

#[test]
fn mesas_wealth_model() {
    let folder = "mesa.examples.basic.boltzmann_wealth_model";
    let step = format!("{folder}.model:BoltzmannWealth.step");
    mesa("wealth", &step, &format!("{folder}.agents.MoneyAgent.step"), [(200, 100), (800, 50)]);
}

#[test]
fn mesas_segregation_model() {
    let folder = "mesa.examples.basic.schelling";
    let step = format!("{folder}.model:Schelling.step");
    mesa(
        "segregation",
        &step,
        &format!("{folder}.agents.SchellingAgent.assign_state"),
        [(30, 60), (60, 30)],
    );
}

#[test]
fn a_program_that_fills_a_database() {
    let workspace = Workspace::new();
    let mut rows = String::new();
    for id in 0..60_000_u32 {
        let mixed = id.wrapping_mul(2_654_435_761);
        writeln!(rows, r#"{{"id": {id}, "agent": {}, "x": 0.{mixed}}}"#, mixed % 1000)
            .expect("grows");
    }
    let rows = workspace.write("rows.nl", &rows);
    let database = workspace.text_path("rows.db");
    let python = python_with_packages();
    let command = ["-m", "sqlite_utils", "insert", &database, "rows", &rows, "--nl", "--replace"];
    let command: Vec<&str> =
        std::iter::once(&*python).chain(command).chain(["--pk", "id"]).collect();
    let Some(summary) = record(&workspace, None, &command) else { return };
    assert_few_incomplete(&summary);
    let inserting = total_share(&summary, "sqlite_utils.db.Table.insert_all");
    let in_sqlite = total_share(&summary, "sqlite3_step");
    assert!(in_sqlite > 0.05 && in_sqlite < inserting, "{in_sqlite} of {inserting}");
}
