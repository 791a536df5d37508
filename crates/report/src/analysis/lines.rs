//! The cost of source lines, and what they call.

use std::collections::BTreeMap;

use serde::Serialize;
use simprof_model::{Frame, FrameId, FunctionId, FunctionKind, Profile, StackId, StringId};

use super::origin::{Origin, origins};
use super::python::{CodeKinds, CpuPart, interpreter_functions};
use super::select::FunctionSet;
use super::spinning::Spinners;
use super::thread_time::{StackWait, ThreadTime, waits_by_stack};
use super::weights::{Groups, StackWeight, by_stack, by_stack_within, is_within, share};

/// The lines of one function, or of several that one pattern selected. Shares are fractions of all weight of the profile,
/// 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FunctionLines {
    /// Demangled name of the function with the most weight.
    pub function: String,
    /// Its source file.
    pub file: Option<String>,
    /// First line of its definition, if known.
    pub line: Option<u32>,
    /// Weight of samples with any of the functions on the stack.
    pub total_weight: u64,
    /// `total_weight` as a fraction of all weight.
    pub total_share: f64,
    /// Weight of samples with one of the functions as the leaf. For Python it includes native code that the function runs.
    pub self_weight: u64,
    /// `self_weight` as a fraction of all weight.
    pub self_share: f64,
    /// Number of samples with any of the functions on the stack.
    pub samples: u64,
    /// CPU time and waiting with any of the functions on the stack; `None` for native functions.
    pub time: Option<ThreadTime>,
    /// The lines by decreasing total weight; for Python by CPU time plus waiting.
    pub lines: Vec<LineCost>,
}

/// The cost of one line of a function.
///
/// The callees of a Python line are the next Python functions towards the leaf, across native frames. Native code that
/// runs without a further Python frame counts as the line's own.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LineCost {
    /// Source file of the line.
    pub file: Option<String>,
    /// Line, 1-based; `None` if the debug information has no line.
    pub line: Option<u32>,
    /// Weight of samples whose leaf is this line.
    pub self_weight: u64,
    /// `self_weight` as a fraction of all weight.
    pub self_share: f64,
    /// Weight of samples whose leaf is this line or code inlined into it; for a Python line, also native code that it
    /// runs.
    pub local_weight: u64,
    /// `local_weight` as a fraction of all weight.
    pub local_share: f64,
    /// Weight of samples with this line on the stack, each sample once.
    pub total_weight: u64,
    /// `total_weight` as a fraction of all weight.
    pub total_share: f64,
    /// Number of samples with this line on the stack.
    pub samples: u64,
    /// Functions that the line calls, inlined or not, by decreasing weight.
    pub callees: Vec<CalleeCost>,
    /// CPU time and waiting with this line on the stack; `None` for native functions.
    pub time: Option<ThreadTime>,
    /// Native functions that a Python line runs, including the interpreter's, by decreasing weight. C library functions count
    /// with their callers.
    pub natives: Vec<CalleeCost>,
}

/// The cost of one function that a line calls.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CalleeCost {
    /// Demangled name.
    pub name: String,
    /// Source file of its definition.
    pub file: Option<String>,
    /// Whether it was inlined into the line.
    pub inlined: bool,
    /// Weight of samples in which the line calls it.
    pub weight: u64,
    /// `weight` as a fraction of all weight of the profile.
    pub share: f64,
}

/// A line of the author's code, charged with the libraries that it calls.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HotLine {
    /// Function that the line belongs to.
    pub function: String,
    /// Source file of the line.
    pub file: Option<String>,
    /// Line, 1-based, if known.
    pub line: Option<u32>,
    /// Whether it is part of a Python interpreter, see [`interpreter_functions`].
    pub interpreter: bool,
    /// Weight of the samples that are charged to it.
    pub weight: u64,
    /// `weight` as a fraction of all weight, 0 to 1.
    pub share: f64,
    /// CPU time and waiting that are charged to it; `None` for native functions.
    pub time: Option<ThreadTime>,
}

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
    let mut sums = LineSums { spinners: Spinners::new(profile), ..LineSums::default() };
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
    let mut lines: Vec<LineCost> =
        sums.lines.into_iter().map(|(key, sum)| sum.cost(profile, &groups, key, whole)).collect();
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

/// Returns the first `limit` lines of the whole program by decreasing weight.
///
/// A sample is charged to the frame nearest the leaf that the author wrote, so that time in libraries shows on the line
/// that called them. If there is none, it is charged to the frame nearest the leaf that is not part of an interpreter, or
/// else to the leaf.
pub fn hot_lines(profile: &Profile, limit: usize) -> Vec<HotLine> {
    let (origins, kinds, groups) =
        (origins(profile), CodeKinds::new(profile), Groups::new(profile));
    let interpreter = interpreter_functions(profile);
    let charged_line = |stack: Option<StackId>| {
        let frames = || profile.frames_from_leaf(stack);
        let function = |id: &FrameId| profile.frame(*id).function.index();
        let chosen = frames()
            .find(|id| origins[function(id)] == Origin::Own)
            .or_else(|| frames().find(|id| !interpreter[function(id)]))
            .or_else(|| frames().next());
        let frame = profile.frame(chosen?);
        Some((groups.group_of(frame.function), LineKey::of_frame(profile, frame)))
    };
    let mut sums: BTreeMap<(usize, LineKey), HotSum> = BTreeMap::new();
    for entry in by_stack(profile) {
        let Some(line) = charged_line(entry.stack) else { continue };
        let sum = sums.entry(line).or_default();
        sum.weight += entry.weight;
        sum.time.add_cpu(kinds.classify(profile, entry.stack).part, entry.weight);
    }
    for wait in waits_by_stack(profile) {
        if let Some(sum) = charged_line(wait.stack).and_then(|line| sums.get_mut(&line)) {
            sum.time.add_wait(wait.cause, wait.weight_ns);
        }
    }
    let whole = profile.total_weight();
    let line = |((group, key), sum): ((usize, LineKey), HotSum)| {
        let id = groups.first(group);
        HotLine {
            function: profile.function_name(id).to_owned(),
            file: key.file_name(profile),
            line: key.line,
            interpreter: interpreter[id.index()],
            weight: sum.weight,
            share: share(sum.weight, whole),
            time: is_python(profile, id).then_some(sum.time),
        }
    };
    let mut lines: Vec<HotLine> = sums.into_iter().map(line).collect();
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
}

/// A line of a source file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct LineKey {
    file: Option<StringId>,
    line: Option<u32>,
}

impl LineKey {
    fn of_frame(profile: &Profile, frame: &Frame) -> Self {
        let file = frame.file.or(profile.function(frame.function).file);
        Self { file, line: frame.line }
    }

    fn file_name(self, profile: &Profile) -> Option<String> {
        self.file.map(|file| profile.string(file).to_owned())
    }
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
    lines: BTreeMap<LineKey, LineSum>,
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
        let mut is_inlined = true;
        let mut spinning = self.spinners.at_leaf(profile, groups, entry.stack);
        for (depth, id) in profile.frames_from_leaf(entry.stack).enumerate() {
            let frame = profile.frame(id);
            let itself = Some((groups.group_of(frame.function), frame.inlined));
            let is_python = is_python(profile, frame.function);
            if set.contains(frame.function) {
                let key = LineKey::of_frame(profile, frame);
                let is_leaf = depth == 0;
                let callee = spinning.or(callee);
                let beneath = if is_python {
                    Beneath { callee: python_callee, is_leaf, is_local: python_callee.is_none() }
                } else {
                    Beneath { callee, is_leaf, is_local: is_inlined }
                };
                self.add_line(&mut seen, key, is_python, &executing, beneath);
                if first(&mut seen.functions, frame.function) {
                    *self.functions.entry(frame.function).or_default() += entry.weight;
                }
                let is_itself = is_leaf || is_python && beneath.is_local;
                self.executing += if is_itself { entry.weight } else { 0 };
            }
            is_inlined &= frame.inlined;
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
        key: LineKey,
        is_python: bool,
        executing: &Executing,
        beneath: Beneath,
    ) {
        let entry = executing.entry;
        let sum = self.lines.entry(key).or_default();
        if first(&mut seen.lines, key) {
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
        let callee = beneath.callee.filter(|&callee| first(&mut seen.callees, (key, callee)));
        if let Some(callee) = callee {
            *sum.callees.entry(callee).or_default() += entry.weight;
        }
    }

    fn add_wait(&mut self, profile: &Profile, set: &FunctionSet, wait: StackWait) {
        let mut seen = Seen::default();
        for id in profile.frames_from_leaf(wait.stack) {
            let frame = profile.frame(id);
            if !set.contains(frame.function) {
                continue;
            }
            let key = LineKey::of_frame(profile, frame);
            if first(&mut seen.lines, key) {
                let sum = self.lines.entry(key).or_default();
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

fn is_python(profile: &Profile, id: FunctionId) -> bool {
    profile.function(id).kind == FunctionKind::Python
}

/// What occurred on the current stack so far. Vectors suffice, because stacks are short.
#[derive(Debug, Default)]
struct Seen {
    functions: Vec<FunctionId>,
    lines: Vec<LineKey>,
    callees: Vec<(LineKey, Callee)>,
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
    fn cost(self, profile: &Profile, groups: &Groups, key: LineKey, whole: u64) -> LineCost {
        let natives = self.natives.iter().map(|(&group, &weight)| ((group, false), weight));
        let natives = callees(profile, groups, natives, whole);
        let callees = callees(profile, groups, self.callees, whole);
        LineCost {
            file: key.file_name(profile),
            line: key.line,
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
}
