//! Work counters that processes report with their timings.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::Measurement;

/// One work counter over a set of measurements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Counter {
    /// Name of the counter.
    pub name: String,
    /// Smallest value that a process reported.
    pub least: f64,
    /// Largest value that a process reported.
    pub most: f64,
    /// Number of processes that reported it.
    pub n: usize,
}

/// Returns all counters of `measurements`, by name.
pub fn counters<'a>(measurements: impl IntoIterator<Item = &'a Measurement>) -> Vec<Counter> {
    let mut counters: BTreeMap<&str, Counter> = BTreeMap::new();
    for replicate in measurements.into_iter().flat_map(Measurement::ok_replicates) {
        for (name, &value) in &replicate.counters {
            let fresh = || Counter { name: name.clone(), least: value, most: value, n: 0 };
            let counter = counters.entry(name).or_insert_with(fresh);
            counter.least = counter.least.min(value);
            counter.most = counter.most.max(value);
            counter.n += 1;
        }
    }
    counters.into_values().collect()
}
