//! The end of a target, and the reasons why it cannot start.

use std::fs;
use std::time::Duration;

use simprof_record::{Cancel, Outcome, RecordError, launch};

use simprof_testkit::{is_alive, wait_for};

use crate::support::{Fixture, record, written_pids};

#[test]
fn the_exit_status_and_the_output_are_kept() {
    let folder = Fixture::new();
    let run = folder.run(&["sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!(run.outcome, Outcome::Exited(3));
    assert_eq!(run.outcome.to_string(), "exited with status 3");
    assert_eq!((run.stdout_tail.as_str(), run.stderr_tail.as_str()), ("out\n", "err\n"));
    assert_eq!(fs::read_to_string(folder.path("stdout.log")).expect("a log"), "out\n");
    assert!(run.leftovers.is_empty() && run.notices.is_empty());
    assert_eq!(run.end_ns - run.start_ns, run.wall_ns);
}

#[test]
fn a_crash_is_reported_with_its_signal() {
    let run = Fixture::new().run(&["sh", "-c", "ulimit -c 0; kill -SEGV $$"]);
    assert_eq!(run.outcome.to_string(), "killed by SIGSEGV");
}

#[test]
fn each_reason_why_a_program_cannot_run_has_its_error() {
    let folder = Fixture::new();
    assert!(matches!(folder.refusal(&[]), RecordError::EmptyCommand));
    let error = folder.refusal(&["no-such-program-anywhere"]).to_string();
    assert!(error.contains("\"no-such-program-anywhere\"") && error.contains("PATH"), "{error}");
    assert!(matches!(folder.refusal(&["/no/such"]), RecordError::ProgramMissing { .. }));
    assert!(matches!(folder.refusal(&["/tmp"]), RecordError::ProgramIsDirectory { .. }));
    assert!(matches!(folder.refusal(&["/etc/passwd"]), RecordError::NotExecutable { .. }));
    assert!(matches!(folder.refusal(&["a\0b"]), RecordError::Unpassable { .. }));
    assert!(matches!(folder.refusal(&["sh", "a\0b"]), RecordError::Unpassable { .. }));
}

#[test]
fn a_file_that_is_not_a_program_has_its_error() {
    let folder = Fixture::new();
    for (name, text) in [("text", "hello"), ("script", "#!/no/such/interpreter\n")] {
        folder.write_script(name, text);
    }
    let refused = folder.refusal(&[&folder.text_path("text")]);
    assert!(matches!(refused, RecordError::NotAProgram { .. }), "{refused}");
    let refused = folder.refusal(&[&folder.text_path("script")]).to_string();
    assert!(refused.contains("/no/such/interpreter"), "{refused}");
}

#[test]
fn missing_folders_are_named() {
    let folder = Fixture::new();
    let mut plan = folder.plan(&["true"]);
    plan.directory = Some(folder.path("missing"));
    let error = launch(&plan, &Cancel::new()).expect_err("no such folder").to_string();
    assert!(error.contains("missing"), "{error}");
    let mut plan = folder.plan(&["true"]);
    plan.stderr = folder.path("missing/log");
    let error = launch(&plan, &Cancel::new()).expect_err("no such folder").to_string();
    assert!(error.contains("missing/log"), "{error}");
    let mut plan = folder.plan(&["true"]);
    plan.guardian.exe = folder.path("guardian");
    let error = launch(&plan, &Cancel::new()).expect_err("no guardian").to_string();
    assert!(error.contains("guardian"), "{error}");
}

#[test]
fn a_program_that_is_not_a_guardian_is_an_error() {
    let folder = Fixture::new();
    let mut plan = folder.plan(&["true"]);
    plan.guardian.exe = "true".into();
    let error = launch(&plan, &Cancel::new()).expect_err("no guardian");
    assert!(matches!(error, RecordError::NotAGuardian { .. }), "{error}");
}

#[test]
fn a_program_is_relative_to_its_directory_and_sees_its_environment() {
    let folder = Fixture::new();
    fs::create_dir(folder.path("inner")).expect("made");
    let script = "#!/bin/sh\npwd; echo \"$GREETING\"; echo \"${SIMPROF_MARKS-unset}\"\n";
    folder.write_script("inner/tool", script);
    let mut plan = folder.plan(&["./tool"]);
    plan.environment.insert("GREETING".to_owned(), "good = day".to_owned());
    // A relative directory is relative to that of this process.
    let here = std::env::current_dir().expect("a folder");
    let up: std::path::PathBuf = here.components().skip(1).map(|_| "..").collect();
    let inner = folder.path("inner");
    plan.directory = Some(up.join(inner.strip_prefix("/").expect("absolute")));
    let lines = record(&plan).stdout_tail;
    let lines: Vec<_> = lines.lines().collect();
    assert!(lines[0].ends_with("/inner"), "{lines:?}");
    assert_eq!(lines[1..], ["good = day", "unset"]);
}

#[test]
fn a_target_starts_with_clean_descriptors_and_signals() {
    let folder = Fixture::new();
    let run = folder.run(&["ls", "/proc/self/fd"]);
    // Descriptor 3 is the one with which ls reads the folder.
    assert_eq!(run.stdout_tail, "0\n1\n2\n3\n");
    let run = folder.run(&["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]);
    for line in run.stdout_tail.lines() {
        let mask = line.split_whitespace().nth(1).expect("a mask");
        let mask = u64::from_str_radix(mask, 16).expect("hexadecimal");
        // The C library uses signals 32 and 33 itself, and programs cannot change them.
        assert_eq!(mask & !(1 << 31 | 1 << 32), 0, "{line}");
    }
    assert_eq!(folder.run(&["cat"]).outcome, Outcome::Exited(0), "standard input is empty");
}

#[test]
fn a_timeout_ends_all_processes_and_keeps_results() {
    let folder = Fixture::new();
    let pids = folder.text_path("pids");
    let script = format!(
        "trap '' TERM INT HUP; echo begun; \
         sh -c \"trap '' TERM; echo \\$\\$ >> {pids}; while :; do sleep 1000; done\" & \
         echo $$ >> {pids}; while :; do sleep 1000; done"
    );
    let mut plan = folder.plan(&["sh", "-c", &script]);
    plan.timeout = Some(Duration::from_millis(700));
    plan.resources = Some(Duration::from_millis(20));
    let run = record(&plan);
    assert_eq!(run.outcome, Outcome::TimedOut);
    assert_eq!(run.stdout_tail, "begun\n");
    assert!(run.timeline.samples.len() > 2);
    for pid in written_pids(&folder.path("pids"), 2) {
        assert!(!is_alive(pid), "{pid}");
    }
}

#[test]
fn a_cancelled_target_is_ended() {
    let folder = Fixture::new();
    let pids = folder.path("pids");
    let script = format!("echo $$ > {}; exec sleep 1000", pids.display());
    let plan = folder.plan(&["sh", "-c", &script]);
    let cancel = Cancel::new();
    let run = std::thread::scope(|scope| {
        let recording = scope.spawn(|| launch(&plan, &cancel));
        wait_for("the target", || pids.exists().then_some(()));
        cancel.cancel();
        recording.join().expect("no panic").expect("a recording")
    });
    assert_eq!(run.outcome, Outcome::Cancelled);
    assert!(!is_alive(written_pids(&pids, 1)[0]));
}

#[test]
fn concurrent_recordings_do_not_interfere() {
    let folder = Fixture::new();
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..8)
            .map(|number: i32| {
                let mut plan = folder.plan(&["sh", "-c", &format!("echo {number}; exit {number}")]);
                plan.stdout = folder.path(&format!("{number}.log"));
                scope.spawn(move || record(&plan))
            })
            .collect();
        for (number, run) in (0..).zip(runs) {
            let run = run.join().expect("no panic");
            assert_eq!(run.outcome, Outcome::Exited(number));
            assert_eq!(run.stdout_tail, format!("{number}\n"));
        }
    });
}
