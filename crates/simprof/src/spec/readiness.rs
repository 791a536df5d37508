//! Thresholds of the readiness checks.

use serde::{Deserialize, Serialize};

use super::SpecError;

/// The thresholds of each check. The defaults are those of the reference simulation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Readiness {
    /// Steps per second at or above which speed is good.
    pub steps_per_second: f64,
    /// Steps per second at or above which speed is acceptable.
    pub steps_per_second_acceptable: f64,
    /// KB per agent up to which memory is good.
    pub kb_per_agent: f64,
    /// KB per agent above which memory is high.
    pub kb_per_agent_high: f64,
    /// Growth in KB per step up to which memory is stable.
    pub growth_kb_per_step: f64,
    /// Growth in KB per step above which it is a leak.
    pub growth_kb_per_step_leak: f64,
    /// Exponent of time in the model's size up to which scaling is linear.
    pub exponent_linear: f64,
    /// Exponent above which scaling is poor.
    pub exponent_poor: f64,
    /// The parameter that is the model's size; by default `agents`, or else the first that is
    /// swept.
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
    /// Checks that each pair of thresholds is in order.
    pub(super) fn check(&self) -> Result<(), SpecError> {
        let pairs = [
            (
                "steps_per_second_acceptable",
                self.steps_per_second_acceptable,
                self.steps_per_second,
                "a number, at most readiness.steps_per_second",
            ),
            (
                "kb_per_agent",
                self.kb_per_agent,
                self.kb_per_agent_high,
                "a number, at most readiness.kb_per_agent_high",
            ),
            (
                "growth_kb_per_step",
                self.growth_kb_per_step,
                self.growth_kb_per_step_leak,
                "a number, at most readiness.growth_kb_per_step_leak",
            ),
            (
                "exponent_linear",
                self.exponent_linear,
                self.exponent_poor,
                "a number, at most readiness.exponent_poor",
            ),
        ];
        match pairs
            .into_iter()
            .find(|(_, low, high, _)| !(low.is_finite() && high.is_finite() && low <= high))
        {
            Some((key, low, _, want)) => Err(SpecError::Value {
                key: format!("readiness.{key}"),
                value: low.to_string(),
                want,
            }),
            None => Ok(()),
        }
    }
}
