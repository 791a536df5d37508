//! Targets that cannot be run, fail, crash, hang, or leave processes behind. Each gives one clear error, loses no results and
//! leaves no process.

use serde_json::Value;

use crate::support::{Done, Workspace, c_program, sampled, sampling_allowed, shows_notice};

/// Runs all phases with `--quick` on `tests/programs/trouble.c`, and asserts that no process remains.
fn trouble(workspace: &Workspace, arguments: &[&str]) -> Done {
    let program = c_program("trouble");
    let mut all = vec!["run", "--quick", "--rate", "5000", "--timeout", "1", "--", &program];
    all.extend(arguments);
    let done = workspace.simprof(&all);
    workspace.assert_nothing_left();
    done
}

/// Returns the number of lines of standard error that contain a text.
fn lines_with(done: &Done, word: &str) -> usize {
    done.stderr.lines().filter(|line| line.contains(word)).count()
}

/// Asserts that every planned measurement of the run has this status and a reason that contains `words`.
fn assert_all_measurements(workspace: &Workspace, status: &str, words: &str) {
    let manifest = workspace.manifest();
    assert_eq!(manifest["status"], "failed", "{manifest:#}");
    for phase in manifest["phases"].as_array().expect("phases") {
        let measurements = phase["measurements"].as_array().expect("measurements");
        assert!(!measurements.is_empty(), "{phase:#}");
        for measurement in measurements {
            assert_eq!(measurement["status"], status, "{measurement:#}");
            let reason = measurement["reason"].as_str().expect("a reason");
            assert!(reason.contains(words), "{measurement:#}");
        }
    }
    let summary = workspace.json("phase1/phase1_summary.json");
    assert_eq!(summary["status"], status, "{summary:#}");
    assert!(workspace.text("phase1/PHASE1_REPORT.md").contains(words));
}

/// Asserts that a target which cannot be run is refused before the run: one line, exit status 2.
fn assert_refused(workspace: &Workspace, program: &str, words: &[&str]) {
    let done = workspace.simprof(&["run", "--quick", "--", program]);
    done.assert_status(2);
    done.assert_reports(words);
    assert_eq!(done.stderr.lines().count(), 1, "{done:#?}");
    assert!(!workspace.path("profiling_results").exists(), "nothing was measured");
}

#[test]
fn a_target_that_does_not_exist() {
    let workspace = Workspace::new();
    assert_refused(&workspace, "./nowhere", &["/nowhere does not exist", "check the path"]);
    assert_refused(&workspace, "simprof-test-nowhere", &["simprof-test-nowhere", "PATH", "./NAME"]);
    assert_refused(&workspace, "./", &["is a directory", "give the path of a program in it"]);
}

#[test]
fn a_target_that_may_not_be_executed() {
    let workspace = Workspace::new();
    workspace.write("plain", "text");
    assert_refused(&workspace, "./plain", &["/plain", "no permission to be executed", "chmod +x"]);
}

#[test]
fn a_target_that_is_not_a_program() {
    let workspace = Workspace::new();
    for (name, text, words) in [
        ("text", "just text", "is not an executable"),
        ("script", "#!/no/such/interpreter\n", "/no/such/interpreter"),
    ] {
        workspace.write_script(name, text);
        let done = workspace.simprof(&["run", "--quick", "--", &format!("./{name}")]);
        done.assert_status(1);
        done.assert_reports(&[name, words]);
        assert_eq!(lines_with(&done, words), 1, "it is printed once: {done:#?}");
        let manifest = workspace.manifest();
        assert_eq!(manifest["status"], "failed", "{manifest:#}");
        assert_eq!(manifest["phases"][3]["measurements"][0]["status"], "skipped");
    }
}

#[test]
fn a_target_that_exits_with_an_error() {
    let workspace = Workspace::new();
    let done = trouble(&workspace, &["exit"]);
    done.assert_status(1);
    done.assert_reports(&["exited with status 3", "the world file is missing"]);
    assert_eq!(lines_with(&done, "status 3"), 1, "it is printed once: {done:#?}");
    assert_all_measurements(&workspace, "failed", "the world file is missing");
}

#[test]
fn a_target_that_crashes() {
    let workspace = Workspace::new();
    let done = trouble(&workspace, &["crash"]);
    done.assert_status(1);
    done.assert_reports(&["phase 1", "default failed", "SIGSEGV"]);
    assert_all_measurements(&workspace, "failed", "SIGSEGV");
    let system = workspace.json("phase4/phase4_summary.json");
    assert_eq!(system["timelines"], Value::Array(vec![]), "a crashed run gives no timeline");
}

#[test]
fn a_target_that_is_killed() {
    let workspace = Workspace::new();
    let done = trouble(&workspace, &["killed"]);
    done.assert_status(1);
    done.assert_reports(&["SIGKILL", "dmesg"]);
    assert_all_measurements(&workspace, "failed", "SIGKILL");
}

#[test]
fn a_target_that_hangs() {
    let workspace = Workspace::new();
    let done = trouble(&workspace, &["hang"]);
    done.assert_status(1);
    done.assert_reports(&["timed out", "did not end within 1 s", "--timeout"]);
    assert_all_measurements(&workspace, "timed_out", "did not end within 1 s");
}

#[test]
fn a_target_that_hangs_with_children_and_ignores_signals() {
    let workspace = Workspace::new();
    let done = trouble(&workspace, &["stubborn"]);
    done.assert_status(1);
    done.assert_reports(&["timed out", "did not end within 1 s", "--timeout"]);
    assert_all_measurements(&workspace, "timed_out", "did not end within 1 s");
}

#[test]
fn a_target_that_leaves_daemons_behind() {
    let workspace = Workspace::new();
    let program = c_program("trouble");
    let arguments =
        ["run", "--quick", "--phase", "4", "--phase", "1", "--", program.as_str(), "orphans"];
    let done = workspace.simprof(&arguments);
    workspace.assert_nothing_left();
    if !sampled(&done) {
        return;
    }
    assert_eq!(lines_with(&done, "outlived"), 1, "it is printed once: {done:#?}");
    for phase in ["phase1/phase1_summary.json", "phase4/phase4_summary.json"] {
        let summary = workspace.json(phase);
        assert!(shows_notice(&done.stderr, &summary, "processes_outlived"), "{phase}: {done:#?}");
    }
}

#[test]
fn a_target_that_fails_later_keeps_earlier_results() {
    let workspace = Workspace::new();
    let program = c_program("trouble");
    let arguments = ["run", "--quick", "--phase", "1", "--timeout", "2", "--"];
    let done = workspace.simprof(&[&arguments[..], &[&program, "later", "count", "2"]].concat());
    workspace.assert_nothing_left();
    done.assert_status(1);
    if !sampling_allowed() {
        return;
    }
    done.assert_reports(&["default partial", "did not end within 2 s"]);
    let measurement = &workspace.manifest()["phases"][0]["measurements"][0];
    let replicates = measurement["replicates"].as_array().expect("replicates");
    let statuses: Vec<&Value> = replicates.iter().map(|replicate| &replicate["status"]).collect();
    assert_eq!(statuses, ["ok", "ok", "timed_out"], "{measurement:#}");
    let summary = workspace.json("phase1/phase1_summary.json");
    assert_eq!(summary["status"], "partial", "{summary:#}");
    assert_eq!(summary["functions"][0]["name"].as_str().map(str::is_empty), Some(false));
}
