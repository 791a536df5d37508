//! Basic behaviour of the commands: plans run nothing, `init` writes valid specs, `doctor` names fixes, every phase runs alone.

use serde_json::Value;

use crate::support::{Workspace, c_program, sampled};

#[test]
fn a_plan_runs_nothing_and_shows_processes_and_time() {
    let workspace = Workspace::new();
    for arguments in [&["run", "--plan", "--quick"][..], &["run", "--plan"]] {
        let done = workspace.simprof(arguments);
        done.assert_status(0);
        for phase in ["phase 1 (macro): ", "phase 2 (component): ", "phase 3 (line): "] {
            let line = done.stdout.lines().find(|line| line.starts_with(phase)).expect(phase);
            assert!(
                line.contains(" process") && line.contains(", about ") && line.ends_with(" s"),
                "{line}"
            );
        }
        assert!(done.stdout.contains("total about "), "{done:#?}");
        for component in ["spatial/nearby", "observation/", "database/"] {
            assert!(done.stdout.contains(component), "{component}: {done:#?}");
        }
    }
    let done = workspace.simprof(&["run", "--plan", "--quick", "--", "touch", "it-ran"]);
    done.assert_status(0);
    assert!(done.stdout.contains("touch it-ran"), "{done:#?}");
    assert!(done.stdout.contains("unknown before the first run"), "{done:#?}");
    assert!(!workspace.path("it-ran").exists() && !workspace.path("profiling_results").exists());
}

#[test]
fn a_plan_follows_the_flags() {
    let workspace = Workspace::new();
    workspace.write(
        "simprof.toml",
        "[target]\ncommand = ['./sim', '{n}']\n[parameters]\n\
         n = { default = 4, sweep = [1, 2, 4, 8, 16, 32, 64] }\n",
    );
    let plan = |arguments: &[&str]| {
        let done = workspace.simprof(&[&["run", "--plan"], arguments].concat());
        done.assert_status(0);
        done.stdout
    };
    let only = plan(&["--phase", "4", "--repeats", "3", "--set", "n=5", "--quick"]);
    assert!(only.contains("./sim 5"), "{only}");
    assert!(!only.contains("phase 1"), "{only}");
    assert!(only.contains("phase 4 (system): 16 processes"), "5 sizes x 3, 1 timeline: {only}");
    assert!(only.contains("x 3 processes"), "{only}");
    let full = plan(&["--phase", "4"]);
    assert!(full.contains("sweep n over 1, 2, 4, 8, 16, 32, 64 x 10 processes"), "{full}");
}

#[test]
fn init_writes_a_spec_that_run_accepts() {
    let workspace = Workspace::new();
    workspace.simprof(&["init"]).assert_status(0);
    let plan = workspace.simprof(&["run", "--plan"]);
    plan.assert_status(0);
    assert!(plan.stdout.contains("sweep agents over 10, 25, 50, 100, 200"), "{plan:#?}");
    let again = workspace.simprof(&["init"]);
    again.assert_status(2);
    again.assert_reports(&["simprof.toml already exists", "--force", "--output"]);
    let before = std::fs::read_to_string(workspace.path("simprof.toml")).expect("the spec");
    let forced = ["init", "--force", "--", "./my sim", "--json={\"a\": 1}", "it's"];
    workspace.simprof(&forced).assert_status(0);
    let after = std::fs::read_to_string(workspace.path("simprof.toml")).expect("the spec");
    assert_ne!(before, after);
    let plan = workspace.simprof(&["run", "--plan"]);
    plan.assert_status(0);
    assert!(plan.stdout.contains("./my sim --json={\"a\": 1} it's"), "{plan:#?}");
    workspace.simprof(&["init", "--output", "other.toml"]).assert_status(0);
    workspace.simprof(&["run", "--plan", "--spec", "other.toml"]).assert_status(0);
    let nowhere = workspace.simprof(&["init", "--output", "no/such/folder.toml"]);
    nowhere.assert_status(1);
    nowhere.assert_reports(&["cannot write no/such/folder.toml"]);
}

#[test]
fn doctor_names_every_missing_capability_with_consequence_and_fix() {
    let workspace = Workspace::new();
    let done = workspace.simprof(&["doctor", "--json"]);
    done.assert_status(0);
    let rows: Vec<Value> = serde_json::from_str(&done.stdout).expect("JSON");
    let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().expect("a name")).collect();
    for name in ["sampled stacks", "kernel frames", "disk space for results", "target"] {
        assert!(names.contains(&name), "{names:?}");
    }
    for row in &rows {
        let text = |key: &str| row[key].as_str().expect(key);
        assert!(["ok", "degraded", "missing"].contains(&text("state")), "{row:#}");
        assert_eq!(text("state") != "ok", !text("consequence").is_empty(), "{row:#}");
    }
    let text = workspace.simprof(&["doctor"]);
    text.assert_status(0);
    assert!(names.iter().all(|name| text.stdout.contains(name)), "{text:#?}");
    let missing = workspace.simprof(&["doctor", "--", "./nowhere"]);
    missing.assert_status(0);
    assert!(missing.stdout.contains("nowhere does not exist"), "{missing:#?}");
    let program = c_program("inlined");
    let valid = workspace.simprof(&["doctor", "--", &program]);
    assert!(valid.stdout.contains("it has line tables"), "{valid:#?}");
    assert!(!workspace.path("profiling_results").exists(), "doctor writes nothing");
}

#[test]
fn each_phase_can_run_alone() {
    let program = c_program("inlined");
    for phase in ["1", "2", "3", "4"] {
        let workspace = Workspace::new();
        let arguments =
            ["run", "--quick", "--rate", "5000", "--phase", phase, "--", &program, "40"];
        let done = workspace.simprof(&arguments);
        if phase == "4" {
            done.assert_status(0);
        } else if !sampled(&done) {
            continue;
        }
        let manifest = workspace.manifest();
        assert_eq!(manifest["status"], "ok", "{manifest:#}");
        assert_eq!(manifest["phases"].as_array().map(Vec::len), Some(1), "{manifest:#}");
        let summary = workspace.json(&format!("phase{phase}/phase{phase}_summary.json"));
        assert_eq!(summary["status"], "ok", "{summary:#}");
        assert!(workspace.latest(&format!("phase{phase}/PHASE{phase}_REPORT.md")).is_file());
        assert!(workspace.latest("CROSS_REFERENCE.md").is_file());
        let folder = done.stdout.trim();
        assert!(workspace.path(folder).join("run.json").is_file(), "standard output names the run");
        let other = if phase == "1" { "phase2" } else { "phase1" };
        assert!(!workspace.latest(other).exists(), "{phase}");
        assert!(!done.stderr.contains(&format!("{other}/")), "only existing files are named");
    }
}

#[test]
fn every_command_has_help_and_there_is_a_version() {
    let workspace = Workspace::new();
    for command in ["run", "status", "doctor", "init", "simulate", "component"] {
        let done = workspace.simprof(&[command, "--help"]);
        done.assert_status(0);
        assert!(done.stdout.contains("Usage: simprof"), "{done:#?}");
    }
    let version = workspace.simprof(&["--version"]);
    assert_eq!(version.stdout.trim(), concat!("simprof ", env!("CARGO_PKG_VERSION")));
    let done = workspace.simprof(&["stauts"]);
    done.assert_status(2);
    assert!(done.stderr.contains("'status'"), "the nearest command is suggested: {done:#?}");
}
