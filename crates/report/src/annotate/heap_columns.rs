//! The memory columns of annotated source.

use std::collections::{BTreeMap, BTreeSet};

use simprof_model::{HeapAmount, HeapAmounts, HeapProfile};

use crate::analysis::heap_lines_with_callees;
use crate::format;

/// Width of a column.
const WIDTH: usize = 9;
/// Width of all columns, each with a leading space.
pub const COLUMNS: usize = 3 * (WIDTH + 1);

/// The memory that each line of a program and its callees allocate.
#[derive(Debug, Clone)]
pub struct MemoryLines {
    lines: BTreeMap<(String, u32), HeapAmounts>,
    /// The lines of each function that are on any stack.
    functions: BTreeMap<String, BTreeSet<(String, u32)>>,
    has_steps: bool,
}

impl MemoryLines {
    /// Reads the lines of a heap profile.
    pub fn new(profile: &HeapProfile) -> Self {
        let tables = &profile.tables;
        let mut functions: BTreeMap<String, BTreeSet<(String, u32)>> = BTreeMap::new();
        for frame in &tables.frames {
            let file = frame.file.or(tables.function(frame.function).file);
            if let (Some(file), Some(line)) = (file, frame.line) {
                let name = tables.function_name(frame.function).to_owned();
                functions.entry(name).or_default().insert((tables.string(file).to_owned(), line));
            }
        }
        Self { lines: heap_lines_with_callees(profile), functions, has_steps: profile.steps > 0 }
    }

    /// Iterates over the lines of a function that allocate, themselves or in a callee, as file and number.
    pub(super) fn of_function(&self, function: &str) -> impl Iterator<Item = (&str, u32)> {
        let lines = self.functions.get(function).into_iter().flatten();
        lines
            .filter(|line| self.lines.contains_key(line))
            .map(|(file, line)| (file.as_str(), *line))
    }

    /// Returns the titles of the columns.
    pub(super) fn titles(&self) -> String {
        columns(["allocated", "at peak", if self.has_steps { "temporary" } else { "short" }])
    }

    /// Returns the explanation of the columns.
    pub(super) fn legend(&self) -> String {
        let temporary = if self.has_steps {
            "`temporary`, freed in the step that allocated it"
        } else {
            "`short`, freed within a millisecond"
        };
        format!(
            "Memory was recorded in a separate run. Its columns are for the line and its callees: `allocated`, in total; \
             `at peak`, live at the peak of all memory; {temporary}."
        )
    }

    /// Returns the columns of a line.
    pub(super) fn columns(&self, file: &str, line: u32) -> String {
        let amounts = self.lines.get(&(file.to_owned(), line));
        let shown = |amount: fn(&HeapAmounts) -> HeapAmount| {
            let bytes = amounts.map_or(0, |amounts| amount(amounts).bytes);
            if bytes == 0 { String::new() } else { format::bytes(bytes as f64) }
        };
        let last: fn(&HeapAmounts) -> HeapAmount = if self.has_steps {
            |amounts| amounts.temporary
        } else {
            |amounts| amounts.short_lived
        };
        let texts =
            [shown(|amounts| amounts.allocated), shown(|amounts| amounts.peak), shown(last)];
        columns(texts.each_ref().map(String::as_str))
    }
}

fn columns(texts: [&str; 3]) -> String {
    texts.map(|text| format!(" {text:>WIDTH$}")).concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{FunctionSet, function_lines};
    use crate::annotate::annotate_with_memory;
    use crate::testing::{heap, profile};

    const SOURCE: &str = "fn look() {\n    let a = vec![0; 9];\n    for b in a {\n        work(b);\n    }\n    keep();\n}\n";

    #[test]
    fn memory_columns_stand_beside_time() {
        let cpu = profile(&[("main@1 > look@4 > work@20", 3), ("main@1 > look@3", 1)]);
        let mut memory = heap(&[
            ("main@1 > look@2 > malloc", 300 << 20),
            ("main@1 > look@4 > work@20 > malloc", 5 << 10),
            ("main@1 > look@6 > keep@30 > malloc", 77),
            ("main@1 > other@44 > malloc", 9000),
        ]);
        memory.steps = 3;
        memory.sites[1].amounts.temporary = memory.sites[1].amounts.allocated;
        memory.sites[1].amounts.peak = HeapAmount::default();
        let set = FunctionSet::matching(&cpu, "look").expect("valid");
        let lines = function_lines(&cpu, &set, &set).expect("samples");
        let source = |file: &str| (file == "src/sim.rs").then(|| SOURCE.to_owned());
        let memory = MemoryLines::new(&memory);
        insta::assert_snapshot!(annotate_with_memory(&lines, "CPU time", Some(&memory), &source));
    }
}
