//! PHASE3_REPORT.md: the source lines where the target is slow.

use std::fmt::Write;

use simprof_model::Machine;

use super::heap_section::memory_section;
use super::parts::{
    line_location, measurements, opening, recording, run_parts, share_with_interval, source, waits,
};
use crate::format;
use crate::markdown::{Align, Table, code, escape};
use crate::summary::{FunctionLines, LineCost, LineSummary, TimeShares};

/// Lines in the table of one function.
const SHOWN: usize = 12;
/// Lines of a loop in the hint.
const LOOP_LINES: usize = 4;

/// Returns the report of phase 3. `files` are the files about memory: name and description.
pub fn line_report(summary: &LineSummary, machine: &Machine, files: &[(String, String)]) -> String {
    let title = "phase 3 (line), where it is slow";
    let mut text = opening(title, &summary.head, machine, &summary.statements);
    text.push_str(&run_parts(&summary.parts));
    if !summary.lines.is_empty() {
        let _ = write!(text, "## Hottest lines\n\n{}\n", line_table(&summary.lines, true));
        text.push_str(
            "In this table a line's share includes the libraries that it calls, but no other function of the program, so \
             the shares of all lines sum to 100 %. Lines of an interpreter are not shown. In the tables of single functions \
             `with callees` includes everything that the line calls. `self` is the line alone, with code inlined into it; for \
             Python it includes native functions that the line runs.\n\n",
        );
    }
    let mut of_functions = summary.functions.iter().flat_map(|function| &function.lines);
    if summary.lines.iter().any(|line| line.in_loop.is_some())
        || of_functions.any(|line| line.in_loop.is_some())
    {
        text.push_str(
            "`loop` marks the lines of one tight loop, with code that is inlined there. The processor reports a sample some \
             instructions late, so samples do not distinguish these lines; `samples in the loop` is only a hint. Time in functions \
             that the loop calls is at the line of the call.\n\n",
        );
    }
    if !summary.waits.is_empty() {
        let _ = write!(text, "## Where threads wait\n\n{}\n", waits(&summary.waits));
    }
    for function in &summary.functions {
        text.push_str(&section(function));
    }
    if let Some(memory) = &summary.memory {
        text.push_str(&memory_section(memory, files));
    }
    if let Some(profile) = &summary.profile {
        text.push_str(&recording(profile));
    }
    text.push_str(&measurements(&summary.head));
    text
}

fn section(function: &FunctionLines) -> String {
    let mut text = format!("## {}\n\n", code(&function.name));
    let _ = write!(
        text,
        "{}; {} of CPU time",
        function.chosen_by.describe(),
        share_with_interval(function.total_share, function.interval)
    );
    if let Some(share) = function.phase1_share {
        let _ = write!(text, "; {} in the runs of phase 1", format::share(share));
    }
    if function.is_outside_work {
        text.push_str(
            "; it runs only outside of the program's work, so shares are of the whole run",
        );
    }
    text.push_str(".\n\n");
    if !function.followed.is_empty() {
        let chain: Vec<String> = function.followed.iter().map(|name| code(name)).collect();
        let _ = write!(
            text,
            "Wrappers were followed: {} → {}.\n\n",
            chain.join(" → "),
            code(&function.name)
        );
    }
    if let Some(time) = &function.time {
        let _ = write!(
            text,
            "Threads in this function and its callees spend {} per run, on a CPU or waiting: {}. The column `time` shows the \
             same for each line and its callees.\n\n",
            format::duration_ns(time.thread_s * 1e9),
            escape(&time.describe())
        );
    }
    if function.lines.is_empty() {
        let _ = write!(text, "{}\n\n", without_lines(function));
        return text;
    }
    let shown = &function.lines[..function.lines.len().min(SHOWN)];
    let _ = writeln!(text, "{}", line_table(shown, false));
    if let Some(file) = &function.annotated {
        let _ = write!(text, "Annotated source: [{}]({})\n\n", escape(file), escape(file));
    }
    text
}

/// Returns why a function has no lines, and what to do.
fn without_lines(function: &FunctionLines) -> String {
    if function.is_kernel {
        return "Functions of the kernel have no lines. The flame graph shows their callers."
            .to_owned();
    }
    let module = function.module.as_deref().map_or("Its module".to_owned(), code);
    format!(
        "{module} has no line information for it. Compile with `-g` (C, C++) or with `debug = \"limited\"` in the Cargo profile \
         (Rust)."
    )
}

fn line_table(lines: &[LineCost], ranked: bool) -> Table {
    let timed = lines.iter().any(|line| line.time.is_some());
    let loops = lines.iter().any(|line| line.in_loop.is_some());
    let allocates = lines.iter().any(|line| line.alloc_bytes.is_some_and(|bytes| bytes > 0));
    let mut columns = vec![
        (if ranked { "share (95 %)" } else { "with callees (95 %)" }, Align::Right),
        ("line", Align::Left),
        ("source", Align::Left),
    ];
    if ranked {
        columns.push(("function", Align::Left));
    } else {
        columns.insert(1, ("self", Align::Right));
        columns.push(("mostly in", Align::Left));
    }
    if loops {
        columns.push(("samples in the loop", Align::Left));
    }
    if allocates {
        columns.push(("allocated", Align::Right));
    }
    if timed {
        columns.push(("time", Align::Left));
    }
    let mut table = Table::new(&columns);
    for line in lines {
        let mut row = vec![
            share_with_interval(line.cpu_share, line.interval),
            code(&line_location(line)),
            source(line.text.as_deref()),
        ];
        if ranked {
            row.push(code(&line.function));
        } else {
            row.insert(1, line.self_share.map_or_else(String::new, format::share));
            let mostly = line.callees.first().or(line.natives.first());
            row.push(mostly.map(|callee| code(callee)).unwrap_or_default());
        }
        if loops {
            let found = line.in_loop.as_ref();
            row.push(found.map(|found| escape(&found.hint(LOOP_LINES))).unwrap_or_default());
        }
        if allocates {
            row.push(allocated_by(line));
        }
        if timed {
            row.push(line.time.as_ref().map(thread_time).unwrap_or_default());
        }
        table.markdown_row(row);
    }
    table
}

/// Returns `12 MiB, 4 MiB leaked`, or nothing if the line allocates nothing.
fn allocated_by(line: &LineCost) -> String {
    let bytes = |bytes: Option<u64>| {
        bytes.filter(|&bytes| bytes > 0).map(|bytes| format::bytes(bytes as f64))
    };
    match (bytes(line.alloc_bytes), bytes(line.leaked_bytes)) {
        (Some(allocated), Some(leaked)) => format!("{allocated}, {leaked} leaked"),
        (allocated, _) => allocated.unwrap_or_default(),
    }
}

/// Returns `3.2 s: 62 % interpreter, 38 % native`.
fn thread_time(time: &TimeShares) -> String {
    escape(&format!("{}: {}", format::duration_ns(time.thread_s * 1e9), time.describe()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u32, allocated: Option<u64>, leaked: Option<u64>) -> LineCost {
        LineCost {
            alloc_bytes: allocated,
            alloc_count: allocated.map(|_| 1),
            leaked_bytes: leaked,
            ..crate::testing::line_cost("sim::step", number)
        }
    }

    #[test]
    fn recorded_memory_stands_beside_time() {
        let lines = [line(3, Some(3 << 20), Some(1 << 10)), line(4, Some(512), Some(0))];
        let table = line_table(&lines, true).to_string();
        assert!(table.contains("3 MiB, 1 KiB leaked |"), "{table}");
        assert!(table.contains(" 512 B |"), "{table}");
        let table = line_table(&[line(3, None, None)], true).to_string();
        assert!(!table.contains("allocated"), "{table}");
    }
}
