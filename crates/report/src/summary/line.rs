//! Phase 3: where it is slow.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use simprof_model::{HeapAmount, HeapProfile};

use super::common::{Bounds, Head};
use super::macro_::ProfileSummary;
use super::memory::{LeakSummary, MemorySummary};
use super::python::{TimeShares, WaitingLine};
use crate::analysis::{heap_lines, heap_lines_with_callees};

/// phase3_summary.json.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LineSummary {
    /// What every summary begins with.
    #[serde(flatten)]
    pub head: Head,
    /// How it was recorded; absent where nothing was.
    pub profile: Option<ProfileSummary>,
    /// The functions that were looked at, in order of choice.
    pub functions: Vec<FunctionLines>,
    /// The hottest lines, by share: of the author's code over the whole program, each with the libraries
    /// that it calls; or those of the functions that were asked for by name.
    pub lines: Vec<LineCost>,
    /// The lines where threads wait longest, at most 20; only of threads that run Python.
    #[serde(default)]
    pub waits: Vec<WaitingLine>,
    /// What memory is used for; absent where allocations were not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemorySummary>,
    /// What it means, one sentence each.
    pub statements: Vec<String>,
}

/// A function that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FunctionLines {
    /// As it was chosen or asked for.
    pub asked: String,
    /// Who chose it: `phase 1`, `phase 2` or `by name`.
    pub chosen_by: String,
    /// The function whose lines are shown: the one asked for, or where its wrappers lead.
    pub name: String,
    /// The wrappers that were followed, from the one asked for.
    pub followed: Vec<String>,
    /// Share of CPU time in it and what it calls, 0 to 1.
    pub total_share: f64,
    /// 95 % interval of that share.
    pub interval: Bounds,
    /// Share that phase 1 saw, from other runs; absent where phase 1 did not run.
    pub phase1_share: Option<f64>,
    /// What threads did while the function was on their stack; absent for native functions.
    #[serde(default)]
    pub time: Option<TimeShares>,
    /// File with its annotated source, relative to the phase's folder; absent where it has no lines.
    pub annotated: Option<String>,
    /// Its hottest lines, by share of CPU time; for a Python function by time on a CPU or waiting.
    pub lines: Vec<LineCost>,
}

/// What a line costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LineCost {
    /// The function that it stands in.
    pub function: String,
    /// Source file.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Share of all CPU time spent at this line and in what it calls, 0 to 1.
    pub cpu_share: f64,
    /// Share of all CPU time spent at this line itself, 0 to 1, for Python with the native functions that it runs; absent in the
    /// list over the whole program.
    pub self_share: Option<f64>,
    /// 95 % interval of `cpu_share`.
    pub interval: Bounds,
    /// What it calls, inlined or not, by share: `name (share)`.
    pub callees: Vec<String>,
    /// What threads did at this line and in what it calls; in the list over the whole program, in the libraries that it calls.
    /// Absent for native functions.
    #[serde(default)]
    pub time: Option<TimeShares>,
    /// Native functions that a line of Python runs itself, by share of all CPU time: `name (share)`.
    #[serde(default)]
    pub natives: Vec<String>,
    /// Its source text, where the file could be read.
    pub text: Option<String>,
    /// Bytes allocated at this line and in what it calls (in the list over the whole program: in the libraries that it calls);
    /// absent where allocations were not recorded.
    pub alloc_bytes: Option<u64>,
    /// Allocations, likewise.
    pub alloc_count: Option<u64>,
    /// Bytes that this line leaks, itself or in the libraries that it calls: by how much what is alive grew over the steps, where that goes
    /// on and is not freed at the end. What leaks in the program's functions that it calls is at their lines.
    pub leaked_bytes: Option<u64>,
}

impl LineSummary {
    /// Adds what another run told of memory. A line of a function is that of its file, whichever function's it is, as in the annotated
    /// source; a line of the list over the whole program is that of its function alone.
    pub fn add_memory(&mut self, profile: &HeapProfile, memory: MemorySummary) {
        let whole = heap_lines_with_callees(profile);
        for line in self.functions.iter_mut().flat_map(|function| &mut function.lines) {
            let place = (line.file.clone(), line.line);
            let leaked = leaked(&memory, |leak| line.is_at(leak.file.as_ref(), leak.line));
            line.set_memory(whole.get(&place).map(|amounts| amounts.allocated), leaked);
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

/// Bytes that lines leak of which this is true.
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
            chosen_by: "name".to_owned(),
            name: "s::f".to_owned(),
            followed: Vec::new(),
            total_share: 0.5,
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
                measurements: Vec::new(),
                notices: Vec::new(),
            },
            profile: None,
            functions: vec![of_function(vec![cost("s::f", 5)])],
            lines: vec![cost("s::f", 5), cost("s::g", 5), cost("s::f", 6)],
            waits: Vec::new(),
            memory: None,
            statements: Vec::new(),
        }
    }

    fn told(line: &LineCost) -> (u64, u64) {
        let is = "memory was recorded";
        (line.alloc_bytes.expect(is), line.leaked_bytes.expect(is))
    }

    #[test]
    fn memory_goes_to_the_line_of_its_own_function() {
        let stacks = [
            ("main@1 > s::f@5 > malloc", 9_000_000),
            ("main@1 > s::g@5 > malloc", 70),
            ("main@1 > s::h@8 > malloc", 3),
        ];
        let live = |site: usize, step: u64| if site == 0 { 40_000 * step } else { 3 };
        let heap = with_ticks(heap(&stacks), 200, |_| None, live);
        let mut memory = memory_summary(&heap, None, &|_, _| None);
        // What leaks is told by the list of leaks, whether or not it is among the first lines.
        memory.lines.clear();
        let mut summary = summary();
        summary.add_memory(&heap, memory);
        let found: Vec<_> = summary.lines.iter().map(told).collect();
        assert_eq!(found, [(9_000_000, 40_000 * 179), (70, 0), (0, 0)]);
        assert_eq!(told(&summary.functions[0].lines[0]), (9_000_070, 40_000 * 179), "of the place");
    }
}
