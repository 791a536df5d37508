//! Limits of the readiness checks.

use serde::{Deserialize, Serialize};

use super::SpecError;

/// The limits of each check. A check without limits is not judged: what is good depends on the program and its use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Readiness {
    /// Steps per second at or above which speed is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps_per_second: Option<f64>,
    /// Steps per second at or above which speed is acceptable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps_per_second_acceptable: Option<f64>,
    /// KiB per unit of the size up to which memory is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kb_per_agent: Option<f64>,
    /// KiB per unit of the size above which memory is high.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kb_per_agent_high: Option<f64>,
    /// Growth in KiB per step up to which memory is stable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth_kb_per_step: Option<f64>,
    /// Growth in KiB per step above which it is a leak.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth_kb_per_step_leak: Option<f64>,
    /// Exponent of time in the model's size up to which scaling is linear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exponent_linear: Option<f64>,
    /// Exponent above which scaling is poor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exponent_poor: Option<f64>,
    /// The parameter that is the model's size; by default `agents`, or else the first that is
    /// swept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
}

/// The limits of one check.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Limit of a good value.
    pub good: f64,
    /// Limit of an acceptable value.
    pub acceptable: f64,
}

impl Limits {
    /// Returns the limits that the spec sets. If it sets only one, it is the limit of both.
    fn new(good: Option<f64>, acceptable: Option<f64>) -> Option<Limits> {
        Some(Limits { good: good.or(acceptable)?, acceptable: acceptable.or(good)? })
    }
}

impl Readiness {
    /// Returns the limits of steps per second, of which more is better.
    pub fn speed(&self) -> Option<Limits> {
        Limits::new(self.steps_per_second, self.steps_per_second_acceptable)
    }

    /// Returns the limits of KiB per unit of the size.
    pub fn memory(&self) -> Option<Limits> {
        Limits::new(self.kb_per_agent, self.kb_per_agent_high)
    }

    /// Returns the limits of growth in KiB per step.
    pub fn growth(&self) -> Option<Limits> {
        Limits::new(self.growth_kb_per_step, self.growth_kb_per_step_leak)
    }

    /// Returns the limits of the exponent of time.
    pub fn exponent(&self) -> Option<Limits> {
        Limits::new(self.exponent_linear, self.exponent_poor)
    }

    /// Checks that each pair of limits is in order.
    pub(super) fn check(&self) -> Result<(), SpecError> {
        let pairs = [
            (
                "steps_per_second_acceptable",
                self.speed().map(|limits| (limits.acceptable, limits.good)),
                "a number, at most readiness.steps_per_second",
            ),
            (
                "kb_per_agent",
                self.memory().map(|limits| (limits.good, limits.acceptable)),
                "a number, at most readiness.kb_per_agent_high",
            ),
            (
                "growth_kb_per_step",
                self.growth().map(|limits| (limits.good, limits.acceptable)),
                "a number, at most readiness.growth_kb_per_step_leak",
            ),
            (
                "exponent_linear",
                self.exponent().map(|limits| (limits.good, limits.acceptable)),
                "a number, at most readiness.exponent_poor",
            ),
        ];
        let is_wrong =
            |(low, high): (f64, f64)| !(low.is_finite() && high.is_finite() && low <= high);
        let wrong = pairs.into_iter().find_map(|(key, pair, want)| {
            pair.filter(|&pair| is_wrong(pair)).map(|(low, _)| (key, low, want))
        });
        match wrong {
            Some((key, low, want)) => Err(SpecError::Value {
                key: format!("readiness.{key}"),
                value: low.to_string(),
                want,
            }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_limits_of_the_spec_are_asked() {
        let nothing = Readiness::default();
        assert_eq!((nothing.speed(), nothing.growth()), (None, None));
        let one = Readiness { steps_per_second: Some(20.0), ..Readiness::default() };
        assert_eq!(one.speed(), Some(Limits { good: 20.0, acceptable: 20.0 }));
        assert_eq!(one.memory(), None);
        assert!(one.check().is_ok());
    }

    #[test]
    fn limits_that_are_not_in_order_are_errors() {
        let wrong = Readiness {
            exponent_linear: Some(2.0),
            exponent_poor: Some(1.5),
            ..Readiness::default()
        };
        let error = wrong.check().expect_err("not in order").to_string();
        assert!(error.contains("readiness.exponent_linear"), "{error}");
        let infinite = Readiness { kb_per_agent: Some(f64::NAN), ..Readiness::default() };
        assert!(infinite.check().is_err());
    }
}
