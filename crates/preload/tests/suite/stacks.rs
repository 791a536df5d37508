//! Recorded stacks match the stacks that the program reports: names, files, lines, and the number of native calls of the
//! interpreter.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::atomic::Ordering;

use simprof_preload::format::flag;
use simprof_testkit::{Python, pythons};

use crate::support::{LEFT_OUT, Options, Recording, StackFrame, record};

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
    let (mut unreadable, mut left_out) = (0, BTreeSet::new());
    let mut subinterpreter = BTreeMap::new();
    for sample in &recording.samples {
        let stack = recording.memory.stack(sample.node);
        unreadable += usize::from(sample.flags & flag::UNREADABLE != 0);
        let pid = recording.memory.processes()[sample.process as usize].pid.load(Ordering::Relaxed);
        let is_inner = |frame: &StackFrame| frame.name == "other" && frame.file == "<string>";
        if stack.iter().any(is_inner) {
            let names: Vec<&str> = stack.iter().map(|frame| frame.name.as_str()).collect();
            *subinterpreter.entry(callers_of_other(&names)).or_insert(0) += 1;
        }
        let Some(at) = stack.iter().position(|frame| frame.name == "burn") else { continue };
        if sample.flags & flag::UNREADABLE != 0 {
            continue;
        }
        let callers: Vec<String> = stack[..at].iter().map(describe).collect();
        let entries = stack[..=at].iter().filter(|frame| frame.entry).count();
        let same = |reported: &&Reported| {
            reported.pid == pid && is_same(&stack[..at], &callers, &reported.callers)
        };
        let matching: Vec<_> = reported.iter().filter(same).collect();
        assert!(!matching.is_empty(), "{python:?}: the program did not report {callers:#?}");
        if sample.flags & flag::LEFT_OUT != 0 {
            left_out.insert(sample.tid);
            continue;
        }
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
    // Each of the five depths has its thread. The first two are recorded completely.
    assert_eq!(left_out.len(), 3, "{python:?}: frames are left out in the threads {left_out:?}");
    let missing: Vec<_> = TAGS.iter().filter(|tag| !seen.contains(*tag)).collect();
    assert!(missing.is_empty(), "{python:?}: no samples of {missing:?}");
    // Assembled interpreters cannot load the module that makes another interpreter.
    if !python.is_assembled {
        check_subinterpreters(python, &subinterpreter);
    }
    let all = recording.samples.len();
    assert!(unreadable * 50 < all, "{python:?}: {unreadable} of {all} cannot be read");
    assert!(recording.lost * 50 < all as u64, "{python:?}: {} of {all} are lost", recording.lost);
}

/// Returns whether recorded callers are the reported ones, perhaps without those in the middle.
fn is_same(stack: &[StackFrame], callers: &[String], reported: &[String]) -> bool {
    let Some(middle) = stack.iter().position(|frame| frame.name == LEFT_OUT) else {
        return callers == reported;
    };
    let (outer, inner) = (&callers[..middle], &callers[middle + 1..]);
    callers.len() <= reported.len() && reported.starts_with(outer) && reported.ends_with(inner)
}

/// Returns the callers of the function that runs in another interpreter, without those in the module `threading`.
fn callers_of_other(names: &[&str]) -> String {
    let other = names.iter().position(|&name| name == "other").expect("it is on the stack");
    let first = names.iter().position(|&name| name == "interpreters").unwrap_or(other);
    let kind = if names[..first].contains(&"main") { "main" } else { "thread" };
    format!("{kind} {}", names[first..other].join(" "))
}

/// Checks that code of other interpreters was called by the function that runs it, in both threads and at both depths.
fn check_subinterpreters(python: &Python, samples: &BTreeMap<String, usize>) {
    let all: usize = samples.values().sum();
    let count = |callers: String| samples.get(&callers).copied().unwrap_or(0);
    let expected = ["main", "thread"].map(|thread| {
        let one = count(format!("{thread} interpreters <module>"));
        let nested = count(format!("{thread} interpreters <module> nesting <module>"));
        assert!(one > 5 && nested > 5, "{python:?}: {samples:#?}");
        one + nested
    });
    // While an interpreter starts to run, its callers cannot be read.
    assert!(expected.iter().sum::<usize>() * 50 >= all * 49, "{python:?}: {samples:#?}");
}

fn describe(frame: &StackFrame) -> String {
    format!("{}|{}|{}", frame.name, frame.file, frame.line)
}
