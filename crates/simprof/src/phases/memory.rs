//! The pass of phase 3 that records allocations: another run of the target, since it would be in the CPU's figures.

use anyhow::Result;
use simprof_model::{HeapProfile, Measurement, Phase, Profile, Status};
use simprof_record::heap::symbolise;
use simprof_report::ReportError;
use simprof_report::chart::memory_chart;
use simprof_report::export::{HeapView, heap_flamegraph, heap_pprof};
use simprof_report::summary::{MemorySummary, memory_summary};

use super::record::{ending, warn_of_target};
use crate::replicate::{Place, describe, replicate};
use crate::runner::{Invocation, Observe, with_ending};
use crate::session::Session;

const PHASE: Phase = Phase::Line;
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

/// Records the allocations of the target once, and writes their files. None where it could not be recorded, which its measurement then
/// tells.
///
/// # Errors
/// Where results cannot be written.
pub fn run(
    session: &mut Session<'_>,
    interval_bytes: u64,
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
    let recorded = match &measurement.reason {
        Some(_) => None,
        None => record(session, interval_bytes, &mut measurement)?,
    };
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
    let place = Place { seed, order: 0, load };
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
    session.write(PHASE, "memory.json", &super::csv::json(profile)?)?;
    Ok(files)
}
