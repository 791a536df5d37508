//! The fields that all summaries have.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{Measurement, Notice, Phase, PhaseRecord, Run, Status};

/// A 95 % interval: `[low, high]`.
pub type Bounds = [f64; 2];

/// The fields that every summary begins with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Head {
    /// Format name and version.
    pub schema: String,
    /// How the phase ended.
    pub status: Status,
    /// Name of the target.
    pub target: String,
    /// Argument vector of the target with the default parameters.
    pub command: Vec<String>,
    /// `quick` or `full`.
    pub mode: simprof_model::Mode,
    /// Time that all phases together may take before measurements are left out, in seconds; `null` if it is not limited.
    #[serde(default)]
    pub budget_s: Option<f64>,
    /// Every planned measurement, with its status.
    pub measurements: Vec<Entry>,
    /// Notices: what to know before relying on the results.
    pub notices: Vec<Notice>,
}

/// The status of one planned measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// How it ended.
    pub status: Status,
    /// Why it is not ok; `null` if it is.
    pub reason: Option<String>,
}

impl Head {
    /// Returns the head of a phase's summary. Its status combines those of the measurements.
    pub fn new(run: &Run, record: &PhaseRecord) -> Head {
        let phase: Phase = record.phase;
        Head {
            schema: format!("simprof.{}/1", phase.folder()),
            status: Status::of_parts(
                record.measurements.iter().map(|measurement| measurement.status),
            ),
            target: run.target_name.clone(),
            command: run.target.clone(),
            mode: run.mode,
            budget_s: run.budget_s,
            measurements: entries(&record.measurements),
            notices: record.notices.clone(),
        }
    }
}

/// Returns the status of each measurement, in their order.
pub fn entries(measurements: &[Measurement]) -> Vec<Entry> {
    measurements
        .iter()
        .map(|measurement| Entry {
            name: measurement.name.clone(),
            status: measurement.status,
            reason: measurement.reason.clone(),
        })
        .collect()
}
