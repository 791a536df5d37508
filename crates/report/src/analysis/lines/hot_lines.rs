//! The lines of the whole program with the most time.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use simprof_model::{FrameId, FunctionId, Profile, StackId, StringId};

use super::loop_rows::{
    LoopIndex, LoopRow, LoopRows, LoopWeights, Position, leaf_frames, lines_of,
};
use super::{HotLine, LineKey, is_python};
use crate::analysis::origin::{Origin, origins};
use crate::analysis::python::{CodeKinds, interpreter_functions};
use crate::analysis::thread_time::{ThreadTime, waits_by_stack};
use crate::analysis::weights::{Groups, by_stack, share};

/// Returns the first `limit` lines of the whole program by decreasing weight.
///
/// A sample is charged to the frame nearest the leaf that the author wrote, so that time in libraries shows on the line
/// that called them. If there is none, it is charged to the frame nearest the leaf that is not part of an interpreter, or
/// else to the leaf. A sample in a tight loop is charged to the lines of the author's function that contains the loop.
pub fn hot_lines(profile: &Profile, limit: usize) -> Vec<HotLine> {
    let (charging, kinds) = (Charging::new(profile), CodeKinds::new(profile));
    let mut sums: BTreeMap<Charge, HotSum> = BTreeMap::new();
    for entry in by_stack(profile) {
        let Some((frame, charge)) = charging.charge(entry.stack) else { continue };
        let sum = sums.entry(charge).or_default();
        sum.weight += entry.weight;
        sum.time.add_cpu(kinds.classify(profile, entry.stack).part, entry.weight);
        sum.by_line.add(profile, profile.frame(frame), entry.weight);
    }
    for wait in waits_by_stack(profile) {
        let charge = charging.charge(wait.stack);
        if let Some(sum) = charge.and_then(|(_, charge)| sums.get_mut(&charge)) {
            sum.time.add_wait(wait.cause, wait.weight_ns);
        }
    }
    let whole = profile.total_weight();
    let mut lines: Vec<HotLine> =
        sums.into_iter().map(|(charge, sum)| charging.line(charge, sum, whole)).collect();
    lines.sort_by(|a, b| {
        (b.weight, &a.file, a.line, &a.function).cmp(&(a.weight, &b.file, b.line, &b.function))
    });
    lines.truncate(limit);
    lines
}

/// What is charged to a hot line.
#[derive(Debug, Default)]
struct HotSum {
    weight: u64,
    time: ThreadTime,
    by_line: LoopWeights,
}

/// What a sample is charged to: a group of functions and a line, or a row of a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Charge {
    /// `None` for a loop.
    group: Option<usize>,
    at: Position,
}

/// Which functions may be charged, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Level {
    Own,
    NotInterpreter,
    Any,
}

const LEVELS: [Level; 3] = [Level::Own, Level::NotInterpreter, Level::Any];

/// Decides which lines samples are charged to.
struct Charging<'a> {
    profile: &'a Profile,
    functions: FunctionLevels,
    groups: Groups,
    loops: LoopIndex,
    /// By the loop's position in the profile.
    rows: LoopRows<(usize, Level)>,
}

/// Which functions may be charged at which level.
struct FunctionLevels {
    origins: Vec<Origin>,
    interpreter: Vec<bool>,
}

impl FunctionLevels {
    fn has(&self, level: Level, id: FunctionId) -> bool {
        match level {
            Level::Own => self.origins[id.index()] == Origin::Own,
            Level::NotInterpreter => !self.interpreter[id.index()],
            Level::Any => true,
        }
    }

    /// Returns the frame that a stack is charged to.
    fn charged(&self, profile: &Profile, stack: Option<StackId>) -> Option<(FrameId, Level)> {
        LEVELS.into_iter().find_map(|level| {
            let is_charged = |id: &FrameId| self.has(level, profile.frame(*id).function);
            Some((profile.frames_from_leaf(stack).find(is_charged)?, level))
        })
    }
}

impl<'a> Charging<'a> {
    fn new(profile: &'a Profile) -> Self {
        let functions = FunctionLevels {
            origins: origins(profile),
            interpreter: interpreter_functions(profile),
        };
        let loops = LoopIndex::new(profile);
        let rows = LoopRows::join(rows(profile, &functions, &loops));
        Self { profile, functions, groups: Groups::new(profile), loops, rows }
    }

    /// Returns the charged frame of a stack, and what it counts for.
    fn charge(&self, stack: Option<StackId>) -> Option<(FrameId, Charge)> {
        let (id, level) = self.functions.charged(self.profile, stack)?;
        let frame = self.profile.frame(id);
        let in_loop = self.loops.of_stack(self.profile, stack);
        let row = in_loop.and_then(|index| self.rows.at(&(index, level))).or_else(|| {
            let is_executing = leaf_frames(self.profile, stack).any(|leaf| leaf == id);
            self.rows.at_line(self.profile, frame).filter(|_| is_executing)
        });
        let charge = match row {
            Some(row) => Charge { group: None, at: Position::Loop(row) },
            None => Charge {
                group: Some(self.groups.group_of(frame.function)),
                at: Position::Line(LineKey::of_frame(self.profile, frame)),
            },
        };
        Some((id, charge))
    }

    fn line(&self, charge: Charge, sum: HotSum, whole: u64) -> HotLine {
        let profile = self.profile;
        let (key, in_loop, name) = match charge.at {
            Position::Line(key) => (key, None, None),
            Position::Loop(index) => {
                let row = self.rows.row(index);
                let key = LineKey { file: Some(row.file), line: row.lines.first().copied() };
                (key, Some(sum.by_line.cost(profile, row, whole)), Some(row.function))
            }
        };
        let id = charge.group.map(|group| self.groups.first(group));
        let name = name.or(id.map(|id| profile.function(id).name));
        HotLine {
            function: name.map_or_else(String::new, |name| profile.string(name).to_owned()),
            file: key.file_name(profile),
            line: key.line,
            in_loop,
            interpreter: id.is_some_and(|id| self.functions.interpreter[id.index()]),
            weight: sum.weight,
            share: share(sum.weight, whole),
            time: id.filter(|&id| is_python(profile, id)).map(|_| sum.time),
        }
    }
}

/// Returns the rows of loops with several lines: of the function at each level that contains the loop, or of functions inlined there.
fn rows(
    profile: &Profile,
    functions: &FunctionLevels,
    loops: &LoopIndex,
) -> Vec<((usize, Level), LoopRow)> {
    let mut by_name: HashMap<StringId, FunctionId> = HashMap::new();
    for (id, function) in (0..).map(FunctionId).zip(&profile.functions) {
        by_name.entry(function.name).or_insert(id);
    }
    let sampled = sampled_lines(profile, functions, loops);
    let mut rows = Vec::new();
    for (index, tight) in profile.loops.iter().enumerate() {
        // Lines of an interpreter are no concern of the author.
        for level in [Level::Own, Level::NotInterpreter] {
            let is_charged =
                |name: &&StringId| by_name.get(name).is_some_and(|&id| functions.has(level, id));
            let Some(&function) = tight.functions.iter().find(is_charged) else { continue };
            let files = lines_of(profile, tight, function);
            let Some((file, lines)) = files.into_iter().max_by_key(|(_, lines)| lines.len()) else {
                continue;
            };
            let own = lines.iter().map(|&line| LineKey { file: Some(file), line: Some(line) });
            let mut all = sampled.get(&index).cloned().unwrap_or_default();
            all.extend(own);
            if all.len() > 1 {
                rows.push(((index, level), LoopRow { function, file, lines }));
            }
        }
    }
    rows
}

/// Returns the lines in each loop that samples are charged to.
fn sampled_lines(
    profile: &Profile,
    functions: &FunctionLevels,
    loops: &LoopIndex,
) -> HashMap<usize, BTreeSet<LineKey>> {
    let mut sampled: HashMap<usize, BTreeSet<LineKey>> = HashMap::new();
    for entry in by_stack(profile) {
        let Some(index) = loops.of_stack(profile, entry.stack) else { continue };
        let charged = functions.charged(profile, entry.stack).map(|(id, _)| id);
        let executing = leaf_frames(profile, entry.stack).find(|&id| Some(id) == charged);
        if let Some(id) = executing {
            let key = LineKey::of_frame(profile, profile.frame(id));
            sampled.entry(index).or_default().extend(key.line.map(|_| key));
        }
    }
    sampled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Sketch, profile};

    #[test]
    fn the_interpreter_is_charged_if_the_stack_has_nothing_else() {
        let lib = "/opt/lib/libpython3.11.so.1.0";
        let standard = "p:json.load%/opt/lib/python3.11/json/__init__.py@7";
        let profile = Sketch::new()
            .sample(&format!("eval~{lib}@1 > p:sim.f%sim.py@2 > eval~{lib}@1"), 5)
            .sample(&format!("eval~{lib}@1 > {standard} > eval~{lib}@1"), 3)
            .sample(&format!("eval~{lib}@1"), 2)
            .finish();
        let lines = hot_lines(&profile, 9);
        let found: Vec<_> =
            lines.iter().map(|line| (&*line.function, line.weight, line.interpreter)).collect();
        assert_eq!(found, [("sim.f", 5, false), ("json.load", 3, false), ("eval", 2, true)]);
    }

    #[test]
    fn hot_lines_are_the_authors() {
        let core = "core::add%/rustc/1/library/core/src/a.rs@7";
        let inlined = format!("main@1 > f@11 > +{core}");
        let profile = profile(&[(&inlined, 4), ("main@1 > f@11", 1), ("main@1 > g@3", 2), ("", 9)]);
        let lines = hot_lines(&profile, 2).into_iter();
        let found: Vec<_> =
            lines.map(|line| (line.function, line.line.expect("known"), line.weight)).collect();
        assert_eq!(found, [("f".to_owned(), 11, 5), ("g".to_owned(), 3, 2)]);
    }

    /// Returns the hot lines: function, first and last line, weight, and the weights of the loop's lines.
    fn hot(sketch: Sketch) -> Vec<(String, u32, u32, u64, Vec<(String, u32, u64)>)> {
        let row = |line: HotLine| {
            let first = line.line.expect("known");
            let last = line.in_loop.as_ref().map_or(first, |found| found.last_line);
            let lines = line.in_loop.map(|found| found.lines).unwrap_or_default();
            let lines = lines.into_iter().map(|line| (line.function, line.line, line.weight));
            (line.function, first, last, line.weight, lines.collect())
        };
        hot_lines(&sketch.finish(), 9).into_iter().map(row).collect()
    }

    #[test]
    fn a_loop_is_charged_to_the_function_that_contains_it() {
        let line = |function: &str, line, weight| (function.to_owned(), line, weight);
        // With an inlined function of the author, and one instruction of the caller.
        let sketch = Sketch::new()
            .tight_loop(16..32, &["f", "main"], &["f@9", "f@10", "dot@40", "main@1"])
            .sample("main@1#16 > +f@9#16", 50)
            .sample("main@1#20 > +f@10#20 > +dot@40#20", 30)
            .sample("main@1#24", 2)
            .sample("main@2#90", 1);
        let lines =
            vec![line("f", 9, 50), line("f", 10, 0), line("dot", 40, 30), line("main", 1, 2)];
        let expected = [("f".to_owned(), 9, 10, 82, lines), ("main".to_owned(), 2, 2, 1, vec![])];
        assert_eq!(hot(sketch), expected);
        // An iterator of the standard library.
        let core = "/rustc/1/library/core/src/a.rs@7";
        let next = format!("next%{core}");
        let sketch = Sketch::new()
            .tight_loop(16..32, &[&next, "f"], &[&next, "f@9", "f@10"])
            .sample(&format!("main@1 > f@9#16 > +{next}#16"), 8)
            .sample("main@1 > f@10#20", 1);
        let lines = vec![line("f", 9, 8), line("f", 10, 1)];
        assert_eq!(hot(sketch), [("f".to_owned(), 9, 10, 9, lines)]);
    }

    #[test]
    fn a_loop_with_one_line_is_a_line() {
        let core = "fold%/rustc/1/library/core/src/a.rs@7";
        let sketch = Sketch::new()
            .tight_loop(16..32, &["f"], &["f@9"])
            .tight_loop(
                40..50,
                &["copy"],
                &["copy%/usr/include/c++/12/copy.h@9", "copy%/usr/include/c++/12/copy.h@10"],
            )
            .tight_loop(60..70, &["fold", "f"], &["fold%/rustc/1/library/core/src/a.rs@7", "f@12"])
            .sample("main@1 > f@9#16", 8)
            // A library's loop is charged to the author's line that called it.
            .sample("main@1 > f@10#18 > copy%/usr/include/c++/12/copy.h@9#40", 4)
            .sample(&format!("main@1 > f@12#60 > +{core}#60"), 2);
        let row = |line, weight| ("f".to_owned(), line, line, weight, vec![]);
        assert_eq!(hot(sketch), [row(9, 8), row(10, 4), row(12, 2)]);
    }
}
