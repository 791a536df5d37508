//! PHASE2_REPORT.md: why it is slow.

use std::fmt::Write;

use simprof_model::Machine;

use super::macro_::components;
use super::parts::{measurements, opening, value};
use crate::format;
use crate::markdown::{Align, Table, escape, list};
use crate::summary::{Arm, ComponentSummary, Law};

/// The report of phase 2.
pub fn component_report(summary: &ComponentSummary, machine: &Machine) -> String {
    let title = "Phase 2, component: why it is slow";
    let mut text = opening(title, &summary.head, machine, &summary.statements);
    if let Some(in_situ) = &summary.in_situ {
        let _ = write!(
            text,
            "## Components in the recorded run\n\nFrom {}. Without component benchmarks the spec says nothing of \
             how a component grows by itself; `[[benchmark]]` in simprof.toml adds them.\n\n{}\n",
            escape(&in_situ.source),
            components(&in_situ.components)
        );
    }
    if !summary.laws.is_empty() {
        let _ = write!(text, "## How cost grows\n\n{}\n", law_table(&summary.laws));
        text.push_str(
            "An exponent of 1 doubles the cost when the parameter doubles, 2 quadruples it. Forms are those that the \
             data cannot tell apart, the best first. Each n is a fresh process.\n\n",
        );
    }
    if !summary.arms.is_empty() {
        let _ = write!(text, "## Configurations side by side\n\n{}\n", arm_table(&summary.arms));
        text.push_str(
            "Ratio is the arm's cost over the baseline's in pairs of fresh processes with the same seed (Hodges and \
             Lehmann), with its exact signed-rank interval. A verdict needs the interval to clear the margin; `same` \
             means that it lies within, and within 10 %.\n\n",
        );
    }
    controls(summary, &mut text);
    latencies(summary, &mut text);
    work(summary, &mut text);
    text.push_str(&measurements(&summary.head));
    if summary.in_situ.is_none() {
        text.push_str(
            "Raw samples: `COMPONENT_profile.csv` beside this file, one line for each sample of each process.\n",
        );
    }
    text
}

/// The table of laws; metrics of one process as a whole come after those that the target timed.
pub fn law_table(laws: &[Law]) -> Table {
    let mut table = Table::new(&[
        ("what", Align::Left),
        ("metric", Align::Left),
        ("over", Align::Left),
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
                format!("{} at {}", value(&law.metric, *median), format::count(*size))
            })
        };
        table.row([
            what(law),
            law.metric.clone(),
            law.parameter.clone(),
            exponent(law),
            forms(&law.models),
            end(Some(0)),
            end(law.medians.len().checked_sub(1)),
            law.n.to_string(),
        ]);
    }
    table
}

/// The best forms; where many are left, the data say little about the form.
fn forms(models: &[String]) -> String {
    match models {
        [first, second, rest @ ..] if rest.len() > 1 => {
            format!("{first}, {second} or {} more", rest.len())
        }
        _ => models.join(", "),
    }
}

fn what(law: &Law) -> String {
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
            format!("{}{inert}", arm.verdict),
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
        "## Control\n\n{table}\nThe baseline was run twice, interleaved like an arm. Verdicts above need to clear the \
         margin: the larger of 3 % and twice the half-width of this interval.\n\n"
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
