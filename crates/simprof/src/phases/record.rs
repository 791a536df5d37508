//! Records the target's stacks until there are enough samples: phases 1 and 3.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use anyhow::Result;
use simprof_measure::grid::Parameters;
use simprof_model::{Measurement, Notice, NoticeId, Phase, Profile, Replicate, Status};
use simprof_record::sample::{Samples, symbolise};
use simprof_record::{RecordError, Recording};
use simprof_report::summary::RunSteps;

use crate::plan::Case;
use crate::replicate::{Place, describe, replicate};
use crate::runner::{Invocation, Observe, with_ending};
use crate::session::Session;

/// A target that never gets on a CPU is not run more often than this.
const MOST_RUNS: usize = 300;
/// Share of stacks cut short from which the report says so first.
const NOTABLE_CUT: f64 = 0.05;
/// The recorder's CPU time over the target's from which the report says so first.
const NOTABLE_RECORDER: f64 = 0.1;

/// What came of recording one case.
#[derive(Debug)]
pub struct Recorded {
    /// All runs, joined; none where nothing could be sampled.
    pub profile: Option<Profile>,
    /// Steps of each run.
    pub steps: Vec<RunSteps>,
    /// Wall time of each run, ns.
    pub wall_ns: Vec<u64>,
    /// Work done in one run.
    pub counters: BTreeMap<String, f64>,
}

/// Records `case`, again and again until there are enough samples, and keeps the measurement.
///
/// # Errors
/// Where results cannot be written.
pub fn record(
    session: &mut Session<'_>,
    phase: Phase,
    case: &Case,
    done: usize,
) -> Result<Recorded> {
    let mut runs = Vec::new();
    let mut recorded = Recorded {
        profile: None,
        steps: Vec::new(),
        wall_ns: Vec::new(),
        counters: BTreeMap::new(),
    };
    let mut measurement = blank(case);
    let began = Instant::now();
    session.current(phase, &case.name)?;
    loop {
        if let Some(reason) = session.stop_reason() {
            conclude_early(&mut measurement, reason);
            break;
        }
        let samples = once(session, phase, case, &mut recorded, &mut measurement)?;
        let sampled = samples.is_some();
        runs.extend(samples);
        session.keep(phase, &measurement, done);
        if !measurement.status.is_ok() || !sampled || enough(session, &runs, began) {
            break;
        }
    }
    session.keep(phase, &measurement, done + 1);
    session.progress.current("reading symbols");
    let profile = symbolise(runs);
    recorded.profile = (!profile.samples.is_empty()).then_some(profile);
    if recorded.profile.is_none() && measurement.status.is_ok() {
        measurement.status = Status::Failed;
        measurement.reason = Some(format!(
            "no sample was taken in {} runs at {} Hz: the target uses too little CPU time, or is one that may not be \
             observed (setuid); see `simprof doctor`",
            recorded.wall_ns.len(),
            session.plan.sampling.rate_hz
        ));
        session.keep(phase, &measurement, done + 1);
    }
    add_profile_notices(session, phase, case, &recorded);
    Ok(recorded)
}

fn blank(case: &Case) -> Measurement {
    Measurement {
        name: case.name.clone(),
        component: None,
        operation: None,
        parameters: case.parameters.clone(),
        status: Status::Skipped,
        reason: Some("not started".to_owned()),
        replicates: Vec::new(),
    }
}

fn conclude_early(measurement: &mut Measurement, reason: String) {
    if measurement.replicates.is_empty() {
        measurement.status = Status::Skipped;
        measurement.reason = Some(reason);
    }
}

/// The first run that did not end well is the last; if others did before, there is something.
fn conclude(measurement: &mut Measurement, replicate: &Replicate) {
    let before = measurement.replicates.iter().any(|replicate| replicate.status.is_ok());
    let some = before && !replicate.status.is_ok();
    measurement.status = if some { Status::Partial } else { replicate.status };
    measurement.reason.clone_from(&replicate.reason);
}

/// A process of the target, with the command and the seed of the plan.
#[derive(Debug, Clone, Copy)]
pub struct Process<'a> {
    /// Phase that it is of.
    pub phase: Phase,
    /// How the names of its files begin.
    pub stem: &'a str,
    /// Values of the command's placeholders.
    pub parameters: &'a Parameters,
    /// What is observed of it.
    pub observe: Observe,
    /// Processes of the same measurement before it.
    pub order: usize,
}

impl Process<'_> {
    /// Runs it to its end: how it ended, and what was recorded.
    ///
    /// # Errors
    /// Where there can be no folders for it.
    pub fn run(
        &self,
        session: &mut Session<'_>,
    ) -> Result<(Replicate, Result<Recording, RecordError>)> {
        let log = session.phase_folder(self.phase)?.join(self.stem);
        let seed = session.plan.seed;
        let invocation = Invocation {
            command: &session.plan.target.command,
            parameters: self.parameters,
            seed,
            observe: self.observe,
            scratch: session.folder.scratch()?,
            log: &log,
        };
        let load = crate::replicate::load_average();
        let result = session.runner.run(&invocation);
        let place = Place { seed, order: self.order, load };
        let output = with_ending(&log, "out");
        let replicate = replicate(place, result.as_ref(), &output, session.plan.target.timeout);
        session.folder.clear_scratch();
        Ok((replicate, result))
    }
}

/// Adds the notices of a recording to a phase.
pub fn add_notices(session: &mut Session<'_>, phase: Phase, recording: &Recording) {
    for notice in &recording.notices {
        session.notice(phase, notice.clone());
    }
    add_outlived_notices(session, phase, recording);
}

/// Adds the urgent notices of a recording to a phase: those that ask the user to fix the spec or the target.
pub fn add_urgent_notices(session: &mut Session<'_>, phase: Phase, recording: &Recording) {
    for notice in recording.notices.iter().filter(|notice| notice.id.is_urgent()) {
        session.notice(phase, notice.clone());
    }
    add_outlived_notices(session, phase, recording);
}

/// One run of the target.
fn once(
    session: &mut Session<'_>,
    phase: Phase,
    case: &Case,
    recorded: &mut Recorded,
    measurement: &mut Measurement,
) -> Result<Option<Samples>> {
    let process = Process {
        phase,
        stem: &file_stem(&case.name),
        parameters: &case.parameters,
        observe: Observe::Stacks { rate_hz: session.plan.sampling.rate_hz },
        order: measurement.replicates.len(),
    };
    let (replicate, result) = process.run(session)?;
    session.note_output(phase, process.stem);
    conclude(measurement, &replicate);
    let number = process.order + 1;
    session.log(phase, &format!("{} run {number}: {}", case.name, ending(&replicate)));
    if replicate.status.is_ok() {
        recorded.counters.clone_from(&replicate.counters);
    }
    measurement.replicates.push(replicate);
    let recording = match result {
        Ok(recording) => recording,
        Err(error) => {
            session.not_started(&error);
            return Ok(None);
        }
    };
    add_notices(session, phase, &recording);
    recorded.wall_ns.push(recording.wall_ns);
    recorded.steps.push(RunSteps { start_ns: recording.start_ns, steps: recording.steps });
    if recording.samples.is_none() && measurement.status.is_ok() {
        measurement.status = Status::Failed;
        measurement.reason =
            Some(recording.sampling_error.as_ref().map_or_else(
                || "the target could not be sampled".to_owned(),
                |error| describe(error),
            ));
    }
    Ok(recording.samples)
}

/// Adds a notice for each program whose processes outlived the target's main process and were ended.
fn add_outlived_notices(session: &mut Session<'_>, phase: Phase, recording: &Recording) {
    let names: BTreeSet<&str> =
        recording.leftovers.iter().map(|leftover| leftover.name.as_str()).collect();
    for name in names {
        let text = format!(
            "Process {name} outlived the target and was ended. Let the target wait for the processes that it starts."
        );
        session.notice(phase, Notice::new(NoticeId::ProcessesOutlived, text));
    }
}

/// One line for the log.
pub fn ending(replicate: &Replicate) -> String {
    let wall = replicate.metrics.get("wall_ms").and_then(|metric| metric.samples.first().copied());
    let wall = wall.map_or_else(String::new, |ms| format!(" after {ms:.1} ms"));
    let reason = replicate.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    format!("{}{wall}{reason}", replicate.status)
}

/// What counts is the time that a person waits: a target may take none and yet be slow to start and
/// to end.
fn enough(session: &Session<'_>, runs: &[Samples], began: Instant) -> bool {
    let sampling = session.plan.sampling;
    runs.iter().map(Samples::count).sum::<u64>() >= sampling.enough_samples
        || began.elapsed() >= sampling.enough
        || runs.len() >= MOST_RUNS
}

/// Adds notices on how the profile was obtained.
fn add_profile_notices(session: &mut Session<'_>, phase: Phase, case: &Case, recorded: &Recorded) {
    let runs = recorded.wall_ns.len();
    if runs > 1 {
        let text = format!(
            "One run of {} is too short for enough samples: {runs} runs with the same seed were joined.",
            case.name
        );
        session.notice(phase, Notice::new(NoticeId::RunsJoined, text));
    }
    let Some(profile) = &recorded.profile else { return };
    let provenance = profile.provenance.clone();
    let enough = session.plan.sampling.enough_samples;
    if provenance.samples < enough {
        let text = format!(
            "{}: only {} samples (fewer than {enough}), so intervals are wide.",
            case.name, provenance.samples
        );
        session.notice(phase, Notice::new(NoticeId::FewSamples, text));
    }
    let samples = provenance.samples.max(1) as f64;
    let cut = provenance.truncated as f64 / samples;
    if cut > NOTABLE_CUT {
        let text = format!(
            "{}: {:.0} % of the stacks are truncated, so the totals of outer functions are too small.",
            case.name,
            cut * 100.0
        );
        session.notice(phase, Notice::new(NoticeId::StacksTruncated, text));
    }
    let recorder = provenance.recorder_cpu_ns as f64 / provenance.target_cpu_ns.max(1) as f64;
    if recorder > NOTABLE_RECORDER {
        let text = format!(
            "{}: the recorder used {:.0} % as much CPU time as the target itself.",
            case.name,
            recorder * 100.0
        );
        session.notice(phase, Notice::new(NoticeId::RecorderCostly, text));
    }
    for notice in provenance.notices {
        session.notice(phase, notice);
    }
}

/// A name as part of a file name.
pub fn file_stem(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "=-_.".contains(c) { c } else { '-' };
    let stem: String = name.chars().take(100).map(plain).collect();
    stem.trim_start_matches('.').to_owned()
}
