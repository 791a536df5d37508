//! PHASE1_REPORT.md: what is slow.

use std::fmt::Write;

use simprof_model::Machine;

use super::parts::{measurements, ms, opening, place, recording, share_with_interval, waits};
use crate::format;
use crate::markdown::{Align, Table, code, escape};
use crate::summary::{
    Bottleneck, CaseSummary, ComponentCost, MacroSummary, StepSummary, TimeShares, cause_name,
};

/// Functions shown in the table; the summary has all.
const SHOWN: usize = 40;

/// The report of phase 1.
pub fn macro_report(summary: &MacroSummary, machine: &Machine) -> String {
    let statements = &summary.default.statements;
    let mut text = opening("Phase 1, macro: what is slow", &summary.head, machine, statements);
    text.push_str(&case(&summary.default));
    for extra in &summary.cases {
        let _ = write!(text, "# Case {}\n\n", escape(&extra.case));
        text.push_str(&crate::markdown::list(&extra.statements));
        let _ = write!(text, "\n{}", case(extra));
    }
    text.push_str(&measurements(&summary.head));
    if summary.default.profile.is_some() {
        text.push_str(
            "Files beside this one: `flamegraph.svg` (open in a browser), `profile.speedscope.json` \
             (speedscope.app), `profile.folded`, `profile.json` (all samples), `steps.csv`, \
             `phase1_summary.json`.\n",
        );
    }
    text
}

fn case(case: &CaseSummary) -> String {
    let mut text = String::new();
    let Some(profile) = &case.profile else { return text };
    let _ = write!(
        text,
        "## Top {} bottlenecks\n\n{}\n",
        case.bottlenecks.len(),
        bottlenecks(&case.bottlenecks)
    );
    text.push_str(
        "Share is time in the function and in the libraries and the kernel that it calls, but not in other functions \
         of this program; over all functions it sums to 100 %.\n\n",
    );
    let _ = write!(text, "## Components\n\n{}\n", components(&case.components));
    if let Some(time) = &case.thread_time {
        let _ = write!(text, "## What threads do\n\n{}\n", thread_table(time));
        text.push_str(THREAD_TIME);
    }
    if !case.waits.is_empty() {
        let _ = write!(text, "## Where threads wait\n\n{}\n", waits(&case.waits));
        text.push_str(
            "A wait stands on the line of this program nearest to it, for whatever it called to wait. Only threads that \
             run Python are here.\n\n",
        );
    }
    text.push_str(&steps(case));
    if !case.counters.is_empty() {
        let _ = write!(text, "## Work done in one run\n\n{}\n", counters(case));
    }
    text.push_str(&by_total_time(case));
    text.push_str(&case.calls.as_ref().map(super::calls::calls).unwrap_or_default());
    text.push_str(&recording(profile));
    text
}

fn steps(case: &CaseSummary) -> String {
    match &case.steps {
        Some(steps) => format!("## Steps\n\n{}\n", step_table(steps)),
        None => "## Steps\n\nThe target marks no steps, so figures are shares and not per step. Mark them with the \
                 simprof-probe crate, simprof_probe.h or the Python module simprof_probe, name a Python function: \
                 `step = \"sim.model:Model.step\"`, or a pattern: `step = { output = \"^step (\\\\d+)\" }`.\n\n"
            .to_owned(),
    }
}

fn by_total_time(case: &CaseSummary) -> String {
    let mut text = format!("## Functions by total time\n\n{}\n", functions(case));
    if case.functions.iter().any(|function| function.interpreter) {
        text.push_str(
            "The interpreter's own functions are not in the table; they are in `phase1_summary.json` and in the flame \
             graph.\n\n",
        );
    }
    let uncounted = if case.calls.is_none() { " Calls are not counted by sampling." } else { "" };
    let _ = writeln!(
        text,
        "One run takes {} of wall time and {} of CPU time.{uncounted}\n",
        format::duration_ns(case.wall_s * 1e9),
        format::duration_ns(case.cpu_s * 1e9)
    );
    text
}

/// What the table of threads' time means.
const THREAD_TIME: &str = "Of the time of all threads that were seen, CPU time and waiting together. In the interpreter: bytecode, and \
    the functions that the interpreter itself is made of. Native code: compiled modules and libraries, with what the C library \
    does for them. Waiting by other threads than Python's is not seen. Time in which a thread is ready but other programs have the \
    CPUs is in none of the parts, so on a busy machine they sum to less than the run takes.\n\n";

fn thread_table(time: &TimeShares) -> Table {
    let mut table = Table::new(&[
        ("", Align::Left),
        ("share", Align::Right),
        ("in one run", Align::Right),
        ("", Align::Left),
    ]);
    let mut row = |name: &str, share: f64| {
        let seconds = format::duration_ns(share * time.thread_s * 1e9);
        table.row([name, &format::share(share), &seconds, &format::bar(share, 20)]);
    };
    row("in the interpreter", time.interpreter_share);
    row("in native code", time.native_share);
    row("waiting for the interpreter (GIL)", time.gil_share);
    for part in &time.causes {
        row(&format!("waiting: {}", cause_name(part.cause)), part.share);
    }
    table
}

fn bottlenecks(found: &[Bottleneck]) -> Table {
    let mut table = Table::new(&[
        ("#", Align::Right),
        ("function", Align::Left),
        ("component", Align::Left),
        ("share (95 %)", Align::Right),
        ("itself", Align::Right),
        ("with callees", Align::Right),
        ("per step", Align::Right),
        ("where", Align::Left),
    ]);
    for found in found {
        table.markdown_row([
            found.rank.to_string(),
            code(&found.name),
            escape(&found.component),
            share_with_interval(found.share, found.interval),
            format::share(found.self_share),
            format::share(found.total_share),
            ms(found.ms_per_step),
            code(&place(found.file.as_deref(), found.line)),
        ]);
    }
    table
}

/// The table of component shares.
pub fn components(costs: &[ComponentCost]) -> Table {
    let mut table = Table::new(&[
        ("component", Align::Left),
        ("share (95 %)", Align::Right),
        ("per step", Align::Right),
        ("", Align::Left),
    ]);
    for cost in costs {
        table.row([
            cost.name.clone(),
            share_with_interval(cost.share, cost.interval),
            ms(cost.ms_per_step),
            format::bar(cost.share, 20),
        ]);
    }
    table
}

fn step_table(steps: &StepSummary) -> Table {
    let mut table = Table::new(&[("steps", Align::Left), ("", Align::Right)]);
    let from =
        if steps.source.is_empty() { String::new() } else { format!(" (by {})", steps.source) };
    table.row(["seen".to_owned(), format!("{}{from}", steps.count)]);
    table.row(["per second".to_owned(), format::count(steps.per_second)]);
    for (name, figure) in [("p50", steps.p50_ms), ("p95", steps.p95_ms), ("p99", steps.p99_ms)] {
        table.row([name.to_owned(), ms(Some(figure))]);
    }
    table.row(["warm-up".to_owned(), format!("{} steps", steps.warm_up)]);
    table.row(["set-up before the first".to_owned(), ms(Some(steps.set_up_ms))]);
    table
}

fn counters(case: &CaseSummary) -> Table {
    let mut table = Table::new(&[("counter", Align::Left), ("in one run", Align::Right)]);
    for (name, &value) in &case.counters {
        table.row([name.clone(), format::count(value)]);
    }
    table
}

fn functions(case: &CaseSummary) -> Table {
    let mut columns = vec![
        ("total", Align::Right),
        ("self", Align::Right),
        ("per step", Align::Right),
        ("calls", Align::Right),
        ("function", Align::Left),
        ("where", Align::Left),
    ];
    if case.calls.is_none() {
        columns.retain(|(name, _)| *name != "calls");
    }
    let mut table = Table::new(&columns);
    for function in case.functions.iter().filter(|function| !function.interpreter).take(SHOWN) {
        let calls = function.calls.map_or_else(String::new, |calls| format::count(calls as f64));
        let calls = case.calls.is_some().then_some(calls);
        let figures = [
            format::share(function.total_share),
            format::share(function.self_share),
            ms(function.ms_per_step),
        ];
        let names = [code(&function.name), code(&place(function.file.as_deref(), function.line))];
        table.markdown_row(figures.into_iter().chain(calls).chain(names));
    }
    table
}
