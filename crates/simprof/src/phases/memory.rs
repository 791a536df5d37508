//! The pass of phase 3 that records allocations: another run of the target, since it would be in the CPU's figures.

use std::time::Duration;

use anyhow::Result;
use simprof_model::{HeapProfile, Measurement, Phase, Profile, Status};
use simprof_record::heap::symbolise;
use simprof_report::chart::memory_chart;
use simprof_report::export::{HeapView, heap_flamegraph, heap_pprof};
use simprof_report::summary::{MemorySummary, memory_summary};
use simprof_report::{ReportError, format};

use super::record::{ending, warn_of_target};
use crate::memory::{INTERVAL_BYTES, MemoryPlan};
use crate::replicate::{Place, describe, replicate};
use crate::runner::{Invocation, Observe, with_ending};
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
        reason: session.stop_reason(),
        replicates: Vec::new(),
    };
    let mut recorded = None;
    if measurement.reason.is_none() {
        let interval_bytes = plan.interval_bytes.unwrap_or(INTERVAL_BYTES);
        recorded = record(session, interval_bytes, &mut measurement)?;
    }
    if let (Some(first), None, true) = (&recorded, plan.interval_bytes, measurement.status.is_ok())
        && let Some(interval_bytes) = Told::by(first).finer(session.plan.sampling.enough)
    {
        say_finer(session, first, interval_bytes);
        recorded = record(session, interval_bytes, &mut measurement)?.or(recorded);
    }
    session.keep(PHASE, &measurement, done + 1);
    let Some(profile) = recorded else { return Ok(None) };
    let summary = memory_summary(&profile, cpu, text);
    let files = write(session, &profile)?;
    Ok(Some(Memory { summary, profile, files }))
}

fn record(
    session: &mut Session<'_>,
    interval_bytes: u64,
    measurement: &mut Measurement,
) -> Result<Option<HeapProfile>> {
    let log = session.phase_folder(PHASE)?.join(NAME);
    let seed = session.plan.seed;
    let invocation = Invocation {
        command: &session.plan.target.command,
        parameters: &measurement.parameters.clone(),
        seed,
        observe: Observe::Allocations { interval_bytes },
        scratch: session.folder.scratch()?,
        log: &log,
    };
    let load = crate::replicate::load_average();
    let result = session.runner.run(&invocation);
    let place = Place { seed, order: measurement.replicates.len(), load };
    let output = with_ending(&log, "out");
    let replicate = replicate(place, result.as_ref(), &output, session.plan.target.timeout);
    session.folder.clear_scratch();
    session.log(PHASE, &format!("{NAME}: {}", ending(&replicate)));
    (measurement.status, measurement.reason) = (replicate.status, replicate.reason.clone());
    measurement.replicates.push(replicate);
    let recording = match result {
        Ok(recording) => recording,
        Err(error) => {
            // That its allocations cannot be recorded is no fault of the rest.
            measurement.status = Status::Skipped;
            measurement.reason = Some(describe(&error));
            session.warn(PHASE, format!("Memory was not recorded: {}.", describe(&error)));
            return Ok(None);
        }
    };
    session.note_output(PHASE, NAME);
    for warning in &recording.warnings {
        session.warn(PHASE, warning.clone());
    }
    warn_of_target(session, PHASE, &recording);
    session.progress.current("reading symbols");
    Ok(recording.heap.map(symbolise))
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
        let allocated = profile.total(|site| site.allocated);
        Self {
            records: profile.sites.iter().map(|site| site.records).sum(),
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
}

fn say_finer(session: &mut Session<'_>, first: &HeapProfile, interval_bytes: u64) {
    let Told { records, .. } = Told::by(first);
    let how = match interval_bytes {
        1 => "every one was recorded".to_owned(),
        bytes => format!("one byte of {} was drawn", format::bytes(bytes as f64)),
    };
    let drew = match records {
        0 => "no allocation".to_owned(),
        1 => "only one allocation".to_owned(),
        _ => format!("only {records} allocations"),
    };
    let sentence = format!(
        "One byte of {} drew {drew} of a run: in another run with the same seed, {how}.",
        format::bytes(first.provenance.interval_bytes as f64)
    );
    session.warn(PHASE, sentence);
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
    use super::*;

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
