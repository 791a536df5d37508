//! Marks the samples of spinning threads in a profile, so that spinning is a cost of its own.
//!
//! A stack of a spinning thread gets one more frame: a function that stands for the kind of spinning, at the line of the program
//! that waits. So the time is not the own time of that line's function, and every view of the profile shows it.
//!
//! A worker of an OpenMP runtime has no frame of the program on its stack while it waits. It is charged to the parallel region that
//! was sampled last in its process.

use std::collections::{BTreeMap, HashMap};

use simprof_model::{
    Frame, FrameId, Function, FunctionId, FunctionKind, Module, ModuleId, Profile, StackId,
    StackNode, StringId, ThreadId, WaitCause,
};

use super::names;
use super::origin::{Origin, origins};
use super::spin_loops::{Facts, Place, SPIN_LOOPS, SpinKind, YIELDS, library_of};
use super::wait_places::innermost_library;
use super::weights::Groups;

/// Path of the module of the functions that stand for spinning and for waiting at a place that was inferred.
const MODULE: &str = "[spinning]";

/// Name of the function that stands for waiting in a parallel region.
const REGION: &str = "[parallel region]";

/// Functions of the C library that start a thread.
const THREAD_STARTS: [&str; 4] = ["start_thread", "clone", "clone3", "__clone3"];

/// A line of the program.
type Location = (Option<StringId>, Option<u32>);

/// Marks the samples and waits of threads that spin, or wait for locks and barriers. A marked profile does not change.
pub fn mark_spinning(profile: &mut Profile) {
    let mut stacks = Stacks::read(profile);
    let regions = Regions::new(profile, &mut stacks);
    let mut marker = Marker::new(profile.stacks.len());
    for at in 0..profile.samples.len() {
        let sample = profile.samples[at];
        let Some(stack) = sample.stack else { continue };
        let Some(kind) = stacks.spins(profile, stack) else { continue };
        let location = stacks.own_line(profile, stack);
        let location = location.or_else(|| regions.nearest(profile, sample.thread, sample.time_ns));
        let marked = marker.mark(profile, stack, kind.name(), location.unwrap_or_default());
        profile.samples[at].stack = Some(marked);
    }
    for at in 0..profile.waits.len() {
        let wait = profile.waits[at];
        let Some(stack) = wait.stack.filter(|_| wait.cause == WaitCause::Synchronisation) else {
            continue;
        };
        let Some(kind) = stacks.blocks(profile, stack) else { continue };
        let is_barrier = kind == SpinKind::Barrier;
        profile.waits[at].cause = if is_barrier { WaitCause::Barrier } else { WaitCause::Lock };
        if stacks.own_line(profile, stack).is_none()
            && let Some(region) = regions.nearest(profile, wait.thread, wait.time_ns)
        {
            profile.waits[at].stack = Some(marker.mark(profile, stack, REGION, region));
        }
    }
}

/// Returns what each function of a profile stands for, indexed as the profile's table; `None` for real functions.
pub(crate) fn spin_kinds(profile: &Profile) -> Vec<Option<SpinKind>> {
    let kind = |function: &Function| {
        let name = profile.string(function.name);
        is_marker(profile, function).then(|| SpinKind::of_name(name)).flatten()
    };
    profile.functions.iter().map(kind).collect()
}

/// Returns whether a function stands for spinning or waiting, rather than for code.
pub(crate) fn is_marker(profile: &Profile, function: &Function) -> bool {
    let module = function.module.map(|id| profile.modules[id.index()].path);
    module.is_some_and(|path| profile.string(path) == MODULE)
}

/// A line at which threads spin.
#[derive(Debug, Clone, PartialEq)]
pub struct SpinLine {
    /// What they spin for.
    pub kind: SpinKind,
    /// The function that the line belongs to; empty if it is unknown.
    pub function: String,
    /// Source file of the line.
    pub file: Option<String>,
    /// The line of the program that waits.
    pub line: Option<u32>,
    /// File name of the library that spins, if no line of the program is known.
    pub library: Option<String>,
    /// CPU time, ns.
    pub weight: u64,
    /// Number of samples.
    pub samples: u64,
}

/// Returns the lines at which threads spin, by decreasing CPU time.
pub fn spin_lines(profile: &Profile) -> Vec<SpinLine> {
    let kinds = spin_kinds(profile);
    let functions = LineFunctions::new(profile);
    let mut sums: BTreeMap<(SpinKind, Location, Option<&str>), (u64, u64)> = BTreeMap::new();
    for entry in super::weights::by_stack(profile) {
        let Some(leaf) = profile.frames_from_leaf(entry.stack).next() else { continue };
        let frame = profile.frame(leaf);
        if let Some(kind) = kinds[frame.function.index()] {
            let library = frame.line.is_none().then(|| library(profile, entry.stack)).flatten();
            let sum = sums.entry((kind, (frame.file, frame.line), library)).or_default();
            sum.0 += entry.weight;
            sum.1 += entry.samples;
        }
    }
    let line =
        |((kind, location, library), (weight, samples)): ((_, _, Option<&str>), _)| SpinLine {
            kind,
            function: functions
                .at(location)
                .map(|id| profile.function_name(id))
                .unwrap_or_default()
                .into(),
            file: location.0.map(|file| profile.string(file).to_owned()),
            line: location.1,
            library: library.map(str::to_owned),
            weight,
            samples,
        };
    let mut lines: Vec<SpinLine> = sums.into_iter().map(line).collect();
    lines.sort_by(|a, b| (b.weight, a.kind, a.line).cmp(&(a.weight, b.kind, b.line)));
    lines
}

/// Spinning in a profile whose frames may have no lines.
#[derive(Debug, Clone, PartialEq)]
pub struct SpinCaller {
    /// What the threads spin for.
    pub kind: SpinKind,
    /// The function that called the spinning code; `None` for a thread of a library.
    pub function: Option<String>,
    /// Weight in the profile's unit.
    pub weight: u64,
}

/// Returns the functions that call spinning code in a marked profile, by decreasing weight.
pub fn spin_callers(profile: &Profile) -> Vec<SpinCaller> {
    let kinds = spin_kinds(profile);
    let stacks = Stacks::read(profile);
    let mut sums: BTreeMap<(SpinKind, Option<&str>), u64> = BTreeMap::new();
    for entry in super::weights::by_stack(profile) {
        let Some(stack) = entry.stack else { continue };
        let leaf = profile.frame(profile.stacks[stack.index()].frame);
        if let Some(kind) = kinds[leaf.function.index()] {
            let caller = stacks.caller(profile, stack).map(|id| profile.function_name(id));
            *sums.entry((kind, caller)).or_default() += entry.weight;
        }
    }
    let caller = |((kind, function), weight): ((_, Option<&str>), _)| SpinCaller {
        kind,
        function: function.map(str::to_owned),
        weight,
    };
    let mut callers: Vec<SpinCaller> = sums.into_iter().map(caller).collect();
    callers.sort_by_key(|caller| std::cmp::Reverse(caller.weight));
    callers
}

/// Returns the file name of the library nearest the leaf that is not the C library.
fn library(profile: &Profile, stack: Option<StackId>) -> Option<&str> {
    let frame = innermost_library(profile, stack)?;
    profile.function_module(frame.function).map(names::file_name)
}

/// The functions of the author's lines.
pub(crate) struct LineFunctions(HashMap<Location, FunctionId>);

impl LineFunctions {
    pub(crate) fn new(profile: &Profile) -> Self {
        let origins = origins(profile);
        let own = profile.frames.iter().filter(|frame| {
            origins[frame.function.index()] == Origin::Own
                && !is_marker(profile, profile.function(frame.function))
        });
        let mut functions: HashMap<Location, FunctionId> = HashMap::new();
        for frame in own {
            // The compiler's functions for the body of a region have longer names.
            let known = functions.entry(location(profile, frame)).or_insert(frame.function);
            if profile.function_name(frame.function).len() < profile.function_name(*known).len() {
                *known = frame.function;
            }
        }
        Self(functions)
    }

    /// Returns the function that contains a line.
    pub(crate) fn at(&self, location: Location) -> Option<FunctionId> {
        self.0.get(&location).copied()
    }
}

/// Finds what the author's lines spin for. Such a line counts as the caller, although runtimes and libraries are between.
#[derive(Debug, Default)]
pub(crate) struct Spinners {
    /// By function: whether it stands for spinning.
    markers: Vec<bool>,
    /// By function: whether it is real code of the author's.
    own: Vec<bool>,
}

impl Spinners {
    pub(crate) fn new(profile: &Profile) -> Self {
        let kinds = spin_kinds(profile);
        let markers: Vec<bool> = kinds.iter().map(Option::is_some).collect();
        let origins = origins(profile);
        let pairs = markers.iter().zip(&origins);
        let own = pairs.map(|(marker, origin)| !marker && *origin == Origin::Own).collect();
        Self { markers, own }
    }

    /// Returns the function at the leaf of a stack if it stands for spinning: its group, and that it is not inlined.
    pub(crate) fn at_leaf(
        &self,
        profile: &Profile,
        groups: &Groups,
        stack: Option<StackId>,
    ) -> Option<(usize, bool)> {
        let leaf = profile.frames_from_leaf(stack).next()?;
        let function = profile.frame(leaf).function;
        self.markers[function.index()].then(|| (groups.group_of(function), false))
    }

    /// Returns whether a function is real code of the author's.
    pub(crate) fn is_own(&self, function: FunctionId) -> bool {
        self.own[function.index()]
    }
}

fn location(profile: &Profile, frame: &Frame) -> Location {
    (frame.file.or(profile.function(frame.function).file), frame.line)
}

/// What the functions of a profile show, indexed as its table, for stacks that are read on demand.
struct Stacks {
    origins: Vec<Origin>,
    facts: Vec<Facts>,
    /// Whether the function is the kernel's, a marker, or one by which a spinning thread gives up its CPU.
    skipped: Vec<bool>,
    markers: Vec<bool>,
    spins: HashMap<StackId, Option<SpinKind>>,
    regions: HashMap<StackId, Option<FrameId>>,
}

impl Stacks {
    fn read(profile: &Profile) -> Self {
        let functions = || (0..).map(FunctionId).zip(&profile.functions);
        let module = |id| profile.function_module(id).map(names::file_name).unwrap_or_default();
        let skipped = |(id, function): (FunctionId, &Function)| {
            function.kind == FunctionKind::Kernel
                || YIELDS.contains(&profile.string(function.name))
                || module(id).starts_with('[')
        };
        let facts = |(id, _)| {
            let (module, name) = (module(id), profile.function_name(id));
            SPIN_LOOPS.facts(if module.is_empty() { library_of(name) } else { module }, name)
        };
        Self {
            origins: origins(profile),
            facts: functions().map(facts).collect(),
            skipped: functions().map(skipped).collect(),
            markers: profile.functions.iter().map(|f| is_marker(profile, f)).collect(),
            spins: HashMap::new(),
            regions: HashMap::new(),
        }
    }

    fn place(&self, frame: &Frame) -> Place {
        Place { facts: self.facts[frame.function.index()], inlined: frame.inlined }
    }

    fn is_marked(&self, profile: &Profile, stack: StackId) -> bool {
        let leaf = profile.stacks[stack.index()].frame;
        self.markers[profile.frame(leaf).function.index()]
    }

    /// Returns what the thread with this stack spins for.
    fn spins(&mut self, profile: &Profile, stack: StackId) -> Option<SpinKind> {
        if let Some(&known) = self.spins.get(&stack) {
            return known;
        }
        let frames = profile.frames_from_leaf(Some(stack)).map(|frame| profile.frame(frame));
        let user = frames.skip_while(|frame| self.skipped[frame.function.index()]);
        let spins = SPIN_LOOPS.spins(user.map(|frame| self.place(frame)));
        let spins = spins.filter(|_| !self.is_marked(profile, stack));
        self.spins.insert(stack, spins);
        spins
    }

    /// Returns whether a blocked thread with this stack waits for a lock or at a barrier.
    fn blocks(&self, profile: &Profile, stack: StackId) -> Option<SpinKind> {
        let frames = profile.frames_from_leaf(Some(stack)).map(|frame| profile.frame(frame));
        let places: Vec<Place> = frames.map(|frame| self.place(frame)).collect();
        SPIN_LOOPS.blocks(&places).filter(|_| !self.is_marked(profile, stack))
    }

    /// Returns the outermost line of the author's that started a parallel region.
    fn region(&mut self, profile: &Profile, stack: StackId) -> Option<FrameId> {
        if let Some(&known) = self.regions.get(&stack) {
            return known;
        }
        let (mut region, mut is_inside) = (None, false);
        for id in profile.frames_from_leaf(Some(stack)) {
            if self.place(profile.frame(id)).facts.starts_region {
                (region, is_inside) = (None, true);
            } else if is_inside && region.is_none() && self.is_own(profile, id) {
                region = Some(id);
            }
        }
        self.regions.insert(stack, region);
        region
    }

    fn is_own(&self, profile: &Profile, frame: FrameId) -> bool {
        self.origins[profile.frame(frame).function.index()] == Origin::Own
    }

    /// Returns the function that called the spinning code: the one nearest the leaf outside of the libraries that spin.
    fn caller(&self, profile: &Profile, stack: StackId) -> Option<FunctionId> {
        let functions = profile.frames_from_leaf(Some(stack)).map(|id| profile.frame(id).function);
        let is_spinning = |id: &FunctionId| {
            let facts = self.facts[id.index()];
            self.markers[id.index()]
                || self.skipped[id.index()]
                || SPIN_LOOPS.is_in_library(facts)
                || SPIN_LOOPS.spins([Place { facts, inlined: false }]).is_some()
        };
        let mut callers = functions.skip_while(is_spinning);
        callers.next().filter(|&id| !THREAD_STARTS.contains(&profile.function_name(id)))
    }

    /// Returns the author's line nearest the leaf.
    fn own_line(&self, profile: &Profile, stack: StackId) -> Option<Location> {
        let mut frames = profile.frames_from_leaf(Some(stack));
        let own = frames.find(|&frame| self.is_own(profile, frame))?;
        Some(location(profile, profile.frame(own)))
    }
}

/// The parallel regions of each process, by the time of samples within them.
struct Regions(HashMap<u32, Vec<(u64, Location)>>);

impl Regions {
    fn new(profile: &Profile, stacks: &mut Stacks) -> Self {
        let mut by_process: HashMap<u32, Vec<(u64, Location)>> = HashMap::new();
        // An imported profile has no times, so it does not show which region was last.
        if profile.samples.iter().all(|sample| sample.time_ns == 0) {
            return Self(by_process);
        }
        let samples = profile.samples.iter().map(|s| (s.time_ns, s.thread, s.stack));
        let waits = profile.waits.iter().map(|wait| (wait.time_ns, wait.thread, wait.stack));
        for (time_ns, thread, stack) in samples.chain(waits) {
            let Some(region) = stack.and_then(|stack| stacks.region(profile, stack)) else {
                continue;
            };
            let pid = profile.threads[thread.index()].pid;
            let location = location(profile, profile.frame(region));
            by_process.entry(pid).or_default().push((time_ns, location));
        }
        by_process.values_mut().for_each(|regions| regions.sort_unstable());
        Self(by_process)
    }

    /// Returns the latest region at a time, or the first one after it.
    fn nearest(&self, profile: &Profile, thread: ThreadId, time_ns: u64) -> Option<Location> {
        let regions = self.0.get(&profile.threads[thread.index()].pid)?;
        let after = regions.partition_point(|&(at_ns, _)| at_ns <= time_ns);
        regions.get(after.saturating_sub(1)).map(|&(_, location)| location)
    }
}

/// Appends frames that stand for spinning and waiting.
struct Marker {
    module: Option<ModuleId>,
    functions: HashMap<&'static str, FunctionId>,
    frames: HashMap<(FunctionId, Location), FrameId>,
    marked: HashMap<(StackId, FrameId), StackId>,
    /// Number of stacks that were there before.
    known: usize,
}

impl Marker {
    fn new(known: usize) -> Self {
        let (functions, frames, marked) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { module: None, functions, frames, marked, known }
    }

    /// Returns the stack in which `stack` calls the function `name` at a location.
    fn mark(
        &mut self,
        profile: &mut Profile,
        stack: StackId,
        name: &'static str,
        location: Location,
    ) -> StackId {
        debug_assert!(stack.index() < self.known, "a marked stack is not marked again");
        let function = self.function(profile, name);
        let frame = *self.frames.entry((function, location)).or_insert_with(|| {
            let (file, line) = location;
            profile.frames.push(Frame { function, line, file, address: 0, inlined: false });
            FrameId(last(profile.frames.len()))
        });
        *self.marked.entry((stack, frame)).or_insert_with(|| {
            profile.stacks.push(StackNode { parent: Some(stack), frame });
            StackId(last(profile.stacks.len()))
        })
    }

    fn function(&mut self, profile: &mut Profile, name: &'static str) -> FunctionId {
        if let Some(&function) = self.functions.get(name) {
            return function;
        }
        let module = *self.module.get_or_insert_with(|| {
            let path = string(profile, MODULE);
            profile.modules.push(Module { path, build_id: None });
            ModuleId(last(profile.modules.len()))
        });
        let (module, kind) = (Some(module), FunctionKind::Native);
        let name_id = string(profile, name);
        profile.functions.push(Function { name: name_id, module, file: None, line: None, kind });
        let function = FunctionId(last(profile.functions.len()));
        self.functions.insert(name, function);
        function
    }
}

fn string(profile: &mut Profile, text: &str) -> StringId {
    profile.strings.push(text.to_owned());
    StringId(last(profile.strings.len()))
}

fn last(length: usize) -> u32 {
    u32::try_from(length - 1).expect("a profile has fewer than 2^32 entries")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{FunctionSet, function_lines, functions, hot_lines};
    use crate::testing::Sketch;

    const GOMP: &str = "/usr/lib/x86_64-linux-gnu/libgomp.so.1.0.0";
    const LIBC: &str = "/usr/lib/x86_64-linux-gnu/libc.so.6";

    /// Four threads in the region of `relax`, line 9: the first calls it, the second has worked and waits in the runtime.
    fn heat() -> Profile {
        let master = format!("main@30 > relax@9 > GOMP_parallel~{GOMP}");
        let worker = format!("start_thread~{LIBC} > ?libgomp.so.1+0x7~{GOMP}");
        Sketch::new()
            .at(100)
            .sample(&format!("{master} > relax._omp_fn.0@12"), 10)
            .sample(&format!("{master} > ?libgomp.so.1+0x5~{GOMP}"), 30)
            .on_thread(2, "worker")
            .sample(&format!("{worker} > relax._omp_fn.0@12"), 10)
            .sample(&format!("{worker} > ?libgomp.so.1+0x5~{GOMP} > k:futex_wake"), 50)
            .wait(&format!("{worker} > syscall~{LIBC}"), WaitCause::Synchronisation, 70)
            .wait("work@5 > nanosleep", WaitCause::Sleep, 1)
            .wait(&format!("work@6 > pthread_mutex_lock~{LIBC}"), WaitCause::Synchronisation, 2)
            .finish()
    }

    #[test]
    fn spinning_is_a_cost_of_its_own_at_the_line_that_waits() {
        let mut profile = heat();
        mark_spinning(&mut profile);
        let lines = spin_lines(&profile);
        let [line] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!((line.kind, &*line.function, line.line), (SpinKind::Barrier, "relax", Some(9)));
        assert_eq!((line.weight, line.samples), (80, 2));
        let costs = functions(&profile);
        let charged = |name: &str| {
            let cost = costs.iter().find(|cost| cost.name == name);
            cost.map_or(0, |cost| cost.charged_weight)
        };
        assert_eq!((charged("relax"), charged("relax._omp_fn.0")), (0, 20));
        assert_eq!(charged("[spinning at a barrier]"), 80);
        let relax = FunctionSet::matching(&profile, "relax").expect("a name");
        let lines = function_lines(&profile, &relax, &relax).expect("it has samples");
        let callees: Vec<_> = lines.lines[0].callees.iter().map(|c| (&*c.name, c.weight)).collect();
        assert_eq!(callees, [("[spinning at a barrier]", 30), ("GOMP_parallel", 10)]);
        let hot = hot_lines(&profile, 9);
        let hot: Vec<_> = hot.iter().map(|l| (&*l.function, l.line, l.weight)).collect();
        let spinning = ("[spinning at a barrier]", Some(9), 80);
        assert_eq!(hot, [spinning, ("relax._omp_fn.0", Some(12), 20)]);
    }

    #[test]
    fn waits_for_locks_and_barriers_are_told_apart_from_others() {
        let mut profile = heat();
        mark_spinning(&mut profile);
        let causes: Vec<_> = profile.waits.iter().map(|wait| wait.cause).collect();
        assert_eq!(causes, [WaitCause::Barrier, WaitCause::Sleep, WaitCause::Lock]);
        let leaf = profile.frames_from_leaf(profile.waits[0].stack).next().expect("a leaf");
        assert_eq!(profile.frame(leaf).line, Some(9));
    }

    #[test]
    fn marking_twice_changes_nothing() {
        let mut once = heat();
        mark_spinning(&mut once);
        let mut twice = once.clone();
        mark_spinning(&mut twice);
        assert_eq!(once, twice);
        let mut none = Sketch::new().sample("main > work", 1).finish();
        let before = none.clone();
        mark_spinning(&mut none);
        assert_eq!(none, before);
    }

    #[test]
    fn an_idle_worker_spins_in_its_library() {
        let blas = "/opt/lib/libopenblas.so.0";
        let worker = format!("start_thread~{LIBC} > blas_thread_server~{blas}");
        let mut profile = Sketch::new()
            .sample("main@3", 5)
            .on_thread(2, "worker")
            .sample(&format!("{worker} > sched_yield~{LIBC} > k:do_sched_yield"), 40)
            .sample(&worker, 2)
            .finish();
        mark_spinning(&mut profile);
        let lines: Vec<_> = spin_lines(&profile)
            .into_iter()
            .map(|l| (l.kind, l.line, l.library, l.weight))
            .collect();
        assert_eq!(lines, [(SpinKind::Work, None, Some("libopenblas.so.0".to_owned()), 42)]);
    }

    #[test]
    fn a_lock_is_charged_to_the_line_that_takes_it() {
        let mut profile = Sketch::new()
            .sample(&format!("main > work@7 > pthread_spin_lock~{LIBC}"), 40)
            .sample(&format!("main > work@8 > pthread_spin_lock~{LIBC} > k:irq"), 2)
            .sample("main > work@8", 3)
            .finish();
        mark_spinning(&mut profile);
        let lines: Vec<_> = spin_lines(&profile)
            .into_iter()
            .map(|l| (l.kind, l.function, l.line, l.weight))
            .collect();
        let at = |line, weight| (SpinKind::Lock, "work".to_owned(), Some(line), weight);
        assert_eq!(lines, [at(7, 40), at(8, 2)]);
    }
}
