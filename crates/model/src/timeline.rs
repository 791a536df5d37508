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

/// Resources of one run of a target over time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timeline {
    /// Requested interval between samples in ns.
    pub interval_ns: u64,
    /// Samples in order of time.
    pub samples: Vec<ResourceSample>,
    /// Last known CPU time of every thread.
    pub threads: Vec<ThreadCpu>,
    /// Notices about resources that could not be read.
    pub notices: Vec<Notice>,
}

impl Timeline {
    /// Returns the largest resident set in bytes. `None` without samples.
    pub fn peak_rss_bytes(&self) -> Option<u64> {
        self.samples.iter().map(|sample| sample.rss_bytes).max()
    }
}
