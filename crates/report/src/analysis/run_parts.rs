//! The parts of a run: set-up, steps, tear-down and the like. Figures about the program are of one part, its work: what
//! happens inside steps, or without steps everything but the start and the end of its processes and imports.

use std::collections::{BTreeSet, HashMap, HashSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{
    Frame, FrameId, Function, FunctionId, FunctionKind, Profile, StackId, StackNode, StackSample,
    StringId, WaitSample,
};

use super::bottlenecks::bottlenecks;
use super::functions::functions;
use super::part_states;
use super::stack_kinds::{StackKind, StackKinds};
use super::step_spans::{RunSteps, StepSpans, Window};
use super::weights::share;

/// A part of a run. Every sample belongs to exactly one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RunPart {
    /// The start of processes: exec, dynamic linking, the start of an interpreter.
    StartUp,
    /// Imports of Python modules; with steps, those before the first step.
    Imports,
    /// Compilation at run time before the first step. Without steps it is part of the work.
    Compilation,
    /// Everything else before the first step.
    SetUp,
    /// The work inside steps.
    Steps,
    /// Imports inside steps that are not repeated, such as those of the first step.
    ImportsInSteps,
    /// Compilation inside steps that is not repeated.
    CompilationInSteps,
    /// Time between the first and the last step that is in no step.
    BetweenSteps,
    /// The work of a program without steps.
    Program,
    /// Everything after the last step; without steps, exit handlers and the end of interpreters.
    TearDown,
}

/// The cost of one part of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct PartCost {
    /// The part.
    pub part: RunPart,
    /// Sum of its weights, over all runs.
    pub weight: u64,
    /// `weight` as a fraction of all weight, 0 to 1.
    pub share: f64,
    /// The function with the largest charged share of the part; `None` if the part is small.
    pub mostly: Option<String>,
}

/// A profile, split into the parts of its runs.
#[derive(Debug)]
pub struct RunSplit {
    /// The samples of the program's work; every analysis can be applied to it. Waits are cut at the ends of steps.
    pub work: Profile,
    /// The parts that have samples, and the work, in order of time. Their weights sum to that of the profile.
    pub parts: Vec<PartCost>,
    /// Number of steps of all runs; 0 if there are none.
    pub steps: usize,
    /// Part of each sample.
    part_of: Vec<RunPart>,
}

/// Share of a part from which its main function is named.
const NAMED_SHARE: f64 = 0.01;

/// An import or a compilation that is seen in this many steps, also in the later half of them, is repeated.
const REPEATED: usize = 3;

impl RunPart {
    /// Returns the part in words.
    pub fn describe(self) -> &'static str {
        match self {
            RunPart::StartUp => "start-up",
            RunPart::Imports => "imports",
            RunPart::Compilation => "compilation",
            RunPart::SetUp => "set-up",
            RunPart::Steps => "steps",
            RunPart::ImportsInSteps => "imports inside steps",
            RunPart::CompilationInSteps => "compilation inside steps",
            RunPart::BetweenSteps => "between steps",
            RunPart::TearDown => "tear-down",
            RunPart::Program => "the program's work",
        }
    }

    /// Whether figures about the program are of this part.
    pub fn is_work(self) -> bool {
        matches!(self, RunPart::Steps | RunPart::Program)
    }

    /// Whether the part is inside steps, but happens once.
    pub fn is_once_in_steps(self) -> bool {
        matches!(self, RunPart::ImportsInSteps | RunPart::CompilationInSteps)
    }

    /// Whether the part is before the first step.
    pub fn is_before_steps(self) -> bool {
        matches!(self, RunPart::StartUp | RunPart::Imports | RunPart::Compilation | RunPart::SetUp)
    }
}

/// Splits the profile of several runs, which are in order of time.
pub fn split_run(profile: &Profile, runs: &[RunSteps]) -> RunSplit {
    let steps = runs.iter().map(|run| run.steps.steps.len()).sum();
    let kinds = StackKinds::new(profile);
    let spans = (steps > 0).then(|| StepSpans::new(profile, runs));
    let (part_of, waits) = match &spans {
        Some(spans) => with_steps(profile, &kinds, spans),
        None => without_steps(profile, &kinds),
    };
    let work = if steps > 0 { RunPart::Steps } else { RunPart::Program };
    let mut scratch = Profile { samples: Vec::new(), waits: Vec::new(), ..tables_of(profile) };
    let parts = costs(profile, &part_of, work, &mut scratch);
    scratch.samples = samples_of(profile, &part_of, work);
    scratch.waits = waits;
    let in_steps: Vec<StackSample> =
        of_parts(profile, &part_of, |part| part == RunPart::Steps || part.is_once_in_steps());
    scratch.thread_states = match &spans {
        Some(spans) => part_states::inside_steps(profile, &scratch, &in_steps, spans),
        None => part_states::in_proportion(profile, &scratch.samples),
    };
    RunSplit { work: scratch, parts, steps, part_of }
}

/// Returns a profile with the same tables and provenance, without samples and waits.
fn tables_of(profile: &Profile) -> Profile {
    Profile {
        schema: profile.schema.clone(),
        weight: profile.weight,
        strings: profile.strings.clone(),
        modules: profile.modules.clone(),
        functions: profile.functions.clone(),
        frames: profile.frames.clone(),
        stacks: profile.stacks.clone(),
        threads: profile.threads.clone(),
        samples: Vec::new(),
        waits: Vec::new(),
        thread_states: Vec::new(),
        loops: profile.loops.clone(),
        provenance: profile.provenance.clone(),
    }
}

fn samples_of(profile: &Profile, part_of: &[RunPart], part: RunPart) -> Vec<StackSample> {
    of_parts(profile, part_of, |of| of == part)
}

fn of_parts(
    profile: &Profile,
    part_of: &[RunPart],
    is_wanted: impl Fn(RunPart) -> bool,
) -> Vec<StackSample> {
    let samples = profile.samples.iter().zip(part_of);
    samples.filter(|&(_, &part)| is_wanted(part)).map(|(sample, _)| *sample).collect()
}

fn costs(
    profile: &Profile,
    part_of: &[RunPart],
    work: RunPart,
    scratch: &mut Profile,
) -> Vec<PartCost> {
    let whole = profile.total_weight();
    let present: BTreeSet<RunPart> = part_of.iter().copied().chain([work]).collect();
    let mut cost = |part: RunPart| {
        scratch.samples = samples_of(profile, part_of, part);
        let weight = scratch.total_weight();
        let share = share(weight, whole);
        PartCost {
            part,
            weight,
            share,
            mostly: if share < NAMED_SHARE { None } else { main_function(scratch) },
        }
    };
    present.into_iter().map(&mut cost).collect()
}

fn main_function(profile: &Profile) -> Option<String> {
    let found = bottlenecks(&functions(profile), 1).by_charged;
    found.into_iter().next().map(|cost| cost.name)
}

/// Returns the part of each sample, and the waits inside steps.
fn with_steps(
    profile: &Profile,
    kinds: &StackKinds,
    spans: &StepSpans,
) -> (Vec<RunPart>, Vec<WaitSample>) {
    let repeated = repeated(profile, kinds, spans);
    let inside = |stack: Option<StackId>| match kinds.kind(stack) {
        StackKind::Import if !repeated.contains(&kinds.caller(stack)) => RunPart::ImportsInSteps,
        StackKind::Compilation if !repeated.contains(&kinds.caller(stack)) => {
            RunPart::CompilationInSteps
        }
        _ => RunPart::Steps,
    };
    let part = |sample: &StackSample| match spans.window(profile, sample.thread, sample.time_ns) {
        Window::Inside => inside(sample.stack),
        Window::Between => RunPart::BetweenSteps,
        Window::After => RunPart::TearDown,
        Window::Before => match kinds.kind(sample.stack) {
            StackKind::StartUp | StackKind::Exit => RunPart::StartUp,
            StackKind::Import => RunPart::Imports,
            StackKind::Compilation => RunPart::Compilation,
            StackKind::Work => RunPart::SetUp,
        },
    };
    // A wait has the time of its end. Only its time within steps counts.
    let cut = |wait: &WaitSample| {
        let begin = wait.time_ns.saturating_sub(wait.weight_ns);
        let weight_ns = spans.inside_ns(profile, wait.thread, begin, wait.time_ns);
        (weight_ns > 0 && inside(wait.stack) == RunPart::Steps)
            .then_some(WaitSample { weight_ns, ..*wait })
    };
    (profile.samples.iter().map(part).collect(), profile.waits.iter().filter_map(cut).collect())
}

/// Returns the callers of imports and compilations that are repeated in the steps, and therefore part of their work: an
/// import that fails in every step, or a program that is itself run by an import.
fn repeated(profile: &Profile, kinds: &StackKinds, spans: &StepSpans) -> HashSet<Option<StackId>> {
    let mut seen: HashMap<Option<StackId>, BTreeSet<usize>> = HashMap::new();
    for sample in &profile.samples {
        let is_once =
            matches!(kinds.kind(sample.stack), StackKind::Import | StackKind::Compilation);
        if is_once && spans.window(profile, sample.thread, sample.time_ns) == Window::Inside {
            let steps = seen.entry(kinds.caller(sample.stack)).or_default();
            steps.insert(spans.position(sample.time_ns));
        }
    }
    let later_half = spans.steps_of_run() / 2;
    let is_repeated = |steps: &BTreeSet<usize>| {
        steps.len() >= REPEATED && steps.last().is_some_and(|&last| last >= later_half)
    };
    seen.into_iter().filter(|(_, steps)| is_repeated(steps)).map(|(caller, _)| caller).collect()
}

fn without_steps(profile: &Profile, kinds: &StackKinds) -> (Vec<RunPart>, Vec<WaitSample>) {
    let part = |stack: Option<StackId>| match kinds.kind(stack) {
        StackKind::StartUp => RunPart::StartUp,
        StackKind::Import => RunPart::Imports,
        StackKind::Exit => RunPart::TearDown,
        StackKind::Compilation | StackKind::Work => RunPart::Program,
    };
    let is_work = |wait: &&WaitSample| part(wait.stack) == RunPart::Program;
    let waits = profile.waits.iter().filter(is_work).copied().collect();
    (profile.samples.iter().map(|sample| part(sample.stack)).collect(), waits)
}

impl RunSplit {
    /// Returns the CPU time of the work per step in ms, or `None` without steps.
    pub fn ms_per_step(&self) -> Option<f64> {
        let steps = Some(self.steps).filter(|&steps| steps > 0)?;
        Some(self.work.total_weight() as f64 * 1e-6 / steps as f64)
    }

    /// Returns `profile`, of which this is the split, with the stacks of each part under a frame with the part's name, such
    /// as `[set-up]`. The stacks of the work are only if `is_work_too` and there are other parts.
    pub fn grouped(&self, profile: &Profile, is_work_too: bool) -> Profile {
        let is_work_apart = is_work_too && self.part_of.iter().any(|part| !part.is_work());
        let mut grouped = Profile { waits: profile.waits.clone(), ..tables_of(profile) };
        let mut moved = Moved { roots: HashMap::new(), stacks: HashMap::new() };
        for (sample, &part) in profile.samples.iter().zip(&self.part_of) {
            let stack = if part.is_work() && !is_work_apart {
                sample.stack
            } else {
                Some(moved.stack(&mut grouped, part, sample.stack))
            };
            grouped.samples.push(StackSample { stack, ..*sample });
        }
        grouped
    }
}

/// The stacks that were moved under the frame of a part.
struct Moved {
    roots: HashMap<RunPart, StackId>,
    stacks: HashMap<(RunPart, StackId), StackId>,
}

impl Moved {
    fn stack(&mut self, profile: &mut Profile, part: RunPart, stack: Option<StackId>) -> StackId {
        // The nodes from the leaf up to the first one that was already moved.
        let mut missing = Vec::new();
        let mut above = stack;
        let mut parent = loop {
            let Some(node) = above else {
                break *self.roots.entry(part).or_insert_with(|| root(profile, part));
            };
            if let Some(&known) = self.stacks.get(&(part, node)) {
                break known;
            }
            missing.push(node);
            above = profile.stacks[node.index()].parent;
        };
        for node in missing.into_iter().rev() {
            let frame = profile.stacks[node.index()].frame;
            parent = push(profile, Some(parent), frame);
            self.stacks.insert((part, node), parent);
        }
        parent
    }
}

/// Adds the root of the stacks of a part.
fn root(profile: &mut Profile, part: RunPart) -> StackId {
    let next = |length: usize| u32::try_from(length).expect("ids have 32 bits");
    let name = StringId(next(profile.strings.len()));
    profile.strings.push(format!("[{}]", part.describe()));
    let function = FunctionId(next(profile.functions.len()));
    let kind = FunctionKind::Unsymbolised;
    profile.functions.push(Function { name, module: None, file: None, line: None, kind });
    let frame = FrameId(next(profile.frames.len()));
    profile.frames.push(Frame { function, line: None, file: None, address: 0, inlined: false });
    push(profile, None, frame)
}

fn push(profile: &mut Profile, parent: Option<StackId>, frame: FrameId) -> StackId {
    profile.stacks.push(StackNode { parent, frame });
    StackId(u32::try_from(profile.stacks.len() - 1).expect("ids of stacks have 32 bits"))
}

#[cfg(test)]
mod tests;
