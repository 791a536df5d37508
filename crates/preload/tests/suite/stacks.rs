//! Recorded stacks are what the program says of itself: names, files, lines, and how many native calls they
//! stand for.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::Ordering;

use simprof_preload::format::flag;
use simprof_testkit::{Python, pythons};

use crate::support::{Options, Recording, StackFrame, record};

/// What the function told of its callers: the outermost first, as name, file and line.
#[derive(Debug)]
struct Told {
    pid: u32,
    tag: String,
    entries: usize,
    callers: Vec<String>,
}

/// What every interpreter must show; what depends on modules that it may lack is not among them.
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
fn stacks_are_what_the_program_says() {
    for python in pythons() {
        let mut command = Command::new(&python.path);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/shapes.py"));
        let recording = record(command, Options::default());
        let output = String::from_utf8_lossy(&recording.output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&recording.output.stderr).into_owned();
        assert!(recording.output.status.success(), "{python:?}: {errors}");
        let told: Vec<Told> = output.lines().filter_map(parse).collect();
        check(&python, &recording, &told);
    }
}

fn parse(line: &str) -> Option<Told> {
    let mut parts = line.strip_prefix("STACK\t")?.split('\t');
    let mut part = || parts.next().expect("the line is whole");
    Some(Told {
        pid: part().parse().expect("a number"),
        tag: part().into(),
        entries: part().parse().expect("a number"),
        callers: part().split(';').rev().map(str::to_owned).collect(),
    })
}

fn check(python: &Python, recording: &Recording, told: &[Told]) {
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
        let same = |told: &&Told| told.pid == pid && told.callers == callers;
        let matching: Vec<_> = told.iter().filter(same).collect();
        assert!(!matching.is_empty(), "{python:?}: nobody said {callers:#?}");
        // A greenlet begins on the native stack of whoever switches to it, so that the callers there are not its own.
        if matching[0].tag.starts_with("greenlet") {
            continue;
        }
        let native: BTreeSet<_> = matching.iter().map(|told| told.entries).collect();
        assert!(
            native.contains(&entries),
            "{python:?}: {} is of {native:?} native calls, not of {entries}: {stack:#?}",
            matching[0].tag
        );
        let line = stack[at].line - stack[at].first_line;
        assert!(line <= 7, "{python:?}: {line}");
        seen.extend(matching.iter().map(|told| told.tag.as_str()));
    }
    let missing: Vec<_> = TAGS.iter().filter(|tag| !seen.contains(*tag)).collect();
    assert!(missing.is_empty(), "{python:?}: no samples of {missing:?}");
    assert!(subinterpreter > 5, "{python:?}: {subinterpreter} samples of another interpreter");
    let all = recording.samples.len();
    assert!(unreadable * 50 < all, "{python:?}: {unreadable} of {all} cannot be read");
    assert!(recording.lost * 50 < all as u64, "{python:?}: {} of {all} are lost", recording.lost);
}

fn describe(frame: &StackFrame) -> String {
    format!("{}|{}|{}", frame.name, frame.file, frame.line)
}
