//! Phase 3: where it is slow.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use simprof_model::HeapProfile;

use super::common::{Bounds, Head};
use super::macro_::ProfileSummary;
use super::memory::MemorySummary;
use super::python::{TimeShares, WaitingLine};
use crate::analysis::{HeapLine, LineAmounts, heap_lines, heap_lines_with_callees};

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
    /// Bytes that leak, likewise: by how much what is alive grew over the steps, where that goes on.
    pub leaked_bytes: Option<u64>,
}

impl LineSummary {
    /// Adds what another run told of memory.
    pub fn add_memory(&mut self, profile: &HeapProfile, memory: MemorySummary) {
        let whole = heap_lines_with_callees(profile);
        for line in self.functions.iter_mut().flat_map(|function| &mut function.lines) {
            line.set_memory(whole.get(&(line.file.clone(), line.line)), &memory);
        }
        let own = heap_lines(profile);
        for line in &mut self.lines {
            let is_it = |known: &&HeapLine| {
                known.file.as_ref() == Some(&line.file) && known.line == Some(line.line)
            };
            let amounts = own.iter().find(is_it).map(|known| &known.amounts);
            line.set_memory(amounts, &memory);
        }
        self.statements.extend(memory.statements.iter().cloned());
        self.head.warnings.extend(memory.warnings.iter().cloned());
        self.memory = Some(memory);
    }
}

impl LineCost {
    fn set_memory(&mut self, amounts: Option<&LineAmounts>, memory: &MemorySummary) {
        let leaked = memory
            .lines
            .iter()
            .filter(|line| line.file.as_ref() == Some(&self.file) && line.line == Some(self.line));
        self.alloc_bytes = Some(amounts.map_or(0, |amounts| amounts.allocated.bytes));
        self.alloc_count = Some(amounts.map_or(0, |amounts| amounts.allocated.count));
        self.leaked_bytes = Some(leaked.map(|line| line.leaked_bytes).sum());
    }
}
