//! Allocations of Python objects, by the lines that made them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;

use simprof_preload::heap::format::{Kind, Origin, flag};
use simprof_testkit::packages::python_with_packages;
use simprof_testkit::{Python, newest_python, pythons};

use crate::heap::programs::{compiled, source};
use crate::heap::recorder::{Event, Options, Recording, file_of, path_of, program, record};
use crate::support::{Memory, StackFrame};

fn script() -> PathBuf {
    source("objects.py")
}

/// Returns the number of the line of a program that ends with this comment.
fn line(program: &str, comment: &str) -> u32 {
    let text = std::fs::read_to_string(source(program)).expect("the program is there");
    let is = |(_, line): &(usize, &str)| line.ends_with(comment);
    text.lines().enumerate().find(is).expect("the line is there").0 as u32 + 1
}

struct Recorded {
    recording: Recording,
    memory: Memory,
}

impl Recorded {
    fn record(command: &mut Command, options: Options) -> Recorded {
        let memory = Memory::new(0, "");
        let recording = record(command.env("SIMPROF_PRELOAD", memory.path()), options);
        let output = (recording.stdout(), recording.stderr());
        assert_eq!(recording.output.status.code(), Some(0), "{output:?}");
        assert_eq!(recording.lost, 0);
        recording.check();
        Recorded { recording, memory }
    }

    /// Returns the events of the line with this comment, in the parent or the child.
    fn of(&self, comment: &str, child: bool) -> Vec<Event> {
        self.of_program("objects.py", comment, child)
    }

    fn of_program(&self, program: &str, comment: &str, child: bool) -> Vec<Event> {
        let line = line(program, comment);
        let processes = self.recording.memory.processes();
        let mut nodes = HashMap::new();
        let mut is_line = |node| {
            *nodes.entry(node).or_insert_with(|| {
                let stack = self.memory.stack(node);
                let is = |frame: &StackFrame| frame.line == line && frame.file.ends_with(program);
                stack.last().is_some_and(is)
            })
        };
        let is_child =
            |event: &Event| processes[event.process as usize].parent.load(Ordering::Relaxed) != 0;
        let events = self.recording.events.iter();
        events.filter(|event| is_child(event) == child && is_line(event.python)).copied().collect()
    }
}

fn count(events: &[Event], kind: Kind, size: u64, origin: Origin) -> usize {
    let is = |event: &&Event| (event.kind, event.size, event.origin) == (kind, size, origin);
    events.iter().filter(is).count()
}

/// Checks exact counts of objects, with the default allocator of Python or with the one that `PYTHONMALLOC` selects.
fn exact(pythons: Vec<Python>, allocator: Option<&str>) {
    for python in pythons {
        let mut command = Command::new(&python.path);
        command.arg(script()).env_remove("PYTHONMALLOC");
        if let Some(allocator) = allocator {
            command.env("PYTHONMALLOC", allocator);
        }
        let small = if allocator == Some("malloc") { Origin::Malloc } else { Origin::Python };
        let recorded = Recorded::record(&mut command, Options::EXACT);
        check_objects(&recorded, small, &python);
    }
}

/// Compares the recorded objects with the numbers that the program printed. `small` is the origin of small objects.
fn check_objects(recorded: &Recorded, small: Origin, python: &Python) {
    assert_eq!(recorded.recording.reported()["status"], 5 << 8);
    let reported = recorded.recording.reported();
    let size = reported["object"];
    let objects = recorded.of("# line of objects", false);
    assert_eq!(count(&objects, Kind::Alloc, size, small), 20000, "{python:?}");
    assert_eq!(count(&objects, Kind::Free, size, small), 0);
    let passing = recorded.of("# line of passing", false);
    assert_eq!(count(&passing, Kind::Alloc, size, small), 10000);
    assert_eq!(count(&passing, Kind::Free, size, small), 10000);
    let buffers = recorded.of("# line of buffers", false);
    assert_eq!(count(&buffers, Kind::Alloc, 3001, Origin::Malloc), 300);
    // A list grows with `realloc`, which can move it from one allocator to the other. Only its last size is live.
    let grown = recorded.of("# line of grown", false);
    let made = grown.iter().filter(|event| event.kind == Kind::Alloc);
    let freed: u64 = grown.iter().filter(|e| e.kind == Kind::Free).map(|e| e.size).sum();
    assert_eq!(made.map(|event| event.size).sum::<u64>() - freed, reported["grown"], "{python:?}");
    assert!(grown.iter().any(|event| event.origin == Origin::Malloc));
    let child = recorded.of("# line of objects", true);
    assert_eq!(count(&child, Kind::Alloc, size, small), 500);
    let native = recorded.recording.memory.stack(objects[0].node);
    assert!(native.len() > 5);
    assert_eq!(objects[0].flags & (flag::PARTIAL | flag::PYTHON_PARTIAL), 0);
}

fn newest() -> Vec<Python> {
    vec![newest_python()]
}

#[test]
fn objects_of_pythons_allocator_are_counted() {
    exact(pythons(), None);
}

#[test]
fn objects_are_counted_once_if_python_uses_malloc() {
    exact(newest(), Some("malloc"));
}

#[test]
fn objects_are_counted_with_a_configured_allocator() {
    exact(newest(), Some("pymalloc"));
}

#[test]
fn samples_of_python_estimate_the_exact_counts() {
    let python = pythons().pop().expect("there is one");
    let (interval, truth) = (4096.0, 20000.0);
    let options = Options::sampled(interval as u64, 9);
    let recorded = Recorded::record(Command::new(&python.path).arg(script()), options);
    let size = recorded.recording.reported()["object"];
    let objects = recorded.of("# line of objects", false);
    let found = count(&objects, Kind::Alloc, size, Origin::Python) as f64;
    let p = 1.0 - (-(size as f64) / interval).exp();
    assert!((found / p - truth).abs() < 5.0 * (truth * (1.0 - p) / p).sqrt(), "{found}");
}

#[test]
fn objects_of_an_interpreter_that_is_loaded_later_are_counted() {
    let path = compiled("embed.c", &["-O1", "-ldl"]);
    for python in pythons() {
        let Some(library) = python.shared_library() else { continue };
        let mut command = program(&path);
        command.arg(&library).arg(script()).env_remove("PYTHONMALLOC");
        if let Some(home) = library.parent().and_then(Path::parent) {
            command.env("PYTHONHOME", home);
        }
        let recorded = Recorded::record(&mut command, Options::EXACT);
        check_objects(&recorded, Origin::Python, &python);
        let processes = recorded.recording.memory.processes();
        let version = processes[0].python.load(Ordering::Relaxed);
        assert_eq!((version >> 24, version >> 16 & 0xff), python.version);
    }
}

#[test]
fn arrays_are_counted_at_the_lines_that_make_them() {
    let python = python_with_packages();
    let mut command = Command::new(&python);
    command.arg(source("arrays.py")).env_remove("PYTHONMALLOC");
    let recorded = Recorded::record(&mut command, Options::EXACT);
    let reported = recorded.recording.reported();
    for (name, is_kept) in [("zeros", true), ("empty", true), ("passing", false)] {
        let events = recorded.of_program("arrays.py", &format!("# line of {name}"), false);
        let bytes = |kind| {
            // The line also makes small objects, which are not counted here.
            let contents = events.iter().filter(|e| e.kind == kind && e.size > 1000);
            contents.map(|event| event.size).sum::<u64>()
        };
        assert_eq!(bytes(Kind::Alloc), reported[name], "{name}");
        assert_eq!(bytes(Kind::Free), if is_kept { 0 } else { reported[name] }, "{name}");
        let native = |event: &Event| recorded.recording.is_called_from(event, ".so", 3);
        assert!(events.iter().filter(|event| event.size > 1000).all(native));
    }
}

#[test]
fn the_profilers_own_allocations_are_not_counted() {
    let path = compiled("family.c", &["-O2"]);
    let plain = record(&mut program(&path), Options::EXACT);
    let other = file_of(simprof_preload::LIBRARY);
    let memory = Memory::new(0, "");
    let mut command = program(&path);
    command.env("LD_PRELOAD", path_of(&other)).env("SIMPROF_PRELOAD", memory.path());
    let both = record(&mut command, Options::EXACT);
    assert_eq!(both.output.status.code(), Some(3));
    assert!(!plain.events.is_empty());
    let sizes = |recording: &Recording| {
        recording.events.iter().map(|event| (event.kind, event.size)).collect::<Vec<_>>()
    };
    assert_eq!(sizes(&both), sizes(&plain));
}
