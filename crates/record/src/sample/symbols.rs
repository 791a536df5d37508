//! Symbols for all addresses of one or more recordings. The debug information of each module is read once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use simprof_model::{CodeRange, LoopLine, ProfileBuilder, TightLoop};

use super::kallsyms::KernelSymbols;
use super::module::{FileIdentity, ModuleFile, ModuleIndex};
use super::native_frames::build_id;
use super::raw_stacks::RawFrame;
use super::symbolise::{self, Symbolised};
use super::tight_loops::TightCode;
use super::trace::Trace;

/// Identifies a module across recordings.
type ModuleKey = (String, FileIdentity);

/// Functions by module and address.
#[derive(Debug)]
pub(super) struct Symbols {
    /// Files with debug information that are missing, by the program or library that refers to them.
    pub missing_files: BTreeMap<String, BTreeSet<String>>,
    modules: HashMap<ModuleKey, HashMap<u64, Symbolised>>,
    loops: Vec<ModuleLoops>,
    pub kernel: KernelSymbols,
}

/// The tight loops of a module.
#[derive(Debug)]
struct ModuleLoops {
    path: String,
    build_id: Option<String>,
    loops: Vec<TightCode>,
}

/// The addresses of a module.
struct Wanted<'a> {
    file: &'a ModuleFile,
    addresses: BTreeSet<u64>,
    /// Those at which samples were taken, with the number of samples.
    leaves: BTreeMap<u64, u64>,
}

impl Symbols {
    /// Symbolises every address of `traces`.
    pub fn for_traces(traces: &[&Trace]) -> Self {
        let mut wanted: BTreeMap<ModuleKey, Wanted<'_>> = BTreeMap::new();
        for trace in traces {
            for (index, addresses) in user_addresses(trace) {
                let file = trace.modules.get(index);
                let new = || Wanted { file, addresses: BTreeSet::new(), leaves: BTreeMap::new() };
                wanted.entry(key(file)).or_insert_with(new).addresses.extend(addresses);
            }
            for (index, address) in leaves(trace) {
                let entry = wanted.entry(key(trace.modules.get(index)));
                entry.and_modify(|at| *at.leaves.entry(address).or_default() += 1);
            }
        }
        let mut found = Self {
            missing_files: BTreeMap::new(),
            modules: HashMap::new(),
            loops: Vec::new(),
            kernel: KernelSymbols::read(),
        };
        for (key, Wanted { file, addresses, leaves }) in wanted {
            let addresses: Vec<u64> = addresses.into_iter().collect();
            let symbols = symbolise::addresses(file, &addresses, &leaves);
            if !symbols.missing_files.is_empty() {
                found.missing_files.insert(file.path.clone(), symbols.missing_files);
            }
            if !symbols.loops.is_empty() {
                let (path, build_id) = (file.path.clone(), build_id(file));
                found.loops.push(ModuleLoops { path, build_id, loops: symbols.loops });
            }
            found.modules.insert(key, addresses.into_iter().zip(symbols.symbolised).collect());
        }
        found
    }

    /// Adds the tight loops to a profile.
    pub fn add_loops(&self, builder: &mut ProfileBuilder) {
        for ModuleLoops { path, build_id, loops } in &self.loops {
            let module = builder.module(path, build_id.clone());
            for TightCode { code, functions, lines } in loops {
                let range =
                    |code: &std::ops::Range<u64>| CodeRange { start: code.start, end: code.end };
                let tight = TightLoop {
                    module,
                    code: code.iter().map(range).collect(),
                    functions: functions.iter().map(|name| builder.string(name)).collect(),
                    lines: lines
                        .iter()
                        .map(|line| LoopLine {
                            function: builder.string(&line.function),
                            file: builder.string(&line.file),
                            line: line.line,
                        })
                        .collect(),
                };
                builder.tight_loop(tight);
            }
        }
    }

    /// Returns the functions at an address of a module, which must occur in the traces.
    pub fn at(&self, file: &ModuleFile, address: u64) -> &Symbolised {
        self.modules
            .get(&key(file))
            .and_then(|known| known.get(&address))
            .expect("every address of every trace was symbolised")
    }
}

fn key(file: &ModuleFile) -> ModuleKey {
    (file.path.clone(), file.identity)
}

/// Returns the distinct addresses of a trace that have no name yet, by module.
fn user_addresses(trace: &Trace) -> BTreeMap<ModuleIndex, BTreeSet<u64>> {
    let mut by_module: BTreeMap<ModuleIndex, BTreeSet<u64>> = BTreeMap::new();
    let is_in_file = |module| !matches!(module, ModuleIndex::KERNEL | ModuleIndex::GENERATED);
    for frame in trace.stacks.frames().iter().filter(|frame| is_in_file(frame.module)) {
        by_module.entry(frame.module).or_default().insert(frame.address);
    }
    by_module
}

/// Returns the address of each sample, or that at which the kernel had interrupted the program.
fn leaves(trace: &Trace) -> impl Iterator<Item = (ModuleIndex, u64)> + '_ {
    let samples = trace.samples.iter();
    let frames = |stack| trace.stacks.frames_from_leaf(stack);
    let outside_kernel = |frame: &RawFrame| frame.module != ModuleIndex::KERNEL;
    let leaves = samples.filter_map(move |sample| frames(sample.stack).find(outside_kernel));
    leaves.map(|leaf| (leaf.module, leaf.address))
}
