//! Records the resources of one run over time.

use std::fmt::Write;

use anyhow::Result;
use simprof_model::{Measurement, Notice, NoticeId, Phase, Status, Steps, Timeline};
use simprof_record::Recording;
use simprof_report::format::bytes;
use simprof_report::summary::{Growth, TIMELINE_PREFIX, TimelinePoint, TimelineSummary};
use simprof_stats::{Drift, DriftRule, DriftVerdict, assess_drift, assess_leak};

use super::budget_notice::add_skipped_notice;
use super::record::{Process, add_urgent_notices, ending};
use crate::plan::Case;
use crate::processes::{Observe, Observed};
use crate::replicate::cpu_ms_per_step;
use crate::session::Session;
use crate::text::file_stem;

/// Maximum number of points in a summary.
const POINTS: usize = 500;
/// Share of the steps that count as warm-up when growth of memory is measured.
const WARM_UP: f64 = 0.2;

/// Runs one case and records its resources. Returns `None` if the run failed or was skipped.
///
/// # Errors
/// Returns an error if results cannot be written.
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
        reason: session.stop_reason().or_else(|| session.budget.refusal(None)),
        replicates: Vec::new(),
    };
    if measurement.reason.is_some() {
        if session.stop_reason().is_none() {
            add_skipped_notice(session, phase, &measurement.name);
        }
        session.keep(phase, &measurement, done + 1);
        return Ok(None);
    }
    let recording = observe(session, phase, case, &mut measurement)?;
    session.keep(phase, &measurement, done + 1);
    // Resources of a failed run do not describe the work of the target.
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
    let stem = format!("timeline-{}", file_stem(&case.name));
    let process = Process {
        phase,
        stem: &stem,
        parameters: &case.parameters,
        observe: Observe::Resources,
        order: 0,
    };
    let (replicate, result) = process.run(session)?;
    session.note_output(phase, &stem);
    session.log(phase, &format!("{}: {}", measurement.name, ending(&replicate)));
    measurement.status = replicate.status;
    measurement.reason.clone_from(&replicate.reason);
    measurement.replicates.push(replicate);
    match result {
        Ok(Observed { recording, .. }) => {
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
    // Processes that outlived the target used CPU time after its end, which is not counted.
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
        wall_ms_per_step: recording.steps.per_second().map(|rate| 1e3 / rate),
        cpu_ms_per_step: cpu_ms_per_step(recording),
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

/// Returns the mean busy share of each core over the samples that have it.
fn core_busy(timeline: &Timeline) -> Vec<f64> {
    let known: Vec<&Vec<f32>> = timeline
        .samples
        .iter()
        .map(|sample| &sample.core_busy)
        .filter(|cores| !cores.is_empty())
        .collect();
    let cores = known.iter().map(|cores| cores.len()).min().unwrap_or(0);
    let mean = |core: usize| {
        known.iter().map(|cores| f64::from(cores[core])).sum::<f64>() / known.len() as f64
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

/// Returns how the resident set grows with steps after the warm-up, the first fifth of them. If the
/// target reports its population, growth that follows the population is removed.
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
    drift.ok().map(|drift| describe(&drift))
}

/// Returns the growth with its numbers. The rate of memory that levelled off is that of the second half.
fn describe(drift: &Drift) -> Growth {
    let levelled = drift.verdict == DriftVerdict::Levelled;
    let trend = if levelled { drift.second_half } else { drift.trend };
    let [slope, low, high] =
        [trend.slope, trend.interval.lo, trend.interval.hi].map(|bytes| bytes / 1024.0);
    let p = if trend.p < 0.001 { "p < 0.001".to_owned() } else { format!("p = {:.3}", trend.p) };
    let mut evidence = format!(
        "{slope:.2} KiB per step (95 % interval {low:.2} to {high:.2}), {} samples after the warm-up, {p}",
        drift.n
    );
    if levelled {
        evidence.push_str(", over the second half");
    }
    if drift.population.is_some() {
        evidence.push_str(", without the effect of the population");
    }
    if drift.verdict == DriftVerdict::Small {
        let _ = write!(
            evidence,
            "; the growth of {} in all is less than {}, so allocators and warm-up may explain it",
            bytes(drift.growth),
            bytes(drift.threshold)
        );
    }
    Growth {
        kb_per_step: slope,
        interval: Some([low, high]),
        verdict: drift.verdict.into(),
        n: drift.n,
        evidence,
    }
}

#[cfg(test)]
mod tests {
    use simprof_model::{ResourceSample, Step};
    use simprof_record::{Leftover, Outcome};
    use simprof_report::summary::GrowthVerdict;

    use super::*;
    use crate::plan::Plan;
    use crate::processes::fake::{FakeProcesses, FakeSession, ended, plan_for};

    const PHASE: Phase = Phase::System;
    const MS: u64 = 1_000_000;

    fn plan() -> Plan {
        plan_for("[target]\ncommand = [\"./sim\"]\ntimeout_s = 7\n")
    }

    /// A run of `samples` samples and as many steps, 50 ms apart, whose memory grows by `growth_bytes` per step.
    fn growing(samples: u64, growth_bytes: u64) -> Observed {
        let mut observed = ended(Outcome::Exited(0));
        let time_ns = |index: u64| index * 50 * MS;
        let sample = |index| ResourceSample {
            time_ns: time_ns(index + 1),
            cpu_ns: time_ns(index + 1) / 2,
            rss_bytes: (10 << 20) + index * growth_bytes,
            core_busy: vec![0.5, 0.0],
            threads: 2,
            ..ResourceSample::default()
        };
        let step = |index| Step {
            index,
            begin_ns: time_ns(index),
            end_ns: time_ns(index + 1),
            population: None,
            thread: None,
        };
        observed.recording.timeline.samples = (0..samples).map(sample).collect();
        observed.recording.steps.steps = (0..samples).map(step).collect();
        observed
    }

    fn follow_default(processes: &FakeProcesses) -> (Option<TimelineSummary>, Measurement) {
        let plan = plan();
        let mut fake = FakeSession::new(&plan, processes);
        let followed = follow(&mut fake.session, PHASE, &plan.timelines[0], 0).expect("a result");
        let measurement = fake.record(PHASE).measurements[0].clone();
        (followed.map(|(summary, _, _)| summary), measurement)
    }

    #[test]
    fn memory_that_grows_with_steps_is_found() {
        let (summary, measurement) = follow_default(&FakeProcesses::new([growing(200, 64 << 10)]));
        let summary = summary.expect("a summary");
        assert_eq!(measurement.status, Status::Ok);
        let growth = summary.growth.expect("enough samples");
        assert_eq!(growth.verdict, GrowthVerdict::Grows);
        assert!((growth.kb_per_step - 64.0).abs() < 0.01, "{growth:?}");
        assert_eq!((summary.steps, summary.threads, summary.notices.len()), (200, 2, 0));
        assert!(summary.points.iter().all(|point| (point.cpu_cores - 0.5).abs() < 1e-9));
        assert_eq!(summary.core_busy, [0.5, 0.0]);
        let wall_ms = summary.wall_ms_per_step.expect("there are steps");
        assert!((wall_ms - 50.0).abs() < 1e-9, "{wall_ms}");
    }

    #[test]
    fn little_growth_in_all_is_neither_steady_nor_a_leak() {
        // 16 KiB in each of 160 steps after the warm-up are 2.5 MiB.
        let (summary, _) = follow_default(&FakeProcesses::new([growing(200, 16 << 10)]));
        let growth = summary.and_then(|summary| summary.growth).expect("enough samples");
        assert_eq!(growth.verdict, GrowthVerdict::RunLonger);
        assert!((growth.kb_per_step - 16.0).abs() < 0.01, "{growth:?}");
    }

    #[test]
    fn memory_that_levelled_off_has_the_rate_of_the_second_half() {
        let mut observed = growing(200, 0);
        for (index, sample) in (0u64..).zip(&mut observed.recording.timeline.samples) {
            sample.rss_bytes += index.min(100) << 18;
        }
        let (summary, _) = follow_default(&FakeProcesses::new([observed]));
        let growth = summary.and_then(|summary| summary.growth).expect("enough samples");
        assert_eq!(growth.verdict, GrowthVerdict::LevelledOff);
        assert_eq!(growth.kb_per_step, 0.0);
    }

    #[test]
    fn memory_that_does_not_grow_is_steady() {
        let (summary, _) = follow_default(&FakeProcesses::new([growing(200, 0)]));
        assert_eq!(
            summary.and_then(|summary| summary.growth).expect("growth").verdict,
            GrowthVerdict::Steady
        );
    }

    #[test]
    fn a_short_run_has_a_notice_and_no_growth() {
        let (summary, measurement) = follow_default(&FakeProcesses::new([growing(3, 4096)]));
        let summary = summary.expect("a summary");
        assert_eq!(measurement.status, Status::Ok);
        assert_eq!(summary.notices[0].id, NoticeId::FewSamples);
        assert!(summary.growth.is_none(), "{:?}", summary.growth);
    }

    #[test]
    fn a_failed_or_interrupted_run_has_no_summary() {
        for (outcome, status, words) in [
            (Outcome::Exited(2), Status::Failed, "2"),
            (Outcome::TimedOut, Status::TimedOut, "did not end within 7 s"),
            (Outcome::Cancelled, Status::Skipped, "interrupted"),
        ] {
            let mut observed = growing(200, 0);
            observed.recording.outcome = outcome;
            let (summary, measurement) = follow_default(&FakeProcesses::new([observed]));
            assert!(summary.is_none());
            assert_eq!(measurement.status, status);
            let reason = measurement.reason.expect("a reason");
            assert!(reason.contains(words), "{reason}");
        }
        let processes = FakeProcesses::default();
        processes.cancel_after(0);
        let (summary, measurement) = follow_default(&processes);
        assert!(summary.is_none() && processes.started().is_empty());
        assert_eq!(measurement.reason.as_deref(), Some("interrupted"));
    }

    #[test]
    fn processes_that_outlive_the_target_have_a_notice_and_no_cpu_time() {
        let mut observed = growing(20, 0);
        let leftover = |pid| Leftover { pid, name: "helper".into() };
        observed.recording.leftovers = vec![leftover(7), leftover(8)];
        let plan = plan();
        let mut fake = FakeSession::new(&plan, &FakeProcesses::new([observed]));
        let followed = follow(&mut fake.session, PHASE, &plan.timelines[0], 0).expect("a result");
        let (summary, _, _) = followed.expect("a summary");
        assert!((summary.cpu_s - 0.5).abs() < 1e-9, "{}", summary.cpu_s);
        let ids: Vec<NoticeId> =
            fake.record(PHASE).notices.iter().map(|notice| notice.id).collect();
        assert_eq!(ids, [NoticeId::ProcessesOutlived]);
    }
}
