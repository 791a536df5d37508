//! The summary of phase 4: scaling, resources and readiness of the whole program.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::Notice;

use simprof_stats::DriftVerdict;

use super::common::{Bounds, Head};
use super::laws::Law;

/// Prefix of the names of measurements that record resources over time, in contrast to those of sweeps.
pub const TIMELINE_PREFIX: &str = "timeline ";

/// phase4_summary.json.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SystemSummary {
    /// Fields common to all summaries.
    #[serde(flatten)]
    pub head: Head,
    /// The scaling laws in each parameter.
    pub laws: Vec<Law>,
    /// Resources over time of the first run; `timelines` has all runs.
    pub timeline: Option<TimelineSummary>,
    /// Resources over time of every run that was monitored.
    pub timelines: Vec<TimelineSummary>,
    /// Predictions, with the runs that checked them.
    pub predictions: Vec<Prediction>,
    /// Checks of readiness for production.
    pub readiness: Vec<Check>,
    /// Findings, one sentence each.
    pub statements: Vec<String>,
}

/// Resources of one run over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TimelineSummary {
    /// `default`, or the parameters that differ.
    pub case: String,
    /// Time between samples, ms.
    pub interval_ms: f64,
    /// Wall time, s.
    pub wall_s: f64,
    /// CPU time, s.
    pub cpu_s: f64,
    /// Steps that the run marked.
    pub steps: usize,
    /// Wall time per step, from the beginning of the first to the end of the last, ms; `null` without steps.
    #[serde(default)]
    pub wall_ms_per_step: Option<f64>,
    /// CPU time of all processes per step in the same time, ms; `null` without steps, or if it may be off by more than 10 %.
    #[serde(default)]
    pub cpu_ms_per_step: Option<f64>,
    /// Largest resident set, bytes.
    pub peak_rss_bytes: u64,
    /// Mean load of each core of the machine during the run, by all programs, 0 to 1.
    pub core_busy: Vec<f64>,
    /// Largest number of threads at a time.
    pub threads: u32,
    /// Page faults: `[without I/O, with I/O]`.
    pub page_faults: [u64; 2],
    /// Context switches: `[voluntary, involuntary]`.
    pub context_switches: [u64; 2],
    /// Bytes of storage: `[read, written]`; `null` if the kernel does not report them.
    pub io_bytes: Option<[u64; 2]>,
    /// Growth of memory.
    pub growth: Option<Growth>,
    /// At most 500 points of the series, evenly spread.
    pub points: Vec<TimelinePoint>,
    /// Files with the whole series and its chart, relative to the phase's folder.
    pub files: Vec<String>,
    /// What could not be read.
    pub notices: Vec<Notice>,
}

/// Resources at one time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TimelinePoint {
    /// Time since the start, ms.
    pub time_ms: f64,
    /// CPU time per wall time since the previous point.
    pub cpu_cores: f64,
    /// Resident set, bytes.
    pub rss_bytes: u64,
}

/// How memory grows with steps after the warm-up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Growth {
    /// Growth of the resident set per step, KiB; negative if it shrinks. If it levelled off, that of the second half.
    pub kb_per_step: f64,
    /// 95 % interval (Theil and Sen).
    pub interval: Option<Bounds>,
    /// Whether memory grows.
    pub verdict: GrowthVerdict,
    /// Number of samples that it is fitted to.
    pub n: usize,
    /// The numbers behind the verdict, in one sentence.
    pub evidence: String,
}

/// Whether memory grows with steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GrowthVerdict {
    /// It grows, and the growth continues.
    #[serde(rename = "grows")]
    Grows,
    /// It grew, then stopped growing.
    #[serde(rename = "levelled off")]
    LevelledOff,
    /// It does not grow.
    #[serde(rename = "steady")]
    Steady,
    /// It grows, but by so little in all that only a longer run can show whether that continues.
    #[serde(rename = "cannot tell: run longer")]
    RunLonger,
    /// The data do not decide.
    #[serde(rename = "cannot tell")]
    Inconclusive,
    /// It grows, but so does the population.
    #[serde(rename = "cannot tell: grows along with the population")]
    Confounded,
}

impl GrowthVerdict {
    /// Returns the verdict in words.
    pub fn describe(self) -> &'static str {
        match self {
            GrowthVerdict::Grows => "grows",
            GrowthVerdict::LevelledOff => "levelled off",
            GrowthVerdict::Steady => "steady",
            GrowthVerdict::RunLonger => "cannot tell: run longer",
            GrowthVerdict::Inconclusive => "cannot tell",
            GrowthVerdict::Confounded => "cannot tell: grows along with the population",
        }
    }
}

impl From<DriftVerdict> for GrowthVerdict {
    fn from(verdict: DriftVerdict) -> Self {
        match verdict {
            DriftVerdict::Growing => GrowthVerdict::Grows,
            DriftVerdict::Levelled => GrowthVerdict::LevelledOff,
            DriftVerdict::Steady => GrowthVerdict::Steady,
            DriftVerdict::Small => GrowthVerdict::RunLonger,
            DriftVerdict::Inconclusive => GrowthVerdict::Inconclusive,
            DriftVerdict::Confounded => GrowthVerdict::Confounded,
        }
    }
}

/// A prediction and its check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Prediction {
    /// The parameter.
    pub parameter: String,
    /// Its value, beyond the sizes that the law was fitted to.
    pub value: f64,
    /// The metric.
    pub metric: String,
    /// Predicted value of the metric.
    pub predicted: f64,
    /// 95 % prediction interval.
    pub interval: Bounds,
    /// Value measured at that size; `null` if it was not measured.
    pub measured: Option<f64>,
    /// Whether the measured value is in the interval.
    pub verdict: PredictionVerdict,
}

/// The result of checking a prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PredictionVerdict {
    /// The measured value is in the interval.
    #[serde(rename = "held")]
    Held,
    /// The measured value is outside the interval.
    #[serde(rename = "failed")]
    Failed,
    /// The run that was to check it failed.
    #[serde(rename = "not checked")]
    NotChecked,
    /// The run that was to check it would have taken too long.
    #[serde(rename = "not checked: the run would take too long")]
    TooLong,
}

impl PredictionVerdict {
    /// Returns the verdict in words.
    pub fn describe(self) -> &'static str {
        match self {
            PredictionVerdict::Held => "held",
            PredictionVerdict::Failed => "failed",
            PredictionVerdict::NotChecked => "not checked",
            PredictionVerdict::TooLong => "not checked: the run would take too long",
        }
    }
}

/// The result of a readiness check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReadinessVerdict {
    /// Good enough.
    Good,
    /// Not good, but acceptable.
    Acceptable,
    /// Not good enough.
    Poor,
    /// The data do not decide.
    CannotTell,
    /// The spec sets no limit.
    NotAsked,
    /// There is no measured value.
    NotMeasured,
}

impl ReadinessVerdict {
    /// Returns the verdict in words.
    pub fn describe(self) -> &'static str {
        match self {
            ReadinessVerdict::Good => "good",
            ReadinessVerdict::Acceptable => "acceptable",
            ReadinessVerdict::Poor => "poor",
            ReadinessVerdict::CannotTell => "cannot tell",
            ReadinessVerdict::NotAsked => "not judged",
            ReadinessVerdict::NotMeasured => "not measured",
        }
    }
}

/// One check of readiness.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// The quantity that is checked.
    pub check: String,
    /// Its value; `null` if it was not measured.
    pub value: Option<f64>,
    /// 95 % interval of the value.
    pub interval: Option<Bounds>,
    /// Limit of a good value; `null` if the spec sets none.
    pub threshold: Option<f64>,
    /// Result of the check.
    pub verdict: ReadinessVerdict,
    /// The result in a word for this quantity: `stable`, `watch`, `leak`.
    pub word: String,
    /// The data that the value comes from.
    pub evidence: String,
}

impl Check {
    /// Returns the verdict, with its word for the quantity if that differs: `cannot tell (good or acceptable)`.
    pub fn result(&self) -> String {
        let verdict = self.verdict.describe();
        if self.word == verdict { verdict.to_owned() } else { format!("{verdict} ({})", self.word) }
    }
}
