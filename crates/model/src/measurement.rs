//! How much a cost is: one planned measurement, with all its replicates, raw.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a planned measurement, a phase or a summary ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Everything that was planned was measured.
    Ok,
    /// The target failed or could not be run.
    Failed,
    /// The time limit ended it.
    TimedOut,
    /// It was not attempted.
    Skipped,
    /// Some of what was planned was measured.
    Partial,
}

impl Status {
    /// The status of a whole from those of its parts; an empty whole was skipped.
    pub fn of_parts(parts: impl IntoIterator<Item = Status>) -> Status {
        parts.into_iter().reduce(Status::with).unwrap_or(Status::Skipped)
    }

    /// Both together: where nothing of either was measured, what went wrong.
    fn with(self, other: Status) -> Status {
        use Status::{Failed, Skipped, TimedOut};
        match (self, other) {
            _ if self == other => self,
            (Failed, TimedOut | Skipped) | (TimedOut | Skipped, Failed) => Failed,
            (TimedOut, Skipped) | (Skipped, TimedOut) => TimedOut,
            _ => Status::Partial,
        }
    }

    /// True only for [`Status::Ok`].
    pub fn is_ok(self) -> bool {
        self == Status::Ok
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Ok => "ok",
            Status::Failed => "failed",
            Status::TimedOut => "timed out",
            Status::Skipped => "skipped",
            Status::Partial => "partial",
        })
    }
}

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Value {
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Float(f64),
    /// A name, such as a kind of index.
    Text(String),
}

impl Value {
    /// The value as a number, where it is one.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Value::Integer(value) => Some(*value as f64),
            Value::Float(value) => Some(*value),
            Value::Text(_) => None,
        }
    }

    /// The value that a person typed: a number where it reads as one.
    pub fn parse(text: &str) -> Value {
        if let Ok(value) = text.parse::<i64>() {
            Value::Integer(value)
        } else if let Some(value) = text.parse::<f64>().ok().filter(|value| value.is_finite()) {
            Value::Float(value)
        } else {
            Value::Text(text.to_owned())
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Integer(value) => value.fmt(f),
            Value::Float(value) => value.fmt(f),
            Value::Text(value) => value.fmt(f),
        }
    }
}

/// One quantity as one process measured it. The unit is the end of its name: `nearby_ns`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Metric {
    /// Every value that the process reported, in order; one for a figure of the whole process.
    pub samples: Vec<f64>,
}

impl Metric {
    /// A figure of the whole process.
    pub fn single(value: f64) -> Self {
        Self { samples: vec![value] }
    }
}

/// One fresh process: the unit of replication.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Replicate {
    /// Seed it was given.
    pub seed: u64,
    /// Place in the randomised order of the whole phase.
    pub order: usize,
    /// How this process ended.
    pub status: Status,
    /// Why, where it is not ok.
    pub reason: Option<String>,
    /// What it measured, by name with unit.
    pub metrics: BTreeMap<String, Metric>,
    /// Work done: calls, hits, rows, successes; whatever the target counts.
    pub counters: BTreeMap<String, f64>,
    /// Digest of the answer computed, where the target gives one.
    pub digest: Option<String>,
    /// Load average of the machine (1 minute) when it began.
    pub load: Option<f64>,
}

/// One planned measurement and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Measurement {
    /// Unique in its phase: `spatial/nearby index=kdtree entities=1000`.
    pub name: String,
    /// Component it belongs to, where it is a component benchmark.
    pub component: Option<String>,
    /// Operation of that component.
    pub operation: Option<String>,
    /// Parameters it was run with.
    pub parameters: BTreeMap<String, Value>,
    /// How it ended.
    pub status: Status,
    /// Why, where it is not ok.
    pub reason: Option<String>,
    /// Its processes, in the order they ran.
    pub replicates: Vec<Replicate>,
}

impl Measurement {
    /// The median of each successful process for one metric: what comparisons and laws are fitted to.
    pub fn replicate_medians(&self, metric: &str) -> Vec<f64> {
        self.ok_replicates()
            .filter_map(|replicate| median(&replicate.metrics.get(metric)?.samples))
            .collect()
    }

    /// The processes that ended well.
    pub fn ok_replicates(&self) -> impl Iterator<Item = &Replicate> {
        self.replicates.iter().filter(|replicate| replicate.status.is_ok())
    }

    /// Names of all metrics that some process reported, sorted.
    pub fn metric_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .replicates
            .iter()
            .flat_map(|replicate| replicate.metrics.keys().map(String::as_str))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Middle value; the mean of the two middle ones for an even count.
fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_is_partial_where_some_of_it_is_well() {
        use Status::{Failed, Ok, Partial, Skipped, TimedOut};
        assert_eq!(Status::of_parts([]), Skipped);
        assert_eq!(Status::of_parts([Ok, Ok]), Ok);
        assert_eq!(Status::of_parts([Failed, Failed]), Failed);
        assert_eq!(Status::of_parts([Ok, Failed, Ok]), Partial);
        assert_eq!(Status::of_parts([Skipped, Failed, Ok]), Partial);
        assert_eq!(Status::of_parts([Ok, Skipped]), Partial);
        assert_eq!(Status::of_parts([Failed, Skipped, Skipped]), Failed);
        assert_eq!(Status::of_parts([Skipped, TimedOut]), TimedOut);
    }

    #[test]
    fn typed_values_become_numbers_where_they_read_as_such() {
        assert_eq!(Value::parse("10"), Value::Integer(10));
        assert_eq!(Value::parse("0.5"), Value::Float(0.5));
        assert_eq!(Value::parse("nan"), Value::Text("nan".into()));
        assert_eq!(Value::parse("kdtree"), Value::Text("kdtree".into()));
    }

    #[test]
    fn failed_processes_do_not_enter_medians() {
        let replicate = |status, samples: &[f64]| Replicate {
            seed: 0,
            order: 0,
            status,
            reason: None,
            metrics: [("t_ns".to_owned(), Metric { samples: samples.to_vec() })].into(),
            counters: BTreeMap::new(),
            digest: None,
            load: None,
        };
        let measurement = Measurement {
            name: "m".into(),
            component: None,
            operation: None,
            parameters: BTreeMap::new(),
            status: Status::Partial,
            reason: None,
            replicates: vec![
                replicate(Status::Ok, &[3.0, 1.0, 2.0]),
                replicate(Status::Failed, &[9.0]),
                replicate(Status::Ok, &[4.0, 6.0]),
            ],
        };
        assert_eq!(measurement.replicate_medians("t_ns"), [2.0, 5.0]);
        assert_eq!(measurement.metric_names(), ["t_ns"]);
    }
}
