//! Heap profiles: sums over allocations by stack, over time and by size.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Notice;
use crate::profile::{Profile, StackId};

/// Format name and version of [`HeapProfile`].
pub const HEAP_SCHEMA: &str = "simprof.heap/1";

/// Largest lifetime of a short-lived allocation, in ns: 1 ms.
pub const SHORT_LIVED_NS: u64 = 1_000_000;

/// The 97.5 % quantile of the standard normal distribution: a 95 % interval extends by this many standard errors to each side.
pub const NORMAL_95: f64 = 1.959_964;

/// An amount of memory: exact, or an unbiased estimate with its standard error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeapAmount {
    /// Requested bytes.
    pub bytes: u64,
    /// Number of allocations.
    pub count: u64,
    /// Standard error of `bytes`, estimated from the allocation samples. 0 if every allocation was recorded or if there are no samples.
    pub bytes_error: u64,
    /// Standard error of `count`, estimated in the same way.
    pub count_error: u64,
}

impl HeapAmount {
    /// Returns the sum of two amounts. Their errors are assumed to be independent.
    pub fn plus(self, other: HeapAmount) -> HeapAmount {
        let error = |a: u64, b: u64| match (a, b) {
            (error, 0) | (0, error) => error,
            _ => (a as f64).hypot(b as f64).round() as u64,
        };
        HeapAmount {
            bytes: self.bytes.saturating_add(other.bytes),
            count: self.count.saturating_add(other.count),
            bytes_error: error(self.bytes_error, other.bytes_error),
            count_error: error(self.count_error, other.count_error),
        }
    }

    /// Returns the 95 % interval of the bytes by the normal approximation, which needs many samples. With few samples the interval is too
    /// narrow. Without samples its width is 0.
    pub fn bytes_interval(self) -> [f64; 2] {
        let (value, half) = (self.bytes as f64, NORMAL_95 * self.bytes_error as f64);
        [(value - half).max(0.0), value + half]
    }
}

impl std::iter::Sum for HeapAmount {
    fn sum<I: Iterator<Item = HeapAmount>>(amounts: I) -> HeapAmount {
        amounts.fold(HeapAmount::default(), HeapAmount::plus)
    }
}

/// The allocator that an allocation was made with.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum HeapOrigin {
    /// `malloc` and its family, and everything that uses them.
    Malloc,
    /// Anonymous memory that the program mapped directly.
    Map,
    /// The Python allocator for small objects.
    Python,
    /// An allocator of the program, which reports its allocations through the probe.
    Program,
}

/// Sums over allocations, for example of one stack or one line.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeapAmounts {
    /// All allocations.
    pub allocated: HeapAmount,
    /// Allocations that were made while a step ran. 0 in runs without step marks.
    #[serde(default)]
    pub in_steps: HeapAmount,
    /// Allocations that were live at the peak: the time with the most live bytes over all processes.
    pub peak: HeapAmount,
    /// Allocations that were live at the end of their process.
    pub live: HeapAmount,
    /// Allocations that were freed in the step in which they were made. 0 in runs without step marks.
    pub temporary: HeapAmount,
    /// Short-lived allocations: those freed within 1 ms.
    pub short_lived: HeapAmount,
    /// Number of allocations that were resized (`realloc`). Each also counts as an allocation.
    pub reallocations: u64,
    /// Largest recorded allocation, in bytes.
    pub largest_bytes: u64,
    /// Number of recorded allocations. All figures are sums over them.
    pub records: u64,
    /// Live bytes at the end of each tick of the profile. Only the sites with the most live bytes have them; empty for the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub live_at_ticks: Vec<u64>,
}

impl HeapAmounts {
    /// Adds the sums over other allocations.
    pub fn add(&mut self, other: &HeapAmounts) {
        self.allocated = self.allocated.plus(other.allocated);
        self.in_steps = self.in_steps.plus(other.in_steps);
        self.peak = self.peak.plus(other.peak);
        self.live = self.live.plus(other.live);
        self.temporary = self.temporary.plus(other.temporary);
        self.short_lived = self.short_lived.plus(other.short_lived);
        self.reallocations += other.reallocations;
        self.largest_bytes = self.largest_bytes.max(other.largest_bytes);
        self.records += other.records;
        if self.live_at_ticks.len() < other.live_at_ticks.len() {
            self.live_at_ticks.resize(other.live_at_ticks.len(), 0);
        }
        for (sum, live) in self.live_at_ticks.iter_mut().zip(&other.live_at_ticks) {
            *sum += live;
        }
    }
}

/// Allocations by one stack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeapSite {
    /// The stack, whose leaf is the function that called the allocator. Null if the stack could not be read.
    pub stack: Option<StackId>,
    /// The allocator.
    pub origin: HeapOrigin,
    /// Sums over the allocations.
    #[serde(flatten)]
    pub amounts: HeapAmounts,
}

/// A section of the run: one or more steps if the target marks steps, else an interval of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeapTick {
    /// End of the tick in ns of CLOCK_MONOTONIC.
    pub end_ns: u64,
    /// Number of steps that ended in the tick.
    pub steps: u64,
    /// Bytes allocated since the end of the previous tick.
    pub allocated_bytes: u64,
    /// Number of allocations since the end of the previous tick.
    pub allocations: u64,
    /// The part of `allocated_bytes` that was allocated while a step ran.
    #[serde(default)]
    pub in_steps_bytes: u64,
    /// The part of `allocations` that was made while a step ran.
    #[serde(default)]
    pub in_steps_allocations: u64,
    /// The part of `allocated_bytes` that was freed in the step of its allocation.
    pub temporary_bytes: u64,
    /// Live bytes at the end of the tick.
    pub live_bytes: u64,
    /// Population at the end of the tick: the number of living agents. Null if the target does not report it.
    pub population: Option<u64>,
}

/// Memory in an interval of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeapInterval {
    /// End of the interval in ns of CLOCK_MONOTONIC.
    pub end_ns: u64,
    /// Bytes allocated in the interval.
    pub allocated_bytes: u64,
    /// Number of allocations in the interval.
    pub allocations: u64,
    /// Largest number of live bytes in the interval.
    pub live_bytes_max: u64,
    /// Live bytes at the end of the interval.
    pub live_bytes: u64,
}

/// Allocations with sizes from a power of two up to, but excluding, the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeapSizeClass {
    /// Smallest size of the class in bytes: 0, 1, 2, 4, 8 and so on.
    pub from_bytes: u64,
    /// Number of allocations.
    pub count: u64,
    /// Sum of their sizes in bytes.
    pub bytes: u64,
}

/// How much of the growth of the resident set is explained by recorded allocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeapCoverage {
    /// Largest growth of the resident sets of all processes in bytes, without the memory of the preload library.
    pub rss_growth_bytes: u64,
    /// The part of that growth in bytes that is pages of mapped files and shared memory. These are not allocations.
    #[serde(default)]
    pub rss_file_growth_bytes: u64,
    /// Largest number of live bytes around the time of that growth.
    pub live_bytes: u64,
}

impl HeapCoverage {
    /// Smallest growth in bytes for which [`Self::explained`] gives a share.
    pub const NOTABLE_GROWTH: u64 = 32 << 20;

    /// Returns the share of the growth, without files, that live bytes explain. It is above 1 if the program did not touch all its
    /// allocations. `None` if the growth is too small.
    pub fn explained(self) -> Option<f64> {
        let growth = self.growth_without_files();
        (growth >= Self::NOTABLE_GROWTH).then(|| self.live_bytes as f64 / growth as f64)
    }

    /// Returns the growth without pages of files and shared memory, in bytes.
    pub fn growth_without_files(self) -> u64 {
        self.rss_growth_bytes.saturating_sub(self.rss_file_growth_bytes)
    }
}

/// How a heap profile was recorded, and what is missing in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeapProvenance {
    /// Sampling interval: the mean number of bytes between two allocation samples. 1 if every allocation was recorded.
    pub interval_bytes: u64,
    /// Number of records of allocations and frees.
    pub records: u64,
    /// Number of records that were lost because a buffer was full, or because the process was killed while writing.
    pub lost: u64,
    /// Number of allocations whose stack is truncated or missing.
    pub stacks_cut: u64,
    /// Number of stacks whose leaf has no symbol.
    pub unsymbolised: u64,
    /// Number of stacks that were merged into those of their callers to limit the size of the file. Only stacks with few bytes are merged.
    #[serde(default)]
    pub stacks_joined: u64,
    /// Number of recorded process images: processes, counted again after each `exec`.
    pub processes: u64,
    /// Number of process images that ran without the preload library, so that their memory is missing. Processes that ran for less than
    /// about 0.1 s may not be counted.
    #[serde(default)]
    pub unrecorded: u64,
    /// Names of some of the process images in `unrecorded`, without duplicates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unrecorded_names: Vec<String>,
    /// The interpreters whose objects were recorded, for example `CPython 3.11.7`.
    pub interpreters: Vec<String>,
    /// CPU time of the recorder while the target ran, in ns.
    pub recorder_cpu_ns: u64,
    /// CPU time of the target in ns.
    pub target_cpu_ns: u64,
    /// Wall time of the target in ns.
    pub target_wall_ns: u64,
    /// How much of the growth of the resident set is explained. Null if the growth was too small.
    pub coverage: Option<HeapCoverage>,
    /// Notices about the recording.
    pub notices: Vec<Notice>,
}

impl HeapProvenance {
    /// Returns whether every allocation was recorded.
    pub fn is_exact(&self) -> bool {
        self.interval_bytes <= 1
    }
}

/// The allocations of a target by stack, over time and by size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeapProfile {
    /// Format name and version.
    pub schema: String,
    /// Functions, frames and stacks of the sites. It has no samples.
    pub tables: Profile,
    /// Allocation sites, by descending allocated bytes.
    pub sites: Vec<HeapSite>,
    /// Steps or intervals of time in order, at most 512. In longer runs each tick is longer.
    pub ticks: Vec<HeapTick>,
    /// Number of steps that ended, including those that are in no tick. 0 if the target marks no steps.
    pub steps: u64,
    /// Memory over time in order, at most 1024 intervals.
    pub series: Vec<HeapInterval>,
    /// Allocations by size, in ascending order. Empty classes are omitted.
    pub sizes: Vec<HeapSizeClass>,
    /// Time of the peak in ns of CLOCK_MONOTONIC. 0 if nothing was allocated.
    pub peak_ns: u64,
    /// Number of the step with the peak. Null if the peak was not in a step.
    pub peak_step: Option<u64>,
    /// How the profile was recorded.
    pub provenance: HeapProvenance,
}

impl HeapProfile {
    /// Creates a profile that consists of sites only. `tables` must not have samples.
    pub fn of_sites(tables: Profile, sites: Vec<HeapSite>, provenance: HeapProvenance) -> Self {
        Self {
            schema: HEAP_SCHEMA.to_owned(),
            tables,
            sites,
            ticks: Vec::new(),
            steps: 0,
            series: Vec::new(),
            sizes: Vec::new(),
            peak_ns: 0,
            peak_step: None,
            provenance,
        }
    }

    /// Returns the sum of an amount over all sites.
    pub fn total(&self, amount: impl Fn(&HeapSite) -> HeapAmount) -> HeapAmount {
        self.sites.iter().map(amount).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_add_in_quadrature() {
        let amount = |bytes_error| HeapAmount { bytes: 10, count: 1, bytes_error, count_error: 0 };
        let sum: HeapAmount = [amount(3), amount(4)].into_iter().sum();
        assert_eq!((sum.bytes, sum.bytes_error, sum.count), (20, 5, 2));
        assert_eq!(amount(0).bytes_interval(), [10.0, 10.0]);
        let [low, high] = sum.bytes_interval();
        assert!((low - 10.2).abs() < 0.01 && (high - 29.8).abs() < 0.01);
        assert_eq!(amount(100).bytes_interval()[0], 0.0);
    }
}
