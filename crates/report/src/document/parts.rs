//! What the reports have in common.

use std::fmt::Write;

use simprof_model::{Machine, Notice, PythonProvenance, Status};

use crate::format;
use crate::markdown::{Align, Table, code, escape, list};
use crate::summary::{Bounds, Head, ProfileSummary, WaitingLine, cause_name};

/// A source line for a column; empty where there is none.
pub fn source(text: Option<&str>) -> String {
    let text = format::quoted_line(text.unwrap_or_default());
    if text.is_empty() { String::new() } else { code(&text) }
}

/// Title, status, target, machine, results and notices.
pub fn opening(title: &str, head: &Head, machine: &Machine, statements: &[String]) -> String {
    let mut text = format!("# {title}\n\n");
    let _ = writeln!(
        text,
        "{} ({} run): **{}**\n",
        code(&head.command.join(" ")),
        if head.mode == simprof_model::Mode::Quick { "quick" } else { "full" },
        head.status
    );
    text.push_str("## Results\n\n");
    if statements.is_empty() {
        text.push_str(
            "Nothing was measured that a result could be drawn from; the reasons are below.\n",
        );
    } else {
        text.push_str(&list(statements));
    }
    text.push('\n');
    if !head.notices.is_empty() {
        let _ = write!(text, "## Read this first\n\n{}\n", notice_list(&head.notices));
    }
    let _ = write!(text, "{}", machine_line(machine));
    text
}

/// The notices as a Markdown list.
pub fn notice_list(notices: &[Notice]) -> String {
    let texts: Vec<&str> = notices.iter().map(|notice| notice.text.as_str()).collect();
    list(&texts)
}

fn machine_line(machine: &Machine) -> String {
    let virtual_ =
        machine.hypervisor.as_ref().map_or_else(String::new, |name| format!(", virtual ({name})"));
    let mut text = format!(
        "Machine: {}, {} cores, {}, Linux {}{}.\n\n",
        escape(&machine.cpu),
        machine.cores,
        format::bytes(machine.memory_bytes as f64),
        escape(&machine.kernel),
        escape(&virtual_)
    );
    if !machine.notices.is_empty() {
        text.push_str(&notice_list(&machine.notices));
        text.push('\n');
    }
    text
}

/// Every planned measurement that did not end well; a sentence where all did.
pub fn measurements(head: &Head) -> String {
    let mut text = String::from("## Measurements\n\n");
    let count =
        |status: Status| head.measurements.iter().filter(|entry| entry.status == status).count();
    let parts: Vec<String> =
        [Status::Ok, Status::Partial, Status::Failed, Status::TimedOut, Status::Skipped]
            .into_iter()
            .filter(|&status| count(status) > 0)
            .map(|status| format!("{} {status}", count(status)))
            .collect();
    let _ = writeln!(text, "{} planned: {}.\n", head.measurements.len(), parts.join(", "));
    let mut table = Table::new(&[
        ("measurement", Align::Left),
        ("status", Align::Left),
        ("reason", Align::Left),
    ]);
    for entry in head.measurements.iter().filter(|entry| !entry.status.is_ok()) {
        table.row([
            entry.name.clone(),
            entry.status.to_string(),
            entry.reason.clone().unwrap_or_default(),
        ]);
    }
    if !table.is_empty() {
        let _ = writeln!(text, "{table}");
    }
    text
}

/// How a profile was recorded and what it lacks.
pub fn recording(profile: &ProfileSummary) -> String {
    let part = |count: u64| {
        format!("{count} ({})", format::share(count as f64 / profile.samples.max(1) as f64))
    };
    let mut table = Table::new(&[("recording", Align::Left), ("", Align::Left)]);
    let kernel = if profile.kernel { "with kernel frames" } else { "user code only" };
    table.row(["event", &format!("{}, {kernel}", profile.event)]);
    table.row([
        "rate",
        &format!("{:.0} Hz asked, {:.0} Hz achieved", profile.rate_hz, profile.achieved_hz),
    ]);
    table.row(["samples", &format!("{} from {} runs", profile.samples, profile.runs)]);
    table.row(["lost", &part(profile.lost)]);
    table.row(["stack cut short", &part(profile.truncated)]);
    table.row(["leaf without symbol", &part(profile.unsymbolised)]);
    let own = format!("{} of the target's CPU time", format::share(profile.recorder_cpu_share));
    table.row(["recorder's own CPU", &own]);
    if let Some(python) = &profile.python {
        python_rows(&mut table, python);
    }
    let mut text = format!("## Recording\n\n{table}\n");
    if !profile.fallbacks.is_empty() {
        let _ = write!(text, "Tried first:\n\n{}\n", list(&profile.fallbacks));
    }
    text
}

/// How Python frames were obtained, and what they lack.
fn python_rows(table: &mut Table, python: &PythonProvenance) {
    let part = |count: u64| {
        format!("{count} ({})", format::share(count as f64 / python.samples.max(1) as f64))
    };
    let interpreters = match python.interpreters.as_slice() {
        [] => "none that could be read".to_owned(),
        known => known.join(", "),
    };
    table.row(["Python", &interpreters]);
    table.row(["samples with Python frames asked for", &python.samples.to_string()]);
    table.row(["of threads that run no Python", &part(python.native)]);
    table.row(["Python stack lost", &part(python.lost)]);
    table.row(["a Python frame unreadable", &part(python.unreadable)]);
    table.row(["Python stack cut short", &part(python.cut)]);
    table.row(["native frames unplaced", &part(python.unmerged)]);
    table.row(["recorder's own work in the target, left out", &part(python.own)]);
}

/// The lines where threads wait.
pub fn waits(lines: &[WaitingLine]) -> Table {
    let mut table = Table::new(&[
        ("share of threads' time", Align::Right),
        ("in one run", Align::Right),
        ("for", Align::Left),
        ("line", Align::Left),
        ("function", Align::Left),
    ]);
    for line in lines {
        table.markdown_row([
            format::share(line.share),
            format::duration_ns(line.wait_s * 1e9),
            escape(cause_name(line.cause)),
            code(&place(line.file.as_deref(), line.line)),
            code(&line.function),
        ]);
    }
    table
}

/// `61.2 % (59.8 to 62.5)`.
pub fn share_with_interval(share: f64, interval: Bounds) -> String {
    let percent = |share: f64| format::share(share).replace(" %", "");
    format!("{} ({} to {})", format::share(share), percent(interval[0]), percent(interval[1]))
}

/// ms as a duration, or `-`.
pub fn ms(ms: Option<f64>) -> String {
    ms.map_or_else(|| "-".to_owned(), |ms| format::duration_ns(ms * 1e6))
}

/// `file.rs:12` with the last two parts of the path, or `-`.
pub fn place(file: Option<&str>, line: Option<u32>) -> String {
    let Some(file) = file else { return "-".to_owned() };
    let short: Vec<&str> = file.rsplit('/').take(2).collect();
    let short: Vec<&str> = short.into_iter().rev().collect();
    line.map_or_else(|| short.join("/"), |line| format!("{}:{line}", short.join("/")))
}

/// A value of a metric in the unit that its name ends in.
pub fn value(metric: &str, value: f64) -> String {
    let unit = metric.rsplit('_').next().unwrap_or_default();
    match unit {
        "ns" => format::duration_ns(value),
        "us" => format::duration_ns(value * 1e3),
        "ms" => format::duration_ns(value * 1e6),
        "s" => format::duration_ns(value * 1e9),
        "bytes" => format::bytes(value),
        "share" => format::share(value),
        _ => format::three_digits(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_in_the_unit_of_their_name() {
        for (metric, number, expected) in [
            ("nearby_ns", 3_420.0, "3.42 µs"),
            ("step_ms", 2.0, "2 ms"),
            ("peak_rss_bytes", 1024.0, "1 KiB"),
            ("queries", 12.0, "12"),
        ] {
            assert_eq!(value(metric, number), expected, "{metric}");
        }
    }

    #[test]
    fn a_place_is_short() {
        assert_eq!(place(Some("/a/b/src/lib.rs"), Some(3)), "src/lib.rs:3");
        assert_eq!(place(Some("x.c"), None), "x.c");
        assert_eq!(place(None, Some(1)), "-");
    }
}
