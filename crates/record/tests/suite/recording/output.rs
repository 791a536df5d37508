//! Output of targets: logs, steps by lines, large amounts of output and full disks.

use std::fs;

use regex::Regex;
use simprof_model::{NoticeId, has_notice};
use simprof_record::heap::{HeapSampling, symbolise};
use simprof_record::{Launch, Outcome};

use crate::support::{Fixture, record};

fn watched(folder: &Fixture, argv: &[&str], pattern: &str) -> Launch {
    let step_pattern = Some(Regex::new(pattern).expect("a pattern"));
    Launch { step_pattern, ..folder.plan(argv) }
}

#[test]
fn lines_of_both_streams_mark_steps() {
    let folder = Fixture::new();
    let script = "for i in 3 4 5 6; do echo step $i; echo else; sleep 0.02; done; echo step 7 >&2";
    let run = record(&watched(&folder, &["sh", "-c", script], r"^step (\d+)"));
    let indices: Vec<_> = run.steps.steps.iter().map(|step| step.index).collect();
    assert_eq!(indices, [3, 4, 5, 6]);
    assert_eq!((run.steps.source.as_str(), run.steps.lost), ("output", 0));
    for step in &run.steps.steps {
        assert!(run.start_ns <= step.begin_ns && step.begin_ns < step.end_ns, "{step:?}");
    }
    assert!(run.notices.is_empty(), "{:?}", run.notices);
    assert_eq!(run.stderr_tail, "step 7\n");
    let log = fs::read_to_string(folder.path("stdout.log")).expect("a log");
    assert!(log.starts_with("step 3\nelse\nstep 4\n"), "{log}");
}

#[test]
fn buffered_output_is_reported() {
    let folder = Fixture::new();
    let run = record(&watched(&folder, &["seq", "100"], r"^\d+$"));
    assert!(has_notice(&run.notices, NoticeId::StepOutputBuffered), "{:?}", run.notices);
    assert_eq!(run.steps.steps, []);
    let run = record(&watched(&folder, &["true"], "^step"));
    assert!(has_notice(&run.notices, NoticeId::StepPatternNotMatched), "{:?}", run.notices);
}

#[test]
fn unflushed_steps_have_no_times_unless_they_go_to_a_terminal() {
    let folder = Fixture::new();
    let program = folder.program("unflushed");
    for (steps, terminal) in [("3", false), ("20", false), ("3", true), ("20", true)] {
        let plan = watched(&folder, &[&program, steps], r"^step (\d+)");
        let run = record(&Launch { terminal, ..plan });
        let count: usize = steps.parse().expect("a number");
        let timed = if terminal { count - 1 } else { 0 };
        assert_eq!(run.steps.steps.len(), timed, "{steps} {terminal}");
        assert_eq!(has_notice(&run.notices, NoticeId::StepOutputBuffered), !terminal);
        assert_eq!(run.outcome, Outcome::Exited(3));
        let log = fs::read_to_string(folder.path("stdout.log")).expect("a log");
        let lines: String = (0..count).map(|step| format!("step {step}\n")).collect();
        assert_eq!((log, run.stdout_tail), (lines.clone(), lines));
    }
}

#[test]
fn a_terminal_needs_no_step_pattern_and_is_standard_output_alone() {
    let folder = Fixture::new();
    let script = "test -t 1 && ! test -t 2 && ! test -t 0 && printf 'a\\r\\n' && echo b >&2";
    let run = record(&Launch { terminal: true, ..folder.plan(&["sh", "-c", script]) });
    assert_eq!(run.outcome, Outcome::Exited(0));
    assert_eq!((run.stdout_tail.as_str(), run.stderr_tail.as_str()), ("a\r\n", "b\n"));
    assert_eq!(run.steps.steps, []);
}

#[test]
fn unflushed_steps_give_no_memory_per_step() {
    let folder = Fixture::new();
    let program = folder.program("unflushed");
    let heap = Some(HeapSampling { interval_bytes: 1, seed: 1 });
    let plan = watched(&folder, &[&program, "20"], r"^step (\d+)");
    let run = record(&Launch { heap, ..plan });
    let profile = symbolise(run.heap.expect("memory was recorded"));
    assert_eq!((profile.steps, profile.peak_step), (0, None));
    let temporary = profile.total(|site| site.amounts.temporary);
    assert_eq!(temporary.count, 0);
    assert!(profile.total(|site| site.amounts.allocated).count >= 20);
}

#[test]
fn a_flood_of_output_is_logged_in_bounded_memory() {
    let folder = Fixture::new();
    let flood = folder.program("flood");
    let before = own_peak_bytes();
    let run = record(&watched(&folder, &[&flood, "100", "lines"], r"^step (\d+)"));
    assert_eq!(run.outcome, Outcome::Exited(0));
    assert_eq!(run.steps.steps.len(), 24);
    let length = fs::metadata(folder.path("stdout.log")).expect("a log").len();
    assert!(length >= 100 << 20, "{length}");
    assert_eq!(run.stdout_tail.len(), 8192);
    // Other tests may run in this process. They need little memory.
    assert!(own_peak_bytes() - before < 50 << 20, "the output is not kept in memory");
}

fn own_peak_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/status").expect("our own");
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

#[test]
fn a_very_long_line_is_logged() {
    let folder = Fixture::new();
    let flood = folder.program("flood");
    let run = record(&watched(&folder, &[&flood, "20", "endless"], "^step"));
    assert_eq!(run.outcome, Outcome::Exited(0));
    assert_eq!(fs::metadata(folder.path("stdout.log")).expect("a log").len(), 20 << 20);
}

#[test]
fn bytes_that_are_not_text_are_logged() {
    let folder = Fixture::new();
    let script = r"printf 'step 1\n\377\000\376step 2\n'; printf 'step 3\n'";
    let run = record(&watched(&folder, &["sh", "-c", script], r"^step (\d)"));
    assert_eq!(run.steps.steps.len(), 1);
    let log = fs::read(folder.path("stdout.log")).expect("a log");
    assert_eq!(log, b"step 1\n\xff\0\xfestep 2\nstep 3\n");
}

#[test]
fn a_full_disk_is_reported_and_does_not_stop_the_target() {
    let folder = Fixture::new();
    let flood = folder.program("flood");
    let mut plan = watched(&folder, &[&flood, "4", "lines"], r"^step (\d+)");
    plan.stdout = "/dev/full".into();
    let run = record(&plan);
    assert_eq!(run.outcome, Outcome::Exited(0), "the target is not affected");
    assert!(has_notice(&run.notices, NoticeId::OutputNotWritten), "{:?}", run.notices);
    assert_eq!(run.stdout_tail.len(), 8192, "the end of the output is kept");
}

#[test]
fn a_target_that_fills_the_disk_itself_exits_with_its_own_status() {
    let folder = Fixture::new();
    let mut plan = folder.plan(&[&folder.program("flood"), "1", "lines"]);
    plan.stdout = "/dev/full".into();
    assert_eq!(record(&plan).outcome, Outcome::Exited(3));
}

#[test]
fn both_streams_may_share_a_log() {
    let folder = Fixture::new();
    let mut plan = folder.plan(&["sh", "-c", "echo one; echo two >&2; echo three"]);
    plan.stderr = plan.stdout.clone();
    fs::write(&plan.stdout, "of an earlier run").expect("written");
    assert_eq!(record(&plan).stdout_tail, "one\ntwo\nthree\n");
}
