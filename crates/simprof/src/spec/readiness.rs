//! Thresholds of the readiness table.

use serde::{Deserialize, Serialize};

use super::SpecError;

/// What is good enough, for each check; the defaults are those of the reference simulation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Readiness {
    /// Steps per second wanted.
    pub steps_per_second: f64,
    /// Steps per second that can be lived with.
    pub steps_per_second_acceptable: f64,
    /// KB per agent below which memory is good.
    pub kb_per_agent: f64,
    /// KB per agent above which it is high.
    pub kb_per_agent_high: f64,
    /// Growth below which memory is stable, KB per step.
    pub growth_kb_per_step: f64,
    /// Growth above which it is a leak, KB per step.
    pub growth_kb_per_step_leak: f64,
    /// Exponent of time in the size that counts as linear.
    pub exponent_linear: f64,
    /// Exponent above which scaling is poor.
    pub exponent_poor: f64,
    /// The parameter that is the model's size; `agents`, or the first that is swept, where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self {
            steps_per_second: 100.0,
            steps_per_second_acceptable: 50.0,
            kb_per_agent: 10.0,
            kb_per_agent_high: 50.0,
            growth_kb_per_step: 50.0,
            growth_kb_per_step_leak: 200.0,
            exponent_linear: 1.1,
            exponent_poor: 1.6,
            size: None,
        }
    }
}

impl Readiness {
    /// Each pair of thresholds must be in order.
    pub(super) fn check(&self) -> Result<(), SpecError> {
        let pairs = [
            (
                "steps_per_second_acceptable",
                self.steps_per_second_acceptable,
                self.steps_per_second,
            ),
            ("kb_per_agent", self.kb_per_agent, self.kb_per_agent_high),
            ("growth_kb_per_step", self.growth_kb_per_step, self.growth_kb_per_step_leak),
            ("exponent_linear", self.exponent_linear, self.exponent_poor),
        ];
        match pairs
            .into_iter()
            .find(|(_, low, high)| !(low.is_finite() && high.is_finite() && low <= high))
        {
            Some((key, low, _)) => Err(SpecError::Value {
                key: format!("readiness.{key}"),
                value: low.to_string(),
                want: "a number on the right side of its partner",
            }),
            None => Ok(()),
        }
    }
}
