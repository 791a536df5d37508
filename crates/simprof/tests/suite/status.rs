//! `simprof status` during a run, after it, and without one.

use serde_json::Value;

use simprof_testkit::wait_for;

use crate::support::{Started, Workspace, c_program};

/// Starts phase 4 on a program that hangs in its fourth run, and waits until three runs are done.
fn start_hanging(workspace: &Workspace) -> Started {
    let program = c_program("trouble");
    let spec = format!(
        "[target]\ncommand = [{program:?}, \"later\", \"count\", \"3\", \"{{n}}\"]\n\
         [parameters]\nn = {{ default = 1, sweep = [1, 2, 4, 8, 16] }}\n"
    );
    workspace.write("simprof.toml", &spec);
    let started = workspace.start(&["run", "--quick", "--phase", "4"]);
    wait_for("three processes to be done", || {
        let path = workspace.latest("run.json");
        let manifest: Value = serde_json::from_str(&std::fs::read_to_string(path).ok()?)
            .expect("the manifest is complete at any time");
        (manifest["phases"][0]["done"] == 3).then_some(())
    });
    started
}

#[test]
fn status_shows_a_run_during_and_after_it() {
    let workspace = Workspace::new();
    let run = start_hanging(&workspace);
    let during = workspace.simprof(&["status"]);
    during.assert_status(0);
    for words in
        ["running for", &format!("process {}", run.pid()), "3 of 31", "running, about", "left: n="]
    {
        assert!(during.stdout.contains(words), "{words}: {during:#?}");
    }
    let by_name = workspace.latest("").canonicalize().expect("the run's folder");
    let named = workspace.simprof(&["status", by_name.to_str().expect("text")]);
    assert!(named.stdout.contains("3 of 31"), "{named:#?}");
    run.signal(libc::SIGINT);
    run.end().assert_status(1);
    let after = workspace.simprof(&["status"]);
    after.assert_status(1);
    for words in ["interrupted", "partial", "phase4/phase4_summary.json", "PHASE4_REPORT.md"] {
        assert!(after.stdout.contains(words), "{words}: {after:#?}");
    }
    let json = workspace.simprof(&["status", "--json"]);
    let manifest: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(manifest["status"], "interrupted");
}

#[test]
fn following_ends_with_the_run() {
    let workspace = Workspace::new();
    let run = start_hanging(&workspace);
    let follower = workspace.start_into(&["status", "--follow"], "follow");
    wait_for("the first look", || {
        let seen = std::fs::read_to_string(workspace.path("follow.stdout")).ok()?;
        seen.contains("3 of 31").then_some(())
    });
    run.signal(libc::SIGINT);
    run.end();
    let done = follower.end();
    done.assert_status(1);
    assert!(done.stdout.contains("interrupted"), "{done:#?}");
}

#[test]
fn listed_files_exist() {
    let workspace = Workspace::new();
    workspace.simprof(&["run", "--quick", "--phase", "4", "--", "true"]).assert_status(0);
    let status = workspace.simprof(&["status"]);
    status.assert_status(0);
    let files: Vec<&str> =
        status.stdout.lines().filter_map(|line| line.trim().strip_prefix("phase4/")).collect();
    assert!(files.len() >= 4, "{status:#?}");
    for file in files {
        assert!(workspace.latest("phase4").join(file).is_file(), "{file}: {status:#?}");
    }
}

#[test]
fn a_folder_without_a_run() {
    let workspace = Workspace::new();
    let done = workspace.simprof(&["status"]);
    done.assert_status(2);
    done.assert_reports(&["no run in profiling_results", "simprof run"]);
    std::fs::create_dir(workspace.path("other")).expect("a folder");
    workspace.write("other/run.json", "{\"half\":");
    let done = workspace.simprof(&["status", "other"]);
    done.assert_status(2);
    done.assert_reports(&["other/run.json"]);
}
