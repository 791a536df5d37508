//! Phase 1: what is slow.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Bounds, Head};

/// phase1_summary.json. The figures at its top are those of the default case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MacroSummary {
    /// What every summary begins with.
    #[serde(flatten)]
    pub head: Head,
    /// The default case; its fields stand at the top level.
    #[serde(flatten)]
    pub default: CaseSummary,
    /// Further cases of the full run.
    pub cases: Vec<CaseSummary>,
}

/// One set of parameters, recorded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CaseSummary {
    /// `default`, or the parameters that differ.
    pub case: String,
    /// How it was recorded; absent where nothing was.
    pub profile: Option<ProfileSummary>,
    /// Functions by total share, those above 0.1 %.
    pub functions: Vec<FunctionSummary>,
    /// What to look at first, at most ten.
    pub bottlenecks: Vec<Bottleneck>,
    /// Shares of named groups of functions, by share.
    pub components: Vec<ComponentCost>,
    /// Steps; absent where the target marks none.
    pub steps: Option<StepSummary>,
    /// Wall time of one run, s: the median over runs.
    pub wall_s: f64,
    /// CPU time of one run, s: the mean over runs.
    pub cpu_s: f64,
    /// Work done in one run, by the target's own counters.
    pub counters: std::collections::BTreeMap<String, f64>,
    /// What it means, one sentence each.
    pub statements: Vec<String>,
}

/// How a profile was recorded and what it lacks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileSummary {
    /// The event really used.
    pub event: String,
    /// Rate asked for, samples per second of CPU time.
    pub rate_hz: f64,
    /// Rate achieved.
    pub achieved_hz: f64,
    /// Samples.
    pub samples: u64,
    /// Samples that the kernel dropped.
    pub lost: u64,
    /// Samples whose stack does not reach its root.
    pub truncated: u64,
    /// Samples whose leaf has no symbol.
    pub unsymbolised: u64,
    /// Whether kernel frames are in it.
    pub kernel: bool,
    /// Runs of the target that were joined.
    pub runs: usize,
    /// The recorder's own CPU time over the target's.
    pub recorder_cpu_share: f64,
    /// Events that were refused before this one, with the reason.
    pub fallbacks: Vec<String>,
}

/// What a function costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FunctionSummary {
    /// Its name.
    pub name: String,
    /// The file that it was loaded from.
    pub module: Option<String>,
    /// Its source file.
    pub file: Option<String>,
    /// Its line.
    pub line: Option<u32>,
    /// Share of CPU time in it alone, 0 to 1.
    pub self_share: f64,
    /// Share of CPU time in it and what it calls, 0 to 1.
    pub total_share: f64,
    /// 95 % interval of `total_share` (binomial over samples).
    pub total_interval: Bounds,
    /// CPU ms per step, itself and what it calls; absent without steps.
    pub ms_per_step: Option<f64>,
    /// Number of calls: sampling does not tell it.
    pub calls: Option<u64>,
}

/// A function to look at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bottleneck {
    /// 1 is the first.
    pub rank: usize,
    /// Its name.
    pub name: String,
    /// Its source file.
    pub file: Option<String>,
    /// Its line.
    pub line: Option<u32>,
    /// The component that it belongs to.
    pub component: String,
    /// Share of CPU time that is its own to answer for, 0 to 1.
    pub share: f64,
    /// 95 % interval of the share.
    pub interval: Bounds,
    /// CPU ms per step; absent without steps.
    pub ms_per_step: Option<f64>,
}

/// What a component costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ComponentCost {
    /// Its name.
    pub name: String,
    /// Share of CPU time, 0 to 1.
    pub share: f64,
    /// 95 % interval of the share.
    pub interval: Bounds,
    /// CPU ms per step; absent without steps.
    pub ms_per_step: Option<f64>,
}

/// Steps and how long they take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepSummary {
    /// Steps seen, over all runs.
    pub count: usize,
    /// Steps per second, set-up left out: the median over runs.
    pub per_second: f64,
    /// Median step, ms.
    pub p50_ms: f64,
    /// 95th percentile, ms.
    pub p95_ms: f64,
    /// 99th percentile, ms.
    pub p99_ms: f64,
    /// Steps at the start that are not steady yet.
    pub warm_up: usize,
    /// Time before the first step, ms: the median over runs.
    pub set_up_ms: f64,
    /// Where the marks come from: `marks` or `output`.
    pub source: String,
}
