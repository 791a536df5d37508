//! `simprof analyze` compared with Python's `pstats` on the same files.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use simprof_testkit::python::all_pythons;
use simprof_testkit::{Python, python};

use crate::support::{Workspace, python_program};

/// Traces `tests/programs/NAME` with a profiler module into a file of the workspace.
fn trace(workspace: &Workspace, python: &Python, module: &str, name: &str, file: &str) {
    let program = python_program(name);
    let arguments = ["-B", "-m", module, "-o", file, &program];
    run(workspace, python, &arguments);
}

/// Runs Python in the workspace and returns its output.
fn run(workspace: &Workspace, python: &Python, arguments: &[&str]) -> String {
    let done = workspace.done(workspace.program(python.text(), arguments));
    done.assert_status(0);
    done.stdout
}

fn analysis(workspace: &Workspace, file: &str) -> Value {
    let done = workspace.simprof(&["analyze", file, "--json"]);
    done.assert_status(0);
    assert_eq!(done.stderr, "");
    serde_json::from_str(&done.stdout).expect("JSON")
}

fn rows(analysis: &Value) -> &Vec<Value> {
    analysis["functions"].as_array().expect("functions")
}

/// Returns the row of a function by module and name.
fn row<'a>(analysis: &'a Value, name: &str) -> &'a Value {
    let found = rows(analysis).iter().find(|row| row["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {:#?}", rows(analysis)))
}

/// File, line and name of a function in the profile.
type Key = (String, u64, String);

/// Primitive calls, calls, self time and cumulative time of each function and of each of its callers.
type Figures = BTreeMap<Key, (Vec<f64>, BTreeMap<Key, Vec<f64>>)>;

fn key(file: &Value, line: &Value, name: &str) -> Key {
    (file.as_str().expect("a file").to_owned(), line.as_u64().expect("a line"), name.to_owned())
}

/// Returns the name of a function without its module.
fn bare(row: &Value) -> &str {
    let name = row["name"].as_str().expect("a name");
    let module = row["module"].as_str().expect("a module");
    name.strip_prefix(module).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name)
}

/// Returns the figures and callers of every function from simprof's analysis.
fn figures(analysis: &Value) -> Figures {
    let rows = rows(analysis);
    let key_of = |row: &Value| key(&row["file"], &row["line"], bare(row));
    let numbers = |row: &Value, first: &str, second: &str| -> Vec<f64> {
        [first, second, "self_s", "cumulative_s"]
            .iter()
            .filter_map(|&name| row[name].as_f64())
            .collect()
    };
    let callers = |row: &Value| {
        let callers = row["callers"].as_array().expect("callers");
        let index = |caller: &Value| caller["function"].as_u64().expect("an index") as usize;
        callers
            .iter()
            .map(|caller| {
                (key_of(&rows[index(caller)]), numbers(caller, "calls", "primitive_calls"))
            })
            .collect()
    };
    rows.iter()
        .map(|row| (key_of(row), (numbers(row, "primitive_calls", "calls"), callers(row))))
        .collect()
}

/// Returns the totals and the same figures from `pstats`.
fn oracle(workspace: &Workspace, python: &Python, file: &str) -> (Value, Figures) {
    let text = run(workspace, python, &[&python_program("pstats_rows.py"), file]);
    // Python's JSON may have an unpaired surrogate. simprof writes three replacement characters for it.
    let text = text.replace("\\ud800", "\u{fffd}\u{fffd}\u{fffd}");
    let all: Value = serde_json::from_str(&text).expect("JSON");
    let numbers = |values: &[Value]| values.iter().filter_map(Value::as_f64).collect::<Vec<f64>>();
    let key_of = |row: &[Value]| key(&row[0], &row[1], row[2].as_str().expect("a name"));
    let rows = all[3].as_array().expect("rows").iter().map(|row| {
        let row = row.as_array().expect("a row");
        let callers = row[7].as_array().expect("callers").iter().map(|caller| {
            let caller = caller.as_array().expect("a caller");
            (key_of(caller), numbers(&caller[3..]))
        });
        (key_of(row), (numbers(&row[3..7]), callers.collect()))
    });
    let rows = rows.collect();
    (all, rows)
}

/// Asserts that every count is the same, and that every time differs by at most its rounding error.
fn assert_same(workspace: &Workspace, python: &Python, file: &str) -> Value {
    let analysis = analysis(workspace, file);
    let (all, expected) = oracle(workspace, python, file);
    assert_eq!((&analysis["calls"], &analysis["primitive_calls"]), (&all[0], &all[1]));
    let found = figures(&analysis);
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (key, (figures, callers)) in &expected {
        assert_alike(key, &found[key].0, figures);
        assert_eq!(found[key].1.len(), callers.len(), "{key:?}");
        for (caller, figures) in callers {
            assert_alike(key, &found[key].1[caller], figures);
        }
    }
    let total = analysis["total_s"].as_f64().expect("a time");
    assert!((total - all[2].as_f64().expect("a time")).abs() < 1e-9 * total, "{total} {}", all[2]);
    analysis
}

fn assert_alike(key: &Key, found: &[f64], expected: &[f64]) {
    let same = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-15 * b.abs();
    // For callers, the module `profile` stores only the number of calls. Only that is compared.
    let found = if expected.len() == 1 { &found[..1] } else { found };
    let alike = found.len() == expected.len() && found.iter().zip(expected).all(same);
    assert!(alike, "{key:?}: {found:?} {expected:?}");
}

#[test]
fn figures_are_those_of_pstats_in_every_version() {
    for python in all_pythons().iter().filter(|python| !python.is_assembled) {
        let workspace = Workspace::new();
        trace(&workspace, python, "cProfile", "traced.py", "x.prof");
        let analysis = assert_same(&workspace, python, "x.prof");
        let calls = |name: &str| {
            let row = row(&analysis, name);
            (row["primitive_calls"].as_u64().expect("calls"), row["calls"].as_u64().expect("calls"))
        };
        let shown = python.text();
        assert_eq!(calls("traced.tiny"), (100_000, 100_000), "{shown}");
        assert_eq!(calls("traced.even"), (1, 16), "{shown}");
        assert_eq!(calls("traced.größe_名"), (3, 3), "{shown}");
        assert_eq!(
            calls("traced.counter"),
            (501, 501),
            "a generator counts each time it resumes: {shown}"
        );
        assert_eq!(calls("agents.flock.distance"), (400, 400), "{shown}");
        assert_eq!(calls("traced.decorated"), (1, 1), "{shown}");
        assert_sound(&analysis);
    }
}

/// Asserts the properties that every analysis has.
fn assert_sound(analysis: &Value) {
    let number = |row: &Value, name: &str| row[name].as_f64().expect("a number");
    let rows = rows(analysis);
    let times: Vec<f64> = rows.iter().map(|row| number(row, "self_s")).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "in descending order: {times:?}");
    let sum = |name: &str, of: &[Value]| of.iter().map(|row| number(row, name)).sum::<f64>();
    let components = analysis["components"].as_array().expect("components");
    for sum in [
        sum("self_share", rows),
        sum("charged_share", rows),
        sum("share", components),
        sum("self_share", components),
    ] {
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
    }
    for row in rows {
        assert!(number(row, "cumulative_share") <= 1.0, "{row}");
        let tracer = row["tracing_s"].as_f64().unwrap_or(0.0);
        assert!(tracer <= number(row, "self_s"), "{row}");
    }
}

#[test]
fn every_version_of_marshal_is_read() {
    let workspace = Workspace::new();
    let python = python();
    trace(&workspace, python, "cProfile", "traced.py", "x.prof");
    let script = "import marshal, sys\n\
        stats = marshal.load(open('x.prof', 'rb'))\n\
        for version in range(marshal.version + 1):\n    \
        open(f'v{version}.prof', 'wb').write(marshal.dumps(stats, version))\n\
        print(marshal.version)";
    let newest: u32 = run(&workspace, python, &["-c", script]).trim().parse().expect("a version");
    assert!(newest >= 4);
    for version in 0..=newest {
        assert_same(&workspace, python, &format!("v{version}.prof"));
    }
}

#[test]
fn the_profiler_in_python_is_read() {
    let workspace = Workspace::new();
    trace(&workspace, python(), "profile", "traced.py", "x.prof");
    let analysis = assert_same(&workspace, python(), "x.prof");
    assert_sound(&analysis);
}

#[test]
fn components_are_packages_and_advice_has_its_figures() {
    let workspace = Workspace::new();
    trace(&workspace, python(), "cProfile", "traced.py", "x.prof");
    let analysis = analysis(&workspace, "x.prof");
    let components = analysis["components"].as_array().expect("components");
    let has = |name: &str| components.iter().any(|row| row["name"] == name);
    assert!(has("[built-in]") && has("agents") | has("agents.flock"), "{components:#?}");
    assert_eq!(row(&analysis, "agents.flock.step")["origin"], "own");
    assert_eq!(row(&analysis, "threading.join")["origin"], "runtime");
    let advice = analysis["advice"].as_array().expect("advice");
    let about = |kind: &str, function: &str| {
        let found = advice.iter().find(|row| row["kind"] == kind && row["function"] == function);
        found.unwrap_or_else(|| panic!("no {kind} of {function} in {advice:#?}"))
    };
    let tiny = about("many_calls", "traced.tiny");
    assert_eq!((&tiny["calls"], &tiny["caller"]), (&100_000.into(), &"traced.many".into()));
    let statement = tiny["statement"].as_str().expect("words");
    assert!(statement.contains("100,000") && statement.contains("100 %"), "{statement}");
    let fib = row(&analysis, "traced.fib")["calls"].as_u64().expect("calls");
    assert!(fib >= 57_313, "calls of other threads may be missing: {fib}");
    assert_eq!(about("recursion", "traced.fib")["calls"], fib);
    for advice in advice {
        let share = advice["share_max"].as_f64().expect("a bound");
        let faster = advice["speedup_max"].as_f64().unwrap_or(f64::INFINITY);
        assert!((faster - 1.0 / (1.0 - share)).abs() < 1e-6 * faster || share == 1.0, "{advice}");
    }
}

#[test]
fn names_cannot_control_the_terminal() {
    let workspace = Workspace::new();
    trace(&workspace, python(), "cProfile", "traced.py", "x\u{1b}[31m.prof");
    let done = workspace.simprof(&["analyze", "x\u{1b}[31m.prof", "--top", "1000"]);
    done.assert_status(0);
    let bad = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
    assert!(!done.stdout.chars().any(bad), "{}", done.stdout);
    assert!(!done.stdout.lines().any(|line| line.starts_with("row")), "{}", done.stdout);
    let json = workspace.simprof(&["analyze", "x\u{1b}[31m.prof", "--json"]);
    assert!(!json.stdout.chars().any(|c| c.is_control() && c != '\n'), "{}", json.stdout);
    let analysis: Value = serde_json::from_str(&json.stdout).expect("JSON");
    let whole =
        |row: &Value| row["name"].as_str().is_some_and(|name| name.contains("\u{1b}]0;owned"));
    let hostile = rows(&analysis).iter().find(|row| whole(row)).expect("data keeps the name");
    assert_eq!((&hostile["calls"], &hostile["file"]), (&7.into(), &"\u{1b}[31m|<b>\n;x.py".into()));
}

#[test]
fn tables_are_sorted() {
    let workspace = Workspace::new();
    trace(&workspace, python(), "cProfile", "traced.py", "x.prof");
    let done = workspace.simprof(&["analyze", "x.prof", "--top", "3"]);
    done.assert_status(0);
    let analysis = analysis(&workspace, "x.prof");
    let mut order: Vec<&Value> = rows(&analysis).iter().collect();
    let assert_order = |heading: &str, order: &[&Value]| {
        let table = done.stdout.split(heading).nth(1).expect("the table is there");
        for (line, row) in table.lines().skip(2).take(3).zip(order) {
            let name = row["name"].as_str().expect("a name");
            assert!(line.contains(name), "{name} in {line}: {}", done.stdout);
        }
    };
    assert_order("Functions by self time", &order);
    let cumulative = |row: &Value| row["cumulative_s"].as_f64().expect("a time");
    order.sort_by(|a, b| cumulative(b).total_cmp(&cumulative(a)));
    assert_order("Functions by total time", &order);
    assert!(done.stdout.contains("--top"), "omitted rows are reported: {}", done.stdout);
    assert!(
        done.stdout.contains("57313/1") || done.stdout.contains("57563/51"),
        "recursion as pstats shows it: {}",
        done.stdout
    );
}

#[test]
fn output_matches_the_schema() {
    let workspace = Workspace::new();
    trace(&workspace, python(), "cProfile", "traced.py", "x.prof");
    workspace.write("x.folded", "main;step (sim.py:3) 30\nmain 10\n");
    for (file, name) in [("x.prof", "calls"), ("x.folded", "stacks")] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("../../docs/schemas/{name}.schema.json"));
        let text = std::fs::read_to_string(path).expect("the schema is there");
        let schema: Value = serde_json::from_str(&text).expect("JSON");
        let validator = jsonschema::validator_for(&schema).expect("a valid schema");
        let analysis = analysis(&workspace, file);
        let errors: Vec<String> =
            validator.iter_errors(&analysis).take(5).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }
}

#[test]
fn other_formats_are_recognised_by_their_content() {
    let workspace = Workspace::new();
    workspace.write("misnamed.prof", "main;step (sim.py:3) 30\nmain;other 10\n");
    let folded = analysis(&workspace, "misnamed.prof");
    assert_eq!((&folded["format"], &folded["weight"]), (&"folded".into(), &40.into()));
    assert_eq!(folded["functions"][0]["self_share"], 0.75);
    workspace.write(
        "misnamed.txt",
        r#"{"$schema": "https://www.speedscope.app/file-format-schema.json",
            "shared": {"frames": [{"name": "main"}]},
            "profiles": [{"type": "sampled", "name": "t", "unit": "seconds", "startValue": 0,
                          "endValue": 2, "samples": [[0]], "weights": [2]}]}"#,
    );
    let speedscope = analysis(&workspace, "misnamed.txt");
    assert_eq!(
        (&speedscope["unit"], &speedscope["weight"]),
        (&"ns".into(), &2_000_000_000_u64.into())
    );
    let text = workspace.simprof(&["analyze", "misnamed.prof"]);
    assert!(text.stdout.contains("75 %"), "{text:#?}");
}

#[test]
fn components_come_from_the_spec() {
    let workspace = Workspace::new();
    workspace.write("x.folded", "main;near 30\nmain;io 10\n");
    trace(&workspace, python(), "cProfile", "traced.py", "x.prof");
    workspace
        .write("simprof.toml", "[components]\nspace = [\"near\"]\nflock = [\"agents.flock.*\"]\n");
    workspace.write("other.toml", "[components]\nfiles = [\"io\"]\n");
    let share = |arguments: &[&str], name: &str| {
        let done = workspace.simprof(&[&["analyze", "--json"], arguments].concat());
        done.assert_status(0);
        let analysis: Value = serde_json::from_str(&done.stdout).expect("JSON");
        let components = analysis["components"].as_array().expect("components");
        let sum: f64 = components.iter().map(|row| row["share"].as_f64().expect("a share")).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{components:#?}");
        components.iter().find(|row| row["name"] == name).map(|row| row["share"].clone())
    };
    assert_eq!(share(&["x.folded"], "space"), Some(0.75.into()));
    assert_eq!(share(&["x.folded", "--spec", "other.toml"], "files"), Some(0.25.into()));
    assert!(share(&["x.prof"], "flock").is_some() && share(&["x.prof"], "other").is_some());
    workspace.simprof(&["analyze", "x.folded", "--spec", "none.toml"]).assert_status(2);
}

#[test]
fn unusual_folded_stacks_are_read_or_refused_with_the_reason() {
    let workspace = Workspace::new();
    let utf16 = |text: &str| -> Vec<u8> {
        format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect()
    };
    std::fs::write(workspace.path("utf16.folded"), utf16("main;a 2.5\nmain;b 7.5\n"))
        .expect("written");
    let fractions = analysis(&workspace, "utf16.folded");
    assert_eq!(
        (&fractions["weight"], &fractions["functions"][1]["self_share"]),
        (&10.into(), &0.25.into())
    );
    workspace.write("cut.folded", "main;a 3\nmain;b\nmain;c 1\n");
    let cut = analysis(&workspace, "cut.folded");
    assert_eq!((&cut["weight"], &cut["notices"][0]["id"]), (&4.into(), &"lines_skipped".into()));
    for (content, words) in [("main;a 3\nmain;b -1\n", "line 2"), ("main;a 0\n", "nothing in it")] {
        workspace.write("bad.folded", content);
        let done = workspace.simprof(&["analyze", "bad.folded"]);
        done.assert_status(2);
        done.assert_reports(&["bad.folded", words]);
    }
}

#[test]
fn files_that_cannot_be_analysed_are_reported_with_the_fix() {
    let workspace = Workspace::new();
    trace(&workspace, python(), "cProfile", "traced.py", "whole.prof");
    let whole = std::fs::read(workspace.path("whole.prof")).expect("it was written");
    std::fs::write(workspace.path("half.prof"), &whole[..whole.len() / 2]).expect("written");
    std::fs::write(workspace.path("perf.data"), b"PERFILE2\x68\0\0\0").expect("written");
    std::fs::write(workspace.path("x.pb.gz"), b"\x1f\x8b\x08\0\0").expect("written");
    workspace.write("empty.prof", "");
    workspace.write("sim.py", "import sys\n");
    let formats = "pstats, speedscope, folded";
    for (file, words) in [
        ("missing.prof", ["No such file", "python -m cProfile -o"]),
        (".", ["directory", "the path of a file in it"]),
        ("half.prof", ["pstats profile is damaged or cut off", "record it again"]),
        ("perf.data", ["perf script", formats]),
        ("x.pb.gz", ["gzip", formats]),
        ("empty.prof", ["empty", formats]),
        ("sim.py", ["unknown kind", formats]),
    ] {
        let done = workspace.simprof(&["analyze", file]);
        done.assert_status(2);
        done.assert_reports(&[file, words[0], words[1]]);
        assert_eq!((done.stdout.as_str(), done.stderr.lines().count()), ("", 1), "{done:#?}");
    }
    workspace.simprof(&["analyze", "whole.prof", "--top", "0"]).assert_status(2);
}
