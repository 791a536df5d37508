//! Counts the calls of a Python target: a run of its own, since tracing distorts what is timed.

use std::time::Duration;

use anyhow::Result;
use simprof_model::{FunctionKind, Measurement, Mode, Notice, NoticeId, Phase, Profile};
use simprof_record::Outcome;
use simprof_report::summary::{CallsInput, call_rows};

use super::record::{Recorded, ending};
use crate::plan::Case;
use crate::python::Counted;
use crate::replicate::{Place, load_average, replicate};
use crate::runner::{Invocation, Observe, with_ending};
use crate::session::Session;

const PHASE: Phase = Phase::Macro;

/// Name of the measurement, and stem of its files.
const NAME: &str = "calls";

/// How much longer than a sampled run a traced one may take; more is rare.
const EXPECTED: u32 = 4;
/// Time that tracing has in a quick run, all of which must end within a minute.
const QUICK: Duration = Duration::from_secs(10);
/// Interpreters need so long to start, traced or not.
const START: Duration = Duration::from_secs(2);

/// Calls of one run.
#[derive(Debug)]
pub struct Calls {
    counted: Counted,
    wall_ns: u64,
}

impl Calls {
    /// As the summary takes it.
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

/// Runs `case` once more and counts its calls, where the recorded runs had Python in them; none where that takes too
/// long or fails, which is then said.
///
/// # Errors
/// Where results cannot be written.
pub fn count(session: &mut Session<'_>, case: &Case, recorded: &Recorded) -> Result<Option<Calls>> {
    let Some(plain) = recorded.wall_ns.last().map(|&ns| Duration::from_nanos(ns)) else {
        return Ok(None);
    };
    if !recorded.profile.as_ref().is_some_and(has_python) || session.stop_reason().is_some() {
        return Ok(None);
    }
    let quick = session.plan.mode == Mode::Quick;
    let Some(limit) = limit(plain, session.plan.target.timeout, quick) else {
        let needed = START + plain * EXPECTED;
        let why = format!("a traced run may need {:.0} s", needed.as_secs_f64());
        session.notice(PHASE, too_long(&why));
        return Ok(None);
    };
    session.current(PHASE, NAME)?;
    trace(session, case, limit)
}

/// Writes the calls of every function, for programs that read tables.
///
/// # Errors
/// Where it cannot be written.
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

/// The time limit of the traced run; none where it would surely not be met.
fn limit(plain: Duration, timeout: Duration, quick: bool) -> Option<Duration> {
    let needed = START + plain * EXPECTED;
    if !quick {
        // Few programs come near: one that is traced ten times slower is still counted.
        return Some(timeout.min(needed * 5));
    }
    (needed <= QUICK).then(|| timeout.min(QUICK))
}

fn too_long(why: &str) -> Notice {
    let text = format!(
        "Calls were not counted: {why}, longer than this run allows. Use a full run, or fewer steps."
    );
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
    let place = Place { seed, order: 0, load: load_average() };
    let result = session.runner.count_calls(&invocation, limit);
    session.folder.clear_scratch();
    session.note_output(PHASE, NAME);
    let recording = result.as_ref().map(|(recording, _)| recording);
    let measured = replicate(place, recording, &with_ending(&log, "out"), limit);
    session.log(PHASE, &format!("{NAME}: {}", ending(&measured)));
    // That tracing is too slow is no failure of the target's, nor one of what was asked for.
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

fn uncounted(counted: &Counted) -> Notice {
    let text = if counted.yielded > 0 {
        "Calls were not counted: the program profiles itself, and the interpreter allows only one profiler."
    } else if counted.lost > 0 {
        "Calls were not counted: no process that ran Python ended in a way that lets it report them."
    } else {
        "Calls were not counted: the interpreter has no tracer (its Python lacks the module _lsprof)."
    };
    Notice::new(NoticeId::CallsNotCounted, text)
}

/// Keeps what was not planned before it was known that the target runs Python.
fn keep(session: &mut Session<'_>, measurement: &Measurement) {
    let done = session.folder.run().phase(PHASE).map_or(0, |record| record.done);
    session.plan_more(PHASE, 1);
    session.keep(PHASE, measurement, done + 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_follows_from_the_plain_run() {
        let s = Duration::from_secs;
        assert_eq!(limit(s(1), s(600), true), Some(s(10)));
        assert_eq!(limit(s(1), s(5), true), Some(s(5)));
        assert_eq!(limit(s(3), s(600), true), None);
        assert_eq!(limit(s(3), s(600), false), Some(s(70)));
        assert_eq!(limit(s(300), s(600), false), Some(s(600)));
    }
}
