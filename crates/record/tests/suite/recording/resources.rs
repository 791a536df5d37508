//! Resources over time, of programs whose use of resources is known.

use std::time::Duration;

use simprof_model::ResourceSample;
use simprof_record::{Launch, Recording};

use crate::support::{Fixture, record};

fn sampled(folder: &Fixture, argv: &[&str]) -> Recording {
    record(&Launch { resources: Some(Duration::from_millis(10)), ..folder.plan(argv) })
}

fn last(run: &Recording) -> &ResourceSample {
    run.timeline.samples.last().expect("there is always a last sample")
}

/// Asserts that times increase and totals never decrease.
fn check_order(run: &Recording) {
    for pair in run.timeline.samples.windows(2) {
        assert!(pair[0].time_ns < pair[1].time_ns);
        assert!(pair[0].cpu_ns <= pair[1].cpu_ns);
        assert!(pair[0].minor_faults <= pair[1].minor_faults);
        assert!(pair[0].voluntary_switches <= pair[1].voluntary_switches);
    }
}

#[test]
fn touched_memory_is_resident() {
    let folder = Fixture::new();
    let run = sampled(&folder, &[&folder.program("memory"), "200", "300"]);
    let peak = run.timeline.peak_rss_bytes().expect("samples");
    assert!(peak > 200 << 20 && peak < 260 << 20, "{peak}");
    assert!(run.peak_rss_bytes >= peak);
    assert!(run.timeline.samples[0].rss_bytes < 50 << 20, "memory is small at the start");
    let pss = run.timeline.samples.iter().filter_map(|sample| sample.pss_bytes).max();
    assert!(pss.expect("at least the first sample has it") <= run.peak_rss_bytes);
    check_order(&run);
}

#[test]
fn cpu_time_of_threads_adds_up() {
    let folder = Fixture::new();
    let run = sampled(&folder, &[&folder.program("spin"), "200"]);
    let spent = run.user_cpu_ns + run.system_cpu_ns;
    assert!(spent >= 400_000_000, "{spent}");
    // The CPU clock of the main process and rusage count the same time.
    let seen = last(&run).cpu_ns;
    assert!(seen.abs_diff(spent) < spent / 10, "{seen} of {spent}");
    check_order(&run);
    for name in ["spin-a", "spin-b"] {
        let thread = run.timeline.threads.iter().find(|thread| thread.name == name);
        // The CPU time between the last sample of the thread and its end is missing.
        let cpu_ns = thread.unwrap_or_else(|| panic!("{:?}", run.timeline.threads)).cpu_ns;
        assert!(cpu_ns > 20_000_000 && cpu_ns < 300_000_000, "{cpu_ns}");
    }
}

#[test]
fn a_program_that_ends_at_once_has_a_first_and_a_last_sample() {
    let run = sampled(&Fixture::new(), &["true"]);
    assert!(run.timeline.samples.len() >= 2);
    assert!(last(&run).cpu_ns > 0 && last(&run).minor_faults > 0);
    assert_eq!(last(&run).processes, 0);
    assert!(run.timeline.samples[0].time_ns >= run.start_ns);
    let cores = std::thread::available_parallelism().expect("cores").get();
    assert!(last(&run).core_busy.len() >= cores);
}

#[test]
fn children_that_live_between_two_samples_are_counted() {
    let folder = Fixture::new();
    let run = sampled(&folder, &[&folder.program("forks"), "400"]);
    let spent = run.user_cpu_ns + run.system_cpu_ns;
    let seen = last(&run).cpu_ns;
    // Only rusage has the processes that end after the main process. Ticks are rounded down per process.
    assert!(seen <= spent + spent / 10 + 40_000_000, "{seen} of {spent}");
    assert!(seen + seen / 2 + 60_000_000 >= spent, "{seen} of {spent}");
    assert!(last(&run).minor_faults > 400 * 20, "{}", last(&run).minor_faults);
    assert!(run.leftovers.is_empty(), "{:?}", run.leftovers);
    check_order(&run);
}

#[test]
fn processes_and_threads_are_counted() {
    let folder = Fixture::new();
    let script = "sleep 0.2 & sleep 0.2 & sleep 0.2 & wait";
    let run = sampled(&folder, &["sh", "-c", script]);
    let most = run.timeline.samples.iter().map(|sample| sample.processes).max();
    assert_eq!(most, Some(4));
    let threads = run.timeline.samples.iter().map(|sample| sample.threads).max();
    assert_eq!(threads, Some(4));
}

#[test]
fn bytes_written_are_counted() {
    let folder = Fixture::new();
    let file = folder.text_path("file");
    let argv = ["dd", "if=/dev/zero", &format!("of={file}"), "bs=1M", "count=8", "conv=fsync"];
    let run = sampled(&folder, &argv);
    // A file system in memory writes nothing to storage.
    if let Some(bytes @ 1..) = last(&run).written_bytes {
        assert!(bytes >= 8 << 20, "{bytes}");
    }
}
