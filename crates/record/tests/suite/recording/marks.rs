//! Step marks by programs in C and in Rust.

use std::process::Command;

use simprof_model::{NoticeId, has_notice};
use simprof_record::{Launch, Recording};

use crate::support::{Fixture, record};

fn marked(folder: &Fixture, argv: &[&str]) -> Recording {
    record(&Launch { marks: true, ..folder.plan(argv) })
}

#[test]
fn all_begins_and_ends_of_a_c_program_arrive() {
    let folder = Fixture::new();
    let run = marked(&folder, &[&folder.program("marks"), "pairs", "5000"]);
    assert_eq!((run.steps.steps.len(), run.steps.lost, run.unmatched_marks), (5000, 0, 0));
    assert_eq!(run.steps.source, "marks");
    for (index, step) in (0..).zip(&run.steps.steps) {
        assert_eq!((step.index, step.population), (index, Some(index * 10)));
        assert!(run.start_ns <= step.begin_ns && step.begin_ns <= step.end_ns);
        assert!(step.end_ns <= run.end_ns);
    }
}

#[test]
fn all_boundaries_of_a_c_program_arrive() {
    let folder = Fixture::new();
    let run = marked(&folder, &[&folder.program("marks"), "boundaries", "5000"]);
    assert_eq!((run.steps.steps.len(), run.steps.lost, run.unmatched_marks), (5000, 0, 0));
    assert!(run.steps.steps.windows(2).all(|pair| pair[0].end_ns == pair[1].begin_ns));
}

#[test]
fn every_mark_of_many_threads_arrives_or_is_counted() {
    let folder = Fixture::new();
    let run = marked(&folder, &[&folder.program("marks"), "threads", "50000"]);
    let marks = 2 * run.steps.steps.len() as u64 + run.steps.lost + run.unmatched_marks;
    assert_eq!(marks, 800_000);
    assert!(run.steps.steps.len() > 10_000, "most arrive");
    if run.steps.lost > 0 {
        assert!(has_notice(&run.notices, NoticeId::StepMarksLost), "{:?}", run.notices);
    }
}

#[test]
fn a_forked_child_marks_its_own_steps() {
    let folder = Fixture::new();
    let run = marked(&folder, &[&folder.program("marks"), "fork", "1000"]);
    assert_eq!((run.steps.steps.len(), run.steps.lost, run.unmatched_marks), (2000, 0, 0));
    let of_child = run.steps.steps.iter().filter(|step| step.index >= 1_000_000);
    assert_eq!(of_child.count(), 1000);
}

#[test]
fn marks_before_a_crash_are_kept() {
    let folder = Fixture::new();
    let run = marked(&folder, &[&folder.program("marks"), "crash", "100"]);
    assert_eq!(run.outcome.to_string(), "killed by SIGKILL");
    assert_eq!((run.steps.steps.len(), run.unmatched_marks), (100, 1));
}

#[test]
fn all_marks_of_a_rust_program_arrive() {
    let folder = Fixture::new();
    let own = std::env::current_exe().expect("this program has a path");
    let own = own.to_str().expect("its path is text");
    let run = marked(&folder, &[own, "--exact", "recording::marks::target", "--ignored"]);
    assert_eq!(run.outcome.to_string(), "exited with status 0", "{}", run.stdout_tail);
    // 4 threads of 1,000 pairs, 100 boundaries.
    assert_eq!((run.steps.steps.len(), run.steps.lost, run.unmatched_marks), (4100, 0, 0));
    let populated = run.steps.steps.iter().filter(|step| step.population == Some(7)).count();
    assert_eq!(populated, 4000);
}

/// The program that the test above records.
#[test]
#[ignore = "a target, not a test"]
fn target() {
    assert!(simprof_probe::is_recorded());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for index in 0..1000 {
                    simprof_probe::step_begin(index);
                    simprof_probe::step_end_with_population(index, 7);
                }
            });
        }
    });
    (0..100).for_each(simprof_probe::step);
    simprof_probe::step_end(99);
}

#[test]
fn a_program_runs_unchanged_if_marks_cannot_be_written() {
    let folder = Fixture::new();
    let marks = folder.program("marks");
    std::fs::write(folder.path("wrong-size"), "simprof1").expect("written");
    let (sized, length) = (folder.path("wrong-magic"), simprof_probe::format::FILE_BYTES);
    std::fs::write(&sized, vec![b'x'; length]).expect("written");
    let before = std::fs::read(&sized).expect("readable");
    for value in [
        "",
        "/no/such",
        "/dev/null",
        "/tmp",
        &folder.text_path("wrong-size"),
        &folder.text_path("wrong-magic"),
    ] {
        for mode in ["pairs", "threads"] {
            let mut command = Command::new(&marks);
            let status = command.args([mode, "10"]).env("SIMPROF_MARKS", value).status();
            assert!(status.expect("it runs").success(), "{value:?}");
        }
    }
    assert_eq!(std::fs::read(&sized).expect("readable"), before, "nothing is written to it");
}
