//! Phase 1: what is slow.

use std::fmt::Write;

use anyhow::Result;
use simprof_model::{Notice, NoticeId, Phase, Profile};
use simprof_report::analysis::split_run;
use simprof_report::document::macro_report;
use simprof_report::export::{EXPORTS, ExportInput};
use simprof_report::summary::{
    CaseInput, CaseSummary, FEW_SAMPLES, Head, MacroSummary, RunSteps, case_summary,
    leading_component,
};

use super::calls::{self, Calls};
use super::record::{Recorded, record};
use crate::plan::Case;
use crate::session::Session;
use crate::text::file_stem;

const PHASE: Phase = Phase::Macro;

/// Records every case, and writes tables, flame graphs and profiles.
///
/// # Errors
/// Returns an error if results cannot be written.
pub fn run(session: &mut Session<'_>) -> Result<()> {
    let cases = session.plan.cases.clone();
    session.begin(PHASE, cases.len())?;
    let mut summaries = Vec::new();
    let mut first = None;
    for (index, case) in cases.iter().enumerate() {
        let recorded = record(session, PHASE, case, index)?;
        let calls = if index == 0 { calls::count(session, case, &recorded)? } else { None };
        summaries.push(summarise(session, case, &recorded, calls.as_ref())?);
        if index == 0 {
            first = recorded.profile;
        }
    }
    let outcome = outcome(&summaries[0], session.rules.is_empty());
    session.end(PHASE, &outcome)?;
    let mut summaries = summaries.into_iter();
    let default = summaries.next().expect("the plan always has the default case");
    let head = Head::new(
        session.folder.run(),
        session.folder.run().phase(PHASE).expect("the phase is planned"),
    );
    let summary = MacroSummary { head, default, cases: summaries.collect() };
    session.write(PHASE, "phase1_summary.json", &super::csv::json(&summary)?)?;
    let report = macro_report(&summary, &session.folder.run().machine);
    session.write(PHASE, "PHASE1_REPORT.md", report.as_bytes())?;
    session.evidence.macro_ = first.map(|profile| (summary, profile));
    Ok(())
}

fn summarise(
    session: &mut Session<'_>,
    case: &Case,
    recorded: &Recorded,
    calls: Option<&Calls>,
) -> Result<CaseSummary> {
    let Some(profile) = &recorded.profile else {
        return Ok(CaseSummary { case: case.name.clone(), ..CaseSummary::default() });
    };
    let summary = case_summary(&CaseInput {
        name: &case.name,
        profile,
        steps: &recorded.steps,
        wall_ns: &recorded.wall_ns,
        rules: &session.rules,
        counters: recorded.counters.clone(),
        calls: calls.map(Calls::input),
        is_machine_busy: session.is_machine_busy(),
    });
    let folder =
        if case.name == "default" { String::new() } else { format!("{}/", file_stem(&case.name)) };
    write_profile(session, PHASE, &folder, profile, &recorded.steps)?;
    if let Some(calls) = calls {
        calls::write(session, calls, profile)?;
    }
    session.write(PHASE, &format!("{folder}steps.csv"), steps_csv(recorded).as_bytes())?;
    Ok(summary)
}

/// Writes a profile and all its exports.
///
/// # Errors
/// Returns an error if a file cannot be written.
pub fn write_profile(
    session: &mut Session<'_>,
    phase: Phase,
    folder: &str,
    profile: &Profile,
    steps: &[RunSteps],
) -> Result<()> {
    let split = split_run(profile, steps);
    let target = &session.plan.target.name;
    let input = ExportInput { profile, split: &split, target };
    for export in &EXPORTS {
        match export.to_bytes(&input) {
            Ok(bytes) => session.write(phase, &format!("{folder}{}", export.file_name), &bytes)?,
            Err(error) => {
                let text = format!("{} was not written: {error}.", export.file_name);
                session.notice(phase, Notice::new(NoticeId::ExportFailed, text));
            }
        }
    }
    session.write(phase, &format!("{folder}profile.json"), &serde_json::to_vec(profile)?)
}

fn steps_csv(recorded: &Recorded) -> String {
    let mut text = String::from("run,step,begin_ms,duration_ms,population\n");
    for (run, steps) in recorded.steps.iter().enumerate() {
        for step in &steps.steps.steps {
            let begin = step.begin_ns.saturating_sub(steps.start_ns) as f64 * 1e-6;
            let duration = step.duration_ns() as f64 * 1e-6;
            let population =
                step.population.map_or_else(String::new, |population| population.to_string());
            let _ = writeln!(text, "{run},{},{begin:.6},{duration:.6},{population}", step.index);
        }
    }
    text
}

fn outcome(summary: &CaseSummary, has_default_names: bool) -> String {
    let samples = summary.work_samples;
    let first = summary.bottlenecks.first();
    match (&summary.profile, leading_component(summary, has_default_names), first) {
        (Some(_), ..) if samples < FEW_SAMPLES => {
            let inside = if summary.steps.is_some() { " inside steps" } else { "" };
            format!("too few samples of the program's work{inside} ({samples})")
        }
        (Some(_), Some(first), _) => format!("{} ({samples} samples)", first.statement()),
        (Some(_), None, Some(first)) => {
            let share = simprof_report::format::share(first.share);
            format!("{} takes {share} of CPU time ({samples} samples)", first.name)
        }
        _ => "nothing was recorded".to_owned(),
    }
}
