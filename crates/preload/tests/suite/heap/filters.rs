//! Programs that confine themselves by a seccomp filter.

use std::sync::atomic::Ordering;

use simprof_preload::heap::format::{flag, reason, state};

use simprof_testkit::python;

use crate::heap::programs::{compiled, source};
use crate::heap::recorder::{Options, Recording, program as command, record};

/// Records the program under a filter, which it must survive.
fn filtered(how: &str, options: Options) -> Recording {
    let path = compiled("filtered.c", &["-O1", "-fno-builtin"]);
    let recording = record(command(&path).arg(how), options);
    assert_eq!(recording.output.status.code(), Some(0), "{how}: {:?}", recording.output);
    assert_eq!(recording.output.stdout, b"survived\n", "{how}");
    recording
}

#[test]
fn allocations_are_recorded_completely_under_a_filter() {
    for how in ["kill", "trap", "errno"] {
        let recording = filtered(how, Options::EXACT);
        recording.check();
        assert_eq!(recording.totals(|event| event.size == 100).allocated_count, 5000.0, "{how}");
        assert!(recording.events.iter().all(|event| event.flags & flag::PARTIAL == 0), "{how}");
        let last = recording.events.last().expect("there are events");
        let stack = recording.memory.stack(last.node);
        assert!(stack.len() > 160, "{how}: {}", stack.len());
        assert!(stack.iter().all(|frame| frame.module.starts_with('/')), "{how}: {stack:?}");
    }
}

#[test]
fn allocations_are_sampled_under_a_filter() {
    for how in ["kill", "trap", "errno"] {
        let recording = filtered(how, Options::sampled(200, 1));
        recording.check();
        let count = recording.totals(|event| event.size == 100).allocated_count;
        // Five standard errors of the estimate.
        assert!((count - 5000.0).abs() < 5.0 * 90.0, "{how}: {count}");
    }
}

/// In strict mode even the clock cannot be read.
#[test]
fn recording_stops_in_strict_mode() {
    for options in [Options::EXACT, Options::sampled(200, 1)] {
        assert_refused(&filtered("strict", options));
    }
}

/// The library cannot know what an inherited filter forbids.
#[test]
fn a_program_with_an_inherited_filter_is_not_recorded() {
    for options in [Options::EXACT, Options::sampled(200, 1)] {
        assert_refused(&filtered("exec", options));
    }
}

/// Python's ctypes looks functions up in the C library itself.
#[test]
fn a_filter_that_is_installed_through_ctypes_is_noticed() {
    let script = source("ctypes_filter.py");
    for options in [Options::EXACT, Options::sampled(2000, 1)] {
        let mut python = command(std::path::Path::new(python().text()));
        let recording = record(python.arg(&script), options);
        assert_eq!(recording.output.stdout, b"survived\n", "{:?}", recording.output);
        recording.check();
        let count = recording.totals(|event| event.size == 77_777).allocated_count;
        assert!((count - 200.0).abs() < 1.0, "{count}");
    }
}

fn assert_refused(recording: &Recording) {
    let processes = recording.memory.processes();
    let last = processes.last().expect("the process reports itself");
    assert_eq!(last.state.load(Ordering::Relaxed), state::UNSUPPORTED);
    assert_eq!(last.reason.load(Ordering::Relaxed), reason::FILTER);
    assert_ne!(last.pid.load(Ordering::Relaxed), 0);
    assert_eq!(recording.totals(|event| event.size == 100).allocated_count, 0.0);
}
