//! Symbols for all addresses of one or more recordings. The debug information of each module is read once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::kallsyms::KernelSymbols;
use super::module::{FileIdentity, ModuleFile, ModuleIndex};
use super::symbolise::{self, Symbolised};
use super::trace::Trace;

/// Identifies a module across recordings.
type ModuleKey = (String, FileIdentity);

/// Functions by module and address.
#[derive(Debug)]
pub(super) struct Symbols {
    /// Files with debug information that are missing, by the program or library that refers to them.
    pub missing_files: BTreeMap<String, BTreeSet<String>>,
    modules: HashMap<ModuleKey, HashMap<u64, Symbolised>>,
    pub kernel: KernelSymbols,
}

impl Symbols {
    /// Symbolises every address of `traces`.
    pub fn for_traces(traces: &[&Trace]) -> Self {
        let mut wanted: HashMap<ModuleKey, (&ModuleFile, BTreeSet<u64>)> = HashMap::new();
        for trace in traces {
            for (index, addresses) in user_addresses(trace) {
                let file = trace.modules.get(index);
                let entry = wanted.entry(key(file));
                entry.or_insert_with(|| (file, BTreeSet::new())).1.extend(addresses);
            }
        }
        let mut found = Self {
            missing_files: BTreeMap::new(),
            modules: HashMap::new(),
            kernel: KernelSymbols::read(),
        };
        for (key, (file, addresses)) in wanted {
            let addresses: Vec<u64> = addresses.into_iter().collect();
            let symbols = symbolise::addresses(file, &addresses);
            if !symbols.missing_files.is_empty() {
                found.missing_files.insert(file.path.clone(), symbols.missing_files);
            }
            found.modules.insert(key, addresses.into_iter().zip(symbols.symbolised).collect());
        }
        found
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
