//! The lines of one function, or of several that one pattern selected.

use std::collections::BTreeMap;

use simprof_model::{FrameId, FunctionId, Profile};

use super::function_loops::{FunctionLoops, LoopKey};
use super::loop_rows::{LoopRows, LoopWeights, Position, is_kernel};
use super::{CalleeCost, FunctionLines, LineCost, LineKey, is_python};
use crate::analysis::python::{CodeKinds, CpuPart};
use crate::analysis::select::FunctionSet;
use crate::analysis::spinning::Spinners;
use crate::analysis::thread_time::{StackWait, ThreadTime, waits_by_stack};
use crate::analysis::weights::{Groups, StackWeight, by_stack_within, is_within, share};

/// Returns the cost of each line of the given functions, or `None` if no sample and no wait has one of them on its stack.
///
/// A sample counts once for a line, also under recursion. Only samples with a function of `within` on the stack count: the
/// caller whose callees are examined, or the functions themselves.
pub fn function_lines(
    profile: &Profile,
    functions: &FunctionSet,
    within: &FunctionSet,
) -> Option<FunctionLines> {
    let groups = Groups::new(profile);
    let kinds = CodeKinds::new(profile);
    let whole = profile.total_weight();
    let mut sums = LineSums {
        spinners: Spinners::new(profile),
        loops: FunctionLoops::new(profile, functions),
        ..LineSums::default()
    };
    for entry in by_stack_within(profile, within) {
        sums.add(profile, &groups, &kinds, functions, entry);
    }
    for wait in waits_by_stack(profile) {
        if is_within(profile, wait.stack, within) {
            sums.add_wait(profile, functions, wait);
        }
    }
    let heaviest = sums.functions.iter().max_by_key(|&(_, weight)| weight).map(|(&id, _)| id)?;
    let line_of = |id: FunctionId| profile.function(id).line;
    let loops = &sums.loops.rows;
    let cost = |(at, sum): (Position, LineSum)| sum.cost(profile, &groups, loops, at, whole);
    let mut lines: Vec<LineCost> = sums.lines.into_iter().map(cost).collect();
    let rank = |line: &LineCost| {
        let time = line.time.as_ref().map_or(0, ThreadTime::total_ns);
        (time.max(line.total_weight), line.self_weight)
    };
    lines.sort_by(|a, b| (rank(b), &a.file, a.line).cmp(&(rank(a), &b.file, b.line)));
    Some(FunctionLines {
        function: profile.function_name(heaviest).to_owned(),
        file: profile.function_file(heaviest).map(str::to_owned),
        line: groups.members(groups.group_of(heaviest)).iter().filter_map(|&id| line_of(id)).min(),
        total_weight: sums.total,
        total_share: share(sums.total, whole),
        self_weight: sums.executing,
        self_share: share(sums.executing, whole),
        samples: sums.samples,
        time: is_python(profile, heaviest).then_some(sums.time),
        lines,
    })
}

/// A callee of a line: the group of the function, and whether it is inlined there.
type Callee = (usize, bool);

#[derive(Debug, Default)]
struct LineSums {
    total: u64,
    executing: u64,
    samples: u64,
    time: ThreadTime,
    spinners: Spinners,
    /// Weight plus waiting of each function of the set.
    functions: BTreeMap<FunctionId, u64>,
    lines: BTreeMap<Position, LineSum>,
    loops: FunctionLoops,
}

#[derive(Debug, Default)]
struct LineSum {
    executing: u64,
    local: u64,
    total: u64,
    samples: u64,
    callees: BTreeMap<Callee, u64>,
    is_python: bool,
    time: ThreadTime,
    natives: BTreeMap<usize, u64>,
    /// Of a loop.
    by_line: LoopWeights,
}

/// A stack's weight and the code that it was executing.
struct Executing {
    entry: StackWeight,
    part: CpuPart,
    /// Group of the native function that was executing; `None` if that was Python.
    native: Option<usize>,
}

impl Executing {
    fn new(profile: &Profile, groups: &Groups, kinds: &CodeKinds, entry: StackWeight) -> Self {
        let executing = kinds.classify(profile, entry.stack);
        let native = executing.function.filter(|&id| !is_python(profile, id));
        Self { entry, part: executing.part, native: native.map(|id| groups.group_of(id)) }
    }
}

/// The frames between a frame and the leaf.
#[derive(Debug, Clone, Copy)]
struct Beneath {
    /// The direct callee, or for Python the next Python function.
    callee: Option<Callee>,
    is_leaf: bool,
    is_local: bool,
}

impl LineSums {
    fn add(
        &mut self,
        profile: &Profile,
        groups: &Groups,
        kinds: &CodeKinds,
        set: &FunctionSet,
        entry: StackWeight,
    ) {
        let executing = Executing::new(profile, groups, kinds, entry);
        let mut seen = Seen::default();
        let (mut callee, mut python_callee) = (None, None);
        let (mut is_inlined, mut is_executing) = (true, true);
        let in_loop = self.loops.index.of_stack(profile, entry.stack);
        let mut spinning = self.spinners.at_leaf(profile, groups, entry.stack);
        for (depth, id) in profile.frames_from_leaf(entry.stack).enumerate() {
            let frame = profile.frame(id);
            let itself = Some((groups.group_of(frame.function), frame.inlined));
            let is_python = is_python(profile, frame.function);
            if set.contains(frame.function) {
                let in_loop = in_loop.filter(|_| is_executing);
                let at = self.loops.position(profile, in_loop, is_executing, id);
                let is_leaf = depth == 0;
                let callee = spinning.or(callee);
                let beneath = if is_python {
                    Beneath { callee: python_callee, is_leaf, is_local: python_callee.is_none() }
                } else {
                    Beneath { callee, is_leaf, is_local: is_inlined }
                };
                self.add_line(&mut seen, at, is_python, &executing, beneath);
                self.add_to_loop(profile, &mut seen, at, id, entry.weight);
                if first(&mut seen.functions, frame.function) {
                    *self.functions.entry(frame.function).or_default() += entry.weight;
                }
                let is_itself = is_leaf || is_python && beneath.is_local;
                self.executing += if is_itself { entry.weight } else { 0 };
            }
            is_inlined &= frame.inlined;
            is_executing &= frame.inlined || is_kernel(profile, id);
            spinning = spinning.filter(|_| !self.spinners.is_own(frame.function));
            callee = itself;
            python_callee = if is_python { itself } else { python_callee };
        }
        if !seen.functions.is_empty() {
            self.total += entry.weight;
            self.samples += entry.samples;
            self.time.add_cpu(executing.part, entry.weight);
        }
    }

    fn add_line(
        &mut self,
        seen: &mut Seen,
        at: Position,
        is_python: bool,
        executing: &Executing,
        beneath: Beneath,
    ) {
        let entry = executing.entry;
        let sum = self.lines.entry(at).or_default();
        if first(&mut seen.lines, at) {
            sum.total += entry.weight;
            sum.samples += entry.samples;
            sum.local += if beneath.is_local { entry.weight } else { 0 };
            sum.is_python = is_python;
            sum.time.add_cpu(executing.part, entry.weight);
            if let Some(native) = executing.native.filter(|_| is_python && beneath.is_local) {
                *sum.natives.entry(native).or_default() += entry.weight;
            }
        }
        sum.executing += if beneath.is_leaf { entry.weight } else { 0 };
        let callee = beneath.callee.filter(|&callee| first(&mut seen.callees, (at, callee)));
        if let Some(callee) = callee {
            *sum.callees.entry(callee).or_default() += entry.weight;
        }
    }

    /// Adds a sample to the line of a loop that is nearest the leaf.
    fn add_to_loop(
        &mut self,
        profile: &Profile,
        seen: &mut Seen,
        at: Position,
        frame: FrameId,
        weight: u64,
    ) {
        if matches!(at, Position::Loop(_)) && first(&mut seen.loops, at) {
            let sum = self.lines.entry(at).or_default();
            sum.by_line.add(profile, profile.frame(frame), weight);
        }
    }

    fn add_wait(&mut self, profile: &Profile, set: &FunctionSet, wait: StackWait) {
        let mut seen = Seen::default();
        for id in profile.frames_from_leaf(wait.stack) {
            let frame = profile.frame(id);
            if !set.contains(frame.function) {
                continue;
            }
            let at = Position::Line(LineKey::of_frame(profile, frame));
            if first(&mut seen.lines, at) {
                let sum = self.lines.entry(at).or_default();
                sum.is_python = is_python(profile, frame.function);
                sum.time.add_wait(wait.cause, wait.weight_ns);
            }
            if first(&mut seen.functions, frame.function) {
                *self.functions.entry(frame.function).or_default() += wait.weight_ns;
            }
        }
        if !seen.functions.is_empty() {
            self.time.add_wait(wait.cause, wait.weight_ns);
        }
    }
}

/// What occurred on the current stack so far. Vectors suffice, because stacks are short.
#[derive(Debug, Default)]
struct Seen {
    functions: Vec<FunctionId>,
    lines: Vec<Position>,
    callees: Vec<(Position, Callee)>,
    /// Loops whose line is known.
    loops: Vec<Position>,
}

/// Adds `value` to `seen` unless it is there. Returns whether it was added.
fn first<T: PartialEq>(seen: &mut Vec<T>, value: T) -> bool {
    let is_new = !seen.contains(&value);
    if is_new {
        seen.push(value);
    }
    is_new
}

impl LineSum {
    fn cost(
        self,
        profile: &Profile,
        groups: &Groups,
        loops: &LoopRows<LoopKey>,
        at: Position,
        whole: u64,
    ) -> LineCost {
        let (key, in_loop) = match at {
            Position::Line(key) => (key, None),
            Position::Loop(index) => {
                let row = loops.row(index);
                let key = LineKey { file: Some(row.file), line: row.lines.first().copied() };
                (key, Some(self.by_line.cost(profile, row, whole)))
            }
        };
        let natives = self.natives.iter().map(|(&group, &weight)| ((group, false), weight));
        let natives = callees(profile, groups, natives, whole);
        let callees = callees(profile, groups, self.callees, whole);
        LineCost {
            file: key.file_name(profile),
            line: key.line,
            in_loop,
            self_weight: self.executing,
            self_share: share(self.executing, whole),
            local_weight: self.local,
            local_share: share(self.local, whole),
            total_weight: self.total,
            total_share: share(self.total, whole),
            samples: self.samples,
            callees,
            time: self.is_python.then_some(self.time),
            natives,
        }
    }
}

/// Returns callees by decreasing weight.
fn callees(
    profile: &Profile,
    groups: &Groups,
    weights: impl IntoIterator<Item = (Callee, u64)>,
    whole: u64,
) -> Vec<CalleeCost> {
    let cost = |((group, inlined), weight)| CalleeCost {
        name: profile.function_name(groups.first(group)).to_owned(),
        file: profile.function_file(groups.first(group)).map(str::to_owned),
        inlined,
        weight,
        share: share(weight, whole),
    };
    let mut callees: Vec<CalleeCost> = weights.into_iter().map(cost).collect();
    callees.sort_by(|a, b| (b.weight, &a.name).cmp(&(a.weight, &b.name)));
    callees
}

#[cfg(test)]
mod tests {
    use simprof_model::WaitCause;

    use super::*;
    use crate::testing::{Sketch, profile};

    fn lines(samples: &[(&str, u64)], function: &str) -> FunctionLines {
        let profile = profile(samples);
        let set = FunctionSet::matching(&profile, function).expect("valid");
        function_lines(&profile, &set, &set).expect("it has samples")
    }

    fn summary(lines: &FunctionLines) -> Vec<(u32, u64, u64, u64)> {
        lines
            .lines
            .iter()
            .map(|l| (l.line.unwrap_or(0), l.self_weight, l.local_weight, l.total_weight))
            .collect()
    }

    #[test]
    fn lines_have_self_inlined_and_callee_cost() {
        let found = lines(
            &[
                ("main@1 > f@10", 1),
                ("main@1 > f@11 > +core::iter%iter.rs@90 > +core::add%add.rs@7", 4),
                ("main@1 > f@11 > g@30", 5),
                ("main@1 > other@50", 10),
            ],
            "f",
        );
        assert_eq!(summary(&found), [(11, 0, 4, 9), (10, 1, 1, 1)]);
        assert_eq!((found.total_weight, found.self_weight, found.samples), (10, 1, 3));
        assert_eq!(found.total_share, 0.5);
        let callees: Vec<_> =
            found.lines[0].callees.iter().map(|c| (c.name.as_str(), c.inlined, c.weight)).collect();
        assert_eq!(callees, [("g", false, 5), ("core::iter", true, 4)]);
    }

    #[test]
    fn recursion_counts_a_sample_once_per_line() {
        let found = lines(&[("f@1 > f@2 > f@1 > f@1 > f@3", 6)], "f");
        assert_eq!(summary(&found), [(3, 6, 6, 6), (1, 0, 0, 6), (2, 0, 0, 6)]);
        assert_eq!(found.lines[1].callees.len(), 1, "f calls f");
    }

    #[test]
    fn lines_of_closures_are_listed_with_their_function() {
        let found =
            lines(&[("s::f@10 > core::map@1 > s::f::{closure#0}@12", 3), ("s::f@9", 1)], "f");
        assert_eq!(summary(&found), [(12, 3, 3, 3), (10, 0, 0, 3), (9, 1, 1, 1)]);
        assert_eq!(found.function, "s::f");
    }

    #[test]
    fn a_python_line_has_python_callees_and_native_functions() {
        let lib = "/opt/lib/libpython3.9.so.1.0";
        let call = format!("_PyFunction_Vectorcall~{lib}");
        let profile = Sketch::new()
            .sample(&format!("main > p:sim.f@2 > {call} > p:sim.g@9 > add~/opt/np.so"), 5)
            .sample(&format!("main > p:sim.f@2 > sort~{lib} > memmove~/lib/libc.so.6"), 3)
            .sample("main > p:sim.f@2", 1)
            .sample("main > p:sim.f@3 > add~/opt/np.so > add~/opt/np.so", 4)
            .sample("main > p:sim.f@3 > dot~/opt/np.so", 1)
            .wait("p:sim.f@2 > p:sim.g@9", WaitCause::Interpreter, 7)
            .wait("p:sim.f@8", WaitCause::Sleep, 100)
            .wait("p:sim.other@8", WaitCause::Sleep, 100)
            .finish();
        let set = FunctionSet::matching(&profile, "sim.f").expect("valid");
        let found = function_lines(&profile, &set, &set).expect("it has samples");
        assert_eq!(summary(&found), [(8, 0, 0, 0), (2, 1, 4, 9), (3, 0, 5, 5)]);
        let names = |costs: &[CalleeCost]| -> Vec<(String, u64)> {
            costs.iter().map(|cost| (cost.name.clone(), cost.weight)).collect()
        };
        assert_eq!(names(&found.lines[1].callees), [("sim.g".to_owned(), 5)]);
        assert_eq!(names(&found.lines[1].natives), [("sort".to_owned(), 3)]);
        assert_eq!(names(&found.lines[2].natives), [("add".to_owned(), 4), ("dot".to_owned(), 1)]);
        let time = found.lines[1].time.clone().expect("Python");
        assert_eq!((time.interpreter_ns, time.native_ns, time.gil_ns()), (4, 5, 7));
        let time = found.time.expect("Python");
        assert_eq!((time.cpu_ns(), time.gil_ns(), time.waiting_ns()), (14, 7, 100));
    }

    #[test]
    fn a_native_line_has_no_thread_time() {
        let found = lines(&[("main > f@1", 1)], "f");
        assert_eq!((found.time, &found.lines[0].time), (None, &None));
    }

    #[test]
    fn lines_without_number_are_kept() {
        assert_eq!(summary(&lines(&[("f", 2)], "f")), [(0, 2, 2, 2)]);
        let profile = profile(&[]);
        let none = FunctionSet::from_ids(&profile, &[]);
        assert_eq!(function_lines(&profile, &none, &none), None);
    }

    /// Returns the loops of `f` with their weights: first and last line, own and total weight, and the weights of the lines.
    fn loops_of_f(sketch: Sketch) -> Vec<(u32, u32, u64, u64, Vec<(u32, u64)>)> {
        let profile = sketch.finish();
        let set = FunctionSet::matching(&profile, "f").expect("valid");
        let found = function_lines(&profile, &set, &set).expect("it has samples");
        let of_loop = |line: &LineCost| {
            let found = line.in_loop.as_ref()?;
            let lines = found.lines.iter().map(|line| (line.line, line.weight)).collect();
            let (first, last) = (found.first_line, found.last_line);
            assert_eq!(line.line, Some(first));
            Some((first, last, line.local_weight, line.total_weight, lines))
        };
        found.lines.iter().filter_map(of_loop).collect()
    }

    #[test]
    fn lines_of_a_tight_loop_are_one_row() {
        let sketch = Sketch::new()
            .tight_loop(16..32, &["f"], &["f@9", "f@10"])
            // All samples are at the branch, but for those at which the kernel interrupted.
            .sample("main > f@9#20", 50)
            .sample("main > f@10#16 > k:interrupt", 3)
            // Before the loop, and iterations outside of it.
            .sample("main > f@8#12", 1)
            .sample("main > f@10#40", 2)
            // Calls in the loop, even of other lines' code, are at their lines.
            .sample("main > f@10#24 > g@30", 30);
        let profile = sketch.finish();
        let set = FunctionSet::matching(&profile, "f").expect("valid");
        let found = function_lines(&profile, &set, &set).expect("it has samples");
        assert_eq!(summary(&found), [(9, 52, 52, 55), (10, 0, 0, 30), (8, 1, 1, 1)]);
        let in_loop = found.lines[0].in_loop.as_ref().expect("a loop");
        assert_eq!((in_loop.first_line, in_loop.last_line), (9, 10));
        let lines: Vec<_> = in_loop.lines.iter().map(|line| (line.line, line.weight)).collect();
        assert_eq!(lines, [(9, 50), (10, 5)]);
        assert_eq!(found.lines[1].in_loop, None);
        assert_eq!(found.lines[1].callees[0].name, "g");
    }

    #[test]
    fn loops_of_the_same_lines_are_one_row_and_others_are_not() {
        let sketch = Sketch::new()
            .tight_loop(16..32, &["f"], &["f@9", "f@10"])
            .tight_loop(40..48, &["f"], &["f@9", "f@10"])
            .tight_loop(50..60, &["f"], &["f@12", "f@13"])
            .tight_loop(70..80, &["f"], &["f@20"])
            .sample("f@9#20", 4)
            .sample("f@10#44", 2)
            .sample("f@13#50", 9)
            .sample("f@20#70", 1);
        let expected =
            [(12, 13, 9, 9, vec![(12, 0), (13, 9)]), (9, 10, 6, 6, vec![(9, 4), (10, 2)])];
        assert_eq!(loops_of_f(sketch), expected);
    }

    #[test]
    fn a_loop_of_inlined_functions_has_the_lines_of_the_examined_function() {
        // The loop is in the library; the call and the closure are the lines of `f`.
        let sketch = Sketch::new()
            .tight_loop(16..32, &["fold", "f"], &["fold%core.rs@90", "f@12", "f::{closure#0}@11"])
            .sample("f@12#16 > +fold%core.rs@90#16", 4)
            .sample("f@12#20 > +fold%core.rs@90#20 > +f::{closure#0}@11#20", 2);
        assert_eq!(loops_of_f(sketch), [(11, 12, 6, 6, vec![(11, 2), (12, 4)])]);
        // Two functions are inlined on different lines.
        let sketch = Sketch::new()
            .tight_loop(16..32, &["f"], &["f@1", "f@2", "f@3", "g@50", "g@51", "h@60"])
            .sample("f@2#16 > +g@50#16", 4)
            .sample("f@3#20 > +h@60#20", 2);
        assert_eq!(loops_of_f(sketch), [(1, 3, 6, 6, vec![(1, 0), (2, 4), (3, 2)])]);
        // The function around the loop has one line in it.
        let sketch = Sketch::new()
            .tight_loop(16..32, &["g", "f"], &["f@1", "g@50", "g@51"])
            .sample("f@1#16 > +g@50#16", 4);
        assert_eq!(loops_of_f(sketch), []);
    }
}
