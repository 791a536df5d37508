//! Resources over time: what the target's processes used, sampled while they ran.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Notice;

/// CPU time of one thread up to a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ThreadCpu {
    /// Process id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Name at that moment.
    pub name: String,
    /// User and system time since the thread began, ns.
    pub cpu_ns: u64,
}

/// What the target's process tree had used at one moment. Counts are totals since the start and
/// include processes that have ended, as far as they were seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceSample {
    /// CLOCK_MONOTONIC, ns.
    pub time_ns: u64,
    /// User and system time of all processes, ns.
    pub cpu_ns: u64,
    /// Busy share of each core of the machine since the sample before, 0 to 1 (whole machine).
    pub core_busy: Vec<f32>,
    /// Resident set, bytes, summed over processes (shared pages count in each).
    pub rss_bytes: u64,
    /// Of it, pages of mapped files and shared memory, bytes; 0 where the kernel does not tell.
    #[serde(default)]
    pub rss_file_bytes: u64,
    /// What the resident sets have grown by since their processes began, bytes: without what forked ones have from their parents.
    #[serde(default)]
    pub rss_growth_bytes: u64,
    /// Of that, pages of mapped files and shared memory, bytes.
    #[serde(default)]
    pub rss_file_growth_bytes: u64,
    /// Proportional set, bytes, where the kernel tells it and it was read for this sample.
    pub pss_bytes: Option<u64>,
    /// Page faults served without I/O.
    pub minor_faults: u64,
    /// Page faults that needed I/O.
    pub major_faults: u64,
    /// Context switches that a thread asked for (it waited).
    pub voluntary_switches: u64,
    /// Context switches that the scheduler forced.
    pub involuntary_switches: u64,
    /// Bytes read from storage; none where the kernel refuses to tell.
    pub read_bytes: Option<u64>,
    /// Bytes written towards storage; none where the kernel refuses to tell.
    pub written_bytes: Option<u64>,
    /// Live threads.
    pub threads: u32,
    /// Live processes.
    pub processes: u32,
}

/// Resources of one run of a target over time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timeline {
    /// Asked for between samples, ns.
    pub interval_ns: u64,
    /// In order of time.
    pub samples: Vec<ResourceSample>,
    /// Last known CPU time of every thread that was seen.
    pub threads: Vec<ThreadCpu>,
    /// What could not be read.
    pub notices: Vec<Notice>,
}

impl Timeline {
    /// Largest resident set seen, bytes.
    pub fn peak_rss_bytes(&self) -> Option<u64> {
        self.samples.iter().map(|sample| sample.rss_bytes).max()
    }
}
