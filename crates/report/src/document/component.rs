//! PHASE2_REPORT.md: why the target is slow.

use std::fmt::Write;

use simprof_model::Machine;

use super::macro_::components;
use super::parts::{measurements, opening};
use crate::format;
use crate::markdown::{Align, Table, escape, list};
use crate::summary::{Arm, ComponentSummary, Law};

/// Returns the report of phase 2.
pub fn component_report(summary: &ComponentSummary, machine: &Machine) -> String {
    let title = "phase 2 (component), why it is slow";
    let mut text = opening(title, &summary.head, machine, &summary.statements);
    if let Some(in_situ) = &summary.in_situ {
        let _ = write!(
            text,
            "## Components in the recorded run\n\nFrom {}. No component benchmark is configured, so how the cost of a single \
             component grows was not measured. To measure it, add a `[[benchmark]]` to simprof.toml.\n\n{}\n",
            escape(&in_situ.source),
            components(&in_situ.components)
        );
    }
    if !summary.laws.is_empty() {
        let _ = write!(text, "## How cost grows\n\n{}\n", law_table(&summary.laws));
        text.push_str(
            "If the parameter doubles, an exponent of 1 doubles the cost and an exponent of 2 quadruples it. `forms` lists \
             the forms of the law that fit the data equally well, the best first. `n` is the number of fresh processes.\n\n",
        );
    }
    if !summary.arms.is_empty() {
        let _ = write!(text, "## Configurations side by side\n\n{}\n", arm_table(&summary.arms));
        text.push_str(
            "`ratio` is the arm's cost divided by the baseline's, in pairs of fresh processes with the same seed \
             (Hodges-Lehmann estimate with its exact signed-rank interval). The verdict is `faster` or `slower` if the whole \
             interval is beyond the margin, `same` if it is within the margin and within 10 %, else `inconclusive`. An arm is \
             `inert` if neither its cost nor its work differs from the baseline's.\n\n",
        );
    }
    controls(summary, &mut text);
    latencies(summary, &mut text);
    work(summary, &mut text);
    text.push_str(&measurements(&summary.head));
    if summary.in_situ.is_none() {
        text.push_str(
            "Raw samples are in `COMPONENT_profile.csv` beside this file, one line per sample and process.\n",
        );
    }
    text
}

/// Returns the table of laws.
pub fn law_table(laws: &[Law]) -> Table {
    let mut table = Table::new(&[
        ("operation", Align::Left),
        ("metric", Align::Left),
        ("parameter", Align::Left),
        ("exponent (95 %)", Align::Right),
        ("forms", Align::Left),
        ("from", Align::Right),
        ("to", Align::Right),
        ("n", Align::Right),
    ]);
    for law in laws {
        let end = |index: Option<usize>| {
            let at = index.and_then(|index| Some((law.sizes.get(index)?, law.medians.get(index)?)));
            at.map_or_else(String::new, |(size, median)| {
                format!("{} at {}", format::metric(&law.metric, *median), format::count(*size))
            })
        };
        table.row([
            operation(law),
            law.metric.clone(),
            law.parameter.clone(),
            exponent(law),
            law.forms(),
            end(Some(0)),
            end(law.medians.len().checked_sub(1)),
            law.n.to_string(),
        ]);
    }
    table
}

/// Returns the operation and arm of a law: `spatial/nearby index=kdtree`.
fn operation(law: &Law) -> String {
    let name = match (&law.component, &law.operation) {
        (Some(component), Some(operation)) => format!("{component}/{operation}"),
        _ => "run".to_owned(),
    };
    if law.arm.is_empty() { name } else { format!("{name} {}", law.arm) }
}

fn exponent(law: &Law) -> String {
    match (&law.inadequate, law.exponent, law.exponent_interval) {
        (Some(reason), ..) => format!("cannot tell: {reason}"),
        (None, Some(exponent), Some([low, high])) => {
            format!("{exponent:.2} ({low:.2} to {high:.2})")
        }
        (None, Some(exponent), None) => format!("{exponent:.2} (no interval)"),
        (None, None, _) => "cannot tell".to_owned(),
    }
}

fn arm_table(arms: &[Arm]) -> Table {
    let mut table = Table::new(&[
        ("operation", Align::Left),
        ("at", Align::Left),
        ("arm", Align::Left),
        ("against", Align::Left),
        ("ratio (95 %)", Align::Right),
        ("verdict", Align::Left),
        ("pairs", Align::Right),
    ]);
    for arm in arms {
        let interval = arm.interval.map_or_else(
            || " (no interval)".to_owned(),
            |[low, high]| {
                format!(" ({} to {})", format::three_digits(low), format::three_digits(high))
            },
        );
        let ratio =
            arm.ratio.map_or_else(|| "-".to_owned(), |ratio| format::ratio(ratio) + &interval);
        let inert = if arm.inert { ", inert" } else { "" };
        table.row([
            format!("{}/{}", arm.component, arm.operation),
            arm.at.clone(),
            format!("{} {}", arm.parameter, arm.arm),
            arm.baseline.clone(),
            ratio,
            format!("{}{inert}", arm.verdict.name()),
            arm.n.to_string(),
        ]);
    }
    table
}

fn controls(summary: &ComponentSummary, text: &mut String) {
    if summary.controls.is_empty() {
        return;
    }
    let mut table = Table::new(&[
        ("operation", Align::Left),
        ("baseline against itself (95 %)", Align::Right),
        ("margin", Align::Right),
        ("pairs", Align::Right),
    ]);
    for control in &summary.controls {
        let interval = control.interval.map_or_else(String::new, |[low, high]| {
            format!(" ({} to {})", format::three_digits(low), format::three_digits(high))
        });
        table.row([
            control.operation.clone(),
            format::ratio(control.ratio) + &interval,
            format::share(control.margin),
            control.n.to_string(),
        ]);
    }
    let _ = write!(
        text,
        "## Control\n\n{table}\nThe baseline was also measured as if it were an arm, interleaved in the same way. Any \
         difference between the two is noise or bias. The verdicts `faster` and `slower` need a difference beyond the \
         margin: 3 %, or twice the half-width of this interval if that is larger.\n\n"
    );
}

fn latencies(summary: &ComponentSummary, text: &mut String) {
    if summary.latencies.is_empty() {
        return;
    }
    let mut table = Table::new(&[
        ("measurement", Align::Left),
        ("metric", Align::Left),
        ("p50", Align::Right),
        ("p95", Align::Right),
        ("p99", Align::Right),
    ]);
    for latency in &summary.latencies {
        table.row([
            latency.name.clone(),
            latency.metric.clone(),
            format::duration_ns(latency.p50_ns),
            format::duration_ns(latency.p95_ns),
            format::duration_ns(latency.p99_ns),
        ]);
    }
    let _ = write!(text, "## Latency of single operations\n\n{table}\n");
}

fn work(summary: &ComponentSummary, text: &mut String) {
    if summary.counters.is_empty() {
        return;
    }
    let lines = summary.counters.iter().map(|operation| {
        let counters: Vec<String> = operation
            .counters
            .iter()
            .map(|counter| {
                let (least, most) = (format::count(counter.least), format::count(counter.most));
                if least == most {
                    format!("{} {least}", counter.name)
                } else {
                    format!("{} {least} to {most}", counter.name)
                }
            })
            .collect();
        format!("{}: {}", operation.operation, counters.join(", "))
    });
    let _ = write!(text, "## Work done by one process\n\n{}\n", list(lines));
}
