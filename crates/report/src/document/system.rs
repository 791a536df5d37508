//! PHASE4_REPORT.md: scaling, resources and readiness of the whole program.

use std::fmt::Write;

use simprof_model::Machine;

use super::component::law_table;
use super::parts::{measurements, ms, notice_list, opening};
use crate::format;
use crate::markdown::{Align, Table, escape};
use crate::summary::{
    Check, Prediction, ReadinessVerdict, SystemSummary, TIMELINE_PREFIX, TimelineSummary,
};

/// Returns the report of phase 4.
pub fn system_report(summary: &SystemSummary, machine: &Machine) -> String {
    let title = "phase 4 (system), the impact";
    let mut text = opening(title, &summary.head, machine, &summary.statements);
    let _ = write!(text, "## Readiness\n\n{}\n", readiness(&summary.readiness));
    if summary.readiness.iter().any(|check| check.verdict == ReadinessVerdict::NotAsked) {
        text.push_str(
            "Only what `[readiness]` of the spec sets a limit for is judged, and growth of memory that is shown and \
             continues. To judge another figure, set its limit in simprof.toml.\n\n",
        );
    }
    let swept =
        summary.head.measurements.iter().any(|entry| !entry.name.starts_with(TIMELINE_PREFIX));
    if summary.laws.is_empty() && swept {
        text.push_str(
            "## How cost grows\n\nNo law could be fitted. A fit needs successful runs at three or more sizes, and sizes and \
             results must be numbers above zero. The measured values are in the `scaling-` files beside this one.\n\n",
        );
    } else if summary.laws.is_empty() {
        text.push_str(
            "## How cost grows\n\nNot measured: no parameter is swept. To sweep one, declare it in simprof.toml, such as \
             `agents = { default = 50, sweep = [10, 25, 50, 100, 200] }`, and write `{agents}` in the command.\n\n",
        );
    } else {
        let _ = write!(text, "## How cost grows\n\n{}\n", law_table(&summary.laws));
    }
    if !summary.predictions.is_empty() {
        let _ = write!(text, "## Predictions\n\n{}\n", predictions(&summary.predictions));
    }
    for timeline in &summary.timelines {
        text.push_str(&timeline_section(timeline));
    }
    text.push_str(&measurements(&summary.head));
    text
}

fn readiness(checks: &[Check]) -> Table {
    let mut table = Table::new(&[
        ("check", Align::Left),
        ("value (95 %)", Align::Right),
        ("limit for good", Align::Right),
        ("verdict", Align::Left),
        ("evidence", Align::Left),
    ]);
    for check in checks {
        let interval = check.interval.map_or_else(String::new, |[low, high]| {
            format!(" ({} to {})", format::three_digits(low), format::three_digits(high))
        });
        let value = check.value.map_or_else(|| "-".to_owned(), format::three_digits);
        table.row([
            check.check.clone(),
            value + &interval,
            check.threshold.map_or_else(|| "none".to_owned(), format::three_digits),
            check.result(),
            check.evidence.clone(),
        ]);
    }
    table
}

fn predictions(predictions: &[Prediction]) -> Table {
    let mut table = Table::new(&[
        ("at", Align::Left),
        ("metric", Align::Left),
        ("predicted (95 %)", Align::Right),
        ("measured", Align::Right),
        ("verdict", Align::Left),
    ]);
    for prediction in predictions {
        let shown = |number: f64| format::metric(&prediction.metric, number);
        let [low, high] = prediction.interval.map(shown);
        table.row([
            format!("{}={}", prediction.parameter, prediction.value),
            prediction.metric.clone(),
            format!("{} ({low} to {high})", shown(prediction.predicted)),
            prediction.measured.map_or_else(|| "-".to_owned(), shown),
            prediction.verdict.describe().to_owned(),
        ]);
    }
    table
}

fn timeline_section(timeline: &TimelineSummary) -> String {
    let mut text = format!("## Resources over time: {}\n\n", escape(&timeline.case));
    if let Some(chart) = timeline.files.iter().find(|file| file.ends_with(".svg")) {
        let _ = write!(text, "![resources over time]({})\n\n", escape(chart));
    }
    let rss: Vec<f64> = timeline.points.iter().map(|point| point.rss_bytes as f64).collect();
    let cpu: Vec<f64> = timeline.points.iter().map(|point| point.cpu_cores).collect();
    let _ = write!(
        text,
        "```text\ncores used  {}  mean {}\nmemory      {}  peak {}\n```\n\n",
        format::sparkline(&thin(&cpu)),
        format::three_digits(timeline.cpu_s / timeline.wall_s.max(f64::MIN_POSITIVE)),
        format::sparkline(&thin(&rss)),
        format::bytes(timeline.peak_rss_bytes as f64)
    );
    let _ = writeln!(text, "{}", resource_table(timeline));
    if !timeline.notices.is_empty() {
        let _ = writeln!(text, "{}", notice_list(&timeline.notices));
    }
    text
}

fn resource_table(timeline: &TimelineSummary) -> Table {
    let mut table = Table::new(&[("resource", Align::Left), ("", Align::Left)]);
    table.row(["wall time".to_owned(), format::duration_ns(timeline.wall_s * 1e9)]);
    table.row(["CPU time".to_owned(), format::duration_ns(timeline.cpu_s * 1e9)]);
    for (name, per_step) in [
        ("wall time per step", timeline.wall_ms_per_step),
        ("CPU time per step, all processes", timeline.cpu_ms_per_step),
    ] {
        if per_step.is_some() {
            table.row([name.to_owned(), ms(per_step)]);
        }
    }
    let cores: Vec<String> = timeline.core_busy.iter().map(|&busy| format::share(busy)).collect();
    table.row(["mean load of each core of the machine".to_owned(), cores.join(", ")]);
    table.row(["maximum number of threads".to_owned(), timeline.threads.to_string()]);
    let [minor, major] = timeline.page_faults.map(|count| format::count(count as f64));
    table.row(["page faults".to_owned(), format!("{minor} without I/O, {major} with I/O")]);
    let switches = timeline.context_switches.map(|count| format::count(count as f64));
    let [voluntary, involuntary] = switches;
    let switches = format!("{voluntary} voluntary, {involuntary} involuntary");
    table.row(["context switches".to_owned(), switches]);
    let io = timeline.io_bytes.map_or_else(
        || "not reported by the kernel".to_owned(),
        |bytes| {
            let [read, written] = bytes.map(|bytes| format::bytes(bytes as f64));
            format!("{read} read, {written} written")
        },
    );
    table.row(["storage".to_owned(), io]);
    if let Some(growth) = &timeline.growth {
        table.row([
            "memory growth".to_owned(),
            format!("{}: {}", growth.verdict.describe(), growth.evidence),
        ]);
    }
    table
}

/// Returns at most 60 values, each the largest of a stretch.
fn thin(values: &[f64]) -> Vec<f64> {
    let stretch = values.len().div_ceil(60).max(1);
    values.chunks(stretch).map(|chunk| chunk.iter().copied().fold(f64::MIN, f64::max)).collect()
}
