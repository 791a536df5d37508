//! The parts of a run, as part of the summaries.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::analysis::{RunPart, RunSplit};

/// The cost of one part of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PartSummary {
    /// The part.
    pub part: RunPart,
    /// CPU time in one run, s, as sampled: the mean over runs.
    pub cpu_s: f64,
    /// Its share of the CPU time of a run, 0 to 1. The shares of all parts sum to 1.
    pub share: f64,
    /// The function that most of it is charged to; `null` if the part is small.
    pub mostly: Option<String>,
}

/// CPU time outside of steps, in one run, as sampled: the mean over runs. Figures per step are without it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OutsideSteps {
    /// Before the first step, s: set-up, with the start of processes, imports and compilation.
    pub set_up_cpu_s: f64,
    /// Between the first and the last step, but in no step, s.
    pub between_steps_cpu_s: f64,
    /// Imports and compilation inside steps that happen once, s.
    pub once_in_steps_cpu_s: f64,
    /// After the last step, s.
    pub tear_down_cpu_s: f64,
    /// Share of the CPU time of a run, 0 to 1.
    pub cpu_share: f64,
}

impl PartSummary {
    /// Returns all parts of `runs` runs.
    pub fn all(split: &RunSplit, runs: usize) -> Vec<Self> {
        let part = |cost: &crate::analysis::PartCost| Self {
            part: cost.part,
            cpu_s: cost.weight as f64 * 1e-9 / runs.max(1) as f64,
            share: cost.share,
            mostly: cost.mostly.clone(),
        };
        split.parts.iter().map(part).collect()
    }
}

impl OutsideSteps {
    pub(super) fn new(split: &RunSplit, runs: usize) -> Option<Self> {
        let cpu_s = |is: fn(RunPart) -> bool| {
            let parts = split.parts.iter().filter(|cost| is(cost.part));
            parts.map(|cost| cost.weight).sum::<u64>() as f64 * 1e-9 / runs.max(1) as f64
        };
        let outside = split.parts.iter().filter(|cost| !cost.part.is_work());
        (split.steps > 0).then(|| Self {
            set_up_cpu_s: cpu_s(RunPart::is_before_steps),
            between_steps_cpu_s: cpu_s(|part| part == RunPart::BetweenSteps),
            once_in_steps_cpu_s: cpu_s(RunPart::is_once_in_steps),
            tear_down_cpu_s: cpu_s(|part| part == RunPart::TearDown),
            cpu_share: outside.map(|cost| cost.share).sum(),
        })
    }
}
