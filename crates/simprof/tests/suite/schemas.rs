//! The files of a real run match the schemas in docs/schemas, without further fields.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::Workspace;

/// A small target with everything that a phase can report: steps, components, a benchmark with arms and sizes, a sweep, another
/// case, and a named function.
const SPEC: &str = r#"
[target]
command = ["{simprof}", "simulate", "--json", "--seed", "{seed}", "--agents", "{agents}", "--steps", "20"]

[parameters]
agents = { default = 10, sweep = [2, 4, 8, 16, 32] }

[components]
spatial = ["*spatial*"]

[phase1]
cases = [{ agents = 20 }]

[phase3]
functions = ["agent_act"]

[[benchmark]]
component = "spatial"
operation = "nearby"
command = ["{simprof}", "component", "--budget-ms", "1", "--samples", "3", "--seed", "{seed}", "spatial", "--operation", "nearby", "--index", "{index}", "--entities", "{entities}", "--queries", "5"]
baseline = { index = "kdtree", entities = 20 }
sweep = { entities = [20, 40, 80, 160, 320] }
arms = { index = ["kdtree", "hash"] }
metric = "nearby_ns"
same_answer = true
"#;

#[test]
fn files_of_a_run_match_their_schemas() {
    let workspace = Workspace::new();
    workspace.write("simprof.toml", SPEC);
    // A high rate gives enough samples quickly.
    workspace.simprof(&["run", "--rate", "10000", "--repeats", "2"]).assert_status(0);
    let latest = workspace.latest("");
    for (file, schema) in [
        ("run.json", "run"),
        ("phase1/phase1_summary.json", "phase1_summary"),
        ("phase1/profile.json", "profile"),
        ("phase1/agents=20/profile.json", "profile"),
        ("phase2/phase2_summary.json", "phase2_summary"),
        ("phase3/phase3_summary.json", "phase3_summary"),
        ("phase3/profile.json", "profile"),
        ("phase4/phase4_summary.json", "phase4_summary"),
        ("phase4/timeline-default.json", "timeline"),
    ] {
        validate(&latest.join(file), schema);
    }
    assert_fields_that_scripts_use(&latest);
}

#[test]
fn files_of_a_failed_run_match_their_schemas() {
    let workspace = Workspace::new();
    workspace.simprof(&["run", "--quick", "--", "false"]).assert_status(1);
    let latest = workspace.latest("");
    validate(&latest.join("run.json"), "run");
    for phase in 1..=4 {
        let file = latest.join(format!("phase{phase}/phase{phase}_summary.json"));
        validate(&file, &format!("phase{phase}_summary"));
        assert_ne!(read(&file)["status"], "ok", "{}", file.display());
    }
}

fn read(path: &Path) -> Value {
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Validates against the schema with every object closed: a field that the schema does not have is an error.
fn validate(file: &Path, schema: &str) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/schemas");
    let mut schema = read(&folder.join(format!("{schema}.schema.json")));
    close_objects(&mut schema);
    let validator = jsonschema::validator_for(&schema).expect("a valid schema");
    let content = read(file);
    let errors: Vec<String> = validator
        .iter_errors(&content)
        .take(10)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{}:\n{}", file.display(), errors.join("\n"));
}

fn close_objects(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.values_mut().for_each(close_objects);
            if map.get("type").is_some_and(|kind| kind == "object") {
                map.entry("additionalProperties").or_insert(Value::Bool(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close_objects),
        _ => {}
    }
}

fn assert_fields_that_scripts_use(run: &Path) {
    let summary = |phase: u8| read(&run.join(format!("phase{phase}/phase{phase}_summary.json")));
    let [one, two, three, four] = [summary(1), summary(2), summary(3), summary(4)];
    for summary in [&one, &two, &three, &four] {
        has(summary, &["schema", "status", "measurements"]);
        has(first(summary, "measurements"), &["name", "status", "reason"]);
    }
    let law = [
        "component",
        "operation",
        "metric",
        "parameter",
        "exponent",
        "exponent_interval",
        "models",
    ];
    let profile = ["event", "rate_hz", "samples", "lost", "truncated", "unsymbolised"];
    has(&one["profile"], &profile);
    let function = ["name", "file", "line", "self_share", "total_share", "calls"];
    has(first(&one, "functions"), &function);
    has(first(&one, "components"), &["name", "share"]);
    has(&one["steps"], &["count", "per_second", "p50_ms", "p95_ms", "p99_ms"]);
    has(first(&two, "laws"), &law);
    let arm = ["component", "operation", "baseline", "arm", "ratio", "interval", "verdict"];
    has(first(&two, "arms"), &arm);
    let line =
        ["function", "file", "line", "cpu_share", "alloc_bytes", "alloc_count", "leaked_bytes"];
    has(first(&three, "lines"), &line);
    has(&four, &["timeline"]);
    has(first(&four, "laws"), &law);
    has(first(&four, "readiness"), &["check", "value", "threshold", "verdict"]);
}

fn first<'a>(value: &'a Value, list: &str) -> &'a Value {
    let items = value[list].as_array().unwrap_or_else(|| panic!("{list} is not a list"));
    items.first().unwrap_or_else(|| panic!("{list} is empty"))
}

fn has(value: &Value, names: &[&str]) {
    for name in names {
        assert!(value.get(name).is_some(), "{name} is missing in {value}");
    }
}
