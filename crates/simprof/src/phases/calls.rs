//! Counts the calls of a Python target, in a separate run, because tracing distorts times.

use std::time::Duration;

use anyhow::Result;
use simprof_model::{FunctionKind, Measurement, Mode, Notice, NoticeId, Phase, Profile};
use simprof_record::Outcome;
use simprof_report::summary::{CallsInput, call_rows};

use super::record::{Recorded, ending};
use crate::plan::Case;
use crate::processes::{Invocation, Observe};
use crate::python::CallCounts;
use crate::replicate::{ProcessContext, load_average, replicate_from};
use crate::session::Session;
use crate::text::append_extension;

const PHASE: Phase = Phase::Macro;

/// Name of the measurement, and the stem of its files.
const NAME: &str = "calls";

/// Expected slowdown of a traced run compared with a sampled one; a larger one is rare.
const EXPECTED: u32 = 4;
/// Time limit of tracing in a quick run, all phases of which should take about a minute.
const QUICK: Duration = Duration::from_secs(10);
/// Time that an interpreter needs to start, traced or not.
const START: Duration = Duration::from_secs(2);

/// Call counts of one run.
#[derive(Debug)]
pub struct Calls {
    counted: CallCounts,
    wall_ns: u64,
}

impl Calls {
    /// Returns the input for the summary.
    pub fn input(&self) -> CallsInput<'_> {
        CallsInput {
            profile: &self.counted.profile,
            processes: self.counted.processes,
            lost: self.counted.lost,
            yielded: self.counted.yielded,
            untimed: self.counted.untimed,
            wall_ns: self.wall_ns,
        }
    }
}

/// Runs `case` once more and counts its calls, if the recorded runs contained Python. Returns
/// `None` if that takes too long or fails, and then adds a notice or a failed measurement.
///
/// # Errors
/// Returns an error if results cannot be written.
pub fn count(session: &mut Session<'_>, case: &Case, recorded: &Recorded) -> Result<Option<Calls>> {
    let Some(plain) = recorded.wall_ns.last().map(|&ns| Duration::from_nanos(ns)) else {
        return Ok(None);
    };
    if !recorded.profile.as_ref().is_some_and(has_python) || session.stop_reason().is_some() {
        return Ok(None);
    }
    let quick = session.plan.mode == Mode::Quick;
    let needed = START + plain * EXPECTED;
    let limit = limit(plain, session.plan.target.timeout, quick);
    let Some(limit) = limit.filter(|_| session.budget.refusal(Some(needed)).is_none()) else {
        let why =
            format!("a traced run may need {:.0} s, too long for this run", needed.as_secs_f64());
        session.notice(PHASE, too_long(&why));
        return Ok(None);
    };
    session.current(PHASE, NAME)?;
    trace(session, case, limit)
}

/// Writes a table with the calls of every function.
///
/// # Errors
/// Returns an error if it cannot be written.
pub fn write(session: &mut Session<'_>, calls: &Calls, sampled: &Profile) -> Result<()> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record([
        "function",
        "file",
        "line",
        "calls",
        "primitive_calls",
        "sampled_share",
        "traced_share",
        "distortion",
        "distorted",
    ])?;
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    for row in call_rows(&calls.input(), sampled) {
        writer.write_record([
            row.function,
            row.file,
            row.line.to_string(),
            row.calls.to_string(),
            row.primitive_calls.to_string(),
            row.sampled_share.to_string(),
            number(row.traced_share),
            number(row.distortion),
            row.distorted.to_string(),
        ])?;
    }
    session.write(PHASE, "calls.csv", &writer.into_inner()?)
}

fn has_python(profile: &Profile) -> bool {
    profile.functions.iter().any(|function| function.kind == FunctionKind::Python)
}

/// Returns the time limit of the traced run, or `None` if the run would certainly exceed it.
fn limit(plain: Duration, timeout: Duration, quick: bool) -> Option<Duration> {
    let needed = START + plain * EXPECTED;
    if !quick {
        // A program that is ten times slower when traced is still counted.
        return Some(timeout.min(needed * 5));
    }
    (needed <= QUICK).then(|| timeout.min(QUICK))
}

fn too_long(why: &str) -> Notice {
    let text = format!("Calls were not counted: {why}. Use a full run, or fewer steps.");
    Notice::new(NoticeId::CallsNotCounted, text)
}

fn trace(session: &mut Session<'_>, case: &Case, limit: Duration) -> Result<Option<Calls>> {
    let log = session.phase_folder(PHASE)?.join(NAME);
    let seed = session.plan.seed;
    let invocation = Invocation {
        command: &session.plan.target.command,
        parameters: &case.parameters,
        seed,
        observe: Observe::Nothing,
        scratch: session.folder.scratch()?,
        log: &log,
    };
    let context = ProcessContext { seed, order: 0, load: load_average() };
    let result = session.processes.count_calls(&invocation, limit);
    session.folder.clear_scratch();
    session.note_output(PHASE, NAME);
    let recording = result.as_ref().map(|(recording, _)| recording);
    let measured = replicate_from(context, recording, &append_extension(&log, "out"), limit);
    session.log(PHASE, &format!("{NAME}: {}", ending(&measured)));
    // Slow tracing is not a failure of the target or of the run.
    if recording.is_ok_and(|recording| recording.outcome == Outcome::TimedOut) {
        let why = format!("a traced run did not end within {:.0} s", limit.as_secs_f64());
        session.notice(PHASE, too_long(&why));
        return Ok(None);
    }
    let measurement = Measurement {
        name: NAME.to_owned(),
        component: None,
        operation: None,
        parameters: case.parameters.clone(),
        status: measured.status,
        reason: measured.reason.clone(),
        replicates: vec![measured],
    };
    keep(session, &measurement);
    match result {
        Ok((recording, counted)) if measurement.status.is_ok() && counted.processes > 0 => {
            Ok(Some(Calls { counted, wall_ns: recording.wall_ns }))
        }
        Ok((_, counted)) if measurement.status.is_ok() => {
            session.notice(PHASE, uncounted(&counted));
            Ok(None)
        }
        _ => Ok(None),
    }
}

fn uncounted(counted: &CallCounts) -> Notice {
    let text = if counted.yielded > 0 {
        "Calls were not counted: the program profiles itself, and the interpreter allows only one profiler."
    } else if counted.lost > 0 {
        "Calls were not counted: every process that ran Python ended before it could report them."
    } else {
        "Calls were not counted: the interpreter has no tracer (its Python has no module _lsprof)."
    };
    Notice::new(NoticeId::CallsNotCounted, text)
}

/// Saves the measurement. It was not planned, because only the recording shows that the target runs
/// Python.
fn keep(session: &mut Session<'_>, measurement: &Measurement) {
    let done = session.folder.run().phase(PHASE).map_or(0, |record| record.done);
    session.plan_more(PHASE, 1);
    session.keep(PHASE, measurement, done + 1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use simprof_model::Status;

    use crate::processes::fake::{FakeProcesses, FakeSession, plan_for, profile, recording};

    /// Counts the calls of a target whose recorded run had functions of this kind.
    fn count_after(
        kind: FunctionKind,
        outcome: Outcome,
        counted: CallCounts,
    ) -> (Option<Calls>, Vec<Measurement>, Vec<NoticeId>) {
        let plan = plan_for("[target]\ncommand = [\"python3\", \"sim.py\"]\n");
        let processes = FakeProcesses::default();
        processes.add_calls(recording(outcome), counted);
        let mut fake = FakeSession::new(&plan, &processes);
        let recorded = Recorded {
            profile: Some(profile(10, kind)),
            steps: Vec::new(),
            wall_ns: vec![100_000_000],
            counters: Default::default(),
            work_samples: 10,
        };
        let calls = count(&mut fake.session, &plan.cases[0], &recorded).expect("a result");
        let record = fake.record(PHASE);
        let notices = record.notices.iter().map(|notice| notice.id).collect();
        (calls, record.measurements.clone(), notices)
    }

    fn counts(processes: usize) -> CallCounts {
        CallCounts { processes, ..CallCounts::default() }
    }

    #[test]
    fn only_python_is_traced() {
        let good = Outcome::Exited(0);
        let (calls, measurements, _) = count_after(FunctionKind::Native, good, counts(1));
        assert!(calls.is_none() && measurements.is_empty());
        let (calls, measurements, _) = count_after(FunctionKind::Python, good, counts(1));
        assert_eq!(calls.expect("calls").wall_ns, 250_000_000);
        assert_eq!((measurements[0].name.as_str(), measurements[0].status), (NAME, Status::Ok));
    }

    #[test]
    fn a_traced_run_that_is_too_slow_is_no_failure() {
        let outcome = Outcome::TimedOut;
        let (calls, measurements, notices) = count_after(FunctionKind::Python, outcome, counts(1));
        assert!(calls.is_none() && measurements.is_empty());
        assert_eq!(notices, [NoticeId::CallsNotCounted]);
    }

    #[test]
    fn a_traced_run_that_fails_is_a_failure() {
        let outcome = Outcome::Exited(1);
        let (calls, measurements, notices) = count_after(FunctionKind::Python, outcome, counts(1));
        assert!(calls.is_none() && notices.is_empty());
        assert_eq!(measurements[0].status, Status::Failed);
    }

    #[test]
    fn a_run_without_counts_has_a_notice() {
        let good = Outcome::Exited(0);
        for counted in [counts(0), CallCounts { lost: 1, ..counts(0) }] {
            let (calls, _, notices) = count_after(FunctionKind::Python, good, counted);
            assert!(calls.is_none());
            assert_eq!(notices, [NoticeId::CallsNotCounted]);
        }
    }

    #[test]
    fn the_time_limit_follows_from_the_sampled_run() {
        let s = Duration::from_secs;
        assert_eq!(limit(s(1), s(600), true), Some(s(10)));
        assert_eq!(limit(s(1), s(5), true), Some(s(5)));
        assert_eq!(limit(s(3), s(600), true), None);
        assert_eq!(limit(s(3), s(600), false), Some(s(70)));
        assert_eq!(limit(s(300), s(600), false), Some(s(600)));
    }
}
