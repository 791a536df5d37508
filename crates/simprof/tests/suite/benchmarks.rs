//! Component benchmarks that use the helpers: `simprof_bench.h` and the Python module `simprof_probe.bench`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use simprof_measure::protocol::{self, Report};
use simprof_testkit::program::{probe_headers, workspace as repository};
use simprof_testkit::{installed_pythons, run};

use crate::support::{Done, Workspace, c_program, has_notice, python_program};

/// A short budget, so that tests are short.
const SHORT: (&str, &str) = ("SIMPROF_BENCH_MS", "5");

/// Runs a case of `tests/programs/bench.c` or `bench.py`.
fn case(workspace: &Workspace, command: &[&str], variable: (&str, &str)) -> Done {
    let mut process = workspace.program(command[0], &command[1..]);
    process.env(variable.0, variable.1).env("PYTHONPATH", repository().join("python"));
    workspace.done(process)
}

/// Returns the only report in the output of a process that succeeded.
fn report(done: &Done) -> Report {
    done.assert_status(0);
    assert_eq!(done.stdout.matches("\"simprof\"").count(), 1, "{}", done.stdout);
    protocol::parse(&done.stdout).expect("well formed").expect("a report")
}

/// Asserts that both times of the operation `work` were measured in several batches.
fn assert_times(report: &Report) {
    let names: Vec<&str> = report.metrics.keys().map(String::as_str).collect();
    assert_eq!(names, ["work_ns", "work_wall_ns"]);
    for samples in report.metrics.values() {
        assert!((3..=40).contains(&samples.len()), "{samples:?}");
        assert!(samples.iter().all(|&ns| ns.is_finite() && ns >= 0.0), "{samples:?}");
        assert!(samples.iter().any(|&ns| ns > 0.0), "{samples:?}");
    }
}

/// Asserts that a process failed with a message, and printed no report.
fn assert_failed(done: &Done, word: &str) {
    done.assert_status(1);
    assert_eq!(protocol::parse(&done.stdout).expect("no report"), None);
    assert!(done.stderr.contains(word), "{}", done.stderr);
}

/// Returns the numbers of set-ups and calls that a program printed.
fn set_ups_and_calls(done: &Done) -> (u64, u64) {
    let mut numbers = done.stderr.split_whitespace().map(|word| word.parse().expect("a number"));
    (numbers.next().expect("set-ups"), numbers.next().expect("calls"))
}

#[test]
fn the_header_compiles_without_warnings_in_every_standard() {
    let workspace = Workspace::new();
    let unused = "#include \"simprof_bench.h\"\nint main(void) { return 0; }\n";
    let unused = PathBuf::from(workspace.write("unused.c", unused));
    let used = repository().join("tests/programs/bench.c");
    let options = ["-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I"];
    for standard in ["c99", "gnu99", "c11", "c17", "c++11", "c++17"] {
        let (compiler, language) =
            if standard.contains("++") { ("c++", "c++") } else { ("cc", "c") };
        for source in [&unused, &used] {
            let mut command = Command::new(compiler);
            command.args(["-x", language, &format!("-std={standard}")]).args(options);
            run(command.arg(probe_headers()).arg(source).arg("-o").arg(workspace.path(standard)));
        }
        assert_times(&report(&case(&workspace, &[&workspace.text_path(standard), "work"], SHORT)));
    }
}

#[test]
fn the_header_reports_what_it_measured_whatever_the_operation_prints() {
    let (workspace, program) = (Workspace::new(), c_program("bench"));
    let found = report(&case(&workspace, &[&program, "work"], SHORT));
    assert_times(&found);
    assert_eq!(found.counters["rows"].to_bits(), 3f64.to_bits());
    assert_eq!(found.counters["share"].to_bits(), 0.1f64.to_bits());
    assert_eq!(found.digest.as_deref(), Some("0000000000000abc"));

    let once = case(&workspace, &[&program, "once"], SHORT);
    assert_times(&report(&once));
    let (set_ups, calls) = set_ups_and_calls(&once);
    assert!(set_ups == calls && calls >= 3, "{set_ups} set-ups, {calls} calls");
}

#[test]
fn the_header_ends_the_program_if_nothing_valid_can_be_reported() {
    let (workspace, program) = (Workspace::new(), c_program("bench"));
    for (mode, word) in [
        ("counter", "share"),
        ("name", "a\"b"),
        ("nothing", "work"),
        ("calls", "calls"),
        ("null", "counter_count"),
        ("latin", "UTF-8"),
    ] {
        assert_failed(&case(&workspace, &[&program, mode], SHORT), word);
    }
    for budget in ["", "0", "5s", "nan", "1e99"] {
        let done = case(&workspace, &[&program, "work"], (SHORT.0, budget));
        assert_failed(&done, SHORT.0);
    }
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("it exists");
    let mut process = workspace.program(&program, &["work"]);
    let status = process.env(SHORT.0, SHORT.1).stdout(full).stderr(Stdio::null()).status();
    assert_eq!(status.expect("it runs").code(), Some(1), "a full disk is reported");
}

#[test]
fn the_python_module_reports_what_it_measured_whatever_the_operation_prints() {
    let (workspace, program) = (Workspace::new(), python_program("bench.py"));
    for python in installed_pythons() {
        let found = report(&case(&workspace, &[python.text(), &program, "work"], SHORT));
        assert_times(&found);
        assert_eq!(found.counters["rows"].to_bits(), 3f64.to_bits());
        assert_eq!(found.counters["share"].to_bits(), 0.1f64.to_bits());
        // The beginning of the SHA-256 of "4950", the sum of 0 to 99, as `sha256sum` prints it.
        assert_eq!(found.digest.as_deref(), Some("44864c96fa1c3660"));

        let once = case(&workspace, &[python.text(), &program, "once"], SHORT);
        assert_times(&report(&once));
        let (set_ups, calls) = set_ups_and_calls(&once);
        // The first call gives the result for counters and digest.
        assert!(set_ups == calls && calls >= 4, "{set_ups} set-ups, {calls} calls");
    }
}

#[test]
fn the_python_module_raises_if_nothing_valid_can_be_reported() {
    let (workspace, program) = (Workspace::new(), python_program("bench.py"));
    let python = &installed_pythons()[0];
    for (mode, word) in [("counter", "share"), ("name", "ValueError"), ("raise", "no such agent")] {
        assert_failed(&case(&workspace, &[python.text(), &program, mode], SHORT), word);
    }
    for budget in ["", "0", "5s", "nan", "1e99"] {
        let done = case(&workspace, &[python.text(), &program, "work"], (SHORT.0, budget));
        assert_failed(&done, SHORT.0);
    }
}

/// Copies `examples/neighbours` into a workspace that has the folders which it refers to.
fn example(workspace: &Workspace) -> String {
    for name in ["simprof.toml", "neighbours.c", "neighbours.py"] {
        let text = fs::read(repository().join("examples/neighbours").join(name));
        workspace.write(&format!("examples/neighbours/{name}"), &text.expect("it exists"));
    }
    for name in ["crates", "python"] {
        symlink(repository().join(name), workspace.path(name)).expect("the folder is new");
    }
    workspace.text_path("examples/neighbours")
}

/// Returns the largest value of a counter of the measurements of an arm with this many points.
fn counter(manifest: &Value, component: &str, search: &str, points: u64, name: &str) -> f64 {
    let measurements = manifest["phases"][0]["measurements"].as_array().expect("measurements");
    let found = measurements.iter().find(|measurement| {
        measurement["component"] == component
            && measurement["parameters"]["search"] == search
            && measurement["parameters"]["points"] == points
    });
    let found = found.unwrap_or_else(|| panic!("{component} {search} {points} was not measured"));
    found["replicates"][0]["counters"][name].as_f64().expect("a counter")
}

#[test]
fn the_example_compares_its_arms_at_every_size_in_both_languages() {
    let workspace = Workspace::new();
    let folder = example(&workspace);
    let results = workspace.text_path("profiling_results");
    let mut command = workspace.command(&["run", "--phase", "2", "--quick", "--repeats", "2"]);
    command.args(["--budget", "1h", "--output-dir", &results]).current_dir(folder);
    workspace.done(command).assert_status(0);

    let (manifest, summary) = (workspace.manifest(), workspace.json("phase2/phase2_summary.json"));
    assert!(!has_notice(&summary, "sweep_cannot_give_law"), "{summary:#}");
    for (component, smallest) in [("python", 25), ("c", 100)] {
        let of = |rows: &Value, metric: &str| -> Vec<Value> {
            let rows = rows.as_array().expect("rows").iter();
            rows.filter(|row| row["component"] == component && row["metric"] == metric)
                .cloned()
                .collect()
        };
        let arms = of(&summary["arms"], "neighbours_ns");
        assert_eq!(arms.len(), 5, "one for each size: {arms:#?}");
        for arm in &arms {
            assert_eq!((&arm["baseline"], &arm["arm"]), (&"all".into(), &"grid".into()));
            assert_eq!((&arm["same_answer"], &arm["inert"]), (&true.into(), &false.into()));
            assert_eq!(arm["n"], 2, "{arm:#}");
        }
        for metric in ["neighbours_ns", "neighbours_wall_ns"] {
            assert_eq!(of(&summary["laws"], metric).len(), 2, "{metric}: one for each arm");
        }
        let work = |search, points, name| counter(&manifest, component, search, points, name);
        let largest = 16 * smallest;
        for points in [smallest, largest] {
            let pairs = points as f64 * (points - 1) as f64 / 2.0;
            assert!((work("all", points, "comparisons") - pairs).abs() < 0.5);
            assert!(work("grid", points, "comparisons") < pairs);
            let found = ["all", "grid"].map(|search| work(search, points, "pairs"));
            assert!(found[0] > 0.0 && found[0] == found[1], "{found:?}");
        }
    }
    assert!(summary["idle"].as_array().expect("a list").is_empty(), "{summary:#}");
}
