//! The summary of phase 3: the cost of source lines.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use simprof_model::{HeapAmount, HeapProfile};

use super::common::{Bounds, Head};
use super::heap::{LeakSummary, MemorySummary};
use super::macro_::ProfileSummary;
use super::parts::PartSummary;
use super::thread_time::{TimeShares, WaitingLine};
use crate::analysis::{heap_lines, heap_lines_with_callees};

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
    /// Line, 1-based.
    pub line: u32,
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
    /// Its source text, if the file could be read.
    pub text: Option<String>,
    /// Bytes allocated at this line and in its callees; `null` if allocations were not recorded.
    pub alloc_bytes: Option<u64>,
    /// Number of these allocations.
    pub alloc_count: Option<u64>,
    /// Bytes leaked at this line and in the libraries that it calls: the growth of live bytes over the steps, if it continues
    /// and is not freed at the end. Leaks in other functions of the program are at their own lines.
    pub leaked_bytes: Option<u64>,
}

impl LineSummary {
    /// Adds the memory that another run recorded. A line of a single function gets the memory of its line in the file, like
    /// the annotated source. A line in the list over the whole program gets only the memory of its own function.
    pub fn add_memory(&mut self, profile: &HeapProfile, memory: MemorySummary) {
        let whole = heap_lines_with_callees(profile);
        for line in self.functions.iter_mut().flat_map(|function| &mut function.lines) {
            let key = (line.file.clone(), line.line);
            let leaked = leaked(&memory, |leak| line.is_at(leak.file.as_ref(), leak.line));
            line.set_memory(whole.get(&key).map(|amounts| amounts.allocated), leaked);
        }
        let own = heap_lines(profile);
        for line in &mut self.lines {
            let is_it = |function: &str, file: Option<&String>, number: Option<u32>| {
                function == line.function && line.is_at(file, number)
            };
            let known =
                own.iter().filter(|known| is_it(&known.function, known.file.as_ref(), known.line));
            let allocated = known.map(|known| known.amounts.allocated).sum();
            let leaked =
                leaked(&memory, |leak| is_it(&leak.function, leak.file.as_ref(), leak.line));
            line.set_memory(Some(allocated), leaked);
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

impl LineCost {
    fn is_at(&self, file: Option<&String>, line: Option<u32>) -> bool {
        file == Some(&self.file) && line == Some(self.line)
    }

    fn set_memory(&mut self, allocated: Option<HeapAmount>, leaked: u64) {
        let allocated = allocated.unwrap_or_default();
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
}
