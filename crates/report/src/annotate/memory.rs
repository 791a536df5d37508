//! What lines allocate, as columns of annotated source.

use std::collections::{BTreeMap, BTreeSet};

use simprof_model::{HeapAmount, HeapAmounts, HeapProfile};

use crate::analysis::heap_lines_with_callees;
use crate::format;

/// Characters of a column.
const WIDTH: usize = 9;
/// Characters of all columns, each with a space before it.
pub const COLUMNS: usize = 3 * (WIDTH + 1);

/// What each line of a program allocates, and what it calls.
#[derive(Debug, Clone)]
pub struct MemoryLines {
    lines: BTreeMap<(String, u32), HeapAmounts>,
    /// Lines that a function's own frames stand at.
    functions: BTreeMap<String, BTreeSet<(String, u32)>>,
    has_steps: bool,
}

impl MemoryLines {
    /// Of a heap profile.
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

    /// Lines of a function, by file, that allocate or call what does.
    pub(super) fn of_function(&self, function: &str) -> impl Iterator<Item = (&str, u32)> {
        let lines = self.functions.get(function).into_iter().flatten();
        lines
            .filter(|line| self.lines.contains_key(line))
            .map(|(file, line)| (file.as_str(), *line))
    }

    /// Names of the columns.
    pub(super) fn titles(&self) -> String {
        columns(["allocated", "at peak", if self.has_steps { "temporary" } else { "short" }])
    }

    /// What the columns hold, as sentences.
    pub(super) fn legend(&self) -> String {
        let temporary = if self.has_steps {
            "`temporary` was freed in the step that allocated it"
        } else {
            "`short` was freed within a millisecond"
        };
        format!(
            "Memory is that of another run, of the line and all that it calls: `allocated` in all, `at peak` what was alive when most \
             was, {temporary}."
        )
    }

    /// The columns of a line.
    pub(super) fn columns(&self, file: &str, line: u32) -> String {
        let amounts = self.lines.get(&(file.to_owned(), line));
        let shown = |of: fn(&HeapAmounts) -> HeapAmount| {
            let bytes = amounts.map_or(0, |amounts| of(amounts).bytes);
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
    fn memory_stands_beside_time() {
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
