//! What every summary has.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{Measurement, Notice, Phase, PhaseRecord, Run, Status};

/// Ends of a 95 % interval: `[low, high]`.
pub type Bounds = [f64; 2];

/// What every summary begins with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Head {
    /// Format name and version.
    pub schema: String,
    /// How the phase ended.
    pub status: Status,
    /// Name of the target.
    pub target: String,
    /// argv of the target with the default parameters.
    pub command: Vec<String>,
    /// `quick` or `full`.
    pub mode: simprof_model::Mode,
    /// Every planned measurement and how it ended.
    pub measurements: Vec<Entry>,
    /// What a reader must know about the phase.
    pub notices: Vec<Notice>,
}

/// How one planned measurement ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// How it ended.
    pub status: Status,
    /// Why, where it is not ok.
    pub reason: Option<String>,
}

impl Head {
    /// The head of a phase's summary; its status is that of the measurements together.
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
            measurements: entries(&record.measurements),
            notices: record.notices.clone(),
        }
    }
}

/// The entries of measurements, in their order.
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
