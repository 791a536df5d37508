//! Annotated source: the cost of each line beside its text, and its callees below it.

mod heap_columns;
mod loop_blocks;

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::analysis::{CalleeCost, FunctionLines, LineCost, ThreadTime, UNKNOWN_FILE};
use crate::summary::TimeShares;
use crate::{format, markdown};

use loop_blocks::LoopBlocks;

pub use heap_columns::MemoryLines;

/// Lines shown before and after a line with a cost.
const CONTEXT: u32 = 3;
/// Callees shown beneath a line.
const MAX_CALLEES: usize = 4;
/// Share of the function's total below which a callee is not shown.
const MIN_CALLEE: f64 = 0.005;
/// Width of the bar beside a line.
const BAR: usize = 8;
/// Characters of a source line or name that are shown.
const MAX_WIDTH: usize = 160;
/// Characters of a function's name in a file name.
const MAX_STEM: usize = 80;

/// Returns the annotated source of one function as Markdown: for each of its source files the text with shares of all
/// `what` ("CPU time"), bars relative to the function's total, and the callees of each line.
///
/// `source` returns the text of a file by its path in the debug information. If it returns `None`, the lines are listed
/// without text.
pub fn annotate(
    lines: &FunctionLines,
    what: &str,
    source: &dyn Fn(&str) -> Option<String>,
) -> String {
    annotate_with_memory(lines, what, None, source)
}

/// Like [`annotate`], with the memory that each line allocates beside its time.
pub fn annotate_with_memory(
    lines: &FunctionLines,
    what: &str,
    memory: Option<&MemoryLines>,
    source: &dyn Fn(&str) -> Option<String>,
) -> String {
    let mut page = format!("# {}\n\n{}\n", markdown::code(&lines.function), head(lines, what));
    if let Some(memory) = memory {
        writeln!(page, "\n{}", memory.legend()).expect("writing to text cannot fail");
    }
    for (file, costs) in by_file(lines, memory) {
        let text = source(file);
        write!(page, "\n## {}\n\n", markdown::code(file)).expect("writing to text cannot fail");
        if text.is_none() {
            let name = markdown::code(file);
            writeln!(page, "Source file {name} was not found, so lines have no text.\n")
                .expect("writing to text cannot fail");
        }
        let listing = listing(lines, file, &costs, memory, text.as_deref());
        page.push_str(&markdown::code_block("text", &listing));
    }
    page.push_str(&without_line(lines));
    page
}

/// Returns a file name for the annotated source of a function. It is unique among `taken`, and added to it.
pub fn annotated_file_name(function: &str, taken: &mut Vec<String>) -> String {
    let mut stem = String::new();
    for character in function.chars().take(MAX_STEM) {
        if character.is_ascii_alphanumeric() {
            stem.push(character);
        } else if !stem.is_empty() && !stem.ends_with('_') {
            stem.push('_');
        }
    }
    let stem = stem.trim_end_matches('_');
    let stem = if stem.is_empty() { "function" } else { stem };
    let name = (1..)
        .map(|n| if n == 1 { format!("{stem}.md") } else { format!("{stem}_{n}.md") })
        .find(|name| !taken.iter().any(|other| other.eq_ignore_ascii_case(name)))
        .expect("some number is not taken");
    taken.push(name.clone());
    name
}

fn head(lines: &FunctionLines, what: &str) -> String {
    let included = match lines.time {
        Some(_) => "native functions that it runs",
        None => "functions inlined into it",
    };
    let what = markdown::escape(what);
    let has_loops = lines.lines.iter().any(|line| line.in_loop.is_some());
    let mut head = format!(
        "{} of all {what} is in this function and its callees, {} in the function itself ({} samples).\n\n\
         Columns: the share of all {what} with the line on the stack, as a number and as a bar relative to this function; \
         then the share of the line itself, including {included}.",
        format::share(lines.total_share),
        format::share(lines.self_share),
        format::count(lines.samples as f64),
    );
    if has_loops {
        head.push_str(
            "\n\nThe lines of a tight loop are a block, whose cost stands above them: samples do not distinguish these lines. Costs \
             beside a line of a block are not part of the loop: they are of functions that the line calls, or of code between \
             the lines of the loop.",
        );
    }
    if let Some(shares) = lines.time.as_ref().and_then(|time| TimeShares::new(time, 1)) {
        write!(
            head,
            "\n\nThreads in this function and its callees spend their time, on a CPU or waiting, as follows: {}. The note \
             beneath a line gives the line's part of that time in the same way.",
            shares.describe()
        )
        .expect("writing to text cannot fail");
    }
    head
}

/// The cost of each line to list; `None` for lines that allocate but have no time, and for lines of a loop.
type Costs<'a> = BTreeMap<u32, Option<&'a LineCost>>;

/// What to list of a file.
#[derive(Default)]
struct FileCosts<'a> {
    lines: Costs<'a>,
    loops: LoopBlocks<'a>,
}

/// Returns the lines to list by file, the costliest file first. Lines without a number are omitted.
fn by_file<'a>(
    lines: &'a FunctionLines,
    memory: Option<&'a MemoryLines>,
) -> Vec<(&'a str, FileCosts<'a>)> {
    let mut files: BTreeMap<&str, FileCosts<'_>> = BTreeMap::new();
    let allocating = memory.into_iter().flat_map(|memory| memory.of_function(&lines.function));
    for (file, line) in allocating {
        files.entry(file).or_default().lines.insert(line, None);
    }
    for cost in &lines.lines {
        let Some(line) = cost.line else { continue };
        let file = cost.file.as_deref().unwrap_or(UNKNOWN_FILE);
        let costs = files.entry(file).or_default();
        let Some(found) = &cost.in_loop else {
            costs.lines.insert(line, Some(cost));
            continue;
        };
        for line in found.lines.iter().filter(|line| line.file == file) {
            costs.lines.entry(line.line).or_default();
        }
        costs.loops.add(cost, found);
    }
    let mut files: Vec<_> = files.into_iter().collect();
    let heaviest = |costs: &FileCosts<'_>| {
        let lines = costs.lines.values().flatten().map(|cost| cost.total_weight).max();
        lines.max(Some(costs.loops.heaviest()))
    };
    files.sort_by_key(|(_, costs)| std::cmp::Reverse(heaviest(costs)));
    files
}

fn without_line(lines: &FunctionLines) -> String {
    let missing: Vec<String> = lines
        .lines
        .iter()
        .filter(|cost| cost.line.is_none())
        .map(|cost| {
            format!(
                "{} has no line number in the debug information.",
                format::share(cost.total_share)
            )
        })
        .collect();
    if missing.is_empty() { String::new() } else { format!("\n{}", markdown::list(missing)) }
}

fn listing(
    lines: &FunctionLines,
    file: &str,
    FileCosts { lines: costs, loops }: &FileCosts<'_>,
    memory: Option<&MemoryLines>,
    text: Option<&str>,
) -> String {
    let source: Vec<&str> = text.map(|text| text.lines().collect()).unwrap_or_default();
    let begin = lines.line.filter(|_| lines.file.as_deref() == Some(file));
    let shown = shown_lines(costs, begin, source.len());
    let digits = shown.last().map_or(1, |last| last.to_string().len());
    let columns = memory.map_or(0, |_| heap_columns::COLUMNS);
    let margin = 18 + BAR + digits + columns;
    let mut listing = memory.map_or_else(String::new, |memory| {
        format!("{:>8} {:<BAR$} {:>8}{} {:>digits$} │\n", "time", "", "self", memory.titles(), "")
    });
    let mut before = None;
    for number in shown {
        if before.is_some_and(|before| before + 1 != number) && text.is_some() {
            listing.push_str(&format!("{:>margin$} ⋮\n", ""));
        }
        before = Some(number);
        for (cost, heading) in loops.starting_at(number) {
            let place = " ".repeat(columns + 1 + digits);
            listing.push_str(&source_line(lines, Some(cost), &place, &heading));
            listing.push_str(&notes(lines, cost, margin));
        }
        let text = source.get(number as usize - 1).copied().unwrap_or("");
        let text = format!("{}{text}", loops.mark(number));
        let cost = costs.get(&number).copied().flatten();
        let allocated = memory.filter(|_| costs.contains_key(&number));
        let allocated = allocated.map(|memory| memory.columns(file, number));
        let allocated = allocated.unwrap_or_else(|| " ".repeat(columns));
        let number = format!("{number:>digits$}");
        listing.push_str(&source_line(lines, cost, &format!("{allocated} {number}"), &text));
        listing.push_str(&cost.map_or_else(String::new, |cost| notes(lines, cost, margin)));
    }
    listing
}

/// Returns the notes beneath a line: how threads spend their time there, native functions and callees.
fn notes(lines: &FunctionLines, cost: &LineCost, margin: usize) -> String {
    let mut notes = time_line(lines, cost, margin);
    for native in &cost.natives {
        notes.push_str(&called(lines, &cost.natives, native, "native", margin));
    }
    for callee in &cost.callees {
        let how = if callee.inlined { "inlined" } else { "calls" };
        notes.push_str(&called(lines, &cost.callees, callee, how, margin));
    }
    notes
}

/// Returns the numbers of the lines to show: those with a cost and the lines around them, up to `length`.
fn shown_lines(costs: &Costs<'_>, begin: Option<u32>, length: usize) -> Vec<u32> {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    let mut shown: Vec<u32> =
        begin.filter(|&line| (1..=length).contains(&line)).into_iter().collect();
    for line in costs.keys().copied().filter(|&line| line > 0) {
        shown.push(line);
        let around = line.saturating_sub(CONTEXT).max(1)..=line.saturating_add(CONTEXT);
        shown.extend(around.filter(|&line| line <= length));
    }
    shown.sort_unstable();
    shown.dedup();
    shown
}

fn source_line(lines: &FunctionLines, cost: Option<&LineCost>, number: &str, text: &str) -> String {
    let share = |share: Option<f64>| {
        share.filter(|&share| share > 0.0).map_or(String::new(), format::share)
    };
    let whole = lines.total_weight.max(1) as f64;
    let part = cost.map_or(0.0, |cost| cost.total_weight as f64 / whole);
    let line = format!(
        "{:>8} {:<BAR$} {:>8}{number} │ {}",
        share(cost.map(|cost| cost.total_share)),
        format::bar(part, BAR),
        share(cost.map(|cost| cost.local_share)),
        cut(&text.replace('\t', "    ")),
    );
    format!("{}\n", line.trim_end())
}

/// Returns the note on how threads spend their time at a Python line; empty if the time is too small to show.
fn time_line(lines: &FunctionLines, cost: &LineCost, margin: usize) -> String {
    let whole = lines.time.as_ref().map_or(0, ThreadTime::total_ns);
    let Some(time) = cost.time.as_ref() else { return String::new() };
    let part = time.total_ns() as f64 / whole.max(1) as f64;
    match TimeShares::new(time, 1).filter(|_| part >= MIN_CALLEE) {
        Some(shares) => {
            note(margin, &format!("{} of the time: {}", format::share(part), shares.describe()))
        }
        None => String::new(),
    }
}

/// Returns the note on a callee; empty if the callee is too small or too far down the list to show.
fn called(
    lines: &FunctionLines,
    all: &[CalleeCost],
    one: &CalleeCost,
    how: &str,
    margin: usize,
) -> String {
    let rank = all.iter().position(|other| other == one);
    let is_small = (one.weight as f64) < lines.total_weight as f64 * MIN_CALLEE;
    if is_small || rank.is_none_or(|rank| rank >= MAX_CALLEES) {
        return String::new();
    }
    note(margin, &format!("{how} {} ({})", cut(&one.name), format::share(one.share)))
}

/// Formats a note beneath a source line.
fn note(margin: usize, text: &str) -> String {
    format!("{:>margin$} │   ↳ {text}\n", "")
}

fn cut(text: &str) -> String {
    let text: String = text.chars().filter(|character| !character.is_control()).collect();
    match text.char_indices().nth(MAX_WIDTH) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use simprof_model::WaitCause;

    use super::*;
    use crate::analysis::{FunctionSet, function_lines};
    use crate::testing::{Sketch, profile};

    const SOURCE: &str = "fn helper() {}\n\nfn look(grid: &Grid) -> f64 {\n\tlet mut sum = 0.0;\n    \
        for cell in grid.cells() {\n        sum += cell.value(); // ```\n    }\n    sum\n}\n\n\n\n\n\n\n\n\
        fn tail() {}\n";

    fn lines() -> FunctionLines {
        let profile = profile(&[
            ("main > look@5 > +sim::cells%src/grid.rs@3", 200),
            ("main > look@6 > +sim::value%src/grid.rs@9", 300),
            ("main > look@6 > sim::slow%src/grid.rs@20", 100),
            ("main > look@6", 50),
            ("main > look@17", 10),
            ("main > look%src/inc.rs@2", 20),
            ("main > look", 20),
            ("main > rest", 300),
        ]);
        let set = FunctionSet::matching(&profile, "look").expect("valid");
        function_lines(&profile, &set, &set).expect("samples")
    }

    #[test]
    fn source_lines_have_their_cost() {
        let source = |file: &str| (file == "src/sim.rs").then(|| SOURCE.to_owned());
        insta::assert_snapshot!(annotate(&lines(), "CPU time", &source));
    }

    #[test]
    fn without_the_file_lines_are_listed_without_text() {
        let page = annotate(&lines(), "CPU time", &|_| None);
        assert!(page.contains("Source file `src/sim.rs` was not found"), "{page}");
        assert!(page.contains("45 % █████▏       35 %"), "{page}");
        assert!(!page.contains('⋮'), "{page}");
    }

    #[test]
    fn a_python_line_has_thread_time_and_native_functions() {
        const SOURCE: &str = "def step(self):\n    self.agents.sort(key=order)\n    total = grid.dot(grid)\n    \
            with self.lock:\n        time.sleep(0.01)\n    return total\n";
        let lib = "/opt/lib/libpython3.11.so.1.0";
        let numpy = "/opt/lib/python3.11/site-packages/numpy/_core.so";
        let step = |line: u32| format!("p:run.<module>@9 > p:sim.Model.step@{line}");
        let profile = Sketch::new()
            .sample(&format!("{} > list_sort~{lib} > p:sim.order@20", step(2)), 200)
            .sample(&format!("{} > list_sort~{lib}", step(2)), 100)
            .sample(&format!("{} > DOUBLE_dot~{numpy} > memcpy~/lib/libc.so.6", step(3)), 400)
            .sample(&step(3), 50)
            .sample("p:run.<module>@9 > p:sim.other", 250)
            .wait(&step(4), WaitCause::Synchronisation, 150)
            .wait(&step(3), WaitCause::Interpreter, 50)
            .wait(&step(5), WaitCause::Sleep, 50)
            .finish();
        let set = FunctionSet::matching(&profile, "Model.step").expect("valid");
        let lines = function_lines(&profile, &set, &set).expect("samples");
        insta::assert_snapshot!(annotate(&lines, "CPU time", &|_| Some(SOURCE.to_owned())));
    }

    #[test]
    fn the_lines_of_a_tight_loop_are_a_block() {
        let profile = Sketch::new()
            .tight_loop(16..32, &["look"], &["look@5", "look@6", "look@9"])
            .sample("main > look@5#20", 700)
            .sample("main > look@6#24 > +sim::value%src/grid.rs@9#24", 100)
            .sample("main > look@6#28 > sim::slow%src/grid.rs@20", 150)
            .sample("main > look@8#40", 50)
            .finish();
        let set = FunctionSet::matching(&profile, "look").expect("valid");
        let lines = function_lines(&profile, &set, &set).expect("samples");
        insta::assert_snapshot!(annotate(&lines, "CPU time", &|_| Some(SOURCE.to_owned())));
    }

    #[test]
    fn hostile_names_and_source_text_cannot_end_the_code_block() {
        let profile = profile(&[("ev`il\n# x > look@1 > +``````@2", 1)]);
        let set = FunctionSet::matching(&profile, "look").expect("valid");
        let lines = function_lines(&profile, &set, &set).expect("samples");
        let page = annotate(&lines, "CPU time", &|_| Some("`````\u{1b}[31m\n".into()));
        assert!(page.contains("\n```````text\n"), "{page}");
        assert!(!page.contains('\u{1b}'), "{page}");
    }

    #[test]
    fn file_names_are_plain_and_unique() {
        let mut taken = Vec::new();
        for (function, expected) in [
            ("sim::step", "sim_step.md"),
            ("Sim::step", "Sim_step_2.md"),
            ("<sim::A as B>::act/../x", "sim_A_as_B_act_x.md"),
            ("../..", "function.md"),
        ] {
            assert_eq!(annotated_file_name(function, &mut taken), expected);
        }
        assert!(annotated_file_name(&"x".repeat(500), &mut taken).len() < 100);
    }
}
