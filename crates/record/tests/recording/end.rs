//! How a target ends, or why it does not begin.

use std::fs;
use std::time::Duration;

use simprof_record::{Cancel, Outcome, RecordError, launch};

use crate::support::{Place, is_alive, record, wait_for, written_pids};

#[test]
fn a_status_and_output_are_kept() {
    let place = Place::new();
    let run = place.run(&["sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!(run.outcome, Outcome::Exited(3));
    assert_eq!(run.outcome.to_string(), "exited with status 3");
    assert_eq!((run.stdout_tail.as_str(), run.stderr_tail.as_str()), ("out\n", "err\n"));
    assert_eq!(fs::read_to_string(place.path("stdout.log")).expect("a log"), "out\n");
    assert!(run.leftovers.is_empty() && run.notices.is_empty());
    assert_eq!(run.end_ns - run.start_ns, run.wall_ns);
}

#[test]
fn a_crash_is_named() {
    let run = Place::new().run(&["sh", "-c", "ulimit -c 0; kill -SEGV $$"]);
    assert_eq!(run.outcome.to_string(), "killed by SIGSEGV");
}

#[test]
fn a_program_that_cannot_run_is_told_apart() {
    let place = Place::new();
    assert!(matches!(place.refusal(&[]), RecordError::EmptyCommand));
    let error = place.refusal(&["no-such-program-anywhere"]).to_string();
    assert!(error.contains("\"no-such-program-anywhere\"") && error.contains("PATH"), "{error}");
    assert!(matches!(place.refusal(&["/no/such"]), RecordError::ProgramMissing { .. }));
    assert!(matches!(place.refusal(&["/tmp"]), RecordError::ProgramIsDirectory { .. }));
    assert!(matches!(place.refusal(&["/etc/passwd"]), RecordError::NotExecutable { .. }));
    assert!(matches!(place.refusal(&["a\0b"]), RecordError::Unpassable { .. }));
    assert!(matches!(place.refusal(&["sh", "a\0b"]), RecordError::Unpassable { .. }));
}

#[test]
fn a_file_that_is_no_program_is_told_apart() {
    let place = Place::new();
    for (name, text) in [("text", "hello"), ("script", "#!/no/such/interpreter\n")] {
        place.script(name, text);
    }
    let refused = place.refusal(&[&place.text("text")]);
    assert!(matches!(refused, RecordError::NotAProgram { .. }), "{refused}");
    let refused = place.refusal(&[&place.text("script")]).to_string();
    assert!(refused.contains("/no/such/interpreter"), "{refused}");
}

#[test]
fn folders_that_are_missing_are_named() {
    let place = Place::new();
    let mut plan = place.plan(&["true"]);
    plan.directory = Some(place.path("missing"));
    let error = launch(&plan, &Cancel::new()).expect_err("no such folder").to_string();
    assert!(error.contains("missing"), "{error}");
    let mut plan = place.plan(&["true"]);
    plan.stderr = place.path("missing/log");
    let error = launch(&plan, &Cancel::new()).expect_err("no such folder").to_string();
    assert!(error.contains("missing/log"), "{error}");
    let mut plan = place.plan(&["true"]);
    plan.guardian.exe = place.path("guardian");
    let error = launch(&plan, &Cancel::new()).expect_err("no guardian").to_string();
    assert!(error.contains("guardian"), "{error}");
}

#[test]
fn what_is_no_guardian_is_told() {
    let place = Place::new();
    let mut plan = place.plan(&["true"]);
    plan.guardian.exe = "true".into();
    let error = launch(&plan, &Cancel::new()).expect_err("no guardian");
    assert!(matches!(error, RecordError::NotAGuardian { .. }), "{error}");
}

#[test]
fn a_program_is_relative_to_its_directory_and_sees_its_environment() {
    let place = Place::new();
    fs::create_dir(place.path("inner")).expect("made");
    let script = "#!/bin/sh\npwd; echo \"$GREETING\"; echo \"${SIMPROF_MARKS-unset}\"\n";
    place.script("inner/tool", script);
    let mut plan = place.plan(&["./tool"]);
    plan.environment.insert("GREETING".to_owned(), "good = day".to_owned());
    // A relative one is relative to this process's.
    let here = std::env::current_dir().expect("a folder");
    let up: std::path::PathBuf = here.components().skip(1).map(|_| "..").collect();
    let inner = place.path("inner");
    plan.directory = Some(up.join(inner.strip_prefix("/").expect("absolute")));
    let lines = record(&plan).stdout_tail;
    let lines: Vec<_> = lines.lines().collect();
    assert!(lines[0].ends_with("/inner"), "{lines:?}");
    assert_eq!(lines[1..], ["good = day", "unset"]);
}

#[test]
fn a_target_begins_clean() {
    let place = Place::new();
    let run = place.run(&["ls", "/proc/self/fd"]);
    // The fourth is the one by which ls reads the folder.
    assert_eq!(run.stdout_tail, "0\n1\n2\n3\n");
    let run = place.run(&["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]);
    for line in run.stdout_tail.lines() {
        let mask = line.split_whitespace().nth(1).expect("a mask");
        let mask = u64::from_str_radix(mask, 16).expect("hexadecimal");
        // Two are the C library's own, which it lets nobody change.
        assert_eq!(mask & !(1 << 31 | 1 << 32), 0, "{line}");
    }
    assert_eq!(place.run(&["cat"]).outcome, Outcome::Exited(0), "standard input is empty");
}

#[test]
fn a_hanging_tree_times_out_whole_and_keeps_what_was_measured() {
    let place = Place::new();
    let pids = place.text("pids");
    let script = format!(
        "trap '' TERM INT HUP; echo begun; \
         sh -c \"trap '' TERM; echo \\$\\$ >> {pids}; while :; do sleep 1000; done\" & \
         echo $$ >> {pids}; while :; do sleep 1000; done"
    );
    let mut plan = place.plan(&["sh", "-c", &script]);
    plan.timeout = Some(Duration::from_millis(700));
    plan.resources = Some(Duration::from_millis(20));
    let run = record(&plan);
    assert_eq!(run.outcome, Outcome::TimedOut);
    assert_eq!(run.stdout_tail, "begun\n");
    assert!(run.timeline.samples.len() > 2);
    for pid in written_pids(&place.path("pids"), 2) {
        assert!(!is_alive(pid), "{pid}");
    }
}

#[test]
fn a_cancelled_target_is_ended() {
    let place = Place::new();
    let pids = place.path("pids");
    let script = format!("echo $$ > {}; exec sleep 1000", pids.display());
    let plan = place.plan(&["sh", "-c", &script]);
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
fn many_recordings_at_once_do_not_meet() {
    let place = Place::new();
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..8)
            .map(|number: i32| {
                let mut plan = place.plan(&["sh", "-c", &format!("echo {number}; exit {number}")]);
                plan.stdout = place.path(&format!("{number}.log"));
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
