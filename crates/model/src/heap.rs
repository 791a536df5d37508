//! Where memory is allocated, and what becomes of it: sums over allocations by stack, and their course over time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Notice;
use crate::profile::{Profile, StackId};

/// Format name and version of [`HeapProfile`].
pub const HEAP_SCHEMA: &str = "simprof.heap/1";

/// An allocation that is freed sooner than this after it was made is short-lived, ns.
pub const SHORT_LIVED_NS: u64 = 1_000_000;

/// Standard errors that 95 % of a normal distribution lie within.
pub const NORMAL_95: f64 = 1.959_964;

/// An amount of memory: exact, or an unbiased estimate with its standard error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeapAmount {
    /// Bytes that were asked for.
    pub bytes: u64,
    /// Allocations.
    pub count: u64,
    /// Standard error of `bytes`, as far as draws tell it; 0 where every allocation was recorded, and where nothing was drawn.
    pub bytes_error: u64,
    /// Standard error of `count`, likewise.
    pub count_error: u64,
}

impl HeapAmount {
    /// Both together; their errors are independent.
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

    /// 95 % interval of the bytes by the normal approximation, for many draws: of few it reaches not far enough, and of none not at all.
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

/// Who allocated.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum HeapOrigin {
    /// `malloc` and its family, and what is built upon it.
    Malloc,
    /// Anonymous memory that the program itself mapped.
    Map,
    /// Python's own allocator for small objects.
    Python,
    /// The program's own allocator, told by the shim.
    Program,
}

/// Sums over allocations: of a stack, of a line.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeapAmounts {
    /// All that was allocated.
    pub allocated: HeapAmount,
    /// What was alive at the moment at which most was, over all processes.
    pub peak: HeapAmount,
    /// What was alive at the end of its process.
    pub live: HeapAmount,
    /// What was freed in the step in which it was allocated; zero in runs without step marks.
    pub temporary: HeapAmount,
    /// What was freed within [`SHORT_LIVED_NS`].
    pub short_lived: HeapAmount,
    /// Allocations that were made larger or smaller (`realloc`); each is also an allocation.
    pub reallocations: u64,
    /// Largest single allocation that was recorded, bytes.
    pub largest_bytes: u64,
    /// Allocations that were recorded, of which all figures are sums.
    pub records: u64,
    /// Live bytes at the end of each of [`HeapProfile::ticks`]; empty where they stayed small.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub live_at_ticks: Vec<u64>,
}

impl HeapAmounts {
    /// Adds other allocations.
    pub fn add(&mut self, other: &HeapAmounts) {
        self.allocated = self.allocated.plus(other.allocated);
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

/// What was allocated by one stack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeapSite {
    /// The function that called the allocator, and its callers; none where no frame could be had.
    pub stack: Option<StackId>,
    /// Who allocated.
    pub origin: HeapOrigin,
    /// What became of it.
    #[serde(flatten)]
    pub amounts: HeapAmounts,
}

/// A span of the run: some steps where the target marks steps, else an interval of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeapTick {
    /// Its end, CLOCK_MONOTONIC, ns.
    pub end_ns: u64,
    /// Steps that ended in it.
    pub steps: u64,
    /// Bytes allocated in it (and before it, since the end of the tick before).
    pub allocated_bytes: u64,
    /// Allocations made in it.
    pub allocations: u64,
    /// Of those bytes, what was freed in its own step.
    pub temporary_bytes: u64,
    /// Bytes alive at its end.
    pub live_bytes: u64,
    /// Living agents at its end, where the target said so.
    pub population: Option<u64>,
}

/// Memory in an interval of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeapInterval {
    /// Its end, CLOCK_MONOTONIC, ns.
    pub end_ns: u64,
    /// Bytes allocated in it.
    pub allocated_bytes: u64,
    /// Allocations made in it.
    pub allocations: u64,
    /// Most bytes alive in it.
    pub live_bytes_max: u64,
    /// Bytes alive at its end.
    pub live_bytes: u64,
}

/// Allocations of sizes from a power of two up to the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeapSizeClass {
    /// Least size of the class, bytes: 0, 1, 2, 4, 8…
    pub from_bytes: u64,
    /// How many there were.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// How much of the growth of the resident set the allocations explain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeapCoverage {
    /// Most that the resident sets of the processes had grown by, without what simprof's own library takes, bytes.
    pub rss_growth_bytes: u64,
    /// Of it, pages of mapped files and shared memory, which are no allocations, bytes.
    #[serde(default)]
    pub rss_file_growth_bytes: u64,
    /// Bytes alive at that moment.
    pub live_bytes: u64,
}

impl HeapCoverage {
    /// Growth below which nothing can be said of what explains it, bytes.
    pub const NOTABLE_GROWTH: u64 = 32 << 20;

    /// Share of the growth but for files that is explained, above 1 where what is allocated was not all touched; none where it grew too
    /// little.
    pub fn explained(self) -> Option<f64> {
        let growth = self.growth_without_files();
        (growth >= Self::NOTABLE_GROWTH).then(|| self.live_bytes as f64 / growth as f64)
    }

    /// The growth of memory that is of no file, bytes.
    pub fn growth_without_files(self) -> u64 {
        self.rss_growth_bytes.saturating_sub(self.rss_file_growth_bytes)
    }
}

/// How a heap profile was obtained, and what it lacks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeapProvenance {
    /// Mean distance between two draws, bytes; 1 where every allocation was recorded.
    pub interval_bytes: u64,
    /// Records of allocations and of their ends.
    pub records: u64,
    /// Records that were lost for want of room, or since their writer was killed amid its work.
    pub lost: u64,
    /// Allocations whose stack, or a part of it towards the root, is missing.
    pub stacks_cut: u64,
    /// Stacks whose innermost function has no name.
    pub unsymbolised: u64,
    /// Stacks that allocated too little to be kept apart in a file of very many: they are in those of their callers.
    #[serde(default)]
    pub stacks_joined: u64,
    /// Process images that were recorded.
    pub processes: u64,
    /// Process images that were seen to run without the library, so that their memory is missing; those that ran for less than some
    /// 0.1 s may have been missed.
    #[serde(default)]
    pub unrecorded: u64,
    /// Names of some of those, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unrecorded_names: Vec<String>,
    /// The interpreters whose objects were recorded, such as `CPython 3.11.7`.
    pub interpreters: Vec<String>,
    /// CPU time that the recorder used while the target ran, ns.
    pub recorder_cpu_ns: u64,
    /// CPU time that the target used, ns.
    pub target_cpu_ns: u64,
    /// Wall time of the target, ns.
    pub target_wall_ns: u64,
    /// How much of the resident set's growth is explained; none where it grew too little to tell.
    pub coverage: Option<HeapCoverage>,
    /// What a reader must know about the recording.
    pub notices: Vec<Notice>,
}

impl HeapProvenance {
    /// Whether every allocation was recorded.
    pub fn is_exact(&self) -> bool {
        self.interval_bytes <= 1
    }
}

/// Where memory is allocated, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeapProfile {
    /// Format name and version.
    pub schema: String,
    /// Functions, frames and stacks that sites refer to; it has no samples.
    pub tables: Profile,
    /// By falling bytes allocated.
    pub sites: Vec<HeapSite>,
    /// Steps, or intervals of time, in order; at most 512, longer runs have longer ones.
    pub ticks: Vec<HeapTick>,
    /// Steps that ended, whether they are in a tick or not; 0 where the target marks none.
    pub steps: u64,
    /// The course of memory over time, in order; at most 1024 intervals.
    pub series: Vec<HeapInterval>,
    /// Sizes of allocations, rising; classes without any are left out.
    pub sizes: Vec<HeapSizeClass>,
    /// When most was alive, CLOCK_MONOTONIC, ns; 0 where nothing was allocated.
    pub peak_ns: u64,
    /// The step in which that was.
    pub peak_step: Option<u64>,
    /// How it was obtained.
    pub provenance: HeapProvenance,
}

impl HeapProfile {
    /// Sites alone, in tables without samples, with how they were obtained.
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

    /// The sum of an amount over all sites.
    pub fn total(&self, amount: impl Fn(&HeapSite) -> HeapAmount) -> HeapAmount {
        self.sites.iter().map(amount).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_add_in_squares() {
        let amount = |bytes_error| HeapAmount { bytes: 10, count: 1, bytes_error, count_error: 0 };
        let sum: HeapAmount = [amount(3), amount(4)].into_iter().sum();
        assert_eq!((sum.bytes, sum.bytes_error, sum.count), (20, 5, 2));
        assert_eq!(amount(0).bytes_interval(), [10.0, 10.0]);
        let [low, high] = sum.bytes_interval();
        assert!((low - 10.2).abs() < 0.01 && (high - 29.8).abs() < 0.01);
        assert_eq!(amount(100).bytes_interval()[0], 0.0);
    }
}
