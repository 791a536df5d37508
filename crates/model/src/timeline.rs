//! Timelines: the resources that the processes of a target used over time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Notice;

/// CPU time of one thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ThreadCpu {
    /// Process id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Last known name.
    pub name: String,
    /// User and system CPU time since the start of the thread, in ns.
    pub cpu_ns: u64,
    /// Time since the start of the thread in which it was ready to run but had no CPU, in ns. Null if the kernel does not report it.
    #[serde(default)]
    pub runnable_ns: Option<u64>,
}

/// Resources used by the process tree of the target up to one point in time. Counts are totals since the start. They include processes that
/// have ended, if simprof saw them run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceSample {
    /// Time of the sample in ns of CLOCK_MONOTONIC.
    pub time_ns: u64,
    /// User and system CPU time of all processes in ns.
    pub cpu_ns: u64,
    /// Share of time that each core of the machine was busy since the previous sample, 0 to 1. It includes the time of all programs.
    pub core_busy: Vec<f32>,
    /// Sum of the resident sets of all processes in bytes. Shared pages count once per process.
    pub rss_bytes: u64,
    /// The part of `rss_bytes` that is pages of mapped files and shared memory, in bytes. 0 if the kernel does not report it.
    #[serde(default)]
    pub rss_file_bytes: u64,
    /// Sum over all processes of the growth of the resident set since the start of the process, in bytes. Memory that a forked process
    /// shares with its parent is excluded.
    #[serde(default)]
    pub rss_growth_bytes: u64,
    /// The part of `rss_growth_bytes` that is pages of mapped files and shared memory, in bytes.
    #[serde(default)]
    pub rss_file_growth_bytes: u64,
    /// Sum of the proportional sets in bytes. Null if the kernel does not report it, or if it was not read for this sample.
    pub pss_bytes: Option<u64>,
    /// Number of page faults without I/O.
    pub minor_faults: u64,
    /// Number of page faults with I/O.
    pub major_faults: u64,
    /// Number of voluntary context switches: a thread began to wait.
    pub voluntary_switches: u64,
    /// Number of involuntary context switches: the scheduler preempted a thread.
    pub involuntary_switches: u64,
    /// Bytes read from storage. Null if the kernel does not report it.
    pub read_bytes: Option<u64>,
    /// Bytes written to storage. Null if the kernel does not report it.
    pub written_bytes: Option<u64>,
    /// Number of live threads.
    pub threads: u32,
    /// Number of live processes.
    pub processes: u32,
}

/// CPU time of all processes up to one point in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CpuReading {
    /// Time of the reading in ns of CLOCK_MONOTONIC.
    pub time_ns: u64,
    /// User and system CPU time of all processes since the start in ns.
    pub cpu_ns: u64,
    /// Number of live threads.
    pub threads: u32,
}

/// Resources of one run of a target over time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timeline {
    /// Requested interval between samples in ns.
    pub interval_ns: u64,
    /// Samples in order of time.
    pub samples: Vec<ResourceSample>,
    /// Readings of the CPU time before the first sample and between samples, in order of time. They are frequent at the beginning, so that the CPU time
    /// of the steps of a short run is known.
    #[serde(default)]
    pub cpu_readings: Vec<CpuReading>,
    /// Last known CPU time of every thread.
    pub threads: Vec<ThreadCpu>,
    /// Notices about resources that could not be read.
    pub notices: Vec<Notice>,
}

impl From<&ResourceSample> for CpuReading {
    fn from(sample: &ResourceSample) -> Self {
        Self { time_ns: sample.time_ns, cpu_ns: sample.cpu_ns, threads: sample.threads }
    }
}

/// An amount of CPU time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CpuTime {
    /// CPU time in ns.
    pub ns: f64,
    /// Largest possible error of `ns`.
    pub error_ns_max: f64,
}

impl Timeline {
    /// Returns the CPU time of all processes between two times in ns of CLOCK_MONOTONIC. `None` if the samples do not cover them.
    ///
    /// Samples and readings are exact. Between two of them the time is interpolated, so the result is exact if the load is even around
    /// both times. The possible error is small if all threads were busy, because none can use more CPU time than passes.
    pub fn cpu_between(&self, begin_ns: u64, end_ns: u64) -> Option<CpuTime> {
        let (begin, end) = (self.cpu_at(begin_ns)?, self.cpu_at(end_ns)?);
        Some(CpuTime { ns: end.ns - begin.ns, error_ns_max: begin.error_ns_max + end.error_ns_max })
    }

    /// Returns the CPU time of all processes until `time_ns`.
    fn cpu_at(&self, time_ns: u64) -> Option<CpuTime> {
        let (previous, next) = (self.last_until(time_ns)?, self.first_from(time_ns)?);
        let used = next.cpu_ns.saturating_sub(previous.cpu_ns) as f64;
        let passed = (time_ns - previous.time_ns) as f64;
        let rest = (next.time_ns - time_ns) as f64;
        let threads = f64::from(previous.threads.max(next.threads).max(1));
        let bounds = (used - threads * rest).max(0.0)..=used.min(threads * passed);
        // More threads than were seen may have run.
        let bounds = if bounds.is_empty() { 0.0..=used } else { bounds };
        let (low, high) = (*bounds.start(), *bounds.end());
        let ns = (used * passed / (passed + rest).max(1.0)).clamp(low, high);
        let error_ns_max = (ns - low).max(high - ns);
        Some(CpuTime { ns: previous.cpu_ns as f64 + ns, error_ns_max })
    }

    /// Returns the first sample or reading that was not taken before `time_ns`.
    fn first_from(&self, time_ns: u64) -> Option<CpuReading> {
        let sample = self.samples.partition_point(|sample| sample.time_ns < time_ns);
        let reading = self.cpu_readings.partition_point(|reading| reading.time_ns < time_ns);
        let sample = self.samples.get(sample).map(CpuReading::from);
        let found = sample.into_iter().chain(self.cpu_readings.get(reading).copied());
        found.min_by_key(|reading| reading.time_ns)
    }

    /// Returns the last sample or reading that was not taken after `time_ns`.
    fn last_until(&self, time_ns: u64) -> Option<CpuReading> {
        let samples = self.samples.partition_point(|sample| sample.time_ns <= time_ns);
        let readings = self.cpu_readings.partition_point(|reading| reading.time_ns <= time_ns);
        let sample = self.samples[..samples].last().map(CpuReading::from);
        let found = sample.into_iter().chain(self.cpu_readings[..readings].last().copied());
        found.max_by_key(|reading| reading.time_ns)
    }

    /// Returns the largest resident set in bytes. `None` without samples.
    pub fn peak_rss_bytes(&self) -> Option<u64> {
        self.samples.iter().map(|sample| sample.rss_bytes).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_between_samples_is_interpolated() {
        let sample = |time_ns, cpu_ns, threads| ResourceSample {
            time_ns,
            cpu_ns,
            threads,
            ..ResourceSample::default()
        };
        let samples = vec![
            sample(100, 0, 1),
            sample(200, 100, 1),
            sample(300, 100, 1),
            sample(400, 150, 1),
            sample(500, 250, 2),
            sample(600, 550, 1),
        ];
        let timeline = Timeline { samples, ..Timeline::default() };
        for (begin, end, ns, error_ns_max) in [
            (100, 400, 150.0, 0.0),
            // One thread was busy all the time.
            (150, 300, 50.0, 0.0),
            (210, 290, 0.0, 0.0),
            // It used half of the time: all of it may be in either half.
            (300, 350, 25.0, 25.0),
            // Two threads may have run.
            (400, 450, 50.0, 50.0),
            // More threads than were seen.
            (500, 550, 150.0, 150.0),
        ] {
            let expected = Some(CpuTime { ns, error_ns_max });
            assert_eq!(timeline.cpu_between(begin, end), expected, "{begin} to {end}");
        }
        assert_eq!(timeline.cpu_between(99, 200), None);
        assert_eq!(timeline.cpu_between(100, 601), None);
        assert_eq!(Timeline::default().cpu_between(0, 0), None);
    }

    #[test]
    fn readings_between_samples_bound_the_cpu_time() {
        let sample = |time_ns, cpu_ns| ResourceSample {
            time_ns,
            cpu_ns,
            threads: 1,
            ..ResourceSample::default()
        };
        let readings = [(40, 0), (60, 10), (90, 10)];
        let cpu_readings =
            readings.map(|(time_ns, cpu_ns)| CpuReading { time_ns, cpu_ns, threads: 1 }).into();
        let samples = vec![sample(0, 0), sample(100, 20)];
        let timeline = Timeline { samples, cpu_readings, ..Timeline::default() };
        for (begin, end, ns, error_ns_max) in
            [(0, 100, 20.0, 0.0), (20, 80, 10.0, 0.0), (50, 90, 5.0, 5.0), (60, 95, 5.0, 0.0)]
        {
            let expected = Some(CpuTime { ns, error_ns_max });
            assert_eq!(timeline.cpu_between(begin, end), expected, "{begin} to {end}");
        }
    }
}
