//! Phase 4: how the whole target scales.

use std::time::Duration;

use anyhow::Result;
use simprof_measure::campaign::{self, Planned};
use simprof_model::{Measurement, Notice, NoticeId, Phase, Value};
use simprof_report::chart::{
    LawCurve, ScalingChart, ScalingSeries, Unit, scaling_chart, timeline_chart,
};
use simprof_report::document::system_report;
use simprof_report::summary::{
    FittedLaw, Head, Law, Prediction, PredictionVerdict, SystemSummary, TimelineSummary, laws,
    sizes, skipped_sizes,
};
use simprof_stats::scaling::ScalingFit;

use super::budget_notice::add_budget_notice;
use super::readiness;
use super::timeline::follow;
use crate::campaign::TargetExecutor;
use crate::plan::Sweep;
use crate::processes::Observe;
use crate::session::Session;
use crate::text::file_stem;

const PHASE: Phase = Phase::System;

/// A prediction is checked at this multiple of the largest measured size.
const CHECK_AT: f64 = 2.0;
/// Maximum predicted time of a run that only checks a prediction, in seconds.
const MAX_CHECK_S: f64 = 20.0;

/// A measured sweep.
struct MeasuredSweep<'a> {
    sweep: &'a Sweep,
    measurements: Vec<Measurement>,
    laws: Vec<FittedLaw>,
}

/// Sweeps every parameter, records resources over time, checks a prediction and evaluates
/// readiness.
///
/// # Errors
/// Returns an error if results cannot be written.
pub fn run(session: &mut Session<'_>) -> Result<()> {
    let plan = session.plan;
    session.begin(PHASE, plan.processes(PHASE))?;
    session.budget.set_aside(time_of_timelines(session));
    let measured = sweep_all(session);
    session.budget.set_aside(Duration::ZERO);
    write_samples(session, &measured)?;
    let timelines = follow_all(session)?;
    let size = readiness::size_parameter(plan);
    let predictions = measured
        .iter()
        .filter(|measured| {
            Some(&measured.sweep.parameter) == size.as_ref() && measured.sweep.arm.is_empty()
        })
        .flat_map(|measured| check(session, measured))
        .collect();
    let laws: Vec<Law> = measured
        .iter()
        .flat_map(|measured| measured.laws.iter().map(|(law, _)| law.clone()))
        .collect();
    let fits: Vec<&FittedLaw> = measured.iter().flat_map(|measured| &measured.laws).collect();
    let readiness = readiness::checks(session, &fits, size.as_deref(), &timelines);
    let outcome = outcome(session, &fits);
    session.end(PHASE, &outcome)?;
    for notice in skipped_sizes(&laws) {
        session.notice(PHASE, notice);
    }
    let statements = readiness::statements(session, &fits, size.as_deref(), &timelines);
    let summary = SystemSummary {
        head: Head::new(
            session.folder.run(),
            session.folder.run().phase(PHASE).expect("the phase is planned"),
        ),
        laws,
        timeline: timelines.first().cloned(),
        timelines,
        predictions,
        readiness,
        statements,
    };
    session.write(PHASE, "phase4_summary.json", &super::csv::json(&summary)?)?;
    let report = system_report(&summary, &session.folder.run().machine);
    session.write(PHASE, "PHASE4_REPORT.md", report.as_bytes())?;
    session.evidence.system = Some(summary);
    Ok(())
}

/// Returns the outcome of the phase in a few words: the law of time, if there is one.
fn outcome(session: &Session<'_>, fits: &[&FittedLaw]) -> String {
    let sweeps = &session.plan.sweeps;
    let mut laws = sweeps.iter().filter_map(|sweep| {
        readiness::time_laws(session, fits.iter().copied(), sweep).map(|laws| &laws.first.0)
    });
    match laws.find(|law| law.exponent.is_some()) {
        Some(law) => law.sentence().trim_end_matches('.').to_owned(),
        None if sweeps.is_empty() => "no sweep to fit a scaling law to".to_owned(),
        None => "the sweeps give no law of time".to_owned(),
    }
}

/// Returns the time that the runs for resources over time probably take, so that repetitions of sweeps do not use it up. Zero if
/// the time of the target is not known.
fn time_of_timelines(session: &Session<'_>) -> Duration {
    let recorded = session.evidence.macro_.as_ref().map(|(summary, _)| summary.default.wall_s);
    let once = recorded.or(session.plan.target.estimate_s).unwrap_or(0.0);
    let all = once * session.plan.timelines.len() as f64;
    Duration::try_from_secs_f64(all).unwrap_or_default()
}

/// Records the resources of every case over time.
fn follow_all(session: &mut Session<'_>) -> Result<Vec<TimelineSummary>> {
    let done = session.folder.run().phase(PHASE).map_or(0, |record| record.done);
    let cases = session.plan.timelines.clone();
    let mut timelines = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let Some((mut summary, timeline, steps)) = follow(session, PHASE, case, done + index)?
        else {
            continue;
        };
        let stem = format!("timeline-{}", file_stem(&case.name));
        let chart = timeline_chart(
            &timeline,
            &steps,
            &format!("{}: resources over time", session.plan.target.name),
        );
        session.write(PHASE, &format!("{stem}.svg"), chart.as_bytes())?;
        session.write(PHASE, &format!("{stem}.json"), &super::csv::json(&timeline)?)?;
        summary.files = vec![format!("{stem}.svg"), format!("{stem}.json")];
        timelines.push(summary);
    }
    Ok(timelines)
}

/// Measures all sweeps as one campaign, so that a drift of the machine affects all sizes equally.
fn sweep_all<'p>(session: &mut Session<'p>) -> Vec<MeasuredSweep<'p>> {
    let plan = session.plan;
    let planned: Vec<Planned> =
        plan.sweeps.iter().flat_map(|sweep| sweep.planned.iter().cloned()).collect();
    let measurements = execute(session, &planned, 0);
    add_budget_notice(session, PHASE, &planned, &measurements);
    let mut measurements = measurements.into_iter();
    plan.sweeps
        .iter()
        .map(|sweep| {
            let measurements: Vec<Measurement> =
                measurements.by_ref().take(sweep.planned.len()).collect();
            let all: Vec<&Measurement> = measurements.iter().collect();
            let laws = laws(&all, &sweep.parameter, &sweep.arm)
                .into_iter()
                .filter(|(law, _)| is_shown(law))
                .collect();
            MeasuredSweep { sweep, measurements, laws }
        })
        .collect()
}

fn execute(session: &mut Session<'_>, planned: &[Planned], done_before: usize) -> Vec<Measurement> {
    let plan = session.plan;
    let commands = planned.iter().map(|_| &plan.target.command).collect();
    let observe = Observe::Resources;
    let mut executor = TargetExecutor { session, phase: PHASE, commands, observe, done_before };
    campaign::run(planned, plan.seed, &mut executor)
}

/// Returns true if a law is reported. Steps per second are omitted, because they are the inverse of
/// the time of a step.
fn is_shown(law: &Law) -> bool {
    law.metric != "steps_per_second"
}

fn write_samples(session: &mut Session<'_>, measured: &[MeasuredSweep<'_>]) -> Result<()> {
    for measured in measured {
        let stem = format!("scaling-{}", file_stem(&measured.sweep.name()));
        session.write(
            PHASE,
            &format!("{stem}.csv"),
            &super::csv::samples(&measured.measurements)?,
        )?;
        if let Some(laws) = readiness::time_laws(session, &measured.laws, measured.sweep) {
            let (law, fit) = laws.first;
            let chart = chart(measured, law, fit.as_ref(), &session.plan.target.name);
            session.write(PHASE, &format!("{stem}.svg"), scaling_chart(&chart).as_bytes())?;
        }
    }
    Ok(())
}

fn chart(
    measured: &MeasuredSweep<'_>,
    law: &Law,
    fit: Option<&ScalingFit>,
    target: &str,
) -> ScalingChart {
    let all: Vec<&Measurement> = measured.measurements.iter().collect();
    let to_ns =
        |(size, costs): (f64, Vec<f64>)| (size, costs.into_iter().map(|ms| ms * 1e6).collect());
    let points: Vec<(f64, Vec<f64>)> =
        sizes(&all, &law.parameter, &law.metric).into_iter().map(to_ns).collect();
    let fit = fit.filter(|_| law.exponent.is_some());
    ScalingChart {
        title: format!("{target}: {} against {}", law.subject(), law.parameter),
        subtitle: format!("{} runs, each in a fresh process", law.n),
        x_label: law.parameter.clone(),
        x_unit: Unit::Count,
        y_label: law.subject(),
        y_unit: Unit::DurationNs,
        series: vec![ScalingSeries {
            name: String::new(),
            points,
            law: fit.map(|fit| curve(law, fit)),
            no_law: law.inadequate.clone().unwrap_or_default(),
        }],
    }
}

/// Returns the curve of a law over the sizes that it is fitted to.
fn curve(law: &Law, fit: &ScalingFit) -> LawCurve {
    let (low, high) =
        (law.sizes.first().copied().unwrap_or(1.0), law.sizes.last().copied().unwrap_or(1.0));
    let at = |index: i32| low * (high / low).powf(f64::from(index) / 60.0);
    let curve = (0..=60).map(|index| (at(index), fit.chosen_law().at(at(index)) * 1e6)).collect();
    let label = match (law.exponent, law.exponent_interval) {
        (Some(exponent), Some([low, high])) => {
            let forms = law.forms();
            format!("{forms}; exponent {exponent:.2} (95 % interval {low:.2} to {high:.2})")
        }
        _ => law.forms(),
    };
    LawCurve { label, curve, band: vec![], extrapolated_from: None }
}

/// Predicts the wall time and the CPU time of a step at twice the largest size, measures them in runs of that size, and
/// compares. The more certain of the two comes first.
fn check(session: &mut Session<'_>, measured: &MeasuredSweep<'_>) -> Vec<Prediction> {
    let Some(laws) = readiness::time_laws(session, &measured.laws, measured.sweep) else {
        return Vec::new();
    };
    let Some(largest) = measured.sweep.planned.last() else { return Vec::new() };
    let mut predictions: Vec<Prediction> = std::iter::once(laws.first)
        .chain(laws.second)
        .filter_map(|fit| predict(session, fit, largest))
        .collect();
    let Some(time) = predictions.first() else { return predictions };
    let largest_time = largest_median(measured, &time.metric);
    let growth = largest_time.map_or(1.0, |largest| time.predicted / largest);
    let expected_s = expected_s(measured, growth);
    let expected = Duration::try_from_secs_f64(expected_s).unwrap_or(Duration::MAX);
    if expected_s > MAX_CHECK_S || session.budget.refusal(Some(expected)).is_some() {
        predictions.iter_mut().for_each(|one| one.verdict = PredictionVerdict::TooLong);
    } else {
        measure_predicted(session, largest, &mut predictions);
    }
    predictions
}

/// Returns the median of a metric at the largest size.
fn largest_median(measured: &MeasuredSweep<'_>, metric: &str) -> Option<f64> {
    let (law, _) = measured.laws.iter().find(|(law, _)| law.metric == metric)?;
    law.medians.last().copied()
}

/// Predicts the metric of a law at twice the largest size. Adds a notice if the data do not support that.
fn predict(
    session: &mut Session<'_>,
    (law, fit): &FittedLaw,
    largest: &Planned,
) -> Option<Prediction> {
    let size = law.sizes.last()? * CHECK_AT;
    match fit.as_ref()?.predict(size, largest.repeats, session.plan.seed) {
        Ok(predicted) => Some(Prediction {
            parameter: law.parameter.clone(),
            value: size,
            metric: law.metric.clone(),
            predicted: predicted.value,
            interval: [predicted.interval.lo, predicted.interval.hi],
            measured: None,
            verdict: PredictionVerdict::NotChecked,
        }),
        Err(refusal) => {
            let text =
                format!("No prediction of {} for {}={size}: {refusal}.", law.metric, law.parameter);
            session.notice(PHASE, Notice::new(NoticeId::PredictionRefused, text));
            None
        }
    }
}

/// Runs the target at the size of the predictions, which is the same for all.
fn measure_predicted(session: &mut Session<'_>, largest: &Planned, predictions: &mut [Prediction]) {
    let Some(Prediction { parameter, value: size, .. }) = predictions.first() else { return };
    let mut parameters = largest.parameters.clone();
    parameters.insert(parameter.clone(), number(*size));
    let planned =
        Planned { name: format!("check {parameter}={size}"), parameters, ..largest.clone() };
    session.plan_more(PHASE, planned.repeats);
    let done = session.folder.run().phase(PHASE).map_or(0, |record| record.done);
    let measured = execute(session, &[planned], done).remove(0);
    for prediction in predictions {
        let logs: Vec<f64> = measured
            .replicate_medians(&prediction.metric)
            .iter()
            .filter(|&&cost| cost > 0.0)
            .map(|cost| cost.ln())
            .collect();
        if logs.is_empty() {
            continue;
        }
        let mean = (logs.iter().sum::<f64>() / logs.len() as f64).exp();
        let held = (prediction.interval[0]..=prediction.interval[1]).contains(&mean);
        prediction.measured = Some(mean);
        prediction.verdict = if held { PredictionVerdict::Held } else { PredictionVerdict::Failed };
    }
}

/// Returns a size as the value of a parameter: an integer if it is one.
fn number(size: f64) -> Value {
    if size.fract() == 0.0 && size.abs() < 1e15 {
        Value::Integer(size as i64)
    } else {
        Value::Float(size)
    }
}

/// Returns the expected time of one run at the checked size, in seconds.
fn expected_s(measured: &MeasuredSweep<'_>, growth: f64) -> f64 {
    let walls = measured.measurements.iter().rev().map(|one| one.replicate_medians("wall_ms"));
    let walls = walls.into_iter().find(|walls| !walls.is_empty()).unwrap_or_default();
    walls.iter().copied().fold(0.0, f64::max) * growth.max(1.0) * 1e-3
}
