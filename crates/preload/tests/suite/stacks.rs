//! Recorded stacks match the stacks that the program reports: names, files, lines, and the number of native calls of the
//! interpreter.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::Ordering;

use simprof_preload::format::flag;
use simprof_testkit::{Python, pythons};

use crate::support::{Options, Recording, StackFrame, record};

/// The callers that a function of the program reported, the outermost first. Each is a text of name, file and line.
#[derive(Debug)]
struct Reported {
    pid: u32,
    tag: String,
    entries: usize,
    callers: Vec<String>,
}

/// The kinds of stacks that must be recorded in every interpreter. Kinds that need optional modules are not in the list.
const TAGS: &[&str] = &[
    "nested",
    "recursion",
    "generator",
    "genexpr",
    "coroutine",
    "asyncgen",
    "init",
    "getattr",
    "property",
    "comparison",
    "del",
    "weakref",
    "class body",
    "except",
    "finally",
    "with",
    "enter",
    "exit",
    "key",
    "map",
    "reduce",
    "sub",
    "partial",
    "comprehension",
    "comprehension of a dict",
    "exec",
    "foreign",
    "lambda",
    "lines",
    "thread",
    "handler",
    "own trap",
    "blocked",
    "exec failed",
    "profiled",
    "traced",
    "fork",
    "forked",
    "spawned",
    "subprocess",
    "preexec",
    "shell",
    "execed",
];

#[test]
fn stacks_match_what_the_program_reports() {
    for python in pythons() {
        let mut command = Command::new(&python.path);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/shapes.py"));
        let recording = record(command, Options::default());
        let output = String::from_utf8_lossy(&recording.output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&recording.output.stderr).into_owned();
        assert!(recording.output.status.success(), "{python:?}: {errors}");
        let reported: Vec<Reported> = output.lines().filter_map(parse).collect();
        check(&python, &recording, &reported);
    }
}

fn parse(line: &str) -> Option<Reported> {
    let mut parts = line.strip_prefix("STACK\t")?.split('\t');
    let mut part = || parts.next().expect("the line is whole");
    Some(Reported {
        pid: part().parse().expect("a number"),
        tag: part().into(),
        entries: part().parse().expect("a number"),
        callers: part().split(';').rev().map(str::to_owned).collect(),
    })
}

fn check(python: &Python, recording: &Recording, reported: &[Reported]) {
    let mut seen = BTreeSet::new();
    let (mut unreadable, mut subinterpreter) = (0, 0);
    for sample in &recording.samples {
        let stack = recording.memory.stack(sample.node);
        unreadable += usize::from(sample.flags & flag::UNREADABLE != 0);
        let pid = recording.memory.processes()[sample.process as usize].pid.load(Ordering::Relaxed);
        let is_inner = |frame: &StackFrame| frame.name == "other" && frame.file == "<string>";
        subinterpreter += usize::from(stack.iter().any(is_inner));
        let Some(at) = stack.iter().position(|frame| frame.name == "burn") else { continue };
        if sample.flags & flag::UNREADABLE != 0 {
            continue;
        }
        let callers: Vec<String> = stack[..at].iter().map(describe).collect();
        let entries = stack[..=at].iter().filter(|frame| frame.entry).count();
        let same = |reported: &&Reported| reported.pid == pid && reported.callers == callers;
        let matching: Vec<_> = reported.iter().filter(same).collect();
        assert!(!matching.is_empty(), "{python:?}: the program did not report {callers:#?}");
        // A greenlet starts on the native stack of the code that switches to it, so the native callers are not its own.
        if matching[0].tag.starts_with("greenlet") {
            continue;
        }
        let native: BTreeSet<_> = matching.iter().map(|reported| reported.entries).collect();
        assert!(
            native.contains(&entries),
            "{python:?}: {} has {native:?} native calls, not {entries}: {stack:#?}",
            matching[0].tag
        );
        let line = stack[at].line - stack[at].first_line;
        assert!(line <= 7, "{python:?}: {line}");
        seen.extend(matching.iter().map(|reported| reported.tag.as_str()));
    }
    let missing: Vec<_> = TAGS.iter().filter(|tag| !seen.contains(*tag)).collect();
    assert!(missing.is_empty(), "{python:?}: no samples of {missing:?}");
    // Assembled interpreters cannot load the module that makes another interpreter.
    assert!(
        subinterpreter > 5 || python.is_assembled,
        "{python:?}: {subinterpreter} samples of another interpreter"
    );
    let all = recording.samples.len();
    assert!(unreadable * 50 < all, "{python:?}: {unreadable} of {all} cannot be read");
    assert!(recording.lost * 50 < all as u64, "{python:?}: {} of {all} are lost", recording.lost);
}

fn describe(frame: &StackFrame) -> String {
    format!("{}|{}|{}", frame.name, frame.file, frame.line)
}
