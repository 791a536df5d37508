//! Phase 4: what it means for the whole.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::Notice;

use super::common::{Bounds, Head};
use super::laws::Law;

/// phase4_summary.json.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SystemSummary {
    /// What every summary begins with.
    #[serde(flatten)]
    pub head: Head,
    /// How cost grows with each parameter.
    pub laws: Vec<Law>,
    /// Resources over time, the first run's; `timelines` has all.
    pub timeline: Option<TimelineSummary>,
    /// Resources over time of every run that was followed.
    pub timelines: Vec<TimelineSummary>,
    /// Predictions, and the runs that checked them.
    pub predictions: Vec<Prediction>,
    /// Is it ready for production.
    pub readiness: Vec<Check>,
    /// What it means, one sentence each.
    pub statements: Vec<String>,
}

/// Resources of one run over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TimelineSummary {
    /// `default`, or the parameters that differ.
    pub case: String,
    /// Between samples, ms.
    pub interval_ms: f64,
    /// Wall time, s.
    pub wall_s: f64,
    /// CPU time, s.
    pub cpu_s: f64,
    /// Steps that the run marked.
    pub steps: usize,
    /// Largest resident set, bytes.
    pub peak_rss_bytes: u64,
    /// Mean busy share of each core of the machine while it ran, 0 to 1.
    pub core_busy: Vec<f64>,
    /// Most threads alive at once.
    pub threads: u32,
    /// Page faults served without I/O, and with it.
    pub page_faults: [u64; 2],
    /// Context switches asked for, and forced.
    pub context_switches: [u64; 2],
    /// Bytes read from and written to storage; absent where the kernel does not tell.
    pub io_bytes: Option<[u64; 2]>,
    /// Growth of memory.
    pub growth: Option<Growth>,
    /// At most 500 points of it, evenly spread.
    pub points: Vec<TimelinePoint>,
    /// Files with the whole series and its chart, relative to the phase's folder.
    pub files: Vec<String>,
    /// What could not be read.
    pub notices: Vec<Notice>,
}

/// Resources at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TimelinePoint {
    /// Since the start, ms.
    pub time_ms: f64,
    /// Cores kept busy since the point before.
    pub cpu_cores: f64,
    /// Resident set, bytes.
    pub rss_bytes: u64,
}

/// How memory grows with steps after the warm-up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Growth {
    /// Resident set per step, KB; negative where it shrinks.
    pub kb_per_step: f64,
    /// 95 % interval (Theil and Sen).
    pub interval: Option<Bounds>,
    /// `grows`, `levelled off`, `steady` or `cannot tell` (with what confounds it).
    pub verdict: String,
    /// Moments that it is fitted to.
    pub n: usize,
    /// What decided, in one sentence.
    pub evidence: String,
}

/// A prediction and its check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Prediction {
    /// The parameter.
    pub parameter: String,
    /// Its value, beyond those that the law was fitted to.
    pub value: f64,
    /// The metric.
    pub metric: String,
    /// Predicted.
    pub predicted: f64,
    /// 95 % prediction interval.
    pub interval: Bounds,
    /// Measured by a run at that size; absent where it failed.
    pub measured: Option<f64>,
    /// `held`, `failed` or `not checked` (with the reason).
    pub verdict: String,
}

/// How a check of readiness ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReadinessVerdict {
    /// Good enough.
    Good,
    /// Can be lived with.
    Acceptable,
    /// Not good enough.
    Poor,
    /// There is no figure.
    NotMeasured,
}

/// One check of readiness.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// What is checked.
    pub check: String,
    /// Its value; absent where it was not measured.
    pub value: Option<f64>,
    /// 95 % interval of the value.
    pub interval: Option<Bounds>,
    /// What counts as good.
    pub threshold: f64,
    /// How it ended.
    pub verdict: ReadinessVerdict,
    /// The verdict in a word of its own: `stable`, `watch`, `leak`.
    pub word: String,
    /// Where the value comes from.
    pub evidence: String,
}
