//! The part of PHASE3_REPORT.md that tells what memory is used for.

use std::fmt::Write;

use super::parts::{place, source};
use crate::format::{self, with_interval};
use crate::markdown::{Align, Table, code};
use crate::summary::{Amount, ChurnSummary, LeakSummary, MEMORY_LINES, MemoryLine, MemorySummary};

/// Lines shown in each table.
const SHOWN: usize = 12;

/// The section on memory. `files` are those that belong to it, by name and what they show.
pub fn memory_section(summary: &MemorySummary, files: &[(String, String)]) -> String {
    let mut text = String::from("## Memory\n\n");
    if summary.is_unseen() {
        text.push_str(
            "Not recorded: no allocation was seen; `Read this first` says why that may be.\n\n",
        );
        return text;
    }
    if let Some(share) = summary.explained_share.filter(|_| summary.is_blind()) {
        let _ = writeln!(
            text,
            "Most was not recorded: what follows explains {} of the resident set's growth (`Read this first`).\n",
            format::share(share)
        );
    }
    let _ = writeln!(text, "{}", totals(summary));
    if !files.is_empty() {
        let row = |(name, what): &(String, String)| format!("- [{what}]({name})\n");
        let _ = writeln!(text, "{}", files.iter().map(row).collect::<String>());
    }
    text.push_str(&what_leaks(summary));
    text.push_str(&lines(summary));
    if !summary.churn.is_empty() {
        let _ = writeln!(text, "### What lives but shortly\n\n{}", churn(&summary.churn));
        text.push_str(
            "`CPU time` is what the allocator took on the line's behalf in the samples of this phase: beneath the line, and its part of what \
             its own function spends to free. `gain` is by how much the whole gets faster without that (Amdahl), where the memory is kept \
             and used again at no cost. It is no bound: what other functions spend to free the line's blocks is not in it.\n\n",
        );
    }
    let _ = writeln!(text, "### Sizes\n\n{}", sizes(summary));
    text.push_str(&how(summary));
    text
}

/// What leaks; a line where nothing does, or where that cannot be told.
fn what_leaks(summary: &MemorySummary) -> String {
    match &summary.leaks_untold {
        Some(why) => format!("Leaks: cannot tell: {why}.\n\n"),
        None if summary.leaks.is_empty() => "Leaks: none found.\n\n".to_owned(),
        None => format!(
            "### What leaks\n\n{}\nGrowth of what is alive at the ends of steps (without steps: over time) after the first tenth of the \
             run, with what the living population accounts for taken out first where it is told.\n\n",
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
    row("alive at the peak", &summary.peak);
    row("alive at the end", &summary.live);
    match &summary.temporary {
        Some(temporary) => row("freed in the step that allocated it", temporary),
        None => row("freed within a millisecond", &summary.short_lived),
    }
    if let Some(step) = &summary.per_step {
        table.row([
            "allocated in a step".to_owned(),
            with_interval(step.allocated_bytes, step.allocated_bytes_interval, format::bytes),
            format::count(step.allocations),
        ]);
        if let Some(agent) = step.allocated_bytes_per_agent {
            table.row(["allocated by step and agent".to_owned(), format::bytes(agent)]);
        }
        if let Some(agent) = step.live_bytes_per_agent {
            let interval = step.live_bytes_per_agent_interval.unwrap_or([agent, agent]);
            let alive = with_interval(agent, interval, format::bytes);
            table.row(["alive for each agent at the last step".to_owned(), alive]);
        }
    }
    table
}

fn leaks(leaks: &[LeakSummary]) -> Table {
    let mut table = Table::new(&[
        ("growth (95 %)", Align::Right),
        ("in all", Align::Right),
        ("line", Align::Left),
        ("source", Align::Left),
        ("function", Align::Left),
        ("", Align::Left),
    ]);
    for leak in leaks.iter().take(SHOWN) {
        let verdict = match leak.verdict.as_str() {
            "growing" if leak.freed_at_end => "kept until the program ends",
            "growing" => "leaks",
            _ => "grows as the population does: cannot tell",
        };
        table.markdown_row(vec![
            format!(
                "{} a {}",
                with_interval(leak.rate_bytes, leak.rate_interval, format::bytes),
                leak.per
            ),
            format::bytes(leak.growth_bytes),
            code(&place(leak.file.as_deref(), leak.line)),
            source(leak.text.as_deref()),
            code(&leak.function),
            verdict.to_owned(),
        ]);
    }
    table
}

/// The lines by each of the amounts.
fn lines(summary: &MemorySummary) -> String {
    let temporary = summary.temporary.map_or(0, |amount| amount.bytes);
    let views: [(&str, u64, fn(&MemoryLine) -> &Amount); 4] = [
        ("Allocated", summary.allocated.bytes, |line| &line.allocated),
        ("Alive at the peak", summary.peak.bytes, |line| &line.peak),
        ("Alive at the end", summary.live.bytes, |line| &line.live),
        ("Freed in the step that allocated it", temporary, |line| &line.temporary),
    ];
    views.into_iter().map(|(title, whole, of)| view(summary, title, whole, of)).collect()
}

/// The lines by one of the amounts, of which there is so much in all; nothing where none has any of it.
fn view(
    summary: &MemorySummary,
    title: &str,
    whole: u64,
    of: fn(&MemoryLine) -> &Amount,
) -> String {
    let mut lines: Vec<&MemoryLine> =
        summary.lines.iter().filter(|line| of(line).bytes > 0).collect();
    if lines.is_empty() {
        return String::new();
    }
    let mut text = format!("### {title}\n\n");
    // The summary has the first lines by each amount: with fewer it has all of them.
    let at_least = if lines.len() < MEMORY_LINES { "" } else { "at least " };
    lines.sort_by_key(|line| std::cmp::Reverse(of(line).bytes));
    let (sure, unsure): (Vec<_>, Vec<_>) =
        lines.into_iter().partition(|line| of(line).bytes_interval[0] > 0.0);
    if !sure.is_empty() {
        let _ = writeln!(text, "{}", line_table(&sure, of, whole));
    }
    if !unsure.is_empty() {
        let bytes: u64 = unsure.iter().map(|line| of(line).bytes).sum();
        let _ = writeln!(
            text,
            "Not shown: {at_least}{}, {} together, with too few draws to be sure of; a smaller `--memory-interval` draws more.\n",
            counted(unsure.len(), "line"),
            format::bytes(bytes as f64)
        );
    }
    text
}

/// `one line`, `7 lines`.
fn counted(count: usize, what: &str) -> String {
    if count == 1 {
        format!("one {what}")
    } else {
        format!("{} {what}s", format::count(count as f64))
    }
}

fn line_table(lines: &[&MemoryLine], of: fn(&MemoryLine) -> &Amount, whole: u64) -> Table {
    let mut table = Table::new(&[
        ("share", Align::Right),
        ("bytes", Align::Right),
        ("allocations", Align::Right),
        ("mean size", Align::Right),
        ("line", Align::Left),
        ("source", Align::Left),
        ("function", Align::Left),
    ]);
    for line in lines.iter().take(SHOWN) {
        let amount = of(line);
        table.markdown_row(vec![
            format::share(amount.bytes as f64 / whole.max(1) as f64),
            bytes(amount),
            count(amount),
            format::bytes(amount.bytes as f64 / amount.count.max(1) as f64),
            code(&place(line.file.as_deref(), line.line)),
            source(line.text.as_deref()),
            code(&line.function),
        ]);
    }
    table
}

/// The lines that churn, without those that nothing is gained from.
fn churn(churn: &[ChurnSummary]) -> String {
    let gains = |line: &&ChurnSummary| {
        line.speed_up.is_none_or(|times| format::share(times - 1.0) != format::share(0.0))
    };
    let shown: Vec<&ChurnSummary> = churn.iter().filter(gains).collect();
    let mut text = if shown.is_empty() { String::new() } else { churn_table(&shown).to_string() };
    let left_out = churn.len() - shown.len();
    if left_out > 0 {
        let _ = writeln!(
            text,
            "{}Not shown: {} from which nothing is gained.",
            if text.is_empty() { "" } else { "\n" },
            counted(left_out, "line")
        );
    }
    text
}

fn churn_table(churn: &[&ChurnSummary]) -> Table {
    let mut table = Table::new(&[
        ("allocations", Align::Right),
        ("of all", Align::Right),
        ("a step", Align::Right),
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
            code(&place(line.file.as_deref(), line.line)),
            source(line.text.as_deref()),
            code(&line.function),
        ]);
    }
    table
}

fn sizes(summary: &MemorySummary) -> Table {
    let mut table = Table::new(&[
        ("from", Align::Right),
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

/// How it was recorded.
fn how(summary: &MemorySummary) -> String {
    let mode = match summary.interval_bytes {
        0 | 1 if summary.is_blind() || summary.unrecorded > 0 => {
            "Every allocation that was seen was recorded".to_owned()
        }
        0 | 1 if summary.lost > 0 => "Every allocation that was not lost was recorded".to_owned(),
        0 | 1 => "Every allocation was recorded".to_owned(),
        bytes => {
            let bytes = format::bytes(bytes as f64);
            format!("Allocations were drawn by their bytes, one in {bytes} on average")
        }
    };
    let mut text = format!(
        "{mode}, in a run of its own: {} records of {}, {} lost. Recording took {} of the target's CPU time beside it. ",
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
            "Figures are unbiased estimates, with their 95 % intervals; but for the peak, which as the largest of estimates is rather too \
             large than too small. ",
        );
    }
    if !summary.interpreters.is_empty() {
        let _ = write!(text, "Objects of {} are among them. ", summary.interpreters.join(", "));
    }
    if let Some(share) = summary.explained_share {
        let _ = write!(
            text,
            "What was alive explains {} of the resident set's growth. ",
            format::share(share)
        );
    }
    text.push_str("A line answers for itself and for the libraries that it calls.\n\n");
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
    fn the_section_tells_what_leaks_first() {
        let stacks =
            [("main@1 > s::leak@5 > malloc", 8_000_000), ("main@1 > s::work@9 > malloc", 60)];
        let live = |site: usize, step: u64| if site == 0 { 40_960 * step } else { 60 };
        let profile = with_ticks(heap(&stacks), 200, |_| None, live);
        let summary = memory_summary(&profile, None, &|_, _| Some("let a = vec![|x|];".to_owned()));
        let text = memory_section(&summary, &[("a.svg".to_owned(), "flame graph".to_owned())]);
        for expected in [
            "### What leaks",
            "| 40 KiB a step |",
            "`src/sim.rs:5`",
            "Every allocation was recorded",
            "[flame graph](a.svg)",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        assert!(!text.contains("What lives but shortly"), "{text}");
    }

    #[test]
    fn memory_that_is_not_seen_is_not_said_to_be_recorded() {
        let mut profile = heap(&[]);
        let text = |profile: &_| memory_section(&memory_summary(profile, None, &|_, _| None), &[]);
        let nothing = text(&profile);
        assert!(nothing.contains("Not recorded: no allocation was seen"), "{nothing}");
        assert!(!nothing.contains("0 B") && !nothing.contains("Every"), "{nothing}");
        profile = heap(&[("main@1 > s::work@9 > malloc", 1 << 20)]);
        assert!(text(&profile).contains("Every allocation was recorded"));
        profile.provenance.unrecorded = 1;
        assert!(text(&profile).contains("Every allocation that was seen was recorded"));
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
        assert!(blind.contains("Most was not recorded: what follows explains 1 %"), "{blind}");
        assert!(!blind.contains("Every allocation was recorded"), "{blind}");
    }

    #[test]
    fn whether_leaks_were_looked_for_is_said() {
        let stacks = [("main@1 > s::work@9 > malloc", 60)];
        for (steps, words) in
            [(18, "Leaks: cannot tell: 18 steps, 23 are needed.\n"), (50, "Leaks: none found.\n")]
        {
            let profile = with_ticks(heap(&stacks), steps, |_| None, |_, _| 60);
            let summary = memory_summary(&profile, None, &|_, _| None);
            assert!(memory_section(&summary, &[]).contains(words), "{words}");
            let told = summary.statements.iter().any(|sentence| sentence.contains("cannot tell"));
            assert_eq!(told, steps == 18, "{summary:?}");
        }
    }

    #[test]
    fn estimates_have_their_intervals_and_exact_figures_none() {
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
    fn lines_of_few_draws_are_counted_where_there_are_no_others() {
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
            assert!(text.contains(&format!("### Alive at the end\n\n{words}")), "{text}");
            assert!(!text.contains("### Freed"), "nothing was: {text}");
            assert!(text.contains("but for the peak"), "{text}");
        }
    }

    #[test]
    fn lines_that_nothing_is_gained_from_are_counted() {
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
        assert!(text.contains("\n\nNot shown: one line from"), "{text}");
        let text = churn(&[line("free", Some(1.0))]);
        assert!(text.starts_with("Not shown: one line"), "{text}");
        let text = churn(&[line("untold", None)]);
        assert!(text.contains("untold") && !text.contains("Not shown"), "{text}");
    }
}
