//! The summary of phase 3: the cost of source lines.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use simprof_model::{HeapAmount, HeapProfile};

use super::common::{Bounds, Head};
use super::heap::{LeakSummary, MemorySummary};
use super::macro_::ProfileSummary;
use super::parts::PartSummary;
use super::thread_time::{TimeShares, WaitingLine};
use crate::analysis::{LoopCost, LoopLineCost, heap_lines, heap_lines_with_callees};
use crate::format;

/// phase3_summary.json.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LineSummary {
    /// Fields common to all summaries.
    #[serde(flatten)]
    pub head: Head,
    /// How the profile was recorded; `null` if nothing was.
    pub profile: Option<ProfileSummary>,
    /// The parts of a run in order of time. Shares of lines are of the program's work: `steps`, or `program` without steps.
    #[serde(default)]
    pub parts: Vec<PartSummary>,
    /// The functions that were examined, in the order of choice.
    pub functions: Vec<FunctionLines>,
    /// The hottest lines by share: of the author's code over the whole program, each including the libraries that it
    /// calls; or, if functions were requested by name, of these functions.
    pub lines: Vec<LineCost>,
    /// The lines with the longest waits, at most 20; only of threads that run Python.
    #[serde(default)]
    pub waits: Vec<WaitingLine>,
    /// Allocated memory; absent if allocations were not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemorySummary>,
    /// Findings, one sentence each.
    pub statements: Vec<String>,
}

/// Why a function is examined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ChosenBy {
    /// A bottleneck of phase 1.
    #[serde(rename = "phase 1")]
    Macro,
    /// A bottleneck in the component that phase 2 found to grow fastest.
    #[serde(rename = "phase 2")]
    Component,
    /// The heaviest callee of a bottleneck of phase 1.
    #[serde(rename = "library")]
    Library,
    /// Requested by name.
    #[serde(rename = "name")]
    Name,
    /// A bottleneck of this phase's recording, if phase 1 did not run.
    #[serde(rename = "this recording")]
    Recording,
}

impl ChosenBy {
    /// Returns the reason as the beginning of a sentence.
    pub fn describe(self) -> &'static str {
        match self {
            ChosenBy::Macro => "Bottleneck of phase 1",
            ChosenBy::Component => "Bottleneck in the component that grows fastest (phase 2)",
            ChosenBy::Library => "Heaviest callee of a bottleneck of phase 1",
            ChosenBy::Name => "Requested by name",
            ChosenBy::Recording => "Bottleneck of this recording",
        }
    }
}

/// A function that was examined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FunctionLines {
    /// Name as it was chosen or requested.
    pub asked: String,
    /// Why it was chosen.
    pub chosen_by: ChosenBy,
    /// Name of the function whose lines are listed: the chosen one, or the one that its wrappers lead to.
    pub name: String,
    /// Path of its module; `null` if it is unknown, and for a Python function.
    #[serde(default)]
    pub module: Option<String>,
    /// Whether it is part of the kernel, whose functions have no lines.
    #[serde(default)]
    pub is_kernel: bool,
    /// The wrappers that were followed, from the chosen function on.
    pub followed: Vec<String>,
    /// Share of CPU time in it and its callees, 0 to 1.
    pub total_share: f64,
    /// Whether it runs only outside of the program's work, such as in the set-up. Its shares are then of the whole run.
    #[serde(default)]
    pub is_outside_work: bool,
    /// 95 % interval of that share.
    pub interval: Bounds,
    /// Its share in the runs of phase 1; `null` if phase 1 did not run.
    pub phase1_share: Option<f64>,
    /// How threads spent their time with the function on the stack; `null` for native functions.
    #[serde(default)]
    pub time: Option<TimeShares>,
    /// File with its annotated source, relative to the phase's folder; `null` if it has no lines.
    pub annotated: Option<String>,
    /// Its hottest lines by share of CPU time; for a Python function by CPU time plus waiting.
    pub lines: Vec<LineCost>,
}

/// The cost of a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LineCost {
    /// The function that the line belongs to.
    pub function: String,
    /// Source file.
    pub file: String,
    /// Line, 1-based. Of a loop the first one.
    pub line: u32,
    /// The loop, if this is the cost of all lines of a tight loop: samples do not distinguish them. Time in functions that the loop
    /// calls is not included. Absent for a single line.
    #[serde(rename = "loop", default, skip_serializing_if = "Option::is_none")]
    pub in_loop: Option<LoopLines>,
    /// Share of all CPU time at this line and in its callees, 0 to 1. In the list over the whole program only libraries
    /// count as callees.
    pub cpu_share: f64,
    /// Share of all CPU time at this line itself, 0 to 1, for Python including native functions that it runs; `null` in the
    /// list over the whole program.
    pub self_share: Option<f64>,
    /// 95 % interval of `cpu_share`.
    pub interval: Bounds,
    /// Its callees, inlined or not, by share: `name (share)`.
    pub callees: Vec<String>,
    /// How threads spent their time at this line and in its callees; `null` for native functions.
    #[serde(default)]
    pub time: Option<TimeShares>,
    /// Native functions that a Python line runs, by share of all CPU time: `name (share)`.
    #[serde(default)]
    pub natives: Vec<String>,
    /// Its source text, if the file could be read; of a loop its first lines.
    pub text: Option<String>,
    /// Bytes allocated at this line and in its callees; `null` if allocations were not recorded.
    pub alloc_bytes: Option<u64>,
    /// Number of these allocations.
    pub alloc_count: Option<u64>,
    /// Bytes leaked at this line and in the libraries that it calls: the growth of live bytes over the steps, if it continues
    /// and is not freed at the end. Leaks in other functions of the program are at their own lines.
    pub leaked_bytes: Option<u64>,
}

/// The lines of a tight loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoopLines {
    /// First line of the function in the loop.
    pub first_line: u32,
    /// Last line of the function in the loop.
    pub last_line: u32,
    /// The lines of the function in order, also those without samples; then sampled lines of functions that are inlined there, by
    /// share. The shares are a hint only.
    pub lines: Vec<LoopLine>,
}

/// The samples at a line of a tight loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoopLine {
    /// The function that the line belongs to.
    pub function: String,
    /// Source file.
    pub file: String,
    /// Line, 1-based.
    pub line: u32,
    /// Share of all CPU time in samples at the line, 0 to 1.
    pub share: f64,
}

impl LoopLines {
    /// Returns the lines of a loop with their shares.
    pub fn new(found: &LoopCost) -> Self {
        let line = |line: &LoopLineCost| LoopLine {
            function: line.function.clone(),
            file: line.file.clone(),
            line: line.line,
            share: line.share,
        };
        Self {
            first_line: found.first_line,
            last_line: found.last_line,
            lines: found.lines.iter().map(line).collect(),
        }
    }

    /// Returns `9-10, loop`.
    pub fn name(&self) -> String {
        loop_name(self.first_line, self.last_line)
    }

    /// Returns the samples by line: `10 62 %, 9 35 %, vector.h:7 2.1 %`, at most `limit`, the largest first. Lines of inlined
    /// functions have their file.
    pub fn hint(&self, limit: usize) -> String {
        let own = self.lines.first().map(|line| line.function.as_str());
        let mut lines: Vec<&LoopLine> = self.lines.iter().collect();
        lines.sort_by(|a, b| b.share.total_cmp(&a.share));
        let lines = lines.into_iter().take(limit).map(|line| {
            let short = line.file.rsplit('/').next().unwrap_or_default();
            let is_own = own == Some(&line.function);
            let file = if is_own { String::new() } else { format!("{short}:") };
            format!("{file}{} {}", line.line, format::share(line.share))
        });
        lines.collect::<Vec<_>>().join(", ")
    }
}

/// Returns the name of the lines of a tight loop: `9-10, loop`.
pub(crate) fn loop_name(first_line: u32, last_line: u32) -> String {
    if first_line == last_line {
        format!("{first_line}, loop")
    } else {
        format!("{first_line}-{last_line}, loop")
    }
}

impl LineSummary {
    /// Adds the memory that another run recorded. A line of a single function gets the memory of its line in the file, like
    /// the annotated source. A line in the list over the whole program gets only the memory of its own function.
    pub fn add_memory(&mut self, profile: &HeapProfile, memory: MemorySummary) {
        let whole = heap_lines_with_callees(profile);
        for function in &mut self.functions {
            for (line, numbers) in with_numbers(&mut function.lines) {
                let allocated = numbers
                    .iter()
                    .filter_map(|&number| Some(whole.get(&(line.file.clone(), number))?.allocated));
                let allocated = allocated.sum();
                let leaked = leaked(&memory, |leak| {
                    leak.file.as_ref() == Some(&line.file) && is_one_of(&numbers, leak.line)
                });
                line.set_memory(allocated, leaked);
            }
        }
        let own = heap_lines(profile);
        for (line, numbers) in with_numbers(&mut self.lines) {
            let is_it = |function: &str, file: Option<&String>, number: Option<u32>| {
                function == line.function && file == Some(&line.file) && is_one_of(&numbers, number)
            };
            let known =
                own.iter().filter(|known| is_it(&known.function, known.file.as_ref(), known.line));
            let allocated = known.map(|known| known.amounts.allocated).sum();
            let leaked =
                leaked(&memory, |leak| is_it(&leak.function, leak.file.as_ref(), leak.line));
            line.set_memory(allocated, leaked);
        }
        self.statements.extend(memory.statements.iter().cloned());
        self.head.notices.extend(memory.notices.iter().cloned());
        self.memory = Some(memory);
    }
}

/// Returns the leaked bytes of the lines that `is_it` selects.
fn leaked(memory: &MemorySummary, is_it: impl Fn(&LeakSummary) -> bool) -> u64 {
    memory.leaks.iter().filter(|leak| is_it(leak)).map(LeakSummary::leaked_bytes).sum()
}

/// Returns each row with the numbers of the lines whose memory it shows. The memory of a line of a loop is in the line's own row if it
/// has one, because allocations are calls.
fn with_numbers(rows: &mut [LineCost]) -> impl Iterator<Item = (&mut LineCost, Vec<u32>)> {
    let key = |row: &LineCost, number: u32| (row.function.clone(), row.file.clone(), number);
    let single = rows.iter().filter(|row| row.in_loop.is_none()).map(|row| key(row, row.line));
    let single: BTreeSet<_> = single.collect();
    rows.iter_mut().map(move |row| {
        let numbers = match &row.in_loop {
            None => vec![row.line],
            Some(found) => {
                let of_row = found
                    .lines
                    .iter()
                    .filter(|line| (&line.function, &line.file) == (&row.function, &row.file));
                let numbers = of_row.map(|line| line.line);
                numbers.filter(|&number| !single.contains(&key(row, number))).collect()
            }
        };
        (row, numbers)
    })
}

fn is_one_of(numbers: &[u32], number: Option<u32>) -> bool {
    number.is_some_and(|number| numbers.contains(&number))
}

impl LineCost {
    /// Returns the line, or the lines of the loop: `9`, or `9-10, loop`.
    pub fn lines(&self) -> String {
        self.in_loop.as_ref().map_or_else(|| self.line.to_string(), LoopLines::name)
    }

    fn set_memory(&mut self, allocated: HeapAmount, leaked: u64) {
        self.alloc_bytes = Some(allocated.bytes);
        self.alloc_count = Some(allocated.count);
        self.leaked_bytes = Some(leaked);
    }
}

#[cfg(test)]
mod tests {
    use simprof_model::{Mode, Status};

    use super::*;
    use crate::summary::memory_summary;
    use crate::testing::{heap, line_cost as cost, with_ticks};

    fn of_function(lines: Vec<LineCost>) -> FunctionLines {
        FunctionLines {
            asked: "s::f".to_owned(),
            chosen_by: ChosenBy::Name,
            name: "s::f".to_owned(),
            module: None,
            is_kernel: false,
            followed: Vec::new(),
            total_share: 0.5,
            is_outside_work: false,
            interval: [0.4, 0.6],
            phase1_share: None,
            time: None,
            annotated: None,
            lines,
        }
    }

    fn summary() -> LineSummary {
        LineSummary {
            head: Head {
                schema: "simprof.phase3/1".to_owned(),
                status: Status::Ok,
                target: "sim".to_owned(),
                command: Vec::new(),
                mode: Mode::Quick,
                budget_s: None,
                measurements: Vec::new(),
                notices: Vec::new(),
            },
            profile: None,
            parts: Vec::new(),
            functions: vec![of_function(vec![cost("s::f", 5)])],
            lines: vec![cost("s::f", 5), cost("s::g", 5), cost("s::f", 6)],
            waits: Vec::new(),
            memory: None,
            statements: Vec::new(),
        }
    }

    fn memory_of(line: &LineCost) -> (u64, u64) {
        let is = "memory was recorded";
        (line.alloc_bytes.expect(is), line.leaked_bytes.expect(is))
    }

    #[test]
    fn lines_get_the_memory_of_their_own_function() {
        let stacks = [
            ("main@1 > s::f@5 > malloc", 9_000_000),
            ("main@1 > s::g@5 > malloc", 70),
            ("main@1 > s::h@8 > malloc", 3),
        ];
        let live = |site: usize, step: u64| if site == 0 { 40_000 * step } else { 3 };
        let heap = with_ticks(heap(&stacks), 200, |_| None, live);
        let mut memory = memory_summary(&heap, None, &|_, _| None);
        // Leaks come from the list of leaks, even if the line is not among the first lines.
        memory.lines.clear();
        let mut summary = summary();
        summary.add_memory(&heap, memory);
        let found: Vec<_> = summary.lines.iter().map(memory_of).collect();
        assert_eq!(found, [(9_000_000, 40_000 * 179), (70, 0), (0, 0)]);
        let line = &summary.functions[0].lines[0];
        assert_eq!(memory_of(line), (9_000_070, 40_000 * 179), "the memory of both functions");
    }

    #[test]
    fn a_loop_has_the_memory_of_lines_without_a_row() {
        let heap = heap(&[("s::f@5 > malloc", 10), ("s::f@6 > malloc", 200)]);
        let memory = memory_summary(&heap, None, &|_, _| None);
        let mut summary = summary();
        let line = |line| LoopLine {
            function: "s::f".to_owned(),
            file: "src/sim.rs".to_owned(),
            line,
            share: 0.1,
        };
        let in_loop = LoopLines { first_line: 5, last_line: 6, lines: vec![line(5), line(6)] };
        let of_loop = LineCost { in_loop: Some(in_loop), ..cost("s::f", 5) };
        summary.lines = vec![cost("s::f", 5), of_loop.clone()];
        summary.functions = vec![of_function(vec![of_loop])];
        summary.add_memory(&heap, memory);
        let found: Vec<_> = summary.lines.iter().map(memory_of).collect();
        assert_eq!(found, [(10, 0), (200, 0)]);
        assert_eq!(memory_of(&summary.functions[0].lines[0]), (210, 0));
    }

    #[test]
    fn a_loop_is_named_by_its_lines() {
        let line = |file: &str, line, share| LoopLine {
            function: file.to_owned(),
            file: file.to_owned(),
            line,
            share,
        };
        let lines = vec![line("/a/sim.c", 9, 0.1), line("/a/sim.c", 10, 0.5), line("v.h", 7, 0.2)];
        let found = LoopLines { first_line: 9, last_line: 10, lines };
        assert_eq!(
            (found.name().as_str(), found.hint(2).as_str()),
            ("9-10, loop", "10 50 %, v.h:7 20 %")
        );
        assert_eq!(loop_name(9, 9), "9, loop");
    }
}
