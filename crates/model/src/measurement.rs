//! Measurements: the results of one planned measurement, with the raw values of all replicates.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The outcome of a measurement, a replicate, a phase or a summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Everything planned was measured.
    Ok,
    /// The target failed or could not be started.
    Failed,
    /// The target was ended at the time limit.
    TimedOut,
    /// Planned but not started.
    Skipped,
    /// Some of the planned parts succeeded, others did not.
    Partial,
}

impl Status {
    /// Combines the statuses of parts. Without parts the result is [`Status::Skipped`].
    pub fn of_parts(parts: impl IntoIterator<Item = Status>) -> Status {
        parts.into_iter().reduce(Status::with).unwrap_or(Status::Skipped)
    }

    /// Combines two statuses. If neither part has results, the more serious problem wins.
    fn with(self, other: Status) -> Status {
        use Status::{Failed, Skipped, TimedOut};
        match (self, other) {
            _ if self == other => self,
            (Failed, TimedOut | Skipped) | (TimedOut | Skipped, Failed) => Failed,
            (TimedOut, Skipped) | (Skipped, TimedOut) => TimedOut,
            _ => Status::Partial,
        }
    }

    /// Returns whether the status is [`Status::Ok`].
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
    /// An integer.
    Integer(i64),
    /// A floating-point number.
    Float(f64),
    /// A text, for example the kind of an index.
    Text(String),
}

impl Value {
    /// Returns the value as a number. `None` if it is a text.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Value::Integer(value) => Some(*value as f64),
            Value::Float(value) => Some(*value),
            Value::Text(_) => None,
        }
    }

    /// Parses a value from a command line: a number if possible, else a text.
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

/// The values of one quantity in one process. Its name ends with the unit, for example `nearby_ns`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Metric {
    /// All values that the process reported, in order. A quantity of the whole process has one value.
    pub samples: Vec<f64>,
}

impl Metric {
    /// Creates a metric with one value.
    pub fn single(value: f64) -> Self {
        Self { samples: vec![value] }
    }
}

/// One replicate: a fresh process of a measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Replicate {
    /// Seed passed to the process.
    pub seed: u64,
    /// Position in the randomised order of the phase, from 0.
    pub order: usize,
    /// Outcome of the process.
    pub status: Status,
    /// Reason why the status is not `ok`. Null if it is.
    pub reason: Option<String>,
    /// Measured quantities by name. The names end with the unit.
    pub metrics: BTreeMap<String, Metric>,
    /// Work counters of the target by name, for example calls, hits or rows.
    pub counters: BTreeMap<String, f64>,
    /// Digest of the computed result. Null if the target reports none.
    pub digest: Option<String>,
    /// Load average of the machine over 1 minute at the start of the process. Null if it is not readable.
    pub load: Option<f64>,
}

/// One planned measurement with its results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Measurement {
    /// Name, unique in its phase, for example `spatial/nearby index=kdtree entities=1000`.
    pub name: String,
    /// Component. Null if it is not a component benchmark.
    pub component: Option<String>,
    /// Operation of the component. Null if it is not a component benchmark.
    pub operation: Option<String>,
    /// Parameters by name.
    pub parameters: BTreeMap<String, Value>,
    /// Outcome of the measurement.
    pub status: Status,
    /// Reason why the status is not `ok`. Null if it is.
    pub reason: Option<String>,
    /// Replicates in execution order.
    pub replicates: Vec<Replicate>,
}

impl Measurement {
    /// Returns the median of one metric for each successful replicate. Comparisons and scaling laws use these values.
    pub fn replicate_medians(&self, metric: &str) -> Vec<f64> {
        self.ok_replicates()
            .filter_map(|replicate| median(&replicate.metrics.get(metric)?.samples))
            .collect()
    }

    /// Returns the successful replicates.
    pub fn ok_replicates(&self) -> impl Iterator<Item = &Replicate> {
        self.replicates.iter().filter(|replicate| replicate.status.is_ok())
    }

    /// Returns the sorted names of all metrics in any replicate.
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

/// Returns the median: the middle value, or the mean of the two middle ones. `None` if there are no values.
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
    fn statuses_of_parts_are_combined() {
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
    fn values_are_parsed_as_numbers_if_possible() {
        assert_eq!(Value::parse("10"), Value::Integer(10));
        assert_eq!(Value::parse("0.5"), Value::Float(0.5));
        assert_eq!(Value::parse("nan"), Value::Text("nan".into()));
        assert_eq!(Value::parse("kdtree"), Value::Text("kdtree".into()));
    }

    #[test]
    fn failed_replicates_are_excluded_from_medians() {
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
