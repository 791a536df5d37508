//! Steps: the units of work of a target.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One step of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// Number of the step as reported by the target.
    pub index: u64,
    /// Start of the step in ns of CLOCK_MONOTONIC.
    pub begin_ns: u64,
    /// End of the step in ns of CLOCK_MONOTONIC.
    pub end_ns: u64,
    /// Population at the end of the step: the number of living agents, or another measure of the size of the model. Null if the target
    /// does not report it.
    pub population: Option<u64>,
    /// Id of the thread that marked the step, in the target's own namespace. Null if it is unknown, as it is for steps from the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<u32>,
}

impl Step {
    /// Returns the duration of the step in ns.
    pub fn duration_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.begin_ns)
    }
}

/// All steps of one run of a target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Steps {
    /// Steps in order of time.
    pub steps: Vec<Step>,
    /// Number of step marks that were overwritten before they were read.
    pub lost: u64,
    /// Source of the steps: `marks` (step marks, or calls of the step function), `output` (a pattern in the output). Empty if there are no
    /// steps.
    pub source: String,
}

impl Steps {
    /// Returns the start of the first step in ns of CLOCK_MONOTONIC, which is the end of the set-up. `None` without steps.
    pub fn first_begin_ns(&self) -> Option<u64> {
        self.steps.first().map(|step| step.begin_ns)
    }

    /// Returns when the last step ended in ns of CLOCK_MONOTONIC. `None` without steps.
    pub fn last_end_ns(&self) -> Option<u64> {
        self.steps.iter().map(|step| step.end_ns).max()
    }

    /// Returns the disjoint spans of time that the steps cover, in order. Steps may overlap, as those of several processes do.
    pub fn spans(&self) -> Vec<(u64, u64)> {
        merged_spans(self.steps.iter().map(|step| (step.begin_ns, step.end_ns)).collect())
    }

    /// Returns the share of the time from the first begin to the last end that the steps cover, 0 to 1. `None` without steps or
    /// without time.
    pub fn covered_share(&self) -> Option<f64> {
        let spans = self.spans();
        let wall_ns = spans.last()?.1.saturating_sub(spans.first()?.0);
        let covered_ns: u64 = spans.iter().map(|(begin, end)| end.saturating_sub(*begin)).sum();
        (wall_ns > 0).then(|| covered_ns as f64 / wall_ns as f64)
    }

    /// Returns the steps per second from the start of the first step to the end of the last. `None` without steps.
    pub fn per_second(&self) -> Option<f64> {
        let wall_ns = self.last_end_ns()?.checked_sub(self.first_begin_ns()?)?;
        (wall_ns > 0).then(|| self.steps.len() as f64 / (wall_ns as f64 * 1e-9))
    }
}

/// Returns the disjoint spans that cover the same time as `spans`, in order.
pub fn merged_spans(mut spans: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    spans.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::with_capacity(spans.len());
    for (begin, end) in spans {
        match merged.last_mut() {
            Some(last) if begin <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((begin, end)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_disjoint() {
        let spans = vec![(100, 120), (200, 250), (205, 210), (120, 130), (90, 95)];
        assert_eq!(merged_spans(spans), [(90, 95), (100, 130), (200, 250)]);
    }

    #[test]
    fn a_rate_needs_steps_and_time() {
        assert_eq!(Steps::default().per_second(), None);
        let step = |index, begin_ns, end_ns| Step {
            index,
            begin_ns,
            end_ns,
            population: None,
            thread: None,
        };
        let steps = vec![step(0, 0, 400_000_000), step(1, 500_000_000, 1_000_000_000)];
        let steps = Steps { steps, ..Steps::default() };
        assert_eq!(steps.per_second(), Some(2.0));
        let steps = vec![step(0, 0, 1_000_000_000), step(1, 200_000_000, 400_000_000)];
        let overlapping = Steps { steps, ..Steps::default() };
        assert_eq!(overlapping.per_second(), Some(2.0));
    }

    #[test]
    fn overlapping_steps_cover_their_time_once() {
        let step =
            |begin_ns, end_ns| Step { index: 0, begin_ns, end_ns, population: None, thread: None };
        let steps = vec![step(10, 20), step(12, 15), step(20, 25), step(45, 50)];
        let steps = Steps { steps, ..Steps::default() };
        assert_eq!(steps.spans(), [(10, 25), (45, 50)]);
        assert_eq!(steps.covered_share(), Some(0.5));
        assert_eq!(Steps::default().covered_share(), None);
    }
}
