//! The commands `simulate` and `component`, and runs of the reference simulation.

use serde_json::Value;

use crate::support::{Done, Workspace, sampled, sampling_allowed};

/// Parses the output. It must be one line of JSON.
fn line(done: &Done) -> Value {
    done.assert_status(0);
    assert_eq!(done.stdout.lines().count(), 1, "{done:#?}");
    serde_json::from_str(&done.stdout).expect("JSON")
}

#[test]
fn the_same_seed_gives_the_same_state_with_every_index() {
    let workspace = Workspace::new();
    let hash = |index: &str, seed: &str| {
        let line = line(&workspace.simprof(&[
            "simulate", "--json", "--steps", "60", "--agents", "30", "--seed", seed, "--index",
            index,
        ]));
        assert_eq!(line["steps"], 60, "{line:#}");
        assert_eq!(line["state_hash"], line["digest"], "{line:#}");
        assert!(line["counters"]["queries"].as_f64().is_some_and(|count| count > 0.0), "{line:#}");
        line["state_hash"].as_str().expect("a hash").to_owned()
    };
    let first = hash("kdtree", "7");
    assert_eq!(first.len(), 16, "{first}");
    for index in ["kdtree", "quadtree", "hash"] {
        assert_eq!(hash(index, "7"), first, "{index}");
    }
    assert_ne!(hash("kdtree", "8"), first);
}

#[test]
fn a_logged_simulation_writes_its_database() {
    let workspace = Workspace::new();
    let arguments = ["simulate", "--json", "--steps", "20", "--db", "log.db"];
    let line = line(&workspace.simprof(&arguments));
    assert!(line["counters"]["rows_written"].as_f64().is_some_and(|rows| rows > 0.0), "{line:#}");
    let head = std::fs::read(workspace.path("log.db")).expect("a database");
    assert!(head.starts_with(b"SQLite format 3\0"));
    let again = workspace.simprof(&arguments);
    again.assert_status(2);
    again.assert_reports(&["log.db", "already exists"]);
}

#[test]
fn invalid_values_are_refused_by_name() {
    let workspace = Workspace::new();
    for (arguments, words) in [
        (&["--index", "octree"][..], &["octree", "--index", "kdtree"][..]),
        (&["--policy", "clever"], &["clever", "--policy", "greedy"]),
        (&["--preset", "huge"], &["huge", "--preset", "research"]),
        (&["--storage", "x"], &["--storage", "hybrid"]),
        (&["--steps", "many"], &["many", "--steps"]),
        (&["--agents", "1.5"], &["1.5", "--agents"]),
        (&["--width", "-4"], &["width", "-4"]),
        (&["--width", "nan"], &["width", "NaN"]),
        (&["--height", "0"], &["height", "0"]),
        (&["--region-size", "0"], &["region", "0"]),
        (&["--db-profile", "x", "--db", "a.db"], &["--db-profile", "safety"]),
    ] {
        let done = workspace.simprof(&[&["simulate"], arguments].concat());
        done.assert_status(2);
        for word in words {
            assert!(done.stderr.contains(word), "{word:?} for {arguments:?}: {done:#?}");
        }
    }
}

#[test]
fn each_component_prints_the_runner_protocol() {
    let workspace = Workspace::new();
    let mut commands: Vec<Vec<&str>> = vec![vec!["observation", "--agents", "10"]];
    for operation in ["build", "nearby", "nearest", "range", "update"] {
        commands.push(vec!["spatial", "--operation", operation, "--entities", "100"]);
    }
    for operation in ["write", "read", "mixed"] {
        commands.push(vec![
            "database",
            "--operation",
            operation,
            "--folder",
            "scratch",
            "--inserts",
            "500",
        ]);
    }
    for command in commands {
        let _ = std::fs::remove_dir_all(workspace.path("scratch"));
        std::fs::create_dir(workspace.path("scratch")).expect("a folder");
        let mut arguments = vec!["component", "--budget-ms", "1", "--samples", "3"];
        arguments.extend(&command);
        let line = line(&workspace.simprof(&arguments));
        assert_eq!(line["simprof"], 1, "{command:?}: {line:#}");
        let metrics = line["metrics"].as_object().expect("metrics");
        assert!(!metrics.is_empty(), "{command:?}: {line:#}");
        for (name, samples) in metrics {
            let samples = samples.as_array().expect("samples");
            let is_time = |sample: &Value| sample.as_f64().is_some_and(|sample| sample >= 0.0);
            assert!(!samples.is_empty() && samples.iter().all(is_time), "{command:?}: {name}");
        }
        assert!(line["counters"].is_object(), "counters come with times: {command:?}: {line:#}");
    }
}

/// A run that is small enough for a build without optimisation.
const SMALL: [&str; 10] = [
    "run",
    "--quick",
    "--budget",
    "1h",
    "--repeats",
    "2",
    "--set",
    "steps=40",
    "--set",
    "agents=10",
];

#[test]
fn a_whole_run_writes_every_documented_file() {
    let workspace = Workspace::new();
    let spec = small_spec();
    workspace.write("small.toml", &spec);
    let done =
        workspace.simprof(&[&SMALL[..], &["--rate", "10000", "--spec", "small.toml"]].concat());
    if !sampled(&done) {
        return;
    }
    workspace.assert_nothing_left();
    let manifest = workspace.manifest();
    assert_eq!(manifest["status"], "ok", "{manifest:#}");
    for phase in 1..=4 {
        let summary = workspace.json(&format!("phase{phase}/phase{phase}_summary.json"));
        assert_eq!(summary["schema"], format!("simprof.phase{phase}/1"));
        assert_eq!(summary["status"], "ok", "phase {phase}");
        let measurements = summary["measurements"].as_array().expect("measurements");
        assert!(!measurements.is_empty());
        for measurement in measurements {
            assert_eq!(measurement["status"], "ok", "{measurement:#}");
            assert!(measurement["name"].is_string() && measurement["reason"].is_null());
        }
        let report = workspace.text(&format!("phase{phase}/PHASE{phase}_REPORT.md"));
        assert!(report.len() > 500 && !report.contains("NaN"), "phase {phase}: {report}");
    }
    for file in [
        "phase1/flamegraph.svg",
        "phase1/profile.json",
        "phase1/profile.folded",
        "phase1/profile.speedscope.json",
        "phase1/phase1.log",
        "phase2/spatial_profile.csv",
        "phase2/phase2.log",
        "phase3/phase3.log",
        "phase4/phase4.log",
        "CROSS_REFERENCE.md",
    ] {
        let text = workspace.text(file);
        assert!(!text.is_empty(), "{file}");
    }
    let macro_ = workspace.json("phase1/phase1_summary.json");
    assert!(macro_["steps"]["count"].as_u64().is_some_and(|count| count >= 40), "{macro_:#}");
    for row in macro_["functions"].as_array().expect("functions") {
        let share = row["total_share"].as_f64().expect("a share");
        assert!((0.0..=1.0).contains(&share), "{row:#}");
    }
}

/// A spec of the reference simulation with fewer benchmarks and smaller sweeps.
fn small_spec() -> String {
    "[target]\n\
     command = ['{simprof}', 'simulate', '--json', '--seed', '{seed}', '--agents', '{agents}', \
     '--steps', '{steps}']\n\
     [parameters]\n\
     agents = { default = 10, sweep = [2, 4, 8, 16, 32] }\n\
     steps = { default = 40 }\n\
     [components]\nspatial = ['*::spatial::*']\n\
     [[benchmark]]\ncomponent = 'spatial'\noperation = 'build'\nmetric = 'build_ns'\n\
     command = ['{simprof}', 'component', '--budget-ms', '2', '--samples', '3', '--seed', '{seed}', \
     'spatial', '--operation', 'build', '--index', '{index}', '--entities', '{n}']\n\
     baseline = { n = 100, index = 'kdtree' }\n\
     sweep = { n = [20, 50, 100, 200, 400] }\n\
     arms = { index = ['kdtree', 'hash'] }\n"
        .to_owned()
}

#[test]
fn only_the_requested_component_is_measured() {
    let workspace = Workspace::new();
    workspace.write("small.toml", &small_spec());
    let arguments = ["--spec", "small.toml", "--phase", "2", "--component", "spatial"];
    workspace.simprof(&[&SMALL[..], &arguments].concat()).assert_status(0);
    let summary = workspace.json("phase2/phase2_summary.json");
    let law = &summary["laws"][0];
    assert_eq!(law["component"], "spatial", "{law:#}");
    let arm = &summary["arms"][0];
    assert_eq!(arm["arm"].as_str().map(|arm| arm.contains("hash")), Some(true), "{arm:#}");
    assert!(arm["ratio"].as_f64().is_some_and(|ratio| ratio > 0.0), "{arm:#}");
    assert!(sampling_allowed() || summary["status"] == "ok", "benchmarks need no sampling");
}
