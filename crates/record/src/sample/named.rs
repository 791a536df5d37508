//! Names for stacks that came otherwise than by perf events: frames told by module and address, and Python frames beside them.

use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use simprof_model::{Profile, ProfileBuilder, StackId, WeightKind};
use simprof_preload::format::flag;

use super::debug_file::hexadecimal;
use super::module::{FileIdentity, FileMapping, ModuleIndex, ModuleTable};
use super::observer::{Counts, Trace};
use super::profile::{Stacks, build_id, symbolised_frames};
use super::python::{Mixed, Told};
use super::raw_stacks::{RawFrame, RawStackId, RawStacks};
use super::symbols::Symbols;
use crate::preload::{Tree, is_simprofs};

/// What the kernel calls the libraries that the profiler loads where they are in memory, up to their names.
const OWN: &str = "/memfd:simprof-";

/// Modules by the numbers that the target gives them, each opened while its process lives.
#[derive(Debug)]
pub(crate) struct OpenedModules {
    table: ModuleTable,
    /// None for the profiler's own libraries.
    opened: Vec<Option<ModuleIndex>>,
}

impl OpenedModules {
    /// None yet; number 0 is code in no known file.
    pub fn new() -> Self {
        Self { table: ModuleTable::new(), opened: vec![Some(ModuleIndex::ANONYMOUS)] }
    }

    /// The number of the next module.
    pub fn next(&self) -> u32 {
        u32::try_from(self.opened.len()).expect("few modules")
    }

    /// Opens the next module: a file of this process, by the path that the process sees, with this build id where it has one.
    pub fn open(&mut self, pid: u32, path: String, told_id: &[u8]) {
        let opened = self.opened_as(pid, path, told_id);
        self.opened.push(opened);
    }

    /// As [`OpenedModules::open`], of a module that was told of, but could not be read then.
    pub fn open_late(&mut self, number: u32, pid: u32, path: String, told_id: &[u8]) {
        let opened = self.opened_as(pid, path, told_id);
        if let Some(place) = self.opened.get_mut(number as usize) {
            *place = opened;
        }
    }

    /// Leaves the next module out for now: its code is in no known file.
    pub fn leave_out(&mut self) {
        self.opened.push(Some(ModuleIndex::ANONYMOUS));
    }

    fn opened_as(&mut self, pid: u32, path: String, told_id: &[u8]) -> Option<ModuleIndex> {
        if path.starts_with(OWN) || is_simprofs(path.strip_suffix(" (deleted)").unwrap_or(&path)) {
            return None;
        }
        let (range, identity) = mapped(pid, &path).unwrap_or_else(|| (0..0, by_path(&path)));
        let mapping = FileMapping { pid, range, file_offset: 0, path, identity };
        let index = self.table.of_mapping(&mapping);
        let found = build_id(self.table.get(index));
        if found.is_some_and(|found| !told_id.is_empty() && found != hexadecimal(told_id)) {
            self.table.discard_image(index);
        }
        Some(index)
    }
}

/// Where a process has mapped the code of a file, and which file that is; none where the process has gone.
fn mapped(pid: u32, path: &str) -> Option<(Range<u64>, FileIdentity)> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    maps.lines().filter(|line| line.ends_with(path)).find_map(|line| {
        // start-end permissions offset major:minor inode path
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let hexadecimal = |text: &str| u64::from_str_radix(text, 16).ok();
        let range = hexadecimal(start)?..hexadecimal(end)?;
        let is_code = fields.next()?.contains('x');
        let (major, minor) = fields.nth(1)?.split_once(':')?;
        let device = (hexadecimal(major)? as u32, hexadecimal(minor)? as u32);
        let inode = fields.next()?.parse().ok()?;
        let is_it = is_code && fields.next()?.trim_start() == path;
        is_it.then_some((range, FileIdentity { device, inode, generation: 0 }))
    })
}

/// Which file a path names now.
fn by_path(path: &str) -> FileIdentity {
    let inode = std::fs::metadata(path).map_or(0, |metadata| metadata.ino());
    FileIdentity { inode, ..FileIdentity::default() }
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

    /// The stack that is the code at an address of a module, called from `parent`; `parent` itself where the code is the
    /// profiler's own, which stands between the program and its allocator.
    pub fn child(
        &mut self,
        parent: Option<NativeStack>,
        module: u32,
        address: u64,
    ) -> Option<NativeStack> {
        let opened = self.modules.opened.get(module as usize).copied();
        let Some(module) = opened.unwrap_or(Some(ModuleIndex::UNKNOWN)) else { return parent };
        let frame = self.stacks.frame(RawFrame { module, address });
        Some(NativeStack(self.stacks.child(parent.map(|parent| parent.0), frame)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preload::{HEAP, Library, PRELOAD};

    #[test]
    fn frames_of_the_profilers_own_libraries_are_left_out() {
        let libraries = [&HEAP, &PRELOAD].map(|image| Library::create(image).expect("made"));
        let mut modules = OpenedModules::new();
        for library in &libraries {
            // As the kernel calls it, who follows links.
            let path = std::fs::canonicalize(library.path());
            let path = path.map_or(library.path(), |path| path.to_string_lossy().into_owned());
            modules.open(0, path.clone(), b"");
            modules.open(0, format!("{path} (deleted)"), b"");
        }
        modules.open(0, "/memfd:simprof-heap-library (deleted)".to_owned(), b"");
        assert_eq!(modules.opened[1..], [None; 5]);
        modules.open(0, "/usr/lib/libsimprof_heap.so".to_owned(), b"");
        assert!(modules.opened[6].is_some());
        let mut stacks = ToldStacks::new(modules);
        let outer = stacks.child(None, 6, 16);
        assert!(outer.is_some() && stacks.child(outer, 1, 32) == outer);
    }

    #[test]
    fn a_module_that_is_told_late_takes_its_own_place() {
        let mut modules = OpenedModules::new();
        modules.leave_out();
        modules.open(0, "/second".to_owned(), b"");
        assert_eq!((modules.opened[1], modules.next()), (Some(ModuleIndex::ANONYMOUS), 3));
        modules.open_late(1, 0, "/first".to_owned(), b"");
        assert_ne!(modules.opened[1], Some(ModuleIndex::ANONYMOUS));
        assert_ne!(modules.opened[1], modules.opened[2]);
        modules.open_late(9, 0, "/none".to_owned(), b"");
    }
}
