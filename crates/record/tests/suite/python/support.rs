//! Records Python programs, and inspects their profiles.

use std::collections::BTreeMap;
use std::process::Command;

use simprof_model::{FunctionKind, Profile, PythonProvenance, StackSample};
use simprof_preload::supported::OLDEST_CPYTHON_MINOR;
use simprof_record::Outcome;
use simprof_testkit::python::all_pythons;
use simprof_testkit::{Python, pythons};

use crate::support::{Fixture, symbolised};

/// Profiles a program that must succeed. Returns `None` if this system does not allow sampling.
pub fn profile(folder: &Fixture, argv: &[&str]) -> Option<Profile> {
    symbolised(&folder.python_plan(argv), Outcome::Exited(0))
}

/// Returns the first of the two times that the last program printed, as a share of their sum.
pub fn times_share(folder: &Fixture) -> f64 {
    let text = folder.read("stdout.log");
    let times: Vec<f64> =
        text.split_whitespace().map(|time| time.parse().expect("a time")).collect();
    let [part, rest] = times[..] else { panic!("two times are expected: {text}") };
    part / (part + rest)
}

/// The interpreters whose native functions have names. Those of distributions are often stripped.
pub fn pythons_with_symbols() -> Vec<Python> {
    let has_symbols = |python: &Python| {
        let library = python.shared_library().unwrap_or_else(|| python.path.clone());
        let output = Command::new("nm").arg(library).output().expect("nm is installed");
        String::from_utf8_lossy(&output.stdout).contains(" builtin_sorted")
    };
    pythons().into_iter().filter(has_symbols).collect()
}

/// Interpreters of versions that simprof does not follow, if any are installed.
pub fn unsupported_pythons() -> impl Iterator<Item = &'static Python> {
    all_pythons()
        .iter()
        .filter(|python| ((3, 7)..(3, OLDEST_CPYTHON_MINOR)).contains(&python.version))
}

/// Returns the provenance of the Python frames. The profile must have one.
pub fn account(profile: &Profile) -> &PythonProvenance {
    profile.provenance.python.as_ref().unwrap_or_else(|| panic!("{}", explain(profile)))
}

/// Returns the names of a sample's frames, from the root to the leaf; those of Python frames with their line.
///
/// Omits the outermost frames of an interpreter that was assembled for tests: they are functions of its start-up script.
pub fn stack(profile: &Profile, sample: &StackSample) -> Vec<String> {
    let mut frames: Vec<(bool, String)> = profile
        .frames_from_leaf(sample.stack)
        .map(|id| {
            let frame = profile.frame(id);
            let name = profile.function_name(frame.function);
            let is_python = profile.function(frame.function).kind == FunctionKind::Python;
            match frame.line {
                Some(line) if is_python => (true, format!("{name}:{line}")),
                _ => (is_python, name.to_owned()),
            }
        })
        .collect();
    frames.reverse();
    let is_startup = |(_, name): &(bool, String)| name.starts_with("__startup__.");
    let first = frames.iter().rposition(is_startup).map_or(0, |startup| {
        let is_python = |(is_python, _): &(bool, String)| *is_python;
        let rest = &frames[startup + 1..];
        startup + 1 + rest.iter().position(is_python).unwrap_or(rest.len())
    });
    frames.drain(first..).map(|(_, name)| name).collect()
}

/// Returns the stacks of all samples with their numbers of samples.
pub fn stacks(profile: &Profile) -> BTreeMap<Vec<String>, usize> {
    let mut counts = BTreeMap::new();
    for sample in &profile.samples {
        *counts.entry(stack(profile, sample)).or_default() += 1;
    }
    counts
}

/// Returns the number of samples with a frame whose name starts with `name`.
pub fn count(profile: &Profile, name: &str) -> usize {
    let has = |stack: &[String]| stack.iter().any(|frame| frame.starts_with(name));
    stacks(profile).iter().filter(|(stack, _)| has(stack)).map(|(_, count)| count).sum()
}

/// Returns the number of samples in which a frame that starts with `caller` is followed by one that starts with `callee`.
pub fn count_calls(profile: &Profile, caller: &str, callee: &str) -> usize {
    let has = |stack: &[String]| {
        stack.windows(2).any(|pair| pair[0].starts_with(caller) && pair[1].starts_with(callee))
    };
    stacks(profile).iter().filter(|(stack, _)| has(stack)).map(|(_, count)| count).sum()
}

/// Asserts that `part` of `part + rest` samples is within four standard errors of a share.
pub fn assert_share(profile: &Profile, part: usize, rest: usize, expected: f64) {
    let total = (part + rest) as f64;
    assert!(total > 200.0, "{}", explain(profile));
    let (share, error) = (part as f64 / total, (expected * (1.0 - expected) / total).sqrt());
    assert!((share - expected).abs() < 4.0 * error, "{share} +- {error}: {}", explain(profile));
}

/// Asserts that the number of samples and the sum of their weights match the CPU time, within `tolerance`.
pub fn assert_counted_once(profile: &Profile, tolerance: f64) {
    let account = &profile.provenance;
    let expected = account.target_cpu_ns as f64 / 1e9 * account.rate_hz;
    let recorded = profile.samples.len() as f64 / expected;
    let weight = profile.total_weight() as f64 / account.target_cpu_ns as f64;
    for ratio in [recorded, weight] {
        // If the kernel may not be sampled, there are no samples of the time in it.
        let is_enough = ratio > 1.0 - tolerance || !account.kernel;
        assert!(is_enough && ratio < 1.0 + tolerance, "{ratio}: {}", explain(profile));
    }
}

/// Describes a profile for the message of a failed assertion: its provenance and most frequent stacks.
pub fn explain(profile: &Profile) -> String {
    let mut stacks: Vec<_> = stacks(profile).into_iter().collect();
    stacks.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let lines =
        stacks.iter().take(25).map(|(stack, count)| format!("{count}: {}", stack.join(" ")));
    format!("{:#?}\n{}", profile.provenance, lines.collect::<Vec<_>>().join("\n"))
}
