//! The parts that several reports share.

use std::fmt::Write;

use simprof_model::{Machine, Notice, PythonProvenance, Status};

use crate::format;
use crate::markdown::{Align, Table, code, escape, list};
use crate::summary::{
    Bounds, Head, LineCost, PartSummary, ProfileSummary, WaitingLine, cause_name,
};

/// Formats a source line for a column; empty if there is none.
pub fn source(text: Option<&str>) -> String {
    let text = format::quoted_line(text.unwrap_or_default());
    if text.is_empty() { String::new() } else { code(&text) }
}

/// Returns the title with the target's name, status, command, results, notices and machine.
pub fn opening(title: &str, head: &Head, machine: &Machine, statements: &[String]) -> String {
    let mut text = format!("# {}: {title}\n\n", escape(&head.target));
    let _ = writeln!(
        text,
        "{} ({} run{}): **{}**\n",
        code(&head.command.join(" ")),
        if head.mode == simprof_model::Mode::Quick { "quick" } else { "full" },
        head.budget_s.map_or_else(String::new, |seconds| format!(", budget {seconds} s")),
        head.status
    );
    text.push_str("## Results\n\n");
    if statements.is_empty() {
        text.push_str(without_statements(head));
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

/// Returns what to write in place of results.
fn without_statements(head: &Head) -> &'static str {
    if head.measurements.iter().any(|entry| entry.status.is_ok()) {
        "The measurements succeeded, but no finding stands out. The tables below have the values.\n"
    } else {
        "There are no results, because no measurement succeeded. The reasons are below.\n"
    }
}

/// Returns the section on the parts of a run; empty if the program's work is all of it.
pub fn run_parts(parts: &[PartSummary]) -> String {
    if parts.iter().all(|part| part.part.is_work() || part.share == 0.0) {
        return String::new();
    }
    let mut table = Table::new(&[
        ("part of a run", Align::Left),
        ("CPU time", Align::Right),
        ("share", Align::Right),
        ("", Align::Left),
        ("mostly in", Align::Left),
    ]);
    for part in parts {
        let name = part.part.describe();
        table.markdown_row([
            if part.part.is_work() { format!("**{name}**") } else { name.to_owned() },
            format::duration_ns(part.cpu_s * 1e9),
            format::share(part.share),
            format::bar(part.share, 20),
            part.mostly.as_deref().map_or_else(String::new, code),
        ]);
    }
    let work = parts.iter().find(|part| part.part.is_work());
    let work = work.map_or("", |part| part.part.describe());
    format!(
        "## Parts of a run\n\n{table}\nAll shares and times per step below are of **{work}** alone. `mostly in` is the function of \
         the part with the most CPU time. `flamegraph.svg` has each part under a frame with its name, such as `[set-up]`. \
         `profile.folded` has such frames for the other parts than **{work}**. `profile.json` and `profile.speedscope.json` \
         have all samples without these frames.\n\n"
    )
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

/// Returns the number of measurements by status, and a table of those that did not succeed.
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

/// Returns how a profile was recorded, and what is missing from it.
pub fn recording(profile: &ProfileSummary) -> String {
    let part = |count: u64| {
        format!("{count} ({})", format::share(count as f64 / profile.samples.max(1) as f64))
    };
    let mut table = Table::new(&[("recording", Align::Left), ("", Align::Left)]);
    let kernel = if profile.kernel { "with kernel frames" } else { "user code only" };
    table.row(["event", &format!("{}, {kernel}", profile.event)]);
    table.row([
        "rate",
        &format!("{:.0} Hz requested, {:.0} Hz achieved", profile.rate_hz, profile.achieved_hz),
    ]);
    let end = if profile.runs == 1 { "" } else { "s" };
    table.row(["samples", &format!("{} from {} run{end}", profile.samples, profile.runs)]);
    table.row(["lost samples", &part(profile.lost)]);
    table.row(["truncated stacks", &part(profile.truncated)]);
    table.row(["leaves without symbol", &part(profile.unsymbolised)]);
    let own = format!("{} of the target's CPU time", format::share(profile.recorder_cpu_share));
    table.row(["CPU time of the recorder", &own]);
    if let Some(python) = &profile.python {
        python_rows(&mut table, python);
    }
    let mut text = format!("## Recording\n\n{table}\n");
    if !profile.fallbacks.is_empty() {
        let _ = write!(text, "Events that were tried first:\n\n{}\n", list(&profile.fallbacks));
    }
    text
}

/// Adds how Python frames were obtained, and what is missing from them.
fn python_rows(table: &mut Table, python: &PythonProvenance) {
    let part = |count: u64| {
        format!("{count} ({})", format::share(count as f64 / python.samples.max(1) as f64))
    };
    let interpreters = match python.interpreters.as_slice() {
        [] => "no supported interpreter".to_owned(),
        known => known.join(", "),
    };
    table.row(["Python", &interpreters]);
    table.row(["samples that requested Python frames", &python.samples.to_string()]);
    table.row(["samples of threads without Python", &part(python.native)]);
    table.row(["lost Python stacks", &part(python.lost)]);
    table.row(["Python stacks with an unreadable frame", &part(python.unreadable)]);
    table.row(["truncated Python stacks", &part(python.cut)]);
    table.row(["Python stacks without their middle", &part(python.left_out)]);
    table.row(["Python stacks not merged with native frames", &part(python.unmerged)]);
    table.row(["samples of the recorder itself, omitted", &part(python.own)]);
}

/// Returns the table of lines where threads wait.
pub fn waits(lines: &[WaitingLine]) -> Table {
    let mut table = Table::new(&[
        ("share of thread time", Align::Right),
        ("per run", Align::Right),
        ("waits for", Align::Left),
        ("threads per run", Align::Right),
        ("line", Align::Left),
        ("function", Align::Left),
        ("calls", Align::Left),
    ]);
    for line in lines {
        table.markdown_row([
            format::share(line.share),
            format::duration_ns(line.wait_s * 1e9),
            escape(cause_name(line.cause)),
            format::count(line.threads),
            code(&location(line.file.as_deref(), line.line)),
            match line.unknown_place {
                Some(why) => escape(&format!("place unknown: {}", why.describe())),
                None => code(&line.function),
            },
            line.call.as_deref().map(code).unwrap_or_default(),
        ]);
    }
    table
}

/// Returns `61.2 % (59.8 to 62.5)`.
pub fn share_with_interval(share: f64, interval: Bounds) -> String {
    let percent = |share: f64| format::share(share).replace(" %", "");
    format!("{} ({} to {})", format::share(share), percent(interval[0]), percent(interval[1]))
}

/// Formats milliseconds as a duration, or as `-` if there are none.
pub fn ms(ms: Option<f64>) -> String {
    ms.map_or_else(|| "-".to_owned(), |ms| format::duration_ns(ms * 1e6))
}

/// Returns `src/file.rs:12`, with the last two parts of the path, or `-` without a file.
pub fn location(file: Option<&str>, line: Option<u32>) -> String {
    let Some(file) = file else { return "-".to_owned() };
    let short: Vec<&str> = file.rsplit('/').take(2).collect();
    let short: Vec<&str> = short.into_iter().rev().collect();
    line.map_or_else(|| short.join("/"), |line| format!("{}:{line}", short.join("/")))
}

/// Returns the place of a line or a loop: `src/lib.rs:9-10, loop`.
pub fn line_location(line: &LineCost) -> String {
    format!("{}:{}", location(Some(&line.file), None), line.lines())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_short() {
        assert_eq!(location(Some("/a/b/src/lib.rs"), Some(3)), "src/lib.rs:3");
        assert_eq!(location(Some("x.c"), None), "x.c");
        assert_eq!(location(None, Some(1)), "-");
    }
}
