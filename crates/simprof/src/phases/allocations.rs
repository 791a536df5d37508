//! The part of phase 3 that records allocations. It is a separate run of the target, because
//! recording allocations would distort CPU times.

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

use super::budget_notice::add_skipped_notice;
use super::record::{Process, add_notices, ending};
use crate::plan::{AllocationPlan, DEFAULT_INTERVAL_BYTES};
use crate::processes::{Observe, Observed};
use crate::session::Session;
use crate::text::error_chain;

const PHASE: Phase = Phase::Line;
/// Number of allocation samples from which a run is not repeated.
const ENOUGH_SAMPLES: u64 = 2000;
/// Number of allocation samples that a second run should take.
const TARGET_SAMPLES: u64 = 10_000;
/// Number of allocations up to which a second run records every allocation.
const MAX_RECORD_ALL: u64 = 20_000;
/// Name of the measurement, and the stem of its files.
pub const NAME: &str = "memory";

/// The result of recording allocations.
#[derive(Debug)]
pub struct Memory {
    /// The summary.
    pub summary: MemorySummary,
    /// The profile.
    pub profile: HeapProfile,
    /// Files for readers: name and description.
    pub files: Vec<(String, String)>,
}

/// Records the allocations of the target and writes their files. If a short run has too few
/// samples, it is repeated with a smaller interval. Returns `None` if nothing was recorded; the
/// measurement then has the reason.
///
/// # Errors
/// Returns an error if results cannot be written.
pub fn run(
    session: &mut Session<'_>,
    plan: AllocationPlan,
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
        session.progress.note(&notice.text);
    }
    if profile.provenance.unrecorded > 0 {
        let count = profile.provenance.unrecorded;
        session.progress.note(&format!(
            "allocations of {count} of the target's processes were not recorded; the report of phase 3 lists them"
        ));
    }
    let summary = memory_summary(&profile, cpu, text);
    let files = write(session, &without_small_stacks(&profile))?;
    Ok(Some(Memory { summary, profile, files }))
}

/// The result of one run.
#[derive(Debug, Clone, PartialEq)]
struct Attempt {
    status: Status,
    reason: Option<String>,
    /// A notice if the recording ended before the program's own end.
    cut: Option<Notice>,
    profile: Option<HeapProfile>,
}

impl Attempt {
    /// Returns the result if there was no run, or nothing was recorded.
    fn skipped(reason: String) -> Self {
        Self { status: Status::Skipped, reason: Some(reason), cut: None, profile: None }
    }

    fn from_run(replicate: &Replicate, outcome: &Outcome, profile: Option<HeapProfile>) -> Self {
        let cause = replicate.reason.clone().unwrap_or_default();
        let (mut status, mut reason) = (replicate.status, replicate.reason.clone());
        if profile.is_some() && !status.is_ok() {
            reason = Some(match outcome {
                Outcome::Exited(0) => format!("measured; {cause}"),
                Outcome::Exited(_) => format!("measured; the program {cause}"),
                Outcome::Signalled { .. } => format!("measured until the program was {cause}"),
                Outcome::TimedOut | Outcome::Cancelled => {
                    format!("measured until the run was ended: {cause}")
                }
            });
        }
        if profile.is_some() && status == Status::Skipped {
            status = Status::Partial;
        }
        let cut = (!matches!(outcome, Outcome::Exited(_))).then(|| {
            let text = format!(
                "The recording of memory ended early ({cause}). Memory that is reported as live at the end was live at that moment."
            );
            Notice::new(NoticeId::MemoryRecordedInPart, text)
        });
        Self { status, reason, cut, profile }
    }

    /// Returns the result of a second run for more samples if it succeeded, otherwise this one with
    /// the reason.
    fn or_second(self, other: Attempt) -> Attempt {
        if other.status.is_ok() && other.profile.is_some() {
            return other;
        }
        let reason = other.reason.unwrap_or_else(|| "nothing was recorded".to_owned());
        let reason = format!("a second run, for more samples, failed: {reason}");
        Attempt { status: Status::Partial, reason: Some(reason), ..self }
    }
}

/// Runs the target once, and again if there were too few samples and no flag set the interval.
fn attempts(
    session: &mut Session<'_>,
    plan: AllocationPlan,
    measurement: &mut Measurement,
) -> Result<Attempt> {
    if let Some(reason) = session.stop_reason() {
        return Ok(Attempt::skipped(reason));
    }
    // What a flag requests is recorded whatever time is left.
    if let (None, Some(reason)) = (plan.requested_by, session.budget.refusal(None)) {
        add_skipped_notice(session, PHASE, NAME);
        return Ok(Attempt::skipped(reason));
    }
    let interval_bytes = plan.interval_bytes.unwrap_or(DEFAULT_INTERVAL_BYTES);
    let first = record(session, interval_bytes, measurement)?;
    let totals = first.profile.as_ref().map(SampleTotals::from_profile);
    let (Some(totals), None, true) = (totals, plan.interval_bytes, first.status.is_ok()) else {
        if let (None, Some(reason)) = (&first.profile, &first.reason) {
            let text = format!("Memory was not recorded: {reason}.");
            session.notice(PHASE, Notice::new(NoticeId::MemoryNotRecorded, text));
        }
        return Ok(first);
    };
    let Some(smaller) = totals.smaller_interval(session.plan.sampling.enough) else {
        return Ok(first);
    };
    if let Some(reason) = session.budget.refusal(Some(totals.wall)) {
        let text = totals.describe(smaller, Some(&format!("no second run, because {reason}")));
        session.notice(PHASE, Notice::new(NoticeId::MemorySampledAgain, text));
        return Ok(first);
    }
    let second = match session.stop_reason() {
        Some(reason) => Attempt::skipped(reason),
        None => record(session, smaller, measurement)?,
    };
    let attempt = first.or_second(second);
    let text = totals.describe(smaller, attempt.reason.as_deref());
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
        Ok(Observed { recording, .. }) => {
            session.note_output(PHASE, NAME);
            add_notices(session, PHASE, &recording);
            session.progress.current("reading symbols");
            Attempt::from_run(
                &replicate,
                &recording.outcome,
                recording.heap.map(|heap| charged_to_target(symbolise(heap))),
            )
        }
        // Other measurements can succeed even if allocations cannot be recorded.
        Err(error) => Attempt::skipped(error_chain(&error)),
    };
    measurement.replicates.push(replicate);
    Ok(attempt)
}

/// Totals of a run, which show whether it has enough samples.
#[derive(Debug, Clone, Copy)]
struct SampleTotals {
    records: u64,
    bytes: u64,
    count: u64,
    interval_bytes: u64,
    wall: Duration,
}

impl SampleTotals {
    fn from_profile(profile: &HeapProfile) -> Self {
        let allocated = profile.total(|site| site.amounts.allocated);
        Self {
            records: profile.sites.iter().map(|site| site.amounts.records).sum(),
            bytes: allocated.bytes,
            count: allocated.count,
            interval_bytes: profile.provenance.interval_bytes,
            wall: Duration::from_nanos(profile.provenance.target_wall_ns),
        }
    }

    /// Returns the interval for a second run, or `None` if there are enough samples or the run took
    /// longer than `enough`.
    fn smaller_interval(self, enough: Duration) -> Option<u64> {
        if self.records >= ENOUGH_SAMPLES || self.wall >= enough {
            return None;
        }
        // `count` is an estimate from the same samples. A small one means that few were sampled,
        // not that all were.
        if self.count <= MAX_RECORD_ALL {
            return Some(1);
        }
        let wanted = (self.bytes / TARGET_SAMPLES).max(1);
        // A power of two is easier to read.
        Some(1 << wanted.ilog2()).filter(|&bytes| bytes < self.interval_bytes)
    }

    /// Describes how few samples there were, and the second run. `failed` is the reason if it
    /// failed.
    fn describe(self, smaller: u64, failed: Option<&str>) -> String {
        let samples = match self.records {
            0 => "no allocation".to_owned(),
            1 => "only one allocation".to_owned(),
            records => format!("only {records} allocations"),
        };
        let then = match (failed, smaller) {
            (Some(reason), _) => reason.to_owned(),
            (None, 1) => "a second run with the same seed recorded every allocation".to_owned(),
            (None, bytes) => format!(
                "a second run with the same seed sampled one byte in {}",
                format::bytes(bytes as f64)
            ),
        };
        format!(
            "Sampling one byte in {} recorded {samples}: {then}.",
            format::bytes(self.interval_bytes as f64)
        )
    }
}

/// Writes the files of a heap profile: chart, flame graphs, pprof, and JSON.
fn write(session: &mut Session<'_>, profile: &HeapProfile) -> Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    let chart = memory_chart(profile, &format!("{}: memory over time", session.plan.target.name));
    session.write(PHASE, "memory.svg", chart.as_bytes())?;
    files.push(("memory.svg".to_owned(), "memory over time".to_owned()));
    for view in HeapView::ALL {
        let mut svg = Vec::new();
        match heap_flamegraph(profile, view, &session.plan.target.name, &mut svg) {
            Ok(()) => session.write(PHASE, view.file_name(), &svg)?,
            Err(ReportError::NoSamples) => continue,
            Err(error) => return Err(error.into()),
        }
        let what = format!("flame graph of memory that was {}", view.describe());
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
    // Not indented: only programs read it, and indentation would more than double its size.
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
    fn a_successful_run_is_kept_if_the_second_fails() {
        let first = || attempt(Status::Ok, None, Some(profile(4096)));
        for second in [
            attempt(Status::TimedOut, Some("no end"), Some(profile(1))),
            attempt(Status::Failed, Some("no end"), None),
            Attempt::skipped("no end".to_owned()),
        ] {
            let kept = first().or_second(second);
            assert_eq!((kept.status, &kept.profile), (Status::Partial, &Some(profile(4096))));
            let reason = kept.reason.expect("there is a reason");
            assert!(reason.starts_with("a second run, for more samples, failed: no end"));
            let sentence = SampleTotals::from_profile(&profile(4096)).describe(1, Some(&reason));
            assert!(sentence.contains("no end") && !sentence.contains("every"), "{sentence}");
        }
        let second = attempt(Status::Ok, None, Some(profile(1)));
        assert_eq!(first().or_second(second.clone()), second);
        let sentence = SampleTotals::from_profile(&profile(4096)).describe(1, None);
        assert!(sentence.contains("recorded no allocation: a second run"), "{sentence}");
        assert!(sentence.ends_with("recorded every allocation."), "{sentence}");
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
    fn a_program_that_fails_still_has_a_recording() {
        let killed = Outcome::Signalled { signal: 9, core_dumped: false };
        for (outcome, status, reason, expected, described, cut) in [
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
                "measured until the run was ended: no end",
                true,
            ),
            (
                Outcome::Cancelled,
                Status::Skipped,
                "interrupted",
                Status::Partial,
                "measured until the run was ended: interrupted",
                true,
            ),
        ] {
            let replicate = replicate(status, Some(reason));
            let attempt = Attempt::from_run(&replicate, &outcome, Some(profile(1)));
            assert_eq!((attempt.status, attempt.reason.as_deref()), (expected, Some(described)));
            assert_eq!(attempt.cut.is_some(), cut, "{outcome}");
            assert!(attempt.cut.is_none_or(|notice| notice.text.contains(reason)));
            let without = Attempt::from_run(&replicate, &outcome, None);
            assert_eq!((without.status, without.reason.as_deref()), (status, Some(reason)));
        }
        let well =
            Attempt::from_run(&replicate(Status::Ok, None), &Outcome::Exited(0), Some(profile(1)));
        assert_eq!(well, attempt(Status::Ok, None, Some(profile(1))));
    }

    #[test]
    fn a_short_run_with_few_samples_is_repeated_with_more() {
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
            let totals = SampleTotals {
                records,
                bytes,
                count,
                interval_bytes: DEFAULT_INTERVAL_BYTES,
                wall,
            };
            assert_eq!(totals.smaller_interval(Duration::from_secs(5)), expected, "{totals:?}");
        }
    }
}
