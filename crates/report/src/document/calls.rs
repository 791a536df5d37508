//! The section of phase 1's report on calls.

use std::fmt::Write;

use super::parts::location;
use crate::format;
use crate::markdown::{Align, Table, code, list};
use crate::summary::{CallRow, CallsSummary};

/// Functions in the table, besides those whose traced time is distorted; the JSON summary has all.
const SHOWN: usize = 25;

/// Returns the section with the calls of each function, and its traced and sampled share.
pub fn calls(summary: &CallsSummary) -> String {
    let mut text = format!(
        "## Calls\n\nCalls were counted in a separate run under the interpreter's tracer, which took {} as long as a sampled \
         run: {} calls in {}.\n\n\
         The table lists Python functions. A function's time is wall time: it includes waiting, and the functions written in C \
         that it calls directly. Shares are of the time in all Python functions. The traced share is the tracer's, the sampled \
         share is from the samples and waits. A ratio of the two above 1.5 or below 1/1.5 is marked `!` if chance does not explain it; the traced share \
         is then wrong. Functions below 1 % in both shares and functions of Python's standard library are not marked.\n\n",
        format::ratio(summary.slowdown),
        format::count(summary.calls as f64),
        if summary.processes == 1 {
            "1 process".to_owned()
        } else {
            format!("{} processes", summary.processes)
        },
    );
    if !summary.statements.is_empty() {
        let _ = writeln!(text, "{}", list(&summary.statements));
    }
    let _ = writeln!(text, "{}", table(&summary.functions));
    text
}

fn table(rows: &[CallRow]) -> Table {
    let mut table = Table::new(&[
        ("calls", Align::Right),
        ("per step", Align::Right),
        ("sampled (95 %)", Align::Right),
        ("traced", Align::Right),
        ("ratio", Align::Right),
        ("function", Align::Left),
        ("location", Align::Left),
    ]);
    let shown = rows.iter().enumerate().filter(|(at, row)| *at < SHOWN || row.distorted);
    for (_, row) in shown {
        let ratio = row.distortion.map_or("-".to_owned(), format::ratio);
        let mark = if row.distorted { " !" } else { "" };
        table.markdown_row([
            format::count(row.calls as f64),
            row.calls_per_step.map_or_else(String::new, format::count),
            super::parts::share_with_interval(row.sampled_share, row.sampled_interval),
            row.traced_share.map_or("-".to_owned(), format::share),
            format!("{ratio}{mark}"),
            code(&row.function),
            code(&location(Some(&row.file), Some(row.line))),
        ]);
    }
    table
}
