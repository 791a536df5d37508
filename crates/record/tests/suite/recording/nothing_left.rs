//! No process of a target remains, whether the target, the guardian or the recorder ends first, and however it ends.

use std::fs;
use std::process::{Child, Command, Stdio};

use simprof_record::Outcome;

use simprof_testkit::{is_alive, wait_for, wait_for_end};

use crate::support::{Fixture, RECORD_ONE, record, written_pids};

/// Returns a script that starts four processes which only SIGKILL ends. One is a daemon. They write their ids to `pids`.
fn stubborn(folder: &Fixture) -> String {
    let (daemon, pids, started) =
        (folder.program("daemon"), folder.text_path("pids"), folder.text_path("d"));
    format!(
        "trap '' TERM INT HUP; {daemon} {started}; cat {started} >> {pids}; \
         setsid sh -c \"echo \\$\\$ >> {pids}; trap '' TERM; sleep 1000 & echo \\$! >> {pids}; wait\" & \
         echo $$ >> {pids}; while :; do sleep 1000; done"
    )
}

/// Starts another process that records `script`.
fn recorder(folder: &Fixture, script: &str) -> Child {
    Command::new(RECORD_ONE)
        .arg(folder.path(""))
        .args(["sh", "-c", script])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a recorder")
}

fn guardian_of(recorder: &Child) -> u32 {
    let pid = recorder.id();
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("children");
    text.split_whitespace().next().expect("one guardian").parse().expect("a number")
}

fn kill(pid: u32) {
    let status = Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(status.expect("kill").success());
}

#[test]
fn a_daemon_that_outlives_its_command_is_ended_and_named() {
    let folder = Fixture::new();
    let daemon = folder.program("daemon");
    let run = folder.run(&[&daemon, &folder.text_path("pids")]);
    assert_eq!(run.outcome, Outcome::Exited(0));
    let pid = written_pids(&folder.path("pids"), 1)[0];
    assert!(!is_alive(pid));
    assert_eq!(run.leftovers.len(), 1);
    assert_eq!((run.leftovers[0].pid, run.leftovers[0].name.as_str()), (pid, "daemon"));
}

#[test]
fn a_process_that_ends_in_time_is_not_a_leftover() {
    let run = Fixture::new().run(&["sh", "-c", "sleep 0.05 & exit 0"]);
    assert!(run.leftovers.is_empty(), "{:?}", run.leftovers);
}

#[test]
fn a_killed_recorder_leaves_no_process() {
    let folder = Fixture::new();
    let mut recorder = recorder(&folder, &stubborn(&folder));
    let mut pids = written_pids(&folder.path("pids"), 4);
    pids.push(guardian_of(&recorder));
    assert!(pids.iter().all(|&pid| is_alive(pid)));
    recorder.kill().expect("it is ours");
    recorder.wait().expect("it is ours");
    wait_for_end(&pids);
}

#[test]
fn a_killed_guardian_leaves_no_process_and_is_an_error() {
    let folder = Fixture::new();
    let recorder = recorder(&folder, &stubborn(&folder));
    let pids = written_pids(&folder.path("pids"), 4);
    kill(guardian_of(&recorder));
    let output = recorder.wait_with_output().expect("it ends");
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("the guardian of process"), "{error}");
    wait_for_end(&pids);
}

#[test]
fn a_terminated_guardian_ends_its_target() {
    let folder = Fixture::new();
    let recorder = recorder(&folder, &stubborn(&folder));
    let pids = written_pids(&folder.path("pids"), 4);
    let guardian = guardian_of(&recorder);
    Command::new("kill").arg(guardian.to_string()).status().expect("kill");
    let output = recorder.wait_with_output().expect("it ends");
    assert!(output.status.success(), "the recorder succeeds although its target was ended");
    wait_for_end(&pids);
}

#[test]
fn a_target_that_forks_without_end_is_ended() {
    let folder = Fixture::new();
    let mut plan = folder.plan(&[&folder.program("bomb"), "16"]);
    plan.timeout = Some(std::time::Duration::from_millis(300));
    plan.resources = Some(std::time::Duration::from_millis(5));
    assert_eq!(record(&plan).outcome, Outcome::TimedOut);
    let name = folder.text_path("bomb");
    wait_for("the end of the bomb", || {
        let alive = fs::read_dir("/proc").expect("processes").flatten().any(|entry| {
            let exe = fs::read_link(entry.path().join("exe")).unwrap_or_default();
            exe.to_string_lossy() == name
        });
        (!alive).then_some(())
    });
}

#[test]
fn a_target_that_kills_its_group_hits_neither_guardian_nor_recorder() {
    let run = Fixture::new().run(&["sh", "-c", "kill -TERM 0; sleep 1000"]);
    assert_eq!(run.outcome.to_string(), "killed by SIGTERM");
}
