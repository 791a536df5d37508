//! PHASE1_REPORT.md: what part of the target is slow.

use std::fmt::Write;

use simprof_model::{Machine, Notice};

use super::parts::{
    location, measurements, ms, opening, recording, run_parts, share_with_interval,
};
use crate::format;
use crate::markdown::{Align, Table, code, escape};
use crate::summary::{
    Bottleneck, CaseSummary, ComponentCost, FunctionSummary, MacroSummary, StepSummary,
};

/// Functions in the table by total time; the JSON summary has all.
const SHOWN: usize = 40;
/// Functions in the table by self time.
const SHOWN_BY_SELF: usize = 10;

/// Returns the report of phase 1.
pub fn macro_report(summary: &MacroSummary, machine: &Machine) -> String {
    let statements = &summary.default.statements;
    let mut text = opening("phase 1 (macro), what is slow", &summary.head, machine, statements);
    let notices = &summary.head.notices;
    text.push_str(&case(&summary.default, notices));
    for extra in &summary.cases {
        let _ = write!(text, "# Case {}\n\n", escape(&extra.case));
        text.push_str(&crate::markdown::list(&extra.statements));
        let _ = write!(text, "\n{}", case(extra, notices));
    }
    text.push_str(&measurements(&summary.head));
    if summary.default.profile.is_some() {
        text.push_str(
            "Other files in this folder: `flamegraph.svg` (open it in a browser), `profile.speedscope.json` (for \
             speedscope.app), `profile.folded` (folded stacks), `profile.json` (all samples), `steps.csv` (all steps), \
             `phase1_summary.json` (this report as data).\n",
        );
    }
    text
}

fn case(case: &CaseSummary, notices: &[Notice]) -> String {
    let mut text = String::new();
    let Some(profile) = &case.profile else { return text };
    text.push_str(&run_parts(&case.parts));
    text.push_str(&top(&case.bottlenecks));
    let _ = write!(text, "## Components\n\n{}\n", components(&case.components));
    text.push_str(&super::threads::threads(case));
    text.push_str(&steps(case, notices));
    if !case.counters.is_empty() {
        let _ = write!(text, "## Work done per run\n\n{}\n", counters(case));
    }
    text.push_str(&by_self_time(case));
    text.push_str(&by_total_time(case));
    text.push_str(&case.calls.as_ref().map(super::calls::calls).unwrap_or_default());
    text.push_str(&recording(profile));
    text
}

/// Name of the column that tables omit without steps.
const PER_STEP: &str = "CPU time per step";

/// Returns the section on the functions to look at first; empty if there are none.
fn top(found: &[Bottleneck]) -> String {
    if found.is_empty() {
        return String::new();
    }
    let title = match found.len() {
        1 => "The top bottleneck".to_owned(),
        many => format!("Top {many} bottlenecks"),
    };
    format!(
        "## {title}\n\n{}\n`share` is the CPU time in the function and in the libraries and the kernel that it calls, but not in other \
         functions of the program; over all functions it sums to 100 %. `self` is the time in the function alone, `with \
         callees` includes everything that it calls. `heaviest callee` is a library function: \
         each call on the path to it takes at least half of its caller's time. `component` shows the components that the share \
         belongs to.\n\n",
        bottlenecks(found)
    )
}

fn steps(case: &CaseSummary, notices: &[Notice]) -> String {
    let is_explained = notices.iter().any(|notice| notice.id.is_about_steps_as_specified());
    match &case.steps {
        Some(steps) => format!("## Steps\n\n{}\n", step_table(steps)),
        None if is_explained => {
            "## Steps\n\nThere are no times per step. `Read this first` says why.\n\n".to_owned()
        }
        None => "## Steps\n\nThe target marks no steps, so there are no times per step. To mark steps, use the \
                 simprof-probe crate, simprof_probe.h or the Python module simprof_probe; or name a Python function in \
                 simprof.toml, `step = \"sim.model:Model.step\"`, or a pattern of the output, \
                 `step = { output = \"^step (\\\\d+)\" }`.\n\n"
            .to_owned(),
    }
}

/// Returns the section on the functions that run longest themselves, whoever wrote them.
fn by_self_time(case: &CaseSummary) -> String {
    let is_shown = |function: &&FunctionSummary| !function.interpreter && function.self_share > 0.0;
    let mut found: Vec<&FunctionSummary> = case.functions.iter().filter(is_shown).collect();
    found.sort_by(|a, b| b.self_share.total_cmp(&a.self_share));
    found.truncate(SHOWN_BY_SELF);
    if found.is_empty() {
        return String::new();
    }
    format!("## Functions by self time\n\n{}\n", functions(case, &found))
}

fn by_total_time(case: &CaseSummary) -> String {
    let shown = case.functions.iter().filter(|function| !function.interpreter).take(SHOWN);
    let shown: Vec<&FunctionSummary> = shown.collect();
    let mut text = format!("## Functions by total time\n\n{}\n", functions(case, &shown));
    if case.functions.iter().any(|function| function.interpreter) {
        text.push_str(
            "The tables omit the interpreter's own functions; they are in `phase1_summary.json` and in the flame graph.\n\n",
        );
    }
    let uncounted = if case.calls.is_none() { " Sampling does not count calls." } else { "" };
    let _ = writeln!(
        text,
        "One run takes {} of wall time and {} of CPU time.{uncounted}\n",
        format::duration_ns(case.wall_s * 1e9),
        format::duration_ns(case.cpu_s * 1e9)
    );
    text
}

fn bottlenecks(found: &[Bottleneck]) -> Table {
    let mut table = Table::new(&[
        ("#", Align::Right),
        ("function", Align::Left),
        ("component", Align::Left),
        ("share (95 %)", Align::Right),
        ("self", Align::Right),
        ("with callees", Align::Right),
        (PER_STEP, Align::Right),
        ("location", Align::Left),
        ("heaviest callee", Align::Left),
    ]);
    for found in found {
        let callee = found.heaviest_callee.as_ref();
        let callee = callee.map(|inner| format!("{} ({})", inner.name, format::share(inner.share)));
        table.markdown_row([
            found.rank.to_string(),
            code(&found.name),
            escape(&found.component_parts()),
            share_with_interval(found.share, found.interval),
            format::share(found.self_share),
            format::share(found.total_share),
            ms(found.ms_per_step),
            code(&location(found.file.as_deref(), found.line)),
            callee.map(|callee| code(&callee)).unwrap_or_default(),
        ]);
    }
    table.without_unknown(PER_STEP)
}

/// Returns the table of component shares.
pub fn components(costs: &[ComponentCost]) -> Table {
    let mut table = Table::new(&[
        ("component", Align::Left),
        ("share (95 %)", Align::Right),
        (PER_STEP, Align::Right),
        ("", Align::Left),
    ]);
    for cost in costs {
        table.row([
            cost.name.clone(),
            share_with_interval(cost.share, cost.interval),
            ms(cost.cpu_ms_per_step),
            format::bar(cost.share, 20),
        ]);
    }
    table.without_unknown(PER_STEP)
}

fn step_table(steps: &StepSummary) -> Table {
    let mut table = Table::new(&[("steps", Align::Left), ("", Align::Right)]);
    let source =
        if steps.source.is_empty() { String::new() } else { format!(" (from {})", steps.source) };
    table.row(["recorded".to_owned(), format!("{}{source}", steps.count)]);
    table.row(["per second".to_owned(), format::count(steps.per_second)]);
    let [low, high] = steps.cpu_ms_per_step_interval.map(|bound| ms(Some(bound)));
    let cpu = format!("{} ({low} to {high})", ms(Some(steps.cpu_ms_per_step)));
    table.row(["CPU time per step, all processes (95 %)".to_owned(), cpu]);
    for (name, value) in [
        ("wall time of a step: mean", steps.wall_ms_per_step),
        ("median", steps.p50_ms),
        ("p95", steps.p95_ms),
        ("p99", steps.p99_ms),
    ] {
        table.row([name.to_owned(), ms(Some(value))]);
    }
    table.row(["warm-up".to_owned(), format!("{} steps", steps.warm_up)]);
    table.row(["wall time before the first step".to_owned(), ms(Some(steps.set_up_ms))]);
    table
}

fn counters(case: &CaseSummary) -> Table {
    let mut table = Table::new(&[("counter", Align::Left), ("per run", Align::Right)]);
    for (name, &value) in &case.counters {
        table.row([name.clone(), format::count(value)]);
    }
    table
}

fn functions(case: &CaseSummary, shown: &[&FunctionSummary]) -> Table {
    let mut columns = vec![
        ("total", Align::Right),
        ("self", Align::Right),
        (PER_STEP, Align::Right),
        ("calls", Align::Right),
        ("function", Align::Left),
        ("location", Align::Left),
    ];
    if case.calls.is_none() {
        columns.retain(|(name, _)| *name != "calls");
    }
    let mut table = Table::new(&columns);
    for function in shown {
        let calls = function.calls.map_or_else(String::new, |calls| format::count(calls as f64));
        let calls = case.calls.is_some().then_some(calls);
        let numbers = [
            format::share(function.total_share),
            format::share(function.self_share),
            ms(function.ms_per_step),
        ];
        let names =
            [code(&function.name), code(&location(function.file.as_deref(), function.line))];
        table.markdown_row(numbers.into_iter().chain(calls).chain(names));
    }
    table.without_unknown(PER_STEP)
}
