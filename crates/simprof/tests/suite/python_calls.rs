//! Calls of Python programs are counted exactly, in every process and thread.

use serde_json::Value;
use simprof_testkit::{is_root, python, pythons};

use crate::support::{Done, Workspace, python_program, sampled, shows_notice};

/// Rounds of a loop. At [`RATE`], one or two runs then have as many samples as a quick run needs.
const SPIN: &str = "4000000";
/// Samples per second of CPU time. A high rate keeps runs short, and these tests do not compare shares.
const RATE: &str = "10000";

fn record(workspace: &Workspace, python: &str, kind: &str) -> Done {
    let program = python_program("counted.py");
    workspace.simprof(&[
        "run", "--quick", "--rate", RATE, "--phase", "1", "--", python, &program, kind, SPIN,
    ])
}

fn row<'s>(summary: &'s Value, name: &str) -> Option<&'s Value> {
    let rows = summary["calls"]["functions"].as_array()?;
    rows.iter().find(|row| row["function"].as_str().is_some_and(|found| found.ends_with(name)))
}

/// Returns a column of a function's row in `calls.csv`, the table of all functions.
fn counted(workspace: &Workspace, name: &str, column: &str) -> u64 {
    let text = workspace.text("phase1/calls.csv");
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let columns = lines.next().expect("a header");
    let at = columns.iter().position(|found| *found == column).expect("a column");
    let row =
        lines.find(|row| row[0].ends_with(name)).unwrap_or_else(|| panic!("no {name}: {text}"));
    row[at].parse().expect("a number")
}

/// Returns whether the program was run once more to count calls. A quick run does so only if it expects that run to end in time.
fn was_traced(summary: &Value) -> bool {
    let measurements = summary["measurements"].as_array().expect("measurements");
    measurements.iter().any(|measurement| measurement["name"] == "calls")
}

#[test]
fn calls_are_exact_in_all_threads_and_processes() {
    assert_exact(&[("none", 100), ("threads", 3100), ("fork", 3100), ("pool", 3100)]);
}

#[test]
fn calls_are_exact_in_spawned_processes() {
    assert_exact(&[("spawn", 3100)]);
}

/// Asserts the number of calls of `leaf` in each kind of program, in every Python.
fn assert_exact(kinds: &[(&str, u64)]) {
    let mut runs = 0;
    for python in pythons() {
        let python = python.text();
        for &(kind, expected) in kinds {
            let workspace = Workspace::new();
            let done = record(&workspace, python, kind);
            if !sampled(&done) {
                return;
            }
            let summary = workspace.json("phase1/phase1_summary.json");
            if !was_traced(&summary) {
                eprintln!("{python} {kind}: the machine is too slow to count calls in a quick run");
                continue;
            }
            runs += 1;
            for (name, column, expected) in [
                (".leaf", "calls", expected),
                (".leaf", "primitive_calls", expected),
                (".fibonacci", "calls", 177),
                (".fibonacci", "primitive_calls", 1),
            ] {
                let found = counted(&workspace, name, column);
                assert_eq!(
                    found, expected,
                    "{python} {kind} {name} {column}: {:#}",
                    summary["calls"]
                );
            }
            assert_eq!(summary["calls"]["lost"], 0, "{python} {kind}");
        }
    }
    assert!(runs > 0, "calls were counted at least once");
}

#[test]
fn both_shares_and_lost_processes_are_reported() {
    let workspace = Workspace::new();
    let python = python();
    let done = record(&workspace, python.text(), "killed");
    if !sampled(&done) {
        return;
    }
    let summary = workspace.json("phase1/phase1_summary.json");
    let calls = &summary["calls"];
    assert_eq!(calls["lost"], 1, "{calls:#}");
    assert_eq!(calls["processes"], 1, "{calls:#}");
    assert!(calls["statements"][0].is_string(), "{calls:#}");
    let spin = row(&summary, ".spin").expect("it takes most of the time");
    assert_eq!(spin["calls"], 1);
    for share in ["sampled_share", "traced_share"] {
        assert!(spin[share].as_f64().expect(share) > 0.5, "{spin:#}");
    }
    let report = workspace.text("phase1/PHASE1_REPORT.md");
    assert!(report.contains("## Calls"), "{report}");
    let measurements = summary["measurements"].as_array().expect("measurements");
    let of_calls =
        measurements.iter().find(|found| found["name"] == "calls").expect("a measurement");
    assert_eq!(of_calls["status"], "ok");
}

/// Runs a program in every Python and checks the result of phase 1.
fn for_every_python(text: &str, check: impl Fn(&str, &Done, &Workspace, &Value)) {
    let mut checked = 0;
    for python in pythons() {
        let python = python.text();
        let workspace = Workspace::new();
        let program = workspace.write("program.py", text);
        let done = workspace
            .simprof(&["run", "--quick", "--rate", RATE, "--phase", "1", "--", python, &program]);
        if !sampled(&done) {
            return;
        }
        let summary = workspace.json("phase1/phase1_summary.json");
        if was_traced(&summary) {
            check(python, &done, &workspace, &summary);
            checked += 1;
        }
    }
    assert!(checked > 0, "calls were counted at least once");
}

/// Long enough to be sampled.
const BUSY: &str = "\
def leaf(): pass
def busy():
    for _ in range(300000): leaf()
";

#[test]
fn a_program_that_profiles_itself_keeps_its_profiler() {
    let text = format!(
        "{BUSY}
import cProfile, pstats
profile = cProfile.Profile()
profile.enable()
busy()
profile.disable()
[leaves] = [row[1] for name, row in pstats.Stats(profile).stats.items() if name[2] == 'leaf']
assert leaves == 300000, leaves
"
    );
    for_every_python(&text, |python, done, workspace, summary| {
        done.assert_status(0);
        assert_eq!(summary["calls"], Value::Null, "{python}");
        let report = workspace.text("phase1/PHASE1_REPORT.md");
        assert!(shows_notice(&report, summary, "calls_not_counted"), "{python}: {report}");
        assert_eq!(workspace.text("phase1/calls.err"), "", "{python}");
    });
}

#[test]
fn calls_are_reported_after_a_change_of_user_root_or_descriptors() {
    let is_root = is_root();
    let kinds = [
        ("os.closerange(3, 4096)", true),
        ("os.setgid(65534); os.setuid(65534)", is_root),
        ("os.chroot(tempfile.mkdtemp()); os.chdir('/')", is_root),
    ];
    for (change, _) in kinds.into_iter().filter(|(_, possible)| *possible) {
        let text = format!(
            "{BUSY}
import os, tempfile
{change}
if os.fork() == 0:
    leaf()
    os._exit(0)
os.wait()
busy()
"
        );
        for_every_python(&text, |python, _, workspace, summary| {
            let calls = &summary["calls"];
            assert_eq!(calls["processes"], 2, "{python} {change}: {calls:#}");
            assert_eq!(calls["lost"], 0, "{python} {change}");
            assert_eq!(counted(workspace, ".leaf", "calls"), 300_001, "{python} {change}");
            assert_eq!(workspace.text("phase1/calls.err"), "", "{python} {change}");
        });
    }
}

#[test]
fn a_process_that_replaces_its_program_is_counted_as_lost() {
    let text = format!(
        "{BUSY}
import os, sys
busy()
if len(sys.argv) == 1:
    os.execv(sys.executable, [sys.executable, __file__, 'again'])
"
    );
    for_every_python(&text, |python, _, workspace, summary| {
        let calls = &summary["calls"];
        assert_eq!([&calls["processes"], &calls["lost"]], [1, 1], "{python}: {calls:#}");
        assert_eq!(counted(workspace, ".leaf", "calls"), 300_000, "{python}");
    });
}
