//! Phase 2: why the target is slow.

use std::collections::BTreeMap;

use anyhow::Result;
use simprof_measure::campaign;
use simprof_model::{Measurement, Phase, Status, Value};
use simprof_report::document::component_report;
use simprof_report::summary::{
    BenchmarkShape, CaseInput, ComponentCost, ComponentSummary, Head, InSitu, by_share,
    case_summary, component_summary, skipped_sizes,
};

use super::budget_notice::add_budget_notice;
use super::record::record;
use crate::campaign::TargetExecutor;
use crate::plan::{BenchmarkPlan, Case};
use crate::processes::Observe;
use crate::session::Session;
use crate::text::file_stem;

const PHASE: Phase = Phase::Component;

/// Measures every component benchmark. If the spec has none, takes the components' shares from the
/// recorded run.
///
/// # Errors
/// Returns an error if results cannot be written.
pub fn run(session: &mut Session<'_>) -> Result<()> {
    let summary =
        if session.plan.benchmarks.is_empty() { in_situ(session)? } else { benchmarks(session)? };
    session.write(PHASE, "phase2_summary.json", &super::csv::json(&summary)?)?;
    let report = component_report(&summary, &session.folder.run().machine);
    session.write(PHASE, "PHASE2_REPORT.md", report.as_bytes())?;
    session.evidence.component = Some(summary);
    Ok(())
}

fn head(session: &Session<'_>) -> Head {
    Head::new(
        session.folder.run(),
        session.folder.run().phase(PHASE).expect("the phase is planned"),
    )
}

fn benchmarks(session: &mut Session<'_>) -> Result<ComponentSummary> {
    let plans = session.plan.benchmarks.clone();
    session.begin(PHASE, session.plan.processes(PHASE))?;
    let planned: Vec<_> = plans.iter().flat_map(|plan| plan.planned.iter().cloned()).collect();
    let commands =
        plans.iter().flat_map(|plan| plan.planned.iter().map(|_| &plan.command)).collect();
    let seed = session.plan.seed;
    let mut executor = TargetExecutor {
        session,
        phase: PHASE,
        commands,
        observe: Observe::Nothing,
        done_before: 0,
    };
    let measurements = campaign::run(&planned, seed, &mut executor);
    add_budget_notice(session, PHASE, &planned, &measurements);
    write_samples(session, &measurements)?;
    let shapes = shapes(&plans, &measurements);
    let outcome =
        format!("{} points measured", measurements.iter().filter(|m| m.status.is_ok()).count());
    session.end(PHASE, &outcome)?;
    let mut summary = component_summary(head(session), &shapes);
    for notice in skipped_sizes(&summary.laws) {
        session.notice(PHASE, notice);
    }
    summary.head = head(session);
    Ok(summary)
}

/// Writes one CSV file for each component.
fn write_samples(session: &mut Session<'_>, measurements: &[Measurement]) -> Result<()> {
    let mut by_component: BTreeMap<&str, Vec<&Measurement>> = BTreeMap::new();
    for measurement in measurements {
        let component = measurement.component.as_deref().unwrap_or_default();
        by_component.entry(component).or_default().push(measurement);
    }
    for (component, measurements) in by_component {
        let bytes = super::csv::samples(measurements)?;
        session.write(PHASE, &format!("{}_profile.csv", file_stem(component)), &bytes)?;
    }
    Ok(())
}

/// Returns the measurements of each benchmark with its sweeps, arms and metric.
fn shapes<'a>(plans: &[BenchmarkPlan], measurements: &'a [Measurement]) -> Vec<BenchmarkShape<'a>> {
    let mut rest = measurements;
    plans
        .iter()
        .map(|plan| {
            let (own, others) = rest.split_at(plan.planned.len());
            rest = others;
            let benchmark = &plan.benchmark;
            let points = own.len() - usize::from(plan.has_control);
            BenchmarkShape {
                sweeps: benchmark.sweep.keys().cloned().collect(),
                arms: benchmark
                    .arms
                    .iter()
                    .filter_map(|(name, values)| {
                        let first: &Value = values.for_mode(simprof_model::Mode::Full).first()?;
                        Some((name.clone(), first.clone()))
                    })
                    .collect(),
                metric: benchmark.metric.clone(),
                same_answer: benchmark.same_answer,
                control: own.get(points),
                measurements: own[..points].iter().collect(),
            }
        })
        .collect()
}

/// What phase 2 answers if the spec has no benchmark.
const NO_BENCHMARK: &str = "How the cost of a component grows was not measured: the spec has no [[benchmark]]. \
    To measure it, write a program that times one operation with the Python module simprof_probe.bench or the header \
    simprof_bench.h (C, C++), and name it in simprof.toml (`simprof init` shows how).";

/// Returns the component shares of the run that phase 1 recorded, or of a run recorded here.
fn in_situ(session: &mut Session<'_>) -> Result<ComponentSummary> {
    session.begin(PHASE, 1)?;
    let (source, components) = match &session.evidence.macro_ {
        Some((summary, _)) => {
            let (status, reason) = recorded_before(session);
            let measurement = Measurement {
                name: "components in the recorded run".into(),
                component: None,
                operation: None,
                parameters: session.plan.target.defaults.clone(),
                status,
                reason,
                replicates: Vec::new(),
            };
            let result = ("phase 1's recording".to_owned(), summary.default.components.clone());
            session.keep(PHASE, &measurement, 1);
            repeat_step_notices(session);
            result
        }
        None => recorded_here(session)?,
    };
    session
        .end(PHASE, if components.is_empty() { "nothing was recorded" } else { "no benchmark" })?;
    let mut summary = component_summary(head(session), &[]);
    // Phase 1 has reported its shares itself.
    let largest = if session.evidence.macro_.is_none() { by_share(&components) } else { vec![] };
    let shares = largest.iter().take(3).map(|component| format!("{}.", component.statement()));
    summary.statements = shares.chain([NO_BENCHMARK.to_owned()]).collect();
    summary.in_situ = Some(InSitu { source, components });
    Ok(summary)
}

/// Adds phase 1's notices about steps, which also hold for the shares taken from its recording.
fn repeat_step_notices(session: &mut Session<'_>) {
    let record = session.folder.run().phase(Phase::Macro);
    let notices = record.map(|record| record.notices.clone()).unwrap_or_default();
    for notice in notices.into_iter().filter(|notice| notice.id.is_about_steps_as_specified()) {
        session.notice(PHASE, notice);
    }
}

/// Returns status and reason of phase 1's recording. The shares taken from it have the same status.
fn recorded_before(session: &Session<'_>) -> (Status, Option<String>) {
    let record = session.folder.run().phase(Phase::Macro);
    let first = record.and_then(|record| record.measurements.first());
    first.map_or((Status::Ok, None), |first| (first.status, first.reason.clone()))
}

fn recorded_here(session: &mut Session<'_>) -> Result<(String, Vec<ComponentCost>)> {
    let parameters = session.plan.target.defaults.clone();
    let case = Case { name: "default".into(), parameters };
    let recorded = record(session, PHASE, &case, 0)?;
    let components = recorded.profile.as_ref().map_or_else(Vec::new, |profile| {
        case_summary(&CaseInput {
            name: &case.name,
            profile,
            steps: &recorded.steps,
            wall_ns: &recorded.wall_ns,
            rules: &session.rules,
            counters: BTreeMap::new(),
            calls: None,
            is_machine_busy: session.is_machine_busy(),
        })
        .components
    });
    Ok(("a separate recording".to_owned(), components))
}
