//! What a target used of the machine in a span of time.

use serde::Serialize;
use simprof_model::{ResourceSample, Timeline};

/// Use of the machine between two moments. Counts at the moments are interpolated between samples.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ResourceUse {
    /// Length of the span, ns.
    pub wall_ns: u64,
    /// CPU time of all processes, ns.
    pub cpu_ns: f64,
    /// Mean number of cores kept busy.
    pub cores: f64,
    /// Largest resident set, bytes.
    pub rss_peak_bytes: u64,
    /// Resident set at the end, bytes.
    pub rss_end_bytes: u64,
    /// Page faults served without I/O.
    pub minor_faults: f64,
    /// Page faults that needed I/O.
    pub major_faults: f64,
    /// Context switches that a thread asked for.
    pub voluntary_switches: f64,
    /// Context switches that the scheduler forced.
    pub involuntary_switches: f64,
    /// Bytes read from storage, where the kernel tells.
    pub read_bytes: Option<f64>,
    /// Bytes written towards storage, where the kernel tells.
    pub written_bytes: Option<f64>,
    /// Most threads alive at once.
    pub threads: u32,
    /// Most processes alive at once.
    pub processes: u32,
    /// Samples in the span.
    pub samples: usize,
}

/// Use of the machine from `begin_ns` to `end_ns` (CLOCK_MONOTONIC), cut to what the timeline spans;
/// none where that is empty.
pub fn resource_use(timeline: &Timeline, begin_ns: u64, end_ns: u64) -> Option<ResourceUse> {
    let samples = timeline.samples.as_slice();
    let begin = begin_ns.max(samples.first()?.time_ns);
    let end = end_ns.min(samples.last()?.time_ns);
    let wall_ns = end.checked_sub(begin).filter(|&wall| wall > 0)?;
    let inside: Vec<&ResourceSample> =
        samples.iter().filter(|sample| (begin..=end).contains(&sample.time_ns)).collect();
    let used = |count: &dyn Fn(&ResourceSample) -> u64| {
        (at(samples, end, count) - at(samples, begin, count)).max(0.0)
    };
    let told = |count: fn(&ResourceSample) -> Option<u64>| {
        let is_told = samples.iter().all(|sample| count(sample).is_some());
        is_told.then(|| used(&|sample| count(sample).unwrap_or(0)))
    };
    let cpu_ns = used(&|sample| sample.cpu_ns);
    let rss_end = at(samples, end, &|sample| sample.rss_bytes) as u64;
    Some(ResourceUse {
        wall_ns,
        cpu_ns,
        cores: cpu_ns / wall_ns as f64,
        rss_peak_bytes: inside.iter().map(|sample| sample.rss_bytes).fold(rss_end, u64::max),
        rss_end_bytes: rss_end,
        minor_faults: used(&|sample| sample.minor_faults),
        major_faults: used(&|sample| sample.major_faults),
        voluntary_switches: used(&|sample| sample.voluntary_switches),
        involuntary_switches: used(&|sample| sample.involuntary_switches),
        read_bytes: told(|sample| sample.read_bytes),
        written_bytes: told(|sample| sample.written_bytes),
        threads: inside.iter().map(|sample| sample.threads).max().unwrap_or(0),
        processes: inside.iter().map(|sample| sample.processes).max().unwrap_or(0),
        samples: inside.len(),
    })
}

/// A figure at a moment within the samples, of which there is one at least.
fn at(samples: &[ResourceSample], time_ns: u64, figure: &dyn Fn(&ResourceSample) -> u64) -> f64 {
    let after = samples.partition_point(|sample| sample.time_ns <= time_ns);
    let before = &samples[after.saturating_sub(1)];
    let Some(next) = samples.get(after).filter(|_| after > 0) else { return figure(before) as f64 };
    let part = (time_ns - before.time_ns) as f64 / (next.time_ns - before.time_ns) as f64;
    let (low, high) = (figure(before) as f64, figure(next) as f64);
    low + (high - low) * part
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline() -> Timeline {
        let sample = |time_ns, cpu_ns, rss_bytes, read_bytes| ResourceSample {
            time_ns,
            cpu_ns,
            rss_bytes,
            read_bytes,
            written_bytes: Some(0),
            threads: 2,
            ..ResourceSample::default()
        };
        let samples = vec![
            sample(100, 0, 10, Some(0)),
            sample(200, 200, 90, Some(8)),
            sample(300, 250, 50, None),
        ];
        Timeline { samples, ..Timeline::default() }
    }

    #[test]
    fn spans_are_cut_and_counts_interpolated() {
        for (begin, end, wall, cpu, peak, rss_end) in [
            (0, 1000, 200, 250.0, 90, 50),
            (100, 200, 100, 200.0, 90, 90),
            (150, 250, 100, 125.0, 90, 70),
            (220, 240, 20, 10.0, 74, 74),
        ] {
            let used = resource_use(&timeline(), begin, end).expect("a span");
            assert_eq!((used.wall_ns, used.cpu_ns), (wall, cpu), "{begin} to {end}");
            assert_eq!((used.rss_peak_bytes, used.rss_end_bytes), (peak, rss_end));
            assert!((used.cores - cpu / wall as f64).abs() < 1e-12);
        }
    }

    #[test]
    fn what_is_not_told_is_none() {
        let used = resource_use(&timeline(), 0, 1000).expect("a span");
        assert_eq!((used.read_bytes, used.written_bytes, used.threads), (None, Some(0.0), 2));
        assert_eq!(resource_use(&timeline(), 400, 500), None);
        assert_eq!(resource_use(&timeline(), 200, 200), None);
        assert_eq!(resource_use(&Timeline::default(), 0, 1), None);
    }
}
