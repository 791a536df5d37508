//! Turns a recording into a profile: names, weights, and the account of how it was obtained.

use std::collections::BTreeMap;
use std::time::Instant;

use object::Object;
use object::read::elf::ElfFile64;
use simprof_model::{
    Frame, Function, FunctionKind, ModuleId, Notice, Profile, ProfileBuilder, Provenance, StackId,
    StackSample, WeightKind,
};

use super::caveats::Caveats;
use super::debug_file::hexadecimal;
use super::event::{Clock, Event};
use super::kallsyms::KernelSymbols;
use super::module::PROBE;
use super::module::{ModuleFile, ModuleIndex};
use super::observer::{RawSample, Trace};
use super::python::{self, Expanded, Role, Weaver};
use super::raw_stacks::RawStackId;
use super::symbol_table;
use super::symbolise::{self, Symbolised};
use super::symbols::Symbols;
use super::unwind::WalkEnd;
use super::{Refusal, Sampling};

/// Functions that nothing calls: a stack that ends in one is whole, whatever unwinding thought of it.
const ROOTS: [&str; 9] = [
    "_start",
    "_dl_start_user",
    "__clone",
    "__clone3",
    "clone",
    "clone3",
    "__clone_internal",
    "start_thread",
    "thread_start",
];

/// How the recording came about.
#[derive(Debug)]
pub(super) struct Circumstances {
    pub sampling: Sampling,
    pub event: Event,
    pub refusals: Vec<Refusal>,
    pub notices: Vec<Notice>,
    pub target_cpu_ns: u64,
    pub recorder_cpu_ns: u64,
}

/// What was sampled of one run, not symbolised yet.
#[derive(Debug)]
pub struct Samples {
    pub(super) trace: Trace,
    pub(super) circumstances: Circumstances,
}

impl Samples {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.trace.samples.len() as u64
    }
}

/// Symbolises the samples of one or more runs of a target and joins them into one profile; the debug
/// information of each module is read once for all of them. Empty without runs.
pub fn symbolise(runs: Vec<Samples>) -> Profile {
    let started = Instant::now();
    let traces: Vec<&Trace> = runs.iter().map(|run| &run.trace).collect();
    let symbols = Symbols::of(&traces);
    let mut joined = ProfileBuilder::new(WeightKind::CpuNs);
    let mut caveats = Caveats::default();
    for run in runs {
        joined.absorb(&build(&run.trace, run.circumstances, &symbols, &mut caveats));
    }
    joined.provenance().notices = caveats.notices(joined.provenance().python.as_ref());
    joined.provenance().symbolise_ns =
        u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
    joined.finish()
}

/// Builds the profile of a recording, and notes what its reader must know.
fn build(
    trace: &Trace,
    circumstances: Circumstances,
    symbols: &Symbols,
    caveats: &mut Caveats,
) -> Profile {
    let mut builder = ProfileBuilder::new(WeightKind::CpuNs);
    let expansions = symbolised_frames(trace, symbols, &mut builder);
    let stacks = Stacks::build(trace, &expansions, &mut builder);
    let mut weaver = Weaver::new(trace, &expansions);
    let threads: Vec<_> = trace
        .threads
        .iter()
        .map(|thread| builder.thread(thread.pid, thread.tid, &thread.name))
        .collect();
    let weights = weights(&trace.samples, circumstances.event.clock, circumstances.target_cpu_ns);
    let mut truncated = 0;
    for (sample, weight) in trace.samples.iter().zip(weights) {
        if weaver.as_mut().is_some_and(|weaver| weaver.leaves_out(sample)) {
            continue;
        }
        let is_cut = stacks.is_cut(sample);
        let merged = weaver.as_mut().and_then(|weaver| weaver.stack(sample, is_cut, &mut builder));
        let native = || sample.stack.map(|stack| stacks.ids[stack.0 as usize]);
        let stack = merged.map_or_else(native, |merged| merged.stack);
        truncated += u64::from(merged.map_or(is_cut, |merged| !merged.whole));
        let thread = threads[sample.thread as usize];
        builder.sample(StackSample { time_ns: sample.time_ns, thread, stack, weight });
    }
    caveats.note(trace, &circumstances);
    let mut provenance = Provenance { truncated, ..provenance(trace, &stacks, circumstances) };
    if let Some(mut weaver) = weaver {
        weaver.add_waits(&mut builder);
        provenance.python = weaver.finish(caveats.python());
    }
    *builder.provenance() = provenance;
    builder.finish()
}

/// The frames that one raw frame stands for.
#[derive(Debug, Default, Clone)]
pub(super) struct Expansion {
    /// Innermost first.
    pub frames: Vec<Expanded>,
    named: bool,
    is_root: bool,
}

/// The frames of every distinct raw frame, module by module, in order of address.
pub(super) fn symbolised_frames(
    trace: &Trace,
    symbols: &Symbols,
    builder: &mut ProfileBuilder,
) -> Vec<Expansion> {
    let raw = trace.stacks.frames();
    let mut by_module: BTreeMap<ModuleIndex, Vec<(u64, usize)>> = BTreeMap::new();
    for (position, frame) in raw.iter().enumerate() {
        by_module.entry(frame.module).or_default().push((frame.address, position));
    }
    let mut expansions = vec![Expansion::default(); raw.len()];
    for (index, mut places) in by_module {
        places.sort_unstable();
        if index == ModuleIndex::KERNEL {
            expand_kernel(&symbols.kernel, &places, builder, &mut expansions);
        } else {
            let file = trace.modules.get(index);
            let module = builder.module(&file.path, build_id(file));
            let world = if trace.told.is_some() { World::of(file) } else { World::Other };
            for (address, position) in places {
                let found = symbols.at(file, address);
                let kind =
                    if found.named { FunctionKind::Native } else { FunctionKind::Unsymbolised };
                expansions[position] = expand(found, (module, world), address, kind, builder);
            }
        }
    }
    expansions
}

fn expand_kernel(
    symbols: &KernelSymbols,
    places: &[(u64, usize)],
    builder: &mut ProfileBuilder,
    expansions: &mut [Expansion],
) {
    let base = symbols.base();
    for &(address, position) in places {
        let symbol = symbols.at(address);
        let name = symbol.map_or_else(|| format!("[kernel]+{address:#x}"), |s| s.name.to_owned());
        let module = builder.module(symbol.map_or("[kernel]", |s| s.module), None);
        let found = Symbolised { places: vec![symbolise::place(name)], named: symbol.is_some() };
        let offset = address.wrapping_sub(base);
        let module = (module, World::Other);
        expansions[position] = expand(&found, module, offset, FunctionKind::Kernel, builder);
    }
}

/// Which part of the target a module is, as far as Python is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum World {
    /// It has the interpreter.
    Interpreter,
    /// It is the library that the profiler loads.
    Probe,
    Other,
}

impl World {
    fn of(module: &ModuleFile) -> Self {
        match &module.image {
            _ if module.path == PROBE => World::Probe,
            Some(image) if symbol_table::defines(image.bytes(), python::is_evaluation) => {
                World::Interpreter
            }
            _ => World::Other,
        }
    }

    /// The role of one of its functions.
    fn role(self, function: &str, named: bool) -> Role {
        match self {
            World::Probe => python::probe_role(function),
            // Without a name it tells nothing.
            World::Interpreter if !named => Role::Plumbing,
            _ => python::role(function, self == World::Interpreter),
        }
    }
}

fn expand(
    found: &Symbolised,
    (module, world): (ModuleId, World),
    address: u64,
    kind: FunctionKind,
    builder: &mut ProfileBuilder,
) -> Expansion {
    let outermost = found.places.len() - 1;
    let is_evaluation = |name: &str| world.role(name, found.named) == Role::Evaluation;
    let in_evaluation = is_evaluation(&found.places[outermost].function.name);
    let frames = found.places.iter().enumerate().map(|(depth, place)| {
        let name = builder.string(&place.function.name);
        let declared = place.function.file.get().map(|file| builder.string(file));
        let line = place.function.line;
        let function =
            builder.function(Function { name, module: Some(module), file: declared, line, kind });
        let file = place.file.as_ref().map(|file| builder.string(file));
        let inlined = depth != outermost;
        let role = match world.role(&place.function.name, found.named) {
            _ if inlined && in_evaluation => Role::Instruction,
            role => role,
        };
        let frame = builder.frame(Frame { function, line: place.line, file, address, inlined });
        Expanded {
            frame,
            role,
            in_interpreter: world == World::Interpreter,
            in_probe: world == World::Probe,
        }
    });
    let frames = frames.collect();
    let is_root = ROOTS.contains(&found.places[outermost].function.name.as_str());
    Expansion { frames, named: found.named, is_root }
}

pub(super) fn build_id(file: &ModuleFile) -> Option<String> {
    let image = file.image.as_ref()?;
    let elf = ElfFile64::<object::Endianness>::parse(&**image.bytes()).ok()?;
    Some(hexadecimal(elf.build_id().ok()??))
}

/// The stacks of the profile, by the raw stack that each stands for.
pub(super) struct Stacks {
    ids: Vec<StackId>,
    /// Whether the outermost function is one that nothing calls.
    rooted: Vec<bool>,
    /// Whether the innermost function has a name.
    named: Vec<bool>,
}

impl Stacks {
    pub fn build(trace: &Trace, frames: &[Expansion], builder: &mut ProfileBuilder) -> Self {
        let count = trace.stacks.nodes().len();
        let mut stacks = Self {
            ids: Vec::with_capacity(count),
            rooted: Vec::with_capacity(count),
            named: Vec::with_capacity(count),
        };
        for node in trace.stacks.nodes() {
            let parent = node.parent.map(|parent| parent.0 as usize);
            let expansion = &frames[node.frame.0 as usize];
            let caller = parent.map(|parent| stacks.ids[parent]);
            let leaf = expansion
                .frames
                .iter()
                .rev()
                .fold(caller, |caller, expanded| Some(builder.child(caller, expanded.frame)));
            stacks.ids.push(leaf.expect("every address has at least one frame"));
            stacks.rooted.push(parent.map_or(expansion.is_root, |parent| stacks.rooted[parent]));
            stacks.named.push(expansion.named);
        }
        stacks
    }

    /// The stack that a raw stack stands for.
    pub fn id(&self, stack: RawStackId) -> StackId {
        self.ids[stack.0 as usize]
    }

    /// Whether its innermost function has a name.
    pub fn is_named(&self, stack: RawStackId) -> bool {
        self.named[stack.0 as usize]
    }

    /// Whether the stack of a sample does not reach its root.
    fn is_cut(&self, sample: &RawSample) -> bool {
        let is_rooted = sample.stack.is_some_and(|stack| self.rooted[stack.0 as usize]);
        sample.end == WalkEnd::Cut && !is_rooted
    }
}

/// What each sample stands for, in nanoseconds of CPU time.
///
/// The clock's periods are nanoseconds already. Cycles are not: they are scaled so that all together are the
/// CPU time that the target used, which holds as far as the frequency was the same throughout.
fn weights(samples: &[RawSample], clock: Clock, target_cpu_ns: u64) -> Vec<u64> {
    match clock {
        Clock::CpuClock => samples.iter().map(|sample| sample.period).collect(),
        Clock::Cycles => scaled(samples.iter().map(|sample| sample.period), target_cpu_ns),
    }
}

/// Scales counts so that their sum is `total`, each rounded so that no error adds up.
fn scaled(counts: impl Iterator<Item = u64> + Clone, total: u64) -> Vec<u64> {
    let sum: u128 = counts.clone().map(u128::from).sum();
    let (mut counted, mut given) = (0_u128, 0_u128);
    counts
        .map(|count| {
            counted += u128::from(count);
            let due = counted * u128::from(total) / sum.max(1);
            let weight = due - given;
            given = due;
            u64::try_from(weight).expect("a part of a total that fits")
        })
        .collect()
}

fn provenance(trace: &Trace, stacks: &Stacks, circumstances: Circumstances) -> Provenance {
    let Circumstances { sampling, event, refusals, .. } = circumstances;
    let samples = trace.samples.len() as u64;
    let seconds = circumstances.target_cpu_ns as f64 / 1e9;
    let achieved_hz = if seconds > 0.0 { samples as f64 / seconds } else { 0.0 };
    let count = |is: &dyn Fn(&RawSample) -> bool| {
        trace.samples.iter().filter(|sample| is(sample)).count() as u64
    };
    let known =
        |flags: &[bool], sample: &RawSample| sample.stack.is_some_and(|s| flags[s.0 as usize]);
    Provenance {
        event: event.name(),
        fallbacks: refusals.iter().map(Refusal::to_string).collect(),
        rate_hz: sampling.rate_hz.into(),
        achieved_hz,
        samples,
        lost: trace.counts.lost_samples,
        truncated: count(&|s| stacks.is_cut(s)),
        unsymbolised: count(&|s| !known(&stacks.named, s)),
        kernel: event.kernel,
        stack_bytes: sampling.stack_bytes,
        recorder_cpu_ns: circumstances.recorder_cpu_ns,
        symbolise_ns: 0,
        target_cpu_ns: circumstances.target_cpu_ns,
        python: None,
        notices: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaled_weights_add_up_to_the_total() {
        let table: [(&[u64], u64); 5] = [
            (&[1, 1, 1], 100),
            (&[], 7),
            (&[0, 0], 7),
            (&[1 << 60, 1, 1 << 60], u64::MAX),
            (&[3], 0),
        ];
        for (counts, total) in table {
            let weights = scaled(counts.iter().copied(), total);
            let sum: u128 = weights.iter().copied().map(u128::from).sum();
            let expected = if counts.iter().any(|&count| count > 0) { total } else { 0 };
            assert_eq!(sum, u128::from(expected), "{counts:?}");
        }
        assert_eq!(scaled([1, 3].into_iter(), 400), [100, 300]);
    }
}
