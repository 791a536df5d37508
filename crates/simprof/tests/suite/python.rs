//! Python programs whose results are known: shares, lines, and the native functions that lines call.

use serde_json::Value;
use simprof_testkit::python;

use crate::support::{
    Done, FAST, Workspace, assert_share, marked_line, python_program, python_with_packages,
    sampled, truth, truth_file,
};

fn simprof(workspace: &Workspace, phase: &[&str], command: &[&str]) -> Done {
    let mut arguments = vec!["run"];
    arguments.extend(phase);
    arguments.extend(FAST);
    arguments.push("--");
    arguments.extend(command);
    workspace.simprof(&arguments)
}

/// Returns the row of a function in a summary.
fn function<'s>(summary: &'s Value, name: &str) -> &'s Value {
    let rows = summary["functions"].as_array().expect("functions");
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name} in {rows:#?}"))
}

fn share(row: &Value, which: &str) -> f64 {
    row[which].as_f64().unwrap_or_else(|| panic!("no {which} in {row:#}"))
}

#[test]
fn python_functions_of_three_to_one_are_shown_three_to_one() {
    let workspace = Workspace::new();
    let program = python_program("three_to_one.py");
    let times = truth_file(&workspace);
    let command = [python().text(), &program, "6000", &times];
    if !sampled(&simprof(&workspace, &["--phase", "1"], &command)) {
        return;
    }
    let summary = workspace.json("phase1/phase1_summary.json");
    let [in_three, in_one] = truth(&workspace, &summary);
    let samples = share(&summary["profile"], "samples");
    let [three, one] = ["three_to_one.three", "three_to_one.one"].map(|name| {
        let row = function(&summary, name);
        assert_eq!(row["file"], program, "{row:#}");
        share(row, "total_share")
    });
    assert!(three + one > 0.8, "little else takes time: {three} + {one}");
    assert_share(in_three / (in_three + in_one), three, three + one, samples);
    let account = &summary["profile"]["python"];
    let lost = share(account, "lost") + share(account, "unreadable");
    assert!(lost <= 0.01 * share(account, "samples"), "{account:#}");
}

#[test]
fn the_lines_of_python_functions_are_exact() {
    let workspace = Workspace::new();
    let program = python_program("three_to_one.py");
    let command = [python().text(), &program, "6000"];
    let phase = ["--phase", "3", "--function", "three_to_one.three"];
    if !sampled(&simprof(&workspace, &phase, &command)) {
        return;
    }
    let summary = workspace.json("phase3/phase3_summary.json");
    let lines = summary["lines"].as_array().expect("lines");
    let of_three = lines.iter().filter(|line| line["function"] == "three_to_one.three");
    // From the line of `def` to that of `return`.
    let hot = marked_line("three_to_one.py", "# THREE");
    for line in of_three {
        let number = line["line"].as_u64().expect("a line");
        assert!((hot - 3..=hot + 1).contains(&number), "{line:#}");
    }
    assert_eq!(lines[0]["line"], hot, "{:#}", lines[0]);
}

#[test]
fn work_in_a_package_is_followed_to_the_function_that_does_it() {
    let workspace = Workspace::new();
    let library = "\
def look(n):
    total = 0
    for i in range(n):
        total += i * i
    return total

class World:
    def step(self):
        return self.update()

    def update(self):
        return look(20000)
";
    workspace.write("lib/site-packages/world.py", library);
    let script = "\
import sys
sys.path.insert(0, 'lib/site-packages')
import world

def main():
    for _ in range(400):
        world.World().step()

main()
";
    let program = workspace.write("drive.py", script);
    let phases = ["--phase", "1", "--phase", "3"];
    if !sampled(&simprof(&workspace, &phases, &[python().text(), &program])) {
        return;
    }
    let first = &workspace.json("phase1/phase1_summary.json")["bottlenecks"][0];
    assert_eq!(first["name"], "drive.main", "{first:#}");
    let callee = &first["heaviest_callee"];
    assert_eq!(callee["name"], "world.look", "{first:#}");
    assert!(share(callee, "share") > 0.8, "{callee:#}");
    let summary = workspace.json("phase3/phase3_summary.json");
    assert_eq!(function(&summary, "world.look")["lines"][0]["line"], 4, "{summary:#}");
}

#[test]
fn numpy_time_is_attributed_to_the_lines_that_call_it() {
    let workspace = Workspace::new();
    let program = python_program("numpy_lines.py");
    let times = truth_file(&workspace);
    let command = [&*python_with_packages(), &program, "4000", &times];
    let phase = ["--phase", "3", "--function", "numpy_lines.work"];
    if !sampled(&simprof(&workspace, &phase, &command)) {
        return;
    }
    let summary = workspace.json("phase3/phase3_summary.json");
    let lines = summary["lines"].as_array().expect("lines");
    let of = |mark| {
        let number = marked_line("numpy_lines.py", mark);
        lines.iter().find(|line| line["line"] == number).unwrap_or_else(|| panic!("{lines:#?}"))
    };
    let [larger, smaller] =
        [of("THREE QUARTERS"), of("A QUARTER")].map(|line| share(line, "cpu_share"));
    let [in_larger, in_smaller] = truth(&workspace, &summary);
    let samples = share(&summary["profile"], "samples");
    assert_share(in_larger / (in_larger + in_smaller), larger, larger + smaller, samples);
}

#[test]
fn waiting_for_a_lock_is_on_its_line_with_its_duration() {
    let workspace = Workspace::new();
    let program = python_program("lock_wait.py");
    let times = truth_file(&workspace);
    let command = [python().text(), &program, "20", &times];
    if !sampled(&simprof(&workspace, &["--phase", "1"], &command)) {
        return;
    }
    let summary = workspace.json("phase1/phase1_summary.json");
    let [waited, until_run] = truth(&workspace, &summary);
    let line = marked_line("lock_wait.py", "# WAITS");
    let waits = summary["waits"].as_array().expect("waits");
    let of_line = |wait: &&Value| wait["file"] == program && wait["line"] == line;
    let found: Vec<&Value> = waits.iter().filter(of_line).collect();
    let lock = found.iter().find(|wait| wait["cause"] == "synchronisation");
    let lock = lock.unwrap_or_else(|| panic!("the lock is waited for: {waits:#?}"));
    assert_eq!(lock["function"], "lock_wait.wait_for_it");
    // A recorded wait ends when the thread runs again. The times that the program measured also include getting the
    // interpreter's lock back and the code between its two readings.
    let measured: f64 = found.iter().map(|wait| share(wait, "wait_s")).sum();
    let range = 0.8 * waited..1.02 * until_run;
    assert!(range.contains(&measured), "{measured} is not in {range:?}: {found:#?}");
    let thread_s = share(&summary["thread_time"], "thread_s");
    let ratio = share(lock, "share") * thread_s / share(lock, "wait_s");
    assert!(
        (ratio - 1.0).abs() < 1e-6,
        "the share is relative to the time of all threads: {lock:#}"
    );
}

#[test]
fn time_in_sqlite_is_on_the_line_of_the_query() {
    let workspace = Workspace::new();
    let program = python_program("sqlite_work.py");
    let times = truth_file(&workspace);
    let command = [python().text(), &program, "40", &times];
    let phases = ["--phase", "1", "--phase", "3", "--function", "sqlite_work.count"];
    if !sampled(&simprof(&workspace, &phases, &command)) {
        return;
    }
    let summary = workspace.json("phase1/phase1_summary.json");
    let [in_query, in_python] = truth(&workspace, &summary);
    let [query, spin] = ["sqlite_work.count", "sqlite_work.spin"]
        .map(|name| share(function(&summary, name), "total_share"));
    let samples = share(&summary["profile"], "samples");
    assert_share(in_query / (in_query + in_python), query, query + spin, samples);
    let lines = workspace.json("phase3/phase3_summary.json")["lines"].clone();
    let first = &lines[0];
    assert_eq!(first["function"], "sqlite_work.count");
    assert_eq!(first["line"], marked_line("sqlite_work.py", "# QUERY"), "{lines:#}");
    let native = first["natives"][0].as_str().unwrap_or_else(|| panic!("a function: {first:#}"));
    assert!(native.starts_with("sqlite3"), "the line calls SQLite: {first:#}");
}

#[test]
fn the_report_omits_functions_of_the_interpreter() {
    let workspace = Workspace::new();
    let program = python_program("three_to_one.py");
    let phases = ["--phase", "1", "--phase", "3"];
    if !sampled(&simprof(&workspace, &phases, &[python().text(), &program, "3000"])) {
        return;
    }
    let summary = workspace.json("phase1/phase1_summary.json");
    let functions = summary["functions"].as_array().expect("functions");
    let own: Vec<&Value> = functions.iter().filter(|row| row["interpreter"] == true).collect();
    assert!(!own.is_empty(), "{functions:#?}");
    let report = workspace.text("phase1/PHASE1_REPORT.md");
    let (_, table) = report.split_once("## Functions by total time").expect("a table");
    let (table, _) = table.split_once("\n## ").expect("a section follows");
    assert!(table.contains("`three_to_one.three`"), "{table}");
    for row in own {
        let name = row["name"].as_str().expect("a name");
        let is_alone = functions.iter().filter(|other| other["name"] == name).count() == 1;
        assert!(!is_alone || !table.contains(&format!("`{name}`")), "{name}: {table}");
    }
    let lines = workspace.json("phase3/phase3_summary.json")["lines"].clone();
    for line in lines.as_array().expect("lines") {
        let file = line["file"].as_str().expect("a file");
        assert!(!file.contains("Python/ceval.c"), "{line:#}");
    }
}
