//! Estimates from samples lie within five standard errors of the truth.

use std::collections::HashMap;

use simprof_preload::heap::format::{Kind, weight};

use crate::heap::programs::compiled;
use crate::heap::recorder::{Event, Options, Recording, program, record};

/// Returns the standard error of the estimated number of `count` allocations of `size` bytes. Each is sampled with probability `p`
/// and then stands for `1 / p` allocations.
fn error_of(count: f64, size: u64, interval: u64) -> f64 {
    let p = 1.0 / weight(size, interval);
    (count * (1.0 - p) / p).sqrt()
}

fn counts(recording: &Recording, size: u64) -> (f64, f64) {
    let totals = recording.totals(|event: &Event| event.size == size);
    (totals.allocated_count, totals.live_count)
}

#[test]
fn estimates_lie_in_their_intervals() {
    let path = compiled("sizes.c", &["-O2"]);
    let mut seen = HashMap::new();
    for (interval, seed) in [(512 << 10, 1), (512 << 10, 2), (64 << 10, 3), (4096, 4)] {
        let recording = record(&mut program(&path), Options::sampled(interval, seed));
        assert!(recording.output.status.success());
        assert_eq!(recording.lost, 0);
        recording.check();
        for line in recording.stdout().lines() {
            let numbers: Vec<u64> =
                line.split(' ').skip(1).map(|word| word.parse().expect("a number")).collect();
            let (size, count, kept) = (numbers[0], numbers[1] as f64, numbers[2] as f64);
            let (allocated, live) = counts(&recording, size);
            for (estimate, truth) in [(allocated, count), (live, kept)] {
                let error = error_of(truth, size, interval);
                let off = (estimate - truth).abs();
                assert!(off <= 5.0 * error + 1e-6, "{interval} {line}: {estimate} {error}");
            }
            *seen.entry(size).or_insert(0) += u64::from(allocated > 0.0);
        }
    }
    assert_eq!(seen.len(), 6);
    assert!(seen.values().all(|&recordings| recordings == 4));
}

/// A mapping that grows is sampled again, whether or not it was sampled before.
#[test]
fn growing_mappings_are_estimated() {
    const LARGE: u64 = 1 << 20;
    let path = compiled("growing.c", &["-O2"]);
    for (interval, seed) in [(64 << 10, 1), (1 << 20, 2)] {
        let recording = record(&mut program(&path), Options::sampled(interval, seed));
        assert_eq!(recording.output.status.code(), Some(0));
        recording.check();
        let (allocated, live) = counts(&recording, LARGE);
        for (estimate, truth) in [(allocated, 400.0), (live, 100.0)] {
            let off = (estimate - truth).abs();
            let error = error_of(truth, LARGE, interval);
            assert!(off <= 5.0 * error + 1e-3, "{interval}: {estimate} for {truth}, {error}");
        }
    }
}

/// The two halves of a `realloc`, a free and an allocation, are sampled independently and marked.
#[test]
fn each_half_of_a_realloc_is_marked() {
    let path = compiled("regrown.c", &["-O2"]);
    let recording = record(&mut program(&path), Options::sampled(16 << 10, 1));
    assert_eq!(recording.output.status.code(), Some(0));
    let mut seen = HashMap::new();
    for event in recording.events.iter().filter(|event| [1000, 2000, 3000].contains(&event.size)) {
        let is_own = (event.size, event.kind) == (1000, Kind::Alloc)
            || (event.size, event.kind) == (3000, Kind::Free);
        assert_eq!(event.is_realloc(), !is_own, "{event:?}");
        *seen.entry((event.size, event.kind)).or_insert(0) += 1;
    }
    assert!(seen.len() == 6 && seen.values().all(|sampled| *sampled > 1000), "{seen:?}");
}

#[test]
fn a_seed_determines_the_samples() {
    let path = compiled("sizes.c", &["-O2"]);
    let sampled = |seed| {
        let recording = record(&mut program(&path), Options::sampled(1 << 20, seed));
        let made = recording.events.iter().filter(|event| event.kind == Kind::Alloc);
        made.map(|event| event.size).collect::<Vec<u64>>()
    };
    let first = sampled(5);
    assert_eq!(first, sampled(5));
    assert_ne!(first, sampled(6));
}
