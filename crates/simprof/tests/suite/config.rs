//! Parameters that are passed to the program in its environment or in a configuration file.

use serde_json::Value;

use crate::support::{Done, Workspace, c_program};

const SIZES: &str = "[100, 200, 400, 800, 1600]";

/// Reads `model.agents` from a JSON or YAML file as this test writes it, with the standard library of any Python 3. Then executes the
/// program whose work grows with the square of that number.
const WRAPPER: &str = r#"
import os, re, sys
text = open(sys.argv[2]).read()
agents = re.search(r'agents"?\s*[:=]\s*(\d+)\s*[,}#\n]', text).group(1)
os.execv(sys.argv[1], [sys.argv[1], agents])
"#;

/// Runs phase 4 with few processes. Returns the scaling law of CPU time over agents.
fn law(workspace: &Workspace) -> Value {
    let done = workspace.simprof(&["run", "--phase", "4", "--quick", "--repeats", "3"]);
    done.assert_status(0);
    let summary = workspace.json("phase4/phase4_summary.json");
    let laws = summary["laws"].as_array().expect("laws");
    let law = laws.iter().find(|law| law["metric"] == "cpu_ms" && law["parameter"] == "agents");
    law.unwrap_or_else(|| panic!("{laws:#?}")).clone()
}

/// Asserts that the exponent is 2. The start of the program takes some constant milliseconds, which makes the interval wider.
fn assert_square(law: &Value) {
    let bound = |index: usize| law["exponent_interval"][index].as_f64().expect("a bound");
    let (middle, half) = ((bound(0) + bound(1)) / 2.0, (bound(1) - bound(0)) / 2.0);
    assert!((middle - 2.0).abs() <= 2.0 * half.max(0.1), "{law:#}");
    assert!(middle > 1.5, "quadratic, not linear: {law:#}");
    assert_eq!(law["n"], 15, "five sizes, three processes each: {law:#}");
}

#[test]
fn a_quadratic_law_is_found_over_an_environment_variable() {
    let workspace = Workspace::new();
    let program = c_program("quadratic");
    let script = format!("exec '{program}' \"$MODEL_AGENTS\"");
    workspace.write(
        "simprof.toml",
        &format!(
            "[target]\ncommand = [\"sh\", \"-c\", {script:?}]\n\
             environment = {{ MODEL_AGENTS = \"{{agents}}\" }}\n\
             [parameters]\nagents = {{ default = 100, sweep = {SIZES} }}\n"
        ),
    );
    assert_square(&law(&workspace));
}

#[test]
fn a_quadratic_law_is_found_over_a_key_of_a_file() {
    let workspace = Workspace::new();
    let program = c_program("quadratic");
    let text = "{\"model\": {\"agents\": 7}, \"seed\": 1}\n";
    for (name, text) in
        [("model.json", text), ("model.yaml", "# ours\nmodel:\n  agents: 7 # few\nseed: 1\n")]
    {
        let file = workspace.write(name, text);
        workspace.write("wrapper.py", WRAPPER);
        workspace.write(
            "simprof.toml",
            &format!(
                "[target]\ncommand = [\"python3\", \"wrapper.py\", {program:?}, \"{{config}}\"]\n\
                 [target.config]\nfile = \"{name}\"\nset = {{ \"model.agents\" = \"{{agents}}\" }}\n\
                 [parameters]\nagents = {{ default = 100, sweep = {SIZES} }}\n"
            ),
        );
        assert_square(&law(&workspace));
        assert_eq!(
            std::fs::read_to_string(file).expect("it is there"),
            text,
            "the original is unchanged"
        );
        assert_eq!(workspace.text(&format!("configuration/{name}")), text, "the run keeps a copy");
        assert!(!workspace.latest(".scratch").exists(), "copies are removed");
    }
    let manifest = workspace.manifest();
    let spec = manifest["spec"].as_str().expect("a spec");
    assert!(
        spec.contains("\"model.agents\" = \"{agents}\""),
        "the manifest has the settings: {spec}"
    );
    let first = &manifest["phases"][0]["measurements"][0];
    assert!(first["parameters"]["agents"].is_number(), "and the values: {first:#}");
}

/// A program that prints its configuration file, its variables and the content of its scratch folder.
const PRINT_SETTINGS: &str = r#"
import json, os, sys
text = open(sys.argv[1]).read()
print(sys.argv[1])
print(text, end="")
print(os.environ.get("THREADS"), os.environ.get("OTHER"), os.path.isdir(sys.argv[2]), os.listdir(sys.argv[2]))
sys.exit(3)
"#;

/// Runs phase 4 on a target that exits with status 3, and returns the output of its first process.
fn run_and_print(workspace: &Workspace, arguments: &[&str]) -> (Done, String) {
    workspace.write("shows.py", PRINT_SETTINGS);
    let done = workspace.simprof(&[&["run", "--phase", "4", "--quick"], arguments].concat());
    let text = workspace.text("phase4/timeline-default.out");
    (done, text)
}

const SPEC_WITH_FILES: &str = r#"
[target]
command = ["python3", "shows.py", "{config}", "{scratch}"]
environment = { THREADS = "{threads}", OTHER = "{other}" }

[[target.config]]
file = "conf/main.toml"
set = { "model.agents" = "{agents}", name = "run {agents} of {kind}", fast = "{fast}", rate = "{threads}" }
add = { "limits.depth" = 3, include = "{other}" }

[[target.config]]
file = "other.json"
placeholder = "other"
set = { "list[0].seed" = "{seed}" }

[parameters]
agents = { default = 100 }
threads = { default = 4 }
kind = { default = "flock" }
fast = { default = "true" }
"#;

#[test]
fn settings_keep_their_types() {
    let workspace = Workspace::new();
    workspace.write("simprof.toml", SPEC_WITH_FILES);
    std::fs::create_dir(workspace.path("conf")).expect("a folder");
    workspace.write(
        "conf/main.toml",
        "# kept\nname = 'x'\nfast = false\nrate = 1.0\nday = 2020-01-01\n\n[model]\nagents = 1\n",
    );
    workspace.write("other.json", "{\"list\": [{\"seed\": 0}]}");
    let (_, text) =
        run_and_print(&workspace, &["--seed", "11", "--set", "agents=250", "--set", "fast=false"]);
    let lines: Vec<&str> = text.lines().collect();
    let other = lines.iter().find_map(|line| line.strip_prefix("\"include\" = ")).expect(&text);
    assert!(lines[0].ends_with("/copies/config/main.toml"), "{text}");
    assert!(other.ends_with("/copies/other/other.json\""), "{text}");
    let expected = format!(
        "\"limits\" = {{ \"depth\" = 3 }}\n\"include\" = {other}\n# kept\nname = \"run 250 of flock\"\nfast = false\n\
         rate = 4.0\nday = 2020-01-01\n\n[model]\nagents = 250\n"
    );
    assert!(text.contains(&expected), "{text}");
    let last = format!("4 {} True []", other.trim_matches('"'));
    assert_eq!(lines.last().copied(), Some(last.as_str()), "variables, and an empty {{scratch}}");
    assert_eq!(workspace.text("configuration/other.json"), "{\"list\": [{\"seed\": 0}]}");
    assert!(workspace.latest("configuration/conf-main.toml").exists());
    let target = workspace.manifest()["target"].clone();
    assert_eq!(target[2], "{config}", "{target}");
}

#[test]
fn a_plan_shows_what_would_be_set_and_reads_no_file() {
    let workspace = Workspace::new();
    workspace.write("simprof.toml", SPEC_WITH_FILES);
    let done = workspace.simprof(&["run", "--plan", "--set", "agents=9"]);
    done.assert_status(0);
    for words in [
        "shows.py {config} {scratch}",
        "THREADS=4",
        "{config} is a copy of conf/main.toml with ",
        "model.agents = 9",
        "name = \"run 9 of flock\"",
        "{other} is a copy of other.json with list[0].seed = ",
    ] {
        assert!(done.stdout.contains(words), "{words:?}: {done:#?}");
    }
}

#[test]
fn a_benchmark_has_its_own_variables_and_files() {
    let workspace = Workspace::new();
    workspace.write("bench.json", "{\"n\": 1, \"index\": \"none\"}");
    workspace.write(
        "bench.py",
        "import json, os, sys\nc = json.load(open(sys.argv[1]))\nassert type(c['n']) is int\n\
         n = c['n'] * int(os.environ['FACTOR'])\n\
         print(json.dumps({'simprof': 1, 'metrics': {'build_ns': [n, n]}, 'counters': {'n': n}}))\n",
    );
    workspace.write(
        "simprof.toml",
        "[target]\ncommand = ['true']\n[[benchmark]]\ncomponent = 'spatial'\noperation = 'build'\n\
         command = ['python3', 'bench.py', '{config}']\nenvironment = { FACTOR = '{factor}' }\n\
         config = { file = 'bench.json', set = { n = '{n}' } }\nbaseline = { n = 10, factor = 2 }\n\
         sweep = { n = [10, 20, 40, 80, 160] }\nmetric = 'build_ns'\n",
    );
    let done = workspace.simprof(&["run", "--phase", "2", "--quick", "--repeats", "2"]);
    done.assert_status(0);
    let measured = workspace.manifest();
    let measurements = measured["phases"][0]["measurements"].as_array().expect("measurements");
    assert_eq!(measurements.len(), 5);
    for measurement in measurements {
        let n = measurement["parameters"]["n"].as_f64().expect("a number");
        let counted = measurement["replicates"][0]["counters"]["n"].as_f64();
        assert_eq!(counted, Some(2.0 * n), "{measurement:#}");
    }
}

#[test]
fn a_command_on_the_command_line_need_not_use_the_file() {
    let workspace = Workspace::new();
    workspace.write("simprof.toml", SPEC_WITH_FILES);
    let done = workspace.simprof(&["run", "--plan", "--", "true", "{threads}"]);
    done.assert_status(0);
    done.assert_reports(&["note", "{config}", "conf/main.toml is not edited"]);
    assert!(!done.stdout.contains("main.toml"), "{done:#?}");
    let done = workspace.simprof(&["run", "--plan", "--", "true", "{config}"]);
    done.assert_status(0);
    assert!(
        !done.stderr.contains("is not edited"),
        "other.json is used through main.toml: {done:#?}"
    );
    assert!(done.stdout.contains("{other} is a copy of other.json"), "{done:#?}");
}

#[test]
fn impossible_settings_are_refused_before_anything_runs() {
    let spec = |config: &str| {
        format!(
            "[target]\ncommand = ['touch', 'it-ran', '{{config}}', '{{n}}']\nconfig = {config}\n\
             [parameters]\nn = {{ default = 1, sweep = [1, 2] }}\nkind = {{ default = 'x' }}\n"
        )
    };
    let cases: [(&str, &[&str]); 14] = [
        (
            "{ file = 'a.yaml', set = { 'model.agnets' = '{n}' } }",
            &["a.yaml", "did you mean `model.agents`"],
        ),
        (
            "{ file = 'a.yaml', add = { 'model.agents' = '{n}' } }",
            &["a.yaml", "`model.agents`", "`set`"],
        ),
        (
            "{ file = 'a.yaml', set = { 'model.agents' = '{m}' } }",
            &["target.config a.yaml", "`{m}`"],
        ),
        ("{ file = 'a.yaml', set = { model = '{n}' } }", &["`model` is a table"]),
        ("{ file = 'a.yaml', set = { 'model[' = '{n}' } }", &["`model[` is not a path"]),
        ("{ file = 'a.yaml', set = { model.agents = 1, 'model.agents' = 2 } }", &["set twice"]),
        ("{ file = 'a.yaml' }", &["target.config a.yaml", "no key is set"]),
        ("{ file = 'a.cfg', set = { a = 1 } }", &["a.cfg", ".yaml", ".toml", ".json"]),
        ("{ file = 'bad.yaml', set = { a = 1 } }", &["bad.yaml, line 3", "YAML"]),
        ("{ file = 'none.yaml', set = { a = 1 } }", &["cannot read", "none.yaml"]),
        (
            "{ file = 'a.yaml', placeholder = 'n', set = { a = 1 } }",
            &["`n` cannot be the placeholder"],
        ),
        ("{ file = 'a.yaml', placeholder = 'conf', set = { a = 1 } }", &["{conf}", "a.yaml"]),
        ("{ file = 'a.yaml', sets = { a = 1 } }", &["`sets`", "did you mean `set`"]),
        ("'a.yaml'", &["line 3", "a table with `file` and `set`"]),
    ];
    for (config, words) in cases {
        let workspace = Workspace::new();
        workspace.write("a.yaml", "model:\n  agents: 5\n");
        workspace.write("bad.yaml", "a: 1\nb: [\n");
        workspace.write("simprof.toml", &spec(config));
        let done = workspace.simprof(&["run", "--quick"]);
        done.assert_status(2);
        for word in words {
            assert!(done.stderr.contains(word), "{word:?} for {config}: {done:#?}");
        }
        assert!(!workspace.path("it-ran").exists(), "nothing was run: {done:#?}");
        assert!(!workspace.path("profiling_results").exists(), "nothing was measured: {done:#?}");
    }
}
