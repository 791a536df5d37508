//! Records the target's stacks until there are enough samples (phases 1 and 3).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Result;
use simprof_measure::grid::Parameters;
use simprof_model::{Measurement, Notice, NoticeId, Phase, Profile, Replicate, Status, Steps};
use simprof_record::{RecordError, Recording};
use simprof_report::analysis::split_run;
use simprof_report::summary::{FEW_SAMPLES, RunSteps};

use super::budget_notice::add_skipped_notice;
use crate::plan::Case;
use crate::processes::{Invocation, Observe, Observed, Stacks};
use crate::replicate::{ProcessContext, replicate_from};
use crate::session::Session;
use crate::text::{append_extension, counted, error_chain, file_stem};

/// Maximum number of runs of a target that uses hardly any CPU time.
const MAX_RUNS: usize = 300;
/// Share of truncated stacks above which there is a notice.
const NOTABLE_TRUNCATED: f64 = 0.05;
/// Ratio of the recorder's CPU time to the target's above which there is a notice.
const NOTABLE_RECORDER: f64 = 0.1;

/// The recording of one case.
#[derive(Debug)]
pub struct Recorded {
    /// Profile of all runs; `None` if there is no sample.
    pub profile: Option<Profile>,
    /// Steps of each run.
    pub steps: Vec<RunSteps>,
    /// Wall time of each run, ns.
    pub wall_ns: Vec<u64>,
    /// Work counters of one run.
    pub counters: BTreeMap<String, f64>,
    /// Number of samples that figures are based on, see [`Stacks::count_of_work`].
    pub work_samples: u64,
}

/// Runs `case` repeatedly until there are enough samples, and saves the measurement.
///
/// # Errors
/// Returns an error if results cannot be written.
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
        work_samples: 0,
    };
    let mut measurement = blank(case);
    let began = Instant::now();
    session.current(phase, &case.name)?;
    loop {
        if let Some(reason) = session.stop_reason() {
            conclude_early(&mut measurement, reason);
            break;
        }
        if let (None, Some(reason)) = (runs.last(), session.budget.refusal(None)) {
            conclude_early(&mut measurement, reason);
            add_skipped_notice(session, phase, &case.name);
            break;
        }
        let samples = once(session, phase, case, &mut recorded, &mut measurement)?;
        let sampled = samples.is_some();
        runs.extend(samples);
        session.keep(phase, &measurement, done);
        if !measurement.status.is_ok() || !sampled || enough(session, &recorded, began) {
            break;
        }
    }
    session.keep(phase, &measurement, done + 1);
    if session.has_notice(phase, NoticeId::StepOutputBuffered) {
        recorded.steps.iter_mut().for_each(|run| run.steps = Steps::default());
    }
    session.progress.current("reading symbols");
    let profile = Stacks::symbolise(runs);
    recorded.profile = (!profile.samples.is_empty()).then_some(profile);
    if recorded.profile.is_none() && measurement.status.is_ok() {
        measurement.status = Status::Failed;
        measurement.reason = Some(format!(
            "no sample in {} at {} Hz: the target uses too little CPU time, or observing it is not permitted (setuid \\
             programs); see `simprof doctor`",
            counted(recorded.wall_ns.len(), "run"),
            session.plan.sampling.rate_hz
        ));
        session.keep(phase, &measurement, done + 1);
    }
    add_profile_notices(session, phase, case, &recorded);
    if let Some(profile) = &recorded.profile {
        add_unmatched_rules(session, phase, profile);
    }
    Ok(recorded)
}

/// Adds a notice for each component with a glob that matches no recorded function.
fn add_unmatched_rules(session: &mut Session<'_>, phase: Phase, profile: &Profile) {
    let text = |(component, globs): (&str, Vec<&str>)| {
        let globs: Vec<String> = globs.iter().map(|glob| format!("`{glob}`")).collect();
        format!(
            "[components] {component}: no recorded function matches {}. Check the spelling; the names are in the table of \
             functions. Functions that use hardly any CPU time are not sampled.",
            globs.join(" or ")
        )
    };
    let texts: Vec<String> = session.rules.unmatched(profile).into_iter().map(text).collect();
    for text in texts {
        session.notice(phase, Notice::new(NoticeId::ComponentRuleUnmatched, text));
    }
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

/// Sets the status after a run. A failed run ends the recording. If earlier runs succeeded, the
/// result is partial.
fn conclude(measurement: &mut Measurement, replicate: &Replicate) {
    let before = measurement.replicates.iter().any(|replicate| replicate.status.is_ok());
    let is_partial = before && !replicate.status.is_ok();
    measurement.status = if is_partial { Status::Partial } else { replicate.status };
    measurement.reason.clone_from(&replicate.reason);
}

/// A process of the target that runs with the command and the seed of the plan.
#[derive(Debug, Clone, Copy)]
pub struct Process<'a> {
    /// The phase that it belongs to.
    pub phase: Phase,
    /// Stem of the names of its files.
    pub stem: &'a str,
    /// Values of the command's placeholders.
    pub parameters: &'a Parameters,
    /// What to record of it.
    pub observe: Observe,
    /// Number of earlier processes of the same measurement.
    pub order: usize,
}

impl Process<'_> {
    /// Runs the process to its end. Returns its replicate and its recording.
    ///
    /// # Errors
    /// Returns an error if its folders cannot be created.
    pub fn run(
        &self,
        session: &mut Session<'_>,
    ) -> Result<(Replicate, Result<Observed, RecordError>)> {
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
        session.budget.start_process();
        let result = session.processes.run(&invocation);
        let context = ProcessContext { seed, order: self.order, load };
        let output = append_extension(&log, "out");
        let recording = result.as_ref().map(|observed| &observed.recording);
        let replicate = replicate_from(context, recording, &output, session.plan.target.timeout);
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

/// Runs the target once.
fn once(
    session: &mut Session<'_>,
    phase: Phase,
    case: &Case,
    recorded: &mut Recorded,
    measurement: &mut Measurement,
) -> Result<Option<Stacks>> {
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
    let Observed { recording, stacks } = match result {
        Ok(observed) => observed,
        Err(error) => {
            session.not_started(&error);
            return Ok(None);
        }
    };
    add_notices(session, phase, &recording);
    recorded.wall_ns.push(recording.wall_ns);
    recorded.work_samples +=
        stacks.as_ref().map_or(0, |stacks| stacks.count_of_work(&recording.steps));
    recorded.steps.push(RunSteps { start_ns: recording.start_ns, steps: recording.steps });
    if stacks.is_none() && measurement.status.is_ok() {
        measurement.status = Status::Failed;
        measurement.reason = Some(recording.sampling_error.as_ref().map_or_else(
            || "the target could not be sampled".to_owned(),
            |error| error_chain(error),
        ));
    }
    Ok(stacks)
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

/// Describes the end of a process for the log.
pub fn ending(replicate: &Replicate) -> String {
    let wall = replicate.metrics.get("wall_ms").and_then(|metric| metric.samples.first().copied());
    let wall = wall.map_or_else(String::new, |ms| format!(" after {ms:.1} ms"));
    let reason = replicate.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    format!("{}{wall}{reason}", replicate.status)
}

/// Returns true if the recording can end: there are enough samples, or no time for another run. The limit is elapsed time, not CPU
/// time, because a target can be slow to start and to end.
fn enough(session: &Session<'_>, recorded: &Recorded, began: Instant) -> bool {
    let sampling = session.plan.sampling;
    let last = recorded.wall_ns.last().map(|&ns| Duration::from_nanos(ns));
    session.budget.refusal(last).is_some()
        || recorded.work_samples >= sampling.enough_samples
        || began.elapsed() >= sampling.enough
        || recorded.wall_ns.len() >= MAX_RUNS
}

/// Adds notices on how the profile was obtained.
fn add_profile_notices(session: &mut Session<'_>, phase: Phase, case: &Case, recorded: &Recorded) {
    let runs = recorded.wall_ns.len();
    if runs > 1 {
        let text = format!(
            "Case {}: one run is too short for enough samples, so {runs} runs with the same seed were joined.",
            case.name
        );
        session.notice(phase, Notice::new(NoticeId::RunsJoined, text));
    }
    let Some(profile) = &recorded.profile else { return };
    let provenance = profile.provenance.clone();
    let enough = session.plan.sampling.enough_samples;
    let split = split_run(profile, &recorded.steps);
    let work_samples = split.work.samples.len() as u64;
    let has_steps = split.steps > 0;
    if has_steps && work_samples < FEW_SAMPLES {
        let found = match work_samples {
            0 => "no sample is".to_owned(),
            1 => "only 1 sample is".to_owned(),
            many => format!("only {many} samples are"),
        };
        let text = format!(
            "Case {}: {found} work of the steps (of {} samples), too few for figures per step. Give the run more steps, so \
             that they take longer than the rest of it.",
            case.name, provenance.samples
        );
        session.notice(phase, Notice::new(NoticeId::FewSamplesInSteps, text));
    } else if has_steps && work_samples < enough {
        let text = format!(
            "Case {}: only {work_samples} of {} samples are work of the steps (fewer than {enough}), so intervals are wide.",
            case.name, provenance.samples
        );
        session.notice(phase, Notice::new(NoticeId::FewSamples, text));
    } else if provenance.samples < enough {
        let text = format!(
            "Case {}: only {} samples (fewer than {enough}), so intervals are wide.",
            case.name, provenance.samples
        );
        session.notice(phase, Notice::new(NoticeId::FewSamples, text));
    }
    let samples = provenance.samples.max(1) as f64;
    let cut = provenance.truncated as f64 / samples;
    if cut > NOTABLE_TRUNCATED {
        let text = format!(
            "Case {}: {:.0} % of the stacks are truncated, so total times of outer functions are too small.",
            case.name,
            cut * 100.0
        );
        session.notice(phase, Notice::new(NoticeId::StacksTruncated, text));
    }
    let recorder = provenance.recorder_cpu_ns as f64 / provenance.target_cpu_ns.max(1) as f64;
    if recorder > NOTABLE_RECORDER {
        let text = format!(
            "Case {}: simprof itself used {:.0} % as much CPU time as the target.",
            case.name,
            recorder * 100.0
        );
        session.notice(phase, Notice::new(NoticeId::RecorderCostly, text));
    }
    for notice in provenance.notices {
        session.notice(phase, notice);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use simprof_model::{FunctionKind, Step};
    use simprof_record::Outcome;

    use super::*;
    use crate::plan::Plan;
    use crate::processes::fake::{
        FakeProcesses, FakeSession, ended, plan_for, profile, recording, sampled,
    };

    const PHASE: Phase = Phase::Macro;
    const GOOD: Outcome = Outcome::Exited(0);

    /// A plan in which 100 samples are enough, however long they take.
    fn plan() -> Plan {
        let mut plan = plan_for("[target]\ncommand = [\"./sim\"]\ntimeout_s = 7\n");
        plan.sampling.enough_samples = 100;
        plan.sampling.enough = Duration::from_secs(3600);
        plan
    }

    /// Records the default case. Returns the recording, the measurement in the manifest, and the ids of the notices.
    fn record_default(
        plan: &Plan,
        processes: &FakeProcesses,
    ) -> (Recorded, Measurement, Vec<NoticeId>) {
        let mut fake = FakeSession::new(plan, processes);
        let recorded = record(&mut fake.session, PHASE, &plan.cases[0], 0).expect("a recording");
        let in_manifest = fake.record(PHASE);
        let notices = in_manifest.notices.iter().map(|notice| notice.id).collect();
        (recorded, in_manifest.measurements[0].clone(), notices)
    }

    #[test]
    fn short_runs_are_repeated_until_there_are_enough_samples() {
        let plan = plan();
        let processes = FakeProcesses::new((0..3).map(|_| sampled(GOOD, 40)));
        let (recorded, measurement, notices) = record_default(&plan, &processes);
        assert_eq!(recorded.profile.expect("a profile").samples.len(), 120);
        assert_eq!((recorded.wall_ns.len(), measurement.replicates.len()), (3, 3));
        assert_eq!((measurement.status, measurement.reason), (Status::Ok, None));
        assert_eq!(notices, [NoticeId::RunsJoined]);
        let observe = Observe::Stacks { rate_hz: 1000 };
        assert!(processes.started().iter().all(|started| started.observe == observe));
    }

    #[test]
    fn a_recording_below_the_minimum_has_a_notice() {
        let mut plan = plan();
        plan.sampling.enough = Duration::ZERO;
        let processes = FakeProcesses::new([sampled(GOOD, 40)]);
        let (recorded, measurement, notices) = record_default(&plan, &processes);
        assert_eq!(recorded.profile.expect("a profile").samples.len(), 40);
        assert_eq!(measurement.status, Status::Ok);
        assert_eq!(notices, [NoticeId::FewSamples]);
    }

    #[test]
    fn steps_that_cannot_be_timed_in_one_run_are_dropped_in_all() {
        let plan = plan();
        let step = Step { index: 0, begin_ns: 0, end_ns: u64::MAX, population: None, thread: None };
        let processes = FakeProcesses::new([0, 1].map(|run| {
            let mut observed = sampled(GOOD, 60);
            let id = NoticeId::StepOutputBuffered;
            match run {
                0 => observed.recording.steps.steps.push(step),
                _ => observed.recording.notices.push(Notice::new(id, "together")),
            }
            observed
        }));
        let (recorded, _, notices) = record_default(&plan, &processes);
        assert!(recorded.steps.iter().all(|run| run.steps.steps.is_empty()), "{recorded:?}");
        assert!(notices.contains(&NoticeId::StepOutputBuffered), "{notices:?}");
    }

    #[test]
    fn the_first_notice_about_steps_stands_for_those_of_all_runs() {
        let plan = plan();
        let processes = FakeProcesses::new([60, 61].map(|samples| {
            let mut observed = sampled(GOOD, samples);
            let text = format!("{samples} steps");
            observed.recording.notices.push(Notice::new(NoticeId::StepsCoverLittle, text));
            observed
        }));
        let (.., notices) = record_default(&plan, &processes);
        assert_eq!(notices, [NoticeId::StepsCoverLittle, NoticeId::RunsJoined]);
    }

    #[test]
    fn truncated_stacks_and_a_costly_recorder_have_notices() {
        let plan = plan();
        let mut profile = profile(100, FunctionKind::Native);
        profile.provenance.truncated = 6;
        profile.provenance.recorder_cpu_ns = profile.provenance.target_cpu_ns / 5;
        let stacks = Some(Stacks::Recorded(profile));
        let processes = FakeProcesses::new([Observed { recording: recording(GOOD), stacks }]);
        let (_, _, notices) = record_default(&plan, &processes);
        assert_eq!(notices, [NoticeId::StacksTruncated, NoticeId::RecorderCostly]);
    }

    #[test]
    fn a_target_without_samples_is_a_failure() {
        let mut plan = plan();
        plan.sampling.enough = Duration::ZERO;
        let processes = FakeProcesses::new([sampled(GOOD, 0)]);
        let (recorded, measurement, _) = record_default(&plan, &processes);
        assert_eq!((recorded.profile, measurement.status), (None, Status::Failed));
        let reason = measurement.reason.expect("a reason");
        assert!(reason.contains("no sample in 1 run at 1000 Hz"), "{reason}");
    }

    #[test]
    fn a_failing_process_ends_the_recording() {
        let plan = plan();
        for (outcome, status, words) in [
            (Outcome::Exited(3), Status::Failed, "last line of its standard error: no such file"),
            (Outcome::TimedOut, Status::TimedOut, "did not end within 7 s"),
            (Outcome::Cancelled, Status::Skipped, "interrupted"),
        ] {
            let mut failing = sampled(outcome, 10);
            failing.recording.stderr_tail = "reading\nno such file\n\n".into();
            let (_, measurement, _) = record_default(&plan, &FakeProcesses::new([failing]));
            assert_eq!(measurement.status, status);
            let reason = measurement.reason.expect("a reason");
            assert!(reason.contains(words), "{reason}");
        }
    }

    #[test]
    fn a_failure_after_a_success_is_partial() {
        let plan = plan();
        let processes = FakeProcesses::new([sampled(GOOD, 40), sampled(Outcome::Exited(1), 30)]);
        let (recorded, measurement, _) = record_default(&plan, &processes);
        assert_eq!((measurement.status, measurement.replicates.len()), (Status::Partial, 2));
        assert_eq!(recorded.profile.expect("a profile").samples.len(), 70);
    }

    #[test]
    fn an_interrupted_run_starts_no_further_process() {
        let plan = plan();
        for (processes, status, reason) in
            [(0, Status::Skipped, Some("interrupted")), (1, Status::Ok, None)]
        {
            let fake = FakeProcesses::new([sampled(GOOD, 40)]);
            fake.cancel_after(processes);
            let (_, measurement, _) = record_default(&plan, &fake);
            assert_eq!((measurement.status, measurement.reason.as_deref()), (status, reason));
            assert_eq!(fake.started().len(), processes);
        }
    }

    #[test]
    fn a_program_that_does_not_exist_ends_the_run() {
        let plan = plan();
        let processes = FakeProcesses::default();
        processes.refuse(RecordError::NotInPath { program: "sim".into(), path: "/bin".into() });
        let mut fake = FakeSession::new(&plan, &processes);
        record(&mut fake.session, PHASE, &plan.cases[0], 0).expect("a result");
        let stopped = fake.session.stopped.clone().expect("the run has ended");
        assert!(stopped.contains("install it, or give its path"), "{stopped}");
        assert_eq!(fake.record(PHASE).measurements[0].status, Status::Failed);
    }

    #[test]
    fn a_process_that_cannot_be_sampled_is_a_failure() {
        let plan = plan();
        let (_, measurement, _) = record_default(&plan, &FakeProcesses::new([ended(GOOD)]));
        assert_eq!(measurement.status, Status::Failed);
        assert_eq!(measurement.reason.as_deref(), Some("the target could not be sampled"));
    }
}
