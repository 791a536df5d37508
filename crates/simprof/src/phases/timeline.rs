//! Resources over time: one run of a case, followed.

use anyhow::Result;
use simprof_model::{Measurement, Notice, NoticeId, Phase, Status, Steps, Timeline};
use simprof_record::Recording;
use simprof_report::summary::{Growth, TIMELINE_PREFIX, TimelinePoint, TimelineSummary};
use simprof_stats::{DriftRule, assess_drift, assess_leak};

use super::record::{add_urgent_notices, ending, file_stem};
use crate::plan::Case;
use crate::replicate::{Place, replicate};
use crate::runner::{Invocation, Observe, with_ending};
use crate::session::Session;

/// Points of a summary.
const POINTS: usize = 500;
/// Share of the steps that count as warm-up for memory.
const WARM_UP: f64 = 0.2;

/// Runs one case and follows its resources; none where it could not be run.
///
/// # Errors
/// Where results cannot be written.
pub fn follow(
    session: &mut Session<'_>,
    phase: Phase,
    case: &Case,
    done: usize,
) -> Result<Option<(TimelineSummary, Timeline, Steps)>> {
    let name = format!("{TIMELINE_PREFIX}{}", case.name);
    session.current(phase, &name)?;
    let mut measurement = Measurement {
        name,
        component: None,
        operation: None,
        parameters: case.parameters.clone(),
        status: Status::Skipped,
        reason: session.stop_reason(),
        replicates: Vec::new(),
    };
    if measurement.reason.is_some() {
        session.keep(phase, &measurement, done + 1);
        return Ok(None);
    }
    let recording = observe(session, phase, case, &mut measurement)?;
    session.keep(phase, &measurement, done + 1);
    // The resources of a target that failed are those of its failure: no figure of its work.
    let Some(recording) = recording.filter(|_| measurement.status.is_ok()) else {
        return Ok(None);
    };
    let summary = summarise(case, &recording);
    Ok(Some((summary, recording.timeline, recording.steps)))
}

fn observe(
    session: &mut Session<'_>,
    phase: Phase,
    case: &Case,
    measurement: &mut Measurement,
) -> Result<Option<Recording>> {
    let log = session.phase_folder(phase)?.join(format!("timeline-{}", file_stem(&case.name)));
    let seed = session.plan.seed;
    let result = session.runner.run(&Invocation {
        command: &session.plan.target.command,
        parameters: &case.parameters,
        seed,
        observe: Observe::Resources,
        scratch: session.folder.scratch()?,
        log: &log,
    });
    let place = Place { seed, order: 0, load: crate::replicate::load_average() };
    let timeout = session.plan.target.timeout;
    let replicate = replicate(place, result.as_ref(), &with_ending(&log, "out"), timeout);
    session.folder.clear_scratch();
    session.note_output(phase, &format!("timeline-{}", file_stem(&case.name)));
    session.log(phase, &format!("{}: {}", measurement.name, ending(&replicate)));
    measurement.status = replicate.status;
    measurement.reason.clone_from(&replicate.reason);
    measurement.replicates.push(replicate);
    match result {
        Ok(recording) => {
            add_urgent_notices(session, phase, &recording);
            Ok(Some(recording))
        }
        Err(error) => {
            session.not_started(&error);
            Ok(None)
        }
    }
}

fn summarise(case: &Case, recording: &Recording) -> TimelineSummary {
    let timeline = &recording.timeline;
    let last = timeline.samples.last();
    // What outlived the target used CPU time after its end: only what was seen until then is the target's.
    let cpu_ns = match last {
        Some(last) if !recording.leftovers.is_empty() => last.cpu_ns,
        _ => recording.user_cpu_ns + recording.system_cpu_ns,
    };
    let mut notices = timeline.notices.clone();
    if timeline.samples.len() < 10 {
        let text = format!(
            "Resources were sampled only {} times: the run is too short for more.",
            timeline.samples.len()
        );
        notices.push(Notice::new(NoticeId::FewSamples, text));
    }
    TimelineSummary {
        case: case.name.clone(),
        interval_ms: timeline.interval_ns as f64 * 1e-6,
        wall_s: recording.wall_ns as f64 * 1e-9,
        cpu_s: cpu_ns as f64 * 1e-9,
        steps: recording.steps.steps.len(),
        peak_rss_bytes: recording.peak_rss_bytes,
        core_busy: core_busy(timeline),
        threads: timeline.samples.iter().map(|sample| sample.threads).max().unwrap_or(0),
        page_faults: last.map_or([0, 0], |last| [last.minor_faults, last.major_faults]),
        context_switches: last
            .map_or([0, 0], |last| [last.voluntary_switches, last.involuntary_switches]),
        io_bytes: last.and_then(|last| Some([last.read_bytes?, last.written_bytes?])),
        growth: growth(timeline, &recording.steps),
        points: points(timeline, recording.start_ns),
        files: Vec::new(),
        notices,
    }
}

/// Mean busy share of each core over the samples that tell it.
fn core_busy(timeline: &Timeline) -> Vec<f64> {
    let told: Vec<&Vec<f32>> = timeline
        .samples
        .iter()
        .map(|sample| &sample.core_busy)
        .filter(|cores| !cores.is_empty())
        .collect();
    let cores = told.iter().map(|cores| cores.len()).min().unwrap_or(0);
    let mean = |core: usize| {
        told.iter().map(|cores| f64::from(cores[core])).sum::<f64>() / told.len() as f64
    };
    (0..cores).map(mean).collect()
}

fn points(timeline: &Timeline, start_ns: u64) -> Vec<TimelinePoint> {
    let stride = timeline.samples.len().div_ceil(POINTS).max(1);
    let thinned: Vec<_> = timeline.samples.iter().step_by(stride).collect();
    thinned
        .windows(2)
        .map(|pair| {
            let elapsed = pair[1].time_ns.saturating_sub(pair[0].time_ns).max(1) as f64;
            let cpu = pair[1].cpu_ns.saturating_sub(pair[0].cpu_ns) as f64;
            TimelinePoint {
                time_ms: pair[1].time_ns.saturating_sub(start_ns) as f64 * 1e-6,
                cpu_cores: cpu / elapsed,
                rss_bytes: pair[1].rss_bytes,
            }
        })
        .collect()
}

/// How the resident set grows with steps, once the first fifth of them is past; regressed on the
/// living population where the target tells it.
pub fn growth(timeline: &Timeline, steps: &Steps) -> Option<Growth> {
    let count = steps.steps.len();
    let steady = steps.steps.get((count as f64 * WARM_UP) as usize)?.begin_ns;
    let end = steps.last_end_ns()?;
    let mut moments = Vec::new();
    for sample in timeline.samples.iter().filter(|sample| (steady..=end).contains(&sample.time_ns))
    {
        let done = steps.steps.partition_point(|step| step.end_ns <= sample.time_ns);
        let population = done.checked_sub(1).and_then(|last| steps.steps[last].population);
        moments.push((
            done as f64,
            sample.rss_bytes as f64,
            population.map(|population| population as f64),
        ));
    }
    let times: Vec<f64> = moments.iter().map(|moment| moment.0).collect();
    let memory: Vec<f64> = moments.iter().map(|moment| moment.1).collect();
    let population: Option<Vec<f64>> = moments.iter().map(|moment| moment.2).collect();
    let varies = population
        .as_ref()
        .is_some_and(|population| population.windows(2).any(|pair| pair[0] != pair[1]));
    let drift = match population.filter(|_| varies) {
        Some(population) => assess_leak(&times, &memory, &population, DriftRule::memory()),
        None => assess_drift(&times, &memory, DriftRule::memory()),
    };
    let drift = drift.ok()?;
    let interval = drift.trend.interval;
    Some(Growth {
        kb_per_step: drift.trend.slope / 1024.0,
        interval: Some([interval.lo / 1024.0, interval.hi / 1024.0]),
        verdict: drift.verdict.into(),
        n: drift.n,
        evidence: format!(
            "{:.2} KB per step (95 % interval {:.2} to {:.2}), {} moments after the warm-up, p = {:.3}{}",
            drift.trend.slope / 1024.0,
            interval.lo / 1024.0,
            interval.hi / 1024.0,
            drift.n,
            drift.trend.p,
            if drift.population.is_some() { ", population taken out" } else { "" }
        ),
    })
}
