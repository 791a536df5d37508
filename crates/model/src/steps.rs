//! Steps: the unit of work that every figure is normalised by.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One step of the target, as it marked it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// The target's own number for it.
    pub index: u64,
    /// CLOCK_MONOTONIC, ns.
    pub begin_ns: u64,
    /// CLOCK_MONOTONIC, ns.
    pub end_ns: u64,
    /// Living agents (or any measure of the model's size) at its end, where the target said so.
    pub population: Option<u64>,
}

impl Step {
    /// How long it took, ns.
    pub fn duration_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.begin_ns)
    }
}

/// All steps of one run of a target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Steps {
    /// In order of time.
    pub steps: Vec<Step>,
    /// Marks that were overwritten before they were read.
    pub lost: u64,
    /// Where the marks come from: `marks` (the target made them), `output` (a pattern over its
    /// output), or empty where there are none.
    pub source: String,
}

impl Steps {
    /// Begin of the first step, which ends the set-up.
    pub fn first_begin_ns(&self) -> Option<u64> {
        self.steps.first().map(|step| step.begin_ns)
    }

    /// End of the last step.
    pub fn last_end_ns(&self) -> Option<u64> {
        self.steps.last().map(|step| step.end_ns)
    }

    /// Steps per second from the begin of the first to the end of the last; none without steps.
    pub fn per_second(&self) -> Option<f64> {
        let wall_ns = self.last_end_ns()?.checked_sub(self.first_begin_ns()?)?;
        (wall_ns > 0).then(|| self.steps.len() as f64 / (wall_ns as f64 * 1e-9))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_needs_steps_and_time() {
        assert_eq!(Steps::default().per_second(), None);
        let step = |index, begin_ns, end_ns| Step { index, begin_ns, end_ns, population: None };
        let steps = vec![step(0, 0, 400_000_000), step(1, 500_000_000, 1_000_000_000)];
        let steps = Steps { steps, ..Steps::default() };
        assert_eq!(steps.per_second(), Some(2.0));
    }
}
