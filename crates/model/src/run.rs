//! The manifest of a run: its plan, its results and its files.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Machine, Measurement, Notice, Status};

/// Format name and version of [`Run`].
pub const RUN_SCHEMA: &str = "simprof.run/1";

/// The phases of a run. Each answers one question.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Phase 1: WHAT is slow.
    Macro,
    /// Phase 2: WHY it is slow.
    Component,
    /// Phase 3: WHERE it is slow.
    Line,
    /// Phase 4: the IMPACT.
    System,
}

impl Phase {
    /// All phases in order.
    pub const ALL: [Phase; 4] = [Phase::Macro, Phase::Component, Phase::Line, Phase::System];

    /// Returns the number of the phase, 1 to 4.
    pub fn number(self) -> u8 {
        match self {
            Phase::Macro => 1,
            Phase::Component => 2,
            Phase::Line => 3,
            Phase::System => 4,
        }
    }

    /// Returns the name of the folder and the stem of the files of the phase, for example `phase1`.
    pub fn folder(self) -> String {
        format!("phase{}", self.number())
    }

    /// Returns the name of the phase, one word.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Macro => "macro",
            Phase::Component => "component",
            Phase::Line => "line",
            Phase::System => "system",
        }
    }

    /// Returns the question that the phase answers.
    pub fn question(self) -> &'static str {
        match self {
            Phase::Macro => "WHAT is slow",
            Phase::Component => "WHY it is slow",
            Phase::Line => "WHERE it is slow",
            Phase::System => "the IMPACT",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "phase {} ({})", self.number(), self.name())
    }
}

/// The state of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// The run is in progress, or its process was killed (see `pid`).
    Running,
    /// Everything planned was measured.
    Ok,
    /// A part of what was planned is missing; `problems` has the reasons.
    Partial,
    /// None of the planned measurements succeeded.
    Failed,
    /// The user interrupted the run.
    Interrupted,
}

/// Why a run did not end with the status ok.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProblemCause {
    /// Measurements failed, timed out or were skipped.
    Measurements,
    /// Nothing of what the spec calls a step was seen, so there are no figures per step.
    StepsNeverSeen,
    /// An error that affects all later measurements ended the run, such as a full disk.
    Stopped,
    /// The budget of time was used up, so that measurements were skipped.
    Budget,
    /// The user interrupted the run.
    Interrupted,
    /// The input of the target could not be kept.
    InputNotKept,
    /// The name of the folder could not be written to standard output.
    FolderNotPrinted,
}

/// A reason why a run did not end with the status ok.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunProblem {
    /// Kind of the reason.
    pub cause: ProblemCause,
    /// The reason for people.
    pub text: String,
}

impl RunProblem {
    /// Creates a reason.
    pub fn new(cause: ProblemCause, text: impl Into<String>) -> Self {
        Self { cause, text: text.into() }
    }
}

/// How many parameter values and replicates are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A subset of the values with few replicates. For the reference simulation it takes less than a minute.
    Quick,
    /// All values and replicates.
    Full,
}

/// One phase of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseRecord {
    /// The phase.
    pub phase: Phase,
    /// Outcome of the phase. Null until it has ended.
    pub status: Option<Status>,
    /// Planned number of processes of the target.
    pub planned: usize,
    /// Number of processes of the target that have ended, whatever their outcome.
    pub done: usize,
    /// Description of the current or last activity.
    pub current: String,
    /// Estimated duration of the whole phase in seconds.
    pub estimate_s: f64,
    /// Earlier run of the same spec that the estimate is taken from. Null if the estimate follows from the spec.
    #[serde(default)]
    pub estimate_from: Option<String>,
    /// Start of the phase, Unix time in ms. Null until it has started.
    pub started_ms: Option<u64>,
    /// End of the phase, Unix time in ms. Null until it has ended.
    pub ended_ms: Option<u64>,
    /// Measurements, in the order in which they ended.
    pub measurements: Vec<Measurement>,
    /// Written files, relative to the folder of the run.
    pub files: Vec<String>,
    /// Notices about the phase.
    pub notices: Vec<Notice>,
}

impl PhaseRecord {
    /// Creates the record of a phase that has not started.
    pub fn waiting(phase: Phase, planned: usize, estimate_s: f64) -> Self {
        Self {
            phase,
            status: None,
            planned,
            done: 0,
            current: String::new(),
            estimate_s,
            estimate_from: None,
            started_ms: None,
            ended_ms: None,
            measurements: Vec::new(),
            files: Vec::new(),
            notices: Vec::new(),
        }
    }
}

/// The manifest of a run: the content of `run.json`. The file is replaced atomically after every measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// Format name and version.
    pub schema: String,
    /// Version of simprof that wrote the file.
    pub simprof_version: String,
    /// Name of the folder of the run.
    pub name: String,
    /// State of the run.
    pub status: RunStatus,
    /// Process id of the simprof process that writes the file.
    pub pid: u32,
    /// Start time of that process in clock ticks since boot. It shows whether the process id has been reused. Null if it is not readable.
    pub pid_start_ticks: Option<u64>,
    /// Why the run did not end with the status ok. Empty if it did, and while it is in progress. The exit status is 0 exactly if the
    /// status is ok.
    #[serde(default)]
    pub problems: Vec<RunProblem>,
    /// Start of the run, Unix time in ms.
    pub created_ms: u64,
    /// Time when this version of the file was written, Unix time in ms.
    pub updated_ms: u64,
    /// End of the run, Unix time in ms. Null until it has ended.
    pub ended_ms: Option<u64>,
    /// Command line of simprof.
    pub arguments: Vec<String>,
    /// Command lines that added phases later, in order.
    #[serde(default)]
    pub joined: Vec<Vec<String>>,
    /// Command of the target, with the default values of the parameters.
    pub target: Vec<String>,
    /// Display name of the target.
    pub target_name: String,
    /// Seed of the order of measurements. The seeds of the target follow from it, if it takes one.
    pub seed: u64,
    /// Quick or full.
    pub mode: Mode,
    /// Time that all phases together may take before measurements are left out, in seconds. Null if it is not limited.
    #[serde(default)]
    pub budget_s: Option<f64>,
    /// Machine of the run.
    pub machine: Machine,
    /// The resolved spec as TOML.
    pub spec: String,
    /// Phases in order.
    pub phases: Vec<PhaseRecord>,
    /// Notices about the run.
    pub notices: Vec<Notice>,
}

impl Run {
    /// Returns the record of a phase. `None` if it is not part of this run.
    pub fn phase(&self, phase: Phase) -> Option<&PhaseRecord> {
        self.phases.iter().find(|record| record.phase == phase)
    }

    /// Returns the mutable record of a phase. `None` if it is not part of this run.
    pub fn phase_mut(&mut self, phase: Phase) -> Option<&mut PhaseRecord> {
        self.phases.iter_mut().find(|record| record.phase == phase)
    }
}
