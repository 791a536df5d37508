//! The manifest of a run: what was planned, what came of it, and where the files are.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Machine, Measurement, Notice, Status};

/// Format name and version of [`Run`].
pub const RUN_SCHEMA: &str = "simprof.run/1";

/// The four questions.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// WHAT is slow.
    Macro,
    /// WHY.
    Component,
    /// WHERE.
    Line,
    /// The IMPACT.
    System,
}

impl Phase {
    /// All phases in order.
    pub const ALL: [Phase; 4] = [Phase::Macro, Phase::Component, Phase::Line, Phase::System];

    /// 1 to 4.
    pub fn number(self) -> u8 {
        match self {
            Phase::Macro => 1,
            Phase::Component => 2,
            Phase::Line => 3,
            Phase::System => 4,
        }
    }

    /// The phase with this number, 1 to 4.
    pub fn from_number(number: u8) -> Option<Phase> {
        Phase::ALL.into_iter().find(|phase| phase.number() == number)
    }

    /// Name of its folder and the stem of its files: `phase1`.
    pub fn folder(self) -> String {
        format!("phase{}", self.number())
    }

    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Macro => "macro",
            Phase::Component => "component",
            Phase::Line => "line",
            Phase::System => "system",
        }
    }

    /// The question that it answers.
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

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It runs (or its process was killed: see [`Run::pid`]).
    Running,
    /// All that was planned was measured.
    Ok,
    /// Some of what was planned failed, timed out or was skipped.
    Partial,
    /// Nothing that was planned was measured.
    Failed,
    /// A person stopped it.
    Interrupted,
}

/// Grids and repeats: a spread subset or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A spread subset that ends within a minute for the reference simulation.
    Quick,
    /// Everything.
    Full,
}

/// One phase of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseRecord {
    /// Which.
    pub phase: Phase,
    /// How it ended; none while it waits or runs.
    pub status: Option<Status>,
    /// Processes of the target that are planned.
    pub planned: usize,
    /// Processes of the target that have ended, well or not.
    pub done: usize,
    /// What runs now, or ran last.
    pub current: String,
    /// Estimated seconds that it takes in all.
    pub estimate_s: f64,
    /// Unix time, ms.
    pub started_ms: Option<u64>,
    /// Unix time, ms.
    pub ended_ms: Option<u64>,
    /// What was measured, in order of ending.
    pub measurements: Vec<Measurement>,
    /// Files written, relative to the run's folder.
    pub files: Vec<String>,
    /// What a reader must know about the phase.
    pub notices: Vec<Notice>,
}

impl PhaseRecord {
    /// A phase that waits.
    pub fn waiting(phase: Phase, planned: usize, estimate_s: f64) -> Self {
        Self {
            phase,
            status: None,
            planned,
            done: 0,
            current: String::new(),
            estimate_s,
            started_ms: None,
            ended_ms: None,
            measurements: Vec::new(),
            files: Vec::new(),
            notices: Vec::new(),
        }
    }
}

/// The manifest, kept as `run.json` and replaced atomically after every measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// Format name and version.
    pub schema: String,
    /// Version of simprof that wrote it.
    pub simprof_version: String,
    /// Name of the run's folder.
    pub name: String,
    /// How far it is.
    pub status: RunStatus,
    /// Process that writes it.
    pub pid: u32,
    /// Start time of that process in clock ticks since boot, which tells a reused id apart.
    pub pid_start_ticks: Option<u64>,
    /// Unix time, ms.
    pub created_ms: u64,
    /// Unix time of this version of the file, ms.
    pub updated_ms: u64,
    /// Unix time, ms.
    pub ended_ms: Option<u64>,
    /// The command line of simprof.
    pub arguments: Vec<String>,
    /// The target's command with the default parameters filled in.
    pub target: Vec<String>,
    /// Name of the target for people.
    pub target_name: String,
    /// Seed of the order of measurements and of the target where it takes one.
    pub seed: u64,
    /// Grids and repeats.
    pub mode: Mode,
    /// Where it was made.
    pub machine: Machine,
    /// The spec as resolved, as TOML.
    pub spec: String,
    /// In order.
    pub phases: Vec<PhaseRecord>,
    /// What a reader must know about the run.
    pub notices: Vec<Notice>,
}

impl Run {
    /// The record of a phase, where it is part of this run.
    pub fn phase(&self, phase: Phase) -> Option<&PhaseRecord> {
        self.phases.iter().find(|record| record.phase == phase)
    }

    /// The record of a phase, to be filled in.
    pub fn phase_mut(&mut self, phase: Phase) -> Option<&mut PhaseRecord> {
        self.phases.iter_mut().find(|record| record.phase == phase)
    }
}
