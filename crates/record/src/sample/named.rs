//! Names for stacks that came otherwise than by perf events: frames told by module and address, and Python frames beside them.

use std::path::{Path, PathBuf};

use simprof_model::{Profile, ProfileBuilder, StackId, WeightKind};
use simprof_preload::format::flag;

use super::module::{FileIdentity, FileMapping, ModuleIndex, ModuleTable};
use super::observer::{Counts, Trace};
use super::profile::{Stacks, symbolised_frames};
use super::python::{Mixed, Told};
use super::raw_stacks::{RawFrame, RawStackId, RawStacks};
use super::symbols::Symbols;
use crate::preload::Tree;

/// Modules by the numbers that the target gives them, each opened while its process lives.
#[derive(Debug)]
pub(crate) struct OpenedModules {
    table: ModuleTable,
    opened: Vec<ModuleIndex>,
}

impl OpenedModules {
    /// None yet; number 0 is code in no known file.
    pub fn new() -> Self {
        Self { table: ModuleTable::new(), opened: vec![ModuleIndex::ANONYMOUS] }
    }

    /// The number of the next module.
    pub fn next(&self) -> u32 {
        u32::try_from(self.opened.len()).expect("few modules")
    }

    /// Opens the next module: a file of this process, by the path that the process sees.
    pub fn open(&mut self, pid: u32, path: String) {
        let (range, identity) = (0..0, FileIdentity::default());
        let index =
            self.table.of_mapping(&FileMapping { pid, range, file_offset: 0, path, identity });
        self.opened.push(index);
    }
}

/// A stack that is to be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ToldStack {
    /// Its native frames.
    pub native: Option<NativeStack>,
    /// Whether frames towards the root are missing of them.
    pub native_cut: bool,
    /// Node of its Python frames; 0 for none.
    pub python: u32,
    /// Whether frames towards the root are missing of those.
    pub python_cut: bool,
}

/// A native stack within a [`ToldStacks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct NativeStack(RawStackId);

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NamedStack {
    pub stack: Option<StackId>,
    /// Whether its innermost native function has a name.
    pub named: bool,
}

/// Native stacks to be named.
#[derive(Debug)]
pub(crate) struct ToldStacks {
    modules: OpenedModules,
    stacks: RawStacks,
}

impl ToldStacks {
    /// None yet, of code in these modules.
    pub fn new(modules: OpenedModules) -> Self {
        Self { modules, stacks: RawStacks::default() }
    }

    /// The stack that is the code at an address of a module, called from `parent`.
    pub fn child(&mut self, parent: Option<NativeStack>, module: u32, address: u64) -> NativeStack {
        let opened = self.modules.opened.get(module as usize);
        let module = opened.copied().unwrap_or(ModuleIndex::UNKNOWN);
        let frame = self.stacks.frame(RawFrame { module, address });
        NativeStack(self.stacks.child(parent.map(|parent| parent.0), frame))
    }

    /// Names stacks; in their order. Paths of Python code start at `directory`. The profile has no samples.
    pub fn name(
        self,
        wanted: &[ToldStack],
        tree: Tree,
        directory: &Path,
    ) -> (Profile, Vec<NamedStack>) {
        let trace = self.into_trace(tree, directory.to_owned());
        let symbols = Symbols::of(&[&trace]);
        let mut builder = ProfileBuilder::new(WeightKind::Bytes);
        let expansions = symbolised_frames(&trace, &symbols, &mut builder);
        let stacks = Stacks::build(&trace, &expansions, &mut builder);
        let told = trace.told.as_ref().expect("it was just told");
        let mut mixed = Mixed::new(told, &trace.stacks, &expansions);
        let named = wanted.iter().map(|wanted| {
            let native = wanted.native.map(|native| native.0);
            let named = native.is_none_or(|native| stacks.is_named(native));
            let stack = if wanted.python == 0 {
                native.map(|native| stacks.id(native))
            } else {
                let flags = if wanted.python_cut { flag::UNREADABLE } else { 0 };
                let python = (wanted.python, flags);
                mixed.stack(native, wanted.native_cut, python, &mut builder).stack
            };
            NamedStack { stack, named }
        });
        let named = named.collect();
        (builder.finish(), named)
    }

    fn into_trace(self, tree: Tree, directory: PathBuf) -> Trace {
        Trace {
            modules: self.modules.table,
            stacks: self.stacks,
            samples: Vec::new(),
            threads: Vec::new(),
            counts: Counts::default(),
            told: Some(Told { tree, directory, frames: true, ..Told::default() }),
        }
    }
}
