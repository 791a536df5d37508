//! Waits of real Python programs: causes, stacks and sums.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use simprof_preload::format::Cause;

use crate::waits::memory::{Memory, Wait};
use crate::waits::program::observed;
use simprof_testkit::pythons;

fn run(memory: &Memory, python: &Path, program: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/waits");
    let mut command = Command::new(python);
    command.arg(folder.join(program)).arg(env!("CARGO_TARGET_TMPDIR"));
    String::from_utf8(observed(memory, &mut command).stdout).expect("it prints text")
}

fn sum<'a>(waits: impl Iterator<Item = &'a Wait>) -> u64 {
    waits.map(|wait| wait.weight_ns).sum()
}

/// With a period of one nanosecond, every wait is recorded with its full duration.
#[test]
fn each_cause_is_recorded_in_the_function_that_waits() {
    for python in pythons() {
        let memory = Memory::new(1);
        let printed = run(&memory, &python.path, "causes.py");
        let expected: BTreeMap<String, [u64; 3]> =
            serde_json::from_str(&printed).expect("it prints JSON");
        let waits = memory.waits();
        for (function, cause, is_sure) in [
            ("in_sleep", Cause::Sleep, true),
            ("in_select", Cause::Events, true),
            ("in_lock", Cause::Synchronisation, true),
            ("in_queue", Cause::Synchronisation, true),
            ("in_join", Cause::Synchronisation, false),
            ("in_recv", Cause::Io, true),
            ("in_child", Cause::Child, true),
            // On a file system in memory, fsync does not wait.
            ("in_fsync", Cause::Io, false),
        ] {
            let [tid, least, most] = expected[function];
            let of_function = waits.iter().filter(|wait| {
                u64::from(wait.tid) == tid
                    && wait.cause == cause as u32
                    && wait.stack.iter().any(|name| name == function)
            });
            let found = sum(of_function);
            let found_in = format!("{function} in {}: {found} ns", python.path.display());
            assert!(found <= most, "{found_in}, at most {most}");
            // The interpreter computes the end of a wait before it starts to wait, so the wait can be shorter than requested.
            assert!(!is_sure || found >= least / 2, "{found_in}, at least {least}: {waits:?}");
        }
        assert!(waits.iter().all(|wait| wait.weight_ns == wait.duration_ns));
    }
}

/// Only one of the two threads holds the GIL at a time. The other waits for it.
#[test]
fn threads_that_compute_wait_for_the_interpreter() {
    for python in pythons() {
        let memory = Memory::new(1);
        let printed = run(&memory, &python.path, "contention.py");
        let threads: BTreeMap<u32, [u64; 3]> =
            serde_json::from_str(&printed).expect("it prints JSON");
        let waits = memory.waits();
        let mut both = 0;
        for (&tid, &[begin, end, cpu]) in &threads {
            let found = sum(waits.iter().filter(|wait| {
                wait.tid == tid
                    && wait.cause == Cause::Interpreter as u32
                    && (begin..end).contains(&wait.time_ns)
                    && wait.stack.iter().any(|name| name == "compute")
            }));
            // The CPU time of the waiting functions is part of the wait too, so a wait can be longer than the idle time.
            let idle = (end - begin).saturating_sub(cpu);
            assert!(found <= idle + idle / 10 + 10_000_000, "{found} of {idle} ns");
            both += found;
        }
        let begin = threads.values().map(|times| times[0]).max().expect("two threads");
        let end = threads.values().map(|times| times[1]).min().expect("two threads");
        let together = end.saturating_sub(begin);
        assert!(both >= together / 10 * 7, "{both} of {together} ns in {}", python.path.display());
    }
}

#[test]
fn sums_of_sampled_waits_are_unbiased() {
    const PERIOD_NS: u64 = 200_000;
    for python in pythons() {
        let memory = Memory::new(PERIOD_NS);
        let printed = run(&memory, &python.path, "short.py");
        let bounds: Vec<f64> =
            printed.split_whitespace().map(|n| n.parse().expect("a number")).collect();
        let waits = memory.waits();
        let of_sleeps = waits.iter().filter(|wait| wait.stack.iter().any(|name| name == "sleeps"));
        let found = sum(of_sleeps) as f64;
        let deviation = |sum: f64| (sum * PERIOD_NS as f64).sqrt();
        let [least, most] = bounds[..] else { panic!("two numbers") };
        assert!(found >= least - 5.0 * deviation(least), "{found} ns, at least {least}");
        assert!(found <= most + 5.0 * deviation(most), "{found} ns, at most {most}");
        assert!(waits.len() < 5000, "not every wait is recorded");
    }
}
