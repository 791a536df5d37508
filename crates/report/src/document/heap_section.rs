//! The section of PHASE3_REPORT.md on allocated memory.

use std::fmt::Write;

use super::parts::{location, source};
use crate::format::{self, with_interval};
use crate::markdown::{Align, Table, code};
use crate::summary::{
    Amount, ChurnSummary, LeakSummary, LeakVerdict, MEMORY_LINES, MemoryLine, MemorySummary,
};

/// Lines in each table.
const SHOWN: usize = 12;

/// Returns the section on memory. `files` are the files that belong to it: name and description.
pub fn memory_section(summary: &MemorySummary, files: &[(String, String)]) -> String {
    let mut text = String::from("## Memory\n\n");
    if summary.is_unseen() {
        text.push_str(
            "Memory was not recorded: no allocation was seen. `Read this first` lists possible reasons.\n\n",
        );
        return text;
    }
    if let Some(share) = summary.explained_share.filter(|_| summary.is_blind()) {
        let _ = writeln!(
            text,
            "Most memory was not recorded: this section explains only {} of the growth of the resident set (see `Read this \
             first`).\n",
            format::share(share)
        );
    }
    let _ = writeln!(text, "{}", totals(summary));
    if !files.is_empty() {
        let row = |(name, what): &(String, String)| format!("- [{what}]({name})\n");
        let _ = writeln!(text, "{}", files.iter().map(row).collect::<String>());
    }
    text.push_str(&leak_part(summary));
    text.push_str(&lines(summary));
    if !summary.churn.is_empty() {
        let _ = writeln!(text, "### Short-lived allocations\n\n{}", churn(&summary.churn));
        text.push_str(
            "`CPU time` is the time in the allocator for the line's short-lived blocks, from the samples of this phase: allocating \
             them, and freeing them in the same function. `gain` is how much faster the whole program becomes if the memory is reused \
             instead (Amdahl). It is not an upper bound: time that other functions spend freeing the blocks is not included.\n\n",
        );
    }
    let _ = writeln!(text, "### Sizes\n\n{}", sizes(summary));
    text.push_str(&recording(summary));
    text
}

/// Returns the part on leaks: a table, or one line if there are none or no search was possible.
fn leak_part(summary: &MemorySummary) -> String {
    match &summary.leaks_untold {
        Some(reason) => format!("Leaks: cannot tell ({reason}).\n\n"),
        None if summary.leaks.is_empty() => "Leaks: none found.\n\n".to_owned(),
        None => format!(
            "### Leaks\n\n{}\n`growth` is the rate at which the live bytes at the ends of steps grow (without steps: over time), \
             after the first tenth of the run; `total` is their growth in that period. If the target reports its population, the \
             bytes that the population explains are subtracted first.\n\n",
            leaks(&summary.leaks)
        ),
    }
}

fn totals(summary: &MemorySummary) -> Table {
    let mut table = Table::new(&[
        ("memory", Align::Left),
        ("bytes", Align::Right),
        ("allocations", Align::Right),
    ]);
    let mut row = |name: &str, amount: &Amount| {
        table.row([name.to_owned(), bytes(amount), count(amount)]);
    };
    row("allocated", &summary.allocated);
    if let Some(in_steps) = &summary.in_steps {
        row("allocated inside steps", in_steps);
    }
    row("live at the peak", &summary.peak);
    row("live at the end", &summary.live);
    match &summary.temporary {
        Some(temporary) => row("freed in the step that allocated it", temporary),
        None => row("freed within a millisecond", &summary.short_lived),
    }
    if let Some(step) = &summary.per_step {
        table.row([
            "allocated per step".to_owned(),
            with_interval(step.allocated_bytes, step.allocated_bytes_interval, format::bytes),
            format::count(step.allocations),
        ]);
        if let Some(agent) = step.allocated_bytes_per_agent {
            table.row(["allocated per step and agent".to_owned(), format::bytes(agent)]);
        }
        if let Some(agent) = step.live_bytes_per_agent {
            let interval = step.live_bytes_per_agent_interval.unwrap_or([agent, agent]);
            let live = with_interval(agent, interval, format::bytes);
            table.row(["live per agent at the last step".to_owned(), live]);
        }
    }
    table
}

fn leaks(leaks: &[LeakSummary]) -> Table {
    let mut table = Table::new(&[
        ("growth (95 %)", Align::Right),
        ("total", Align::Right),
        ("line", Align::Left),
        ("source", Align::Left),
        ("function", Align::Left),
        ("verdict", Align::Left),
    ]);
    for leak in leaks.iter().take(SHOWN) {
        let verdict = match leak.verdict {
            LeakVerdict::Growing if leak.freed_at_end => "grows, freed at the end",
            LeakVerdict::Growing => "leaks",
            LeakVerdict::Confounded => "cannot tell: grows with the population",
        };
        table.markdown_row(vec![
            format!(
                "{} per {}",
                with_interval(leak.rate_bytes, leak.rate_interval, format::bytes),
                leak.per
            ),
            format::bytes(leak.growth_bytes),
            code(&location(leak.file.as_deref(), leak.line)),
            source(leak.text.as_deref()),
            code(&leak.function),
            verdict.to_owned(),
        ]);
    }
    table
}

/// Returns one table of lines for each amount.
fn lines(summary: &MemorySummary) -> String {
    let temporary = summary.temporary.map_or(0, |amount| amount.bytes);
    let views: [(&str, u64, fn(&MemoryLine) -> &Amount); 4] = [
        ("Allocated", summary.allocated.bytes, |line| &line.allocated),
        ("Live at the peak", summary.peak.bytes, |line| &line.peak),
        ("Live at the end", summary.live.bytes, |line| &line.live),
        ("Freed in the step that allocated it", temporary, |line| &line.temporary),
    ];
    views.into_iter().map(|(title, whole, amount)| view(summary, title, whole, amount)).collect()
}

/// Returns the lines by one amount, whose sum over all lines is `whole`; empty if no line has any.
fn view(
    summary: &MemorySummary,
    title: &str,
    whole: u64,
    amount: fn(&MemoryLine) -> &Amount,
) -> String {
    let mut lines: Vec<&MemoryLine> =
        summary.lines.iter().filter(|line| amount(line).bytes > 0).collect();
    if lines.is_empty() {
        return String::new();
    }
    let mut text = format!("### {title}\n\n");
    // The summary keeps the first lines by each amount. Fewer than that are all lines.
    let at_least = if lines.len() < MEMORY_LINES { "" } else { "at least " };
    lines.sort_by_key(|line| std::cmp::Reverse(amount(line).bytes));
    let (sure, unsure): (Vec<_>, Vec<_>) =
        lines.into_iter().partition(|line| amount(line).bytes_interval[0] > 0.0);
    if !sure.is_empty() {
        let _ = writeln!(text, "{}", line_table(&sure, amount, whole));
    }
    if !unsure.is_empty() {
        let bytes: u64 = unsure.iter().map(|line| amount(line).bytes).sum();
        let _ = writeln!(
            text,
            "Not shown: {at_least}{} with too few allocation samples, {} together. A smaller `--memory-interval` takes more \
             samples.\n",
            format::counted(unsure.len() as u64, "line"),
            format::bytes(bytes as f64)
        );
    }
    text
}

fn line_table(lines: &[&MemoryLine], amount: fn(&MemoryLine) -> &Amount, whole: u64) -> Table {
    let has_steps = lines.iter().any(|line| line.allocated_bytes_per_step.is_some());
    let mut columns = vec![
        ("share", Align::Right),
        ("bytes", Align::Right),
        ("allocations", Align::Right),
        ("mean size", Align::Right),
        ("allocated per step", Align::Right),
        ("line", Align::Left),
        ("source", Align::Left),
        ("function", Align::Left),
    ];
    columns.retain(|(name, _)| has_steps || *name != "allocated per step");
    let mut table = Table::new(&columns);
    for line in lines.iter().take(SHOWN) {
        let amount = amount(line);
        let numbers = [
            format::share(amount.bytes as f64 / whole.max(1) as f64),
            bytes(amount),
            count(amount),
            format::bytes(amount.bytes as f64 / amount.count.max(1) as f64),
        ];
        let names = [
            code(&location(line.file.as_deref(), line.line)),
            source(line.text.as_deref()),
            code(&line.function),
        ];
        let per_step = line.allocated_bytes_per_step.map(format::bytes);
        table.markdown_row(numbers.into_iter().chain(per_step).chain(names));
    }
    table
}

/// Returns the table of lines with short-lived allocations, without those whose gain is 0 %.
fn churn(churn: &[ChurnSummary]) -> String {
    let gains = |line: &&ChurnSummary| {
        line.speed_up.is_none_or(|times| format::share(times - 1.0) != format::share(0.0))
    };
    let shown: Vec<&ChurnSummary> = churn.iter().filter(gains).collect();
    let mut text = if shown.is_empty() { String::new() } else { churn_table(&shown).to_string() };
    let omitted = churn.len() - shown.len();
    if omitted > 0 {
        let _ = writeln!(
            text,
            "{}Not shown: {} without gain.",
            if text.is_empty() { "" } else { "\n" },
            format::counted(omitted as u64, "line")
        );
    }
    text
}

fn churn_table(churn: &[&ChurnSummary]) -> Table {
    let mut table = Table::new(&[
        ("allocations", Align::Right),
        ("of all", Align::Right),
        ("per step", Align::Right),
        ("CPU time", Align::Right),
        ("gain", Align::Right),
        ("line", Align::Left),
        ("source", Align::Left),
        ("function", Align::Left),
    ]);
    for line in churn.iter().take(SHOWN) {
        table.markdown_row(vec![
            count(&line.short),
            format::share(line.share_of_all),
            line.per_step.map_or_else(|| "-".to_owned(), format::count),
            line.cpu_share.map_or_else(|| "-".to_owned(), format::share),
            line.speed_up.map_or_else(|| "-".to_owned(), |times| format::share(times - 1.0)),
            code(&location(line.file.as_deref(), line.line)),
            source(line.text.as_deref()),
            code(&line.function),
        ]);
    }
    table
}

fn sizes(summary: &MemorySummary) -> Table {
    let mut table = Table::new(&[
        ("size from", Align::Right),
        ("allocations", Align::Right),
        ("bytes", Align::Right),
        ("", Align::Left),
    ]);
    let most = summary.sizes.iter().map(|class| class.count).max().unwrap_or(1).max(1);
    for class in &summary.sizes {
        table.row([
            format::bytes(class.from_bytes as f64),
            format::count(class.count as f64),
            format::bytes(class.bytes as f64),
            format::bar(class.count as f64 / most as f64, 20),
        ]);
    }
    table
}

/// Returns how the memory was recorded.
fn recording(summary: &MemorySummary) -> String {
    let mode = match summary.interval_bytes {
        0 | 1 if summary.is_blind() || summary.unrecorded > 0 => {
            "Every allocation that could be observed was recorded".to_owned()
        }
        0 | 1 if summary.lost > 0 => "Every allocation that was not lost was recorded".to_owned(),
        0 | 1 => "Every allocation was recorded".to_owned(),
        bytes => {
            let bytes = format::bytes(bytes as f64);
            format!("Allocations were sampled by their bytes, one byte in {bytes} on average")
        }
    };
    let mut text = format!(
        "{mode}, in a separate run: {} records from {}, {} lost. The recorder used {} of the target's CPU time. ",
        format::count(summary.records as f64),
        match summary.processes {
            1 => "one process".to_owned(),
            count => format!("{} processes", format::count(count as f64)),
        },
        format::count(summary.lost as f64),
        format::share(summary.recorder_cpu_share)
    );
    if summary.interval_bytes > 1 {
        text.push_str(
            "Amounts are unbiased estimates with 95 % intervals. Only the peak tends to be too large, because it is the maximum of \
             estimates. ",
        );
    }
    if !summary.interpreters.is_empty() {
        let _ = write!(text, "Objects of {} are included. ", summary.interpreters.join(", "));
    }
    if let Some(share) = summary.explained_share {
        let _ = write!(
            text,
            "Live bytes explain {} of the growth of the resident set. ",
            format::share(share)
        );
    }
    text.push_str("The amounts of a line include the libraries that it calls.\n\n");
    text
}

fn bytes(amount: &Amount) -> String {
    with_interval(amount.bytes as f64, amount.bytes_interval, format::bytes)
}

fn count(amount: &Amount) -> String {
    with_interval(amount.count as f64, amount.count_interval, format::count)
}

#[cfg(test)]
mod tests {
    use simprof_model::HeapCoverage;

    use super::*;
    use crate::summary::memory_summary;
    use crate::testing::{heap, with_ticks};

    #[test]
    fn the_section_has_leaks_files_and_recording() {
        let stacks =
            [("main@1 > s::leak@5 > malloc", 8_000_000), ("main@1 > s::work@9 > malloc", 60)];
        let live = |site: usize, step: u64| if site == 0 { 40_960 * step } else { 60 };
        let profile = with_ticks(heap(&stacks), 200, |_| None, live);
        let summary = memory_summary(&profile, None, &|_, _| Some("let a = vec![|x|];".to_owned()));
        let text = memory_section(&summary, &[("a.svg".to_owned(), "flame graph".to_owned())]);
        for expected in [
            "### Leaks",
            "| 40 KiB per step |",
            "`src/sim.rs:5`",
            "Every allocation was recorded",
            "[flame graph](a.svg)",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        assert!(!text.contains("Short-lived"), "{text}");
    }

    #[test]
    fn the_section_says_if_memory_was_not_recorded() {
        let mut profile = heap(&[]);
        let text = |profile: &_| memory_section(&memory_summary(profile, None, &|_, _| None), &[]);
        let nothing = text(&profile);
        assert!(nothing.contains("Memory was not recorded: no allocation was seen"), "{nothing}");
        assert!(!nothing.contains("0 B") && !nothing.contains("Every"), "{nothing}");
        profile = heap(&[("main@1 > s::work@9 > malloc", 1 << 20)]);
        assert!(text(&profile).contains("Every allocation was recorded"));
        profile.provenance.unrecorded = 1;
        assert!(text(&profile).contains("Every allocation that could be observed was recorded"));
        profile.provenance.unrecorded = 0;
        profile.provenance.lost = 3;
        assert!(text(&profile).contains("Every allocation that was not lost was recorded"));
        let coverage = HeapCoverage {
            rss_growth_bytes: 100 << 20,
            rss_file_growth_bytes: 0,
            live_bytes: 1 << 20,
        };
        profile.provenance.coverage = Some(coverage);
        let blind = text(&profile);
        let words = "Most memory was not recorded: this section explains only 1 %";
        assert!(blind.contains(words), "{blind}");
        assert!(!blind.contains("Every allocation was recorded"), "{blind}");
    }

    #[test]
    fn the_section_says_whether_leaks_were_searched_for() {
        let stacks = [("main@1 > s::work@9 > malloc", 60)];
        for (steps, words) in [
            (18, "Leaks: cannot tell (18 steps; at least 23 are needed).\n"),
            (50, "Leaks: none found.\n"),
        ] {
            let profile = with_ticks(heap(&stacks), steps, |_| None, |_, _| 60);
            let summary = memory_summary(&profile, None, &|_, _| None);
            assert!(memory_section(&summary, &[]).contains(words), "{words}");
            let reported = summary.statements.iter().any(|text| text.contains("cannot tell"));
            assert_eq!(reported, steps == 18, "{summary:?}");
        }
    }

    #[test]
    fn estimates_have_intervals_and_exact_amounts_have_none() {
        let amount = |high| Amount {
            bytes: 2048,
            bytes_interval: [1024.0, high],
            count: 1,
            count_interval: [1.0, 1.0],
        };
        assert_eq!(bytes(&amount(4096.0)), "2 KiB (1 KiB to 4 KiB)");
        assert_eq!(count(&amount(0.0)), "1");
    }

    #[test]
    fn lines_with_too_few_samples_are_counted() {
        let stacks: Vec<String> =
            (1..=25).map(|line| format!("main@1 > s::f@{line} > malloc")).collect();
        for (count, words) in [(3, "Not shown: 3 lines"), (25, "Not shown: at least 20 lines")] {
            let stacks: Vec<_> =
                stacks.iter().take(count).map(|stack| (stack.as_str(), 4096)).collect();
            let mut profile = heap(&stacks);
            profile.provenance.interval_bytes = 4096;
            for site in &mut profile.sites {
                site.amounts.allocated.bytes_error = 4096;
                (site.amounts.peak, site.amounts.live) =
                    (site.amounts.allocated, site.amounts.allocated);
            }
            let text = memory_section(&memory_summary(&profile, None, &|_, _| None), &[]);
            assert!(text.contains(&format!("### Allocated\n\n{words}")), "{text}");
            assert!(text.contains(&format!("### Live at the end\n\n{words}")), "{text}");
            assert!(!text.contains("### Freed"), "no memory was freed: {text}");
            assert!(text.contains("Only the peak tends to be too large"), "{text}");
        }
    }

    #[test]
    fn lines_without_gain_are_counted() {
        let one = Amount {
            bytes: 1,
            bytes_interval: [1.0, 1.0],
            count: 5000,
            count_interval: [5000.0, 5000.0],
        };
        let line = |function: &str, speed_up| ChurnSummary {
            function: function.to_owned(),
            file: None,
            line: None,
            text: None,
            short: one,
            share_of_all: 0.5,
            per_step: None,
            cpu_share: Some(0.0),
            speed_up,
        };
        let text = churn(&[line("costs", Some(1.2)), line("free", Some(1.0))]);
        assert!(text.contains(" gain |") && !text.contains("at most"), "{text}");
        assert!(text.contains("costs") && !text.contains("free"), "{text}");
        assert!(text.contains("\n\nNot shown: 1 line without gain."), "{text}");
        let text = churn(&[line("free", Some(1.0))]);
        assert!(text.starts_with("Not shown: 1 line"), "{text}");
        let text = churn(&[line("unknown", None)]);
        assert!(text.contains("unknown") && !text.contains("Not shown"), "{text}");
    }
}
