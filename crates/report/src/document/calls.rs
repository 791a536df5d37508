//! The part of phase 1's report that counts calls.

use std::fmt::Write;

use super::parts::place;
use crate::format;
use crate::markdown::{Align, Table, code, list};
use crate::summary::{CallRow, CallsSummary};

/// Functions shown in the table, and those where the tracer misleads; the summary has all.
const SHOWN: usize = 25;

/// Calls and both shares of each function.
pub fn calls(summary: &CallsSummary) -> String {
    let mut text = format!(
        "## Calls\n\nCounted in a run of its own under the interpreter's tracer, which made it {} as long as a sampled run: {} calls \
         in {}. The table has Python functions, each with the functions written in C that it calls itself; shares are of \
         the time in all of them. The two shares of a function are its time as the tracer has it and as samples \
         have it; a ratio above 1.5 or below 1/1.5 that chance does not explain is marked !, where the function has 1 % by either and is not of Python's \
         own library, and there the tracer is not to be believed. \
         It measures wall time, samples CPU time: what waits differs for that alone.\n\n",
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
        ("where", Align::Left),
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
            code(&place(Some(&row.file), Some(row.line))),
        ]);
    }
    table
}
