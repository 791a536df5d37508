//! The pass of phase 3 that records allocations: another run of the target, since it would be in the CPU's figures.

use std::time::Duration;

use anyhow::Result;
use simprof_model::{
    HeapProfile, Measurement, Notice, NoticeId, Phase, Profile, Replicate, Status,
};
use simprof_record::Outcome;
use simprof_record::heap::symbolise;
use simprof_report::analysis::{charged_to_target, without_small_stacks};
use simprof_report::chart::memory_chart;
use simprof_report::export::{HeapView, heap_flamegraph, heap_pprof};
use simprof_report::summary::{MemorySummary, memory_summary, unexplained_growth};
use simprof_report::{ReportError, format};

use super::record::{Process, add_notices, ending};
use crate::memory::{INTERVAL_BYTES, MemoryPlan};
use crate::replicate::describe;
use crate::runner::Observe;
use crate::session::Session;

const PHASE: Phase = Phase::Line;
/// Recorded allocations from which a run tells enough.
const ENOUGH: u64 = 2000;
/// Recorded allocations that a second run aims at.
const AIM: u64 = 10_000;
/// Allocations up to which a second run records each.
const FEW: u64 = 20_000;
/// Name of the measurement, and the stem of its files.
pub const NAME: &str = "memory";

/// What came of the pass.
#[derive(Debug)]
pub struct Memory {
    /// What it found.
    pub summary: MemorySummary,
    /// All of it.
    pub profile: HeapProfile,
    /// Files for people, by name and what they show.
    pub files: Vec<(String, String)>,
}

/// Records the allocations of the target, and writes their files. A short run that allocates too little for the usual interval is
/// followed by one with a smaller. None where nothing could be recorded, which its measurement then tells.
///
/// # Errors
/// Where results cannot be written.
pub fn run(
    session: &mut Session<'_>,
    plan: MemoryPlan,
    cpu: Option<&Profile>,
    text: &dyn Fn(&str, u32) -> Option<String>,
    done: usize,
) -> Result<Option<Memory>> {
    session.current(PHASE, NAME)?;
    let mut measurement = Measurement {
        name: NAME.to_owned(),
        component: None,
        operation: None,
        parameters: session.plan.target.defaults.clone(),
        status: Status::Skipped,
        reason: None,
        replicates: Vec::new(),
    };
    let attempt = attempts(session, plan, &mut measurement)?;
    (measurement.status, measurement.reason) = (attempt.status, attempt.reason);
    session.keep(PHASE, &measurement, done + 1);
    if let Some(notice) = attempt.cut.filter(|_| attempt.profile.is_some()) {
        session.notice(PHASE, notice);
    }
    let Some(profile) = attempt.profile else { return Ok(None) };
    if let Some(notice) = unexplained_growth(&profile) {
        session.progress.say(&format!("simprof: {notice}"));
    }
    if profile.provenance.unrecorded > 0 {
        let count = profile.provenance.unrecorded;
        session.progress.say(&format!(
            "simprof: the memory of {count} of the target's processes was not recorded: phase 3's report names them"
        ));
    }
    let summary = memory_summary(&profile, cpu, text);
    let files = write(session, &without_small_stacks(&profile))?;
    Ok(Some(Memory { summary, profile, files }))
}

/// What came of one run.
#[derive(Debug, Clone, PartialEq)]
struct Attempt {
    status: Status,
    reason: Option<String>,
    /// A notice if the recording ended before the program's own end.
    cut: Option<Notice>,
    profile: Option<HeapProfile>,
}

impl Attempt {
    /// No run, or one of which nothing was recorded.
    fn none(reason: String) -> Self {
        Self { status: Status::Skipped, reason: Some(reason), cut: None, profile: None }
    }

    fn of(replicate: &Replicate, outcome: &Outcome, profile: Option<HeapProfile>) -> Self {
        let said = replicate.reason.clone().unwrap_or_default();
        let (mut status, mut reason) = (replicate.status, replicate.reason.clone());
        if profile.is_some() && !status.is_ok() {
            reason = Some(match outcome {
                Outcome::Exited(0) => format!("measured; {said}"),
                Outcome::Exited(_) => format!("measured; the program {said}"),
                Outcome::Signalled { .. } => format!("measured until the program was {said}"),
                Outcome::TimedOut | Outcome::Cancelled => format!("measured until then: {said}"),
            });
        }
        if profile.is_some() && status == Status::Skipped {
            status = Status::Partial;
        }
        let cut = (!matches!(outcome, Outcome::Exited(_))).then(|| {
            let text = format!(
                "The recording of memory ended early ({said}): memory reported as live at the end was live at that moment."
            );
            Notice::new(NoticeId::MemoryRecordedInPart, text)
        });
        Self { status, reason, cut, profile }
    }

    /// Of a run and another for more draws, the one that tells: the other, where it ended well.
    fn or(self, other: Attempt) -> Attempt {
        if other.status.is_ok() && other.profile.is_some() {
            return other;
        }
        let reason = other.reason.unwrap_or_else(|| "it recorded nothing".to_owned());
        let reason = format!("another run, for more draws, came to nothing: {reason}");
        Attempt { status: Status::Partial, reason: Some(reason), ..self }
    }
}

/// One run, and another where that drew too little and no interval was asked for.
fn attempts(
    session: &mut Session<'_>,
    plan: MemoryPlan,
    measurement: &mut Measurement,
) -> Result<Attempt> {
    if let Some(reason) = session.stop_reason() {
        return Ok(Attempt::none(reason));
    }
    let interval_bytes = plan.interval_bytes.unwrap_or(INTERVAL_BYTES);
    let first = record(session, interval_bytes, measurement)?;
    let told = first.profile.as_ref().map(Told::by);
    let (Some(told), None, true) = (told, plan.interval_bytes, first.status.is_ok()) else {
        if let (None, Some(reason)) = (&first.profile, &first.reason) {
            let text = format!("Memory was not recorded: {reason}.");
            session.notice(PHASE, Notice::new(NoticeId::MemoryNotRecorded, text));
        }
        return Ok(first);
    };
    let Some(finer) = told.finer(session.plan.sampling.enough) else { return Ok(first) };
    let second = match session.stop_reason() {
        Some(reason) => Attempt::none(reason),
        None => record(session, finer, measurement)?,
    };
    let attempt = first.or(second);
    let text = told.sentence(finer, attempt.reason.as_deref());
    session.notice(PHASE, Notice::new(NoticeId::MemorySampledAgain, text));
    Ok(attempt)
}

fn record(
    session: &mut Session<'_>,
    interval_bytes: u64,
    measurement: &mut Measurement,
) -> Result<Attempt> {
    let process = Process {
        phase: PHASE,
        stem: NAME,
        parameters: &measurement.parameters,
        observe: Observe::Allocations { interval_bytes },
        order: measurement.replicates.len(),
    };
    let (replicate, result) = process.run(session)?;
    session.log(PHASE, &format!("{NAME}: {}", ending(&replicate)));
    let attempt = match result {
        Ok(recording) => {
            session.note_output(PHASE, NAME);
            add_notices(session, PHASE, &recording);
            session.progress.current("reading symbols");
            Attempt::of(
                &replicate,
                &recording.outcome,
                recording.heap.map(|heap| charged_to_target(symbolise(heap))),
            )
        }
        // That its allocations cannot be recorded is no fault of the rest.
        Err(error) => Attempt::none(describe(&error)),
    };
    measurement.replicates.push(replicate);
    Ok(attempt)
}

/// What a run told, as far as it says whether that is enough.
#[derive(Debug, Clone, Copy)]
struct Told {
    records: u64,
    bytes: u64,
    count: u64,
    interval_bytes: u64,
    wall: Duration,
}

impl Told {
    fn by(profile: &HeapProfile) -> Self {
        let allocated = profile.total(|site| site.amounts.allocated);
        Self {
            records: profile.sites.iter().map(|site| site.amounts.records).sum(),
            bytes: allocated.bytes,
            count: allocated.count,
            interval_bytes: profile.provenance.interval_bytes,
            wall: Duration::from_nanos(profile.provenance.target_wall_ns),
        }
    }

    /// The interval for another run, where one that took less than `enough` recorded too few allocations.
    fn finer(self, enough: Duration) -> Option<u64> {
        if self.records >= ENOUGH || self.wall >= enough {
            return None;
        }
        // The number is an estimate from the same draws: that it is small says how little was drawn, not that all was.
        if self.count <= FEW {
            return Some(1);
        }
        let wanted = (self.bytes / AIM).max(1);
        // A power of two, which people read more easily.
        Some(1 << wanted.ilog2()).filter(|&bytes| bytes < self.interval_bytes)
    }

    /// What was drawn too little of, and what came of another run, which failed where there is a reason.
    fn sentence(self, finer: u64, failed: Option<&str>) -> String {
        let drew = match self.records {
            0 => "no allocation".to_owned(),
            1 => "only one allocation".to_owned(),
            records => format!("only {records} allocations"),
        };
        let then = match (failed, finer) {
            (Some(reason), _) => reason.to_owned(),
            (None, 1) => "in another run with the same seed, every one was recorded".to_owned(),
            (None, bytes) => format!(
                "in another run with the same seed, one byte of {} was drawn",
                format::bytes(bytes as f64)
            ),
        };
        format!(
            "One byte of {} drew {drew} of a run: {then}.",
            format::bytes(self.interval_bytes as f64)
        )
    }
}

/// The files of a heap profile: flame graphs, a chart, pprof, all of it as JSON.
fn write(session: &mut Session<'_>, profile: &HeapProfile) -> Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    let chart = memory_chart(profile, &format!("Memory of {}", session.plan.target.name));
    session.write(PHASE, "memory.svg", chart.as_bytes())?;
    files.push(("memory.svg".to_owned(), "memory over time".to_owned()));
    for view in HeapView::ALL {
        let mut svg = Vec::new();
        match heap_flamegraph(profile, view, &mut svg) {
            Ok(()) => session.write(PHASE, view.file_name(), &svg)?,
            Err(ReportError::NoSamples) => continue,
            Err(error) => return Err(error.into()),
        }
        let what = format!("flame graph of what was {}", view.describe());
        files.push((view.file_name().to_owned(), what));
    }
    let mut pprof = Vec::new();
    match heap_pprof(profile, &mut pprof) {
        Ok(()) => {
            session.write(PHASE, "memory.pb.gz", &pprof)?;
            files.push(("memory.pb.gz".to_owned(), "heap profile for pprof".to_owned()));
        }
        Err(ReportError::NoSamples) => {}
        Err(error) => return Err(error.into()),
    }
    // For programs: what it takes to be indented is more than half of it.
    session.write(PHASE, "memory.json", &serde_json::to_vec(profile)?)?;
    Ok(files)
}

#[cfg(test)]
mod tests {
    use simprof_model::{HeapProvenance, ProfileBuilder, WeightKind};

    use super::*;

    fn profile(interval_bytes: u64) -> HeapProfile {
        let tables = ProfileBuilder::new(WeightKind::Bytes).finish();
        let provenance = HeapProvenance { interval_bytes, ..HeapProvenance::default() };
        HeapProfile::of_sites(tables, Vec::new(), provenance)
    }

    fn attempt(status: Status, reason: Option<&str>, profile: Option<HeapProfile>) -> Attempt {
        Attempt { status, reason: reason.map(str::to_owned), cut: None, profile }
    }

    #[test]
    fn a_good_run_is_kept_where_the_one_for_more_draws_fails() {
        let first = || attempt(Status::Ok, None, Some(profile(4096)));
        for second in [
            attempt(Status::TimedOut, Some("no end"), Some(profile(1))),
            attempt(Status::Failed, Some("no end"), None),
            Attempt::none("no end".to_owned()),
        ] {
            let kept = first().or(second);
            assert_eq!((kept.status, &kept.profile), (Status::Partial, &Some(profile(4096))));
            let reason = kept.reason.expect("it is told");
            assert!(reason.starts_with("another run, for more draws, came to nothing: no end"));
            let sentence = Told::by(&profile(4096)).sentence(1, Some(&reason));
            assert!(sentence.contains("no end") && !sentence.contains("recorded"), "{sentence}");
        }
        let second = attempt(Status::Ok, None, Some(profile(1)));
        assert_eq!(first().or(second.clone()), second);
        let sentence = Told::by(&profile(4096)).sentence(1, None);
        assert!(sentence.contains("no allocation of a run: in another run"), "{sentence}");
        assert!(sentence.ends_with("every one was recorded."), "{sentence}");
    }

    fn replicate(status: Status, reason: Option<&str>) -> Replicate {
        Replicate {
            seed: 1,
            order: 0,
            status,
            reason: reason.map(str::to_owned),
            metrics: Default::default(),
            counters: Default::default(),
            digest: None,
            load: None,
        }
    }

    #[test]
    fn what_was_measured_until_a_program_ended_badly_is_said_to_be_measured() {
        let killed = Outcome::Signalled { signal: 9, core_dumped: false };
        for (outcome, status, reason, expected, told, cut) in [
            (
                Outcome::Exited(7),
                Status::Failed,
                "exited with 7",
                Status::Failed,
                "measured; the program exited with 7",
                false,
            ),
            (
                Outcome::Exited(0),
                Status::Failed,
                "no JSON",
                Status::Failed,
                "measured; no JSON",
                false,
            ),
            (
                killed,
                Status::Failed,
                "killed by SIGKILL",
                Status::Failed,
                "measured until the program was killed by SIGKILL",
                true,
            ),
            (
                Outcome::TimedOut,
                Status::TimedOut,
                "no end",
                Status::TimedOut,
                "measured until then: no end",
                true,
            ),
            (
                Outcome::Cancelled,
                Status::Skipped,
                "interrupted",
                Status::Partial,
                "measured until then: interrupted",
                true,
            ),
        ] {
            let replicate = replicate(status, Some(reason));
            let attempt = Attempt::of(&replicate, &outcome, Some(profile(1)));
            assert_eq!((attempt.status, attempt.reason.as_deref()), (expected, Some(told)));
            assert_eq!(attempt.cut.is_some(), cut, "{outcome}");
            assert!(attempt.cut.is_none_or(|notice| notice.text.contains(reason)));
            let without = Attempt::of(&replicate, &outcome, None);
            assert_eq!((without.status, without.reason.as_deref()), (status, Some(reason)));
        }
        let well = Attempt::of(&replicate(Status::Ok, None), &Outcome::Exited(0), Some(profile(1)));
        assert_eq!(well, attempt(Status::Ok, None, Some(profile(1))));
    }

    #[test]
    fn a_short_run_with_few_draws_is_repeated_with_more() {
        let table = [
            (100 << 20, 200_000, 200, 1, Some(8192)),
            (1 << 20, 5000, 2, 1, Some(1)),
            (4 << 30, 1 << 20, 8000, 1, None),
            (100 << 20, 20, 20, 1, Some(1)),
            (0, 0, 0, 1, Some(1)),
            (0, 0, 0, 5, None),
            (100 << 20, 200_000, 200, 5, None),
        ];
        for (bytes, count, records, seconds, expected) in table {
            let wall = Duration::from_secs(seconds);
            let told = Told { records, bytes, count, interval_bytes: INTERVAL_BYTES, wall };
            assert_eq!(told.finer(Duration::from_secs(5)), expected, "{told:?}");
        }
    }
}
