//! Symbolises stacks that were recorded in the target, without perf events: native frames by module and address, and Python
//! frames.

use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use simprof_model::{Profile, ProfileBuilder, StackId, WeightKind};

use super::debug_file::hexadecimal;
use super::module::{FileIdentity, FileMapping, ModuleIndex, ModuleTable};
use super::native_frames::{NativeFrames, build_id};
use super::native_stacks::NativeStacks;
use super::notices::missing_debug_files;
use super::python::{PythonTrace, StackMerger};
use super::raw_stacks::{RawFrame, RawStackId, RawStacks};
use super::symbols::Symbols;
use super::trace::Trace;
use crate::preload::{Tree, is_simprofs};

/// Start of the paths of simprof's libraries when they are loaded from memory.
const MEMORY_LIBRARY: &str = "/memfd:simprof-";

/// Modules by the numbers that the target gives them, each opened while its process is running.
#[derive(Debug)]
pub(crate) struct OpenedModules {
    table: ModuleTable,
    /// `None` for simprof's own libraries.
    opened: Vec<Option<ModuleIndex>>,
}

impl OpenedModules {
    /// Contains only number 0, which stands for code without a file.
    pub fn new() -> Self {
        Self { table: ModuleTable::new(), opened: vec![Some(ModuleIndex::ANONYMOUS)] }
    }

    /// Returns the number of the next module.
    pub fn next(&self) -> u32 {
        u32::try_from(self.opened.len()).expect("few modules")
    }

    /// Opens the next module, a file of process `pid`.
    pub fn open(&mut self, pid: u32, module: &MappedModule) {
        let opened = self.opened_as(pid, module);
        self.opened.push(opened);
    }

    /// Opens a module that was skipped before.
    pub fn open_late(&mut self, number: u32, pid: u32, module: &MappedModule) {
        let opened = self.opened_as(pid, module);
        if let Some(slot) = self.opened.get_mut(number as usize) {
            *slot = opened;
        }
    }

    /// Skips the next module. Until it is opened, its code counts as code without a file.
    pub fn skip(&mut self) {
        self.opened.push(Some(ModuleIndex::ANONYMOUS));
    }

    fn opened_as(&mut self, pid: u32, module: &MappedModule) -> Option<ModuleIndex> {
        let mapped = mapped(pid, module);
        let given = module.path.to_string_lossy();
        let path = match &mapped {
            Some((path, ..)) if given.is_empty() => path.to_string_lossy().into_owned(),
            _ => given.into_owned(),
        };
        if path.starts_with(MEMORY_LIBRARY)
            || is_simprofs(path.strip_suffix(" (deleted)").unwrap_or(&path))
        {
            return None;
        }
        let is_known = module.is_mapped || mapped.is_some();
        let (range, identity) = match mapped {
            Some((_, range, identity)) => (range, identity),
            None => (0..0, identity_of_path(&module.path)),
        };
        // The loader's path may name another file here, which only the build id shows.
        let is_certain = is_known || !module.build_id.is_empty();
        let file = if is_certain { module.path.clone() } else { PathBuf::new() };
        let index =
            self.table.open(&FileMapping { pid, range, file_offset: 0, path, file, identity });
        let expected = hexadecimal(&module.build_id);
        let is_other = |found: Option<String>| found.map_or(!is_known, |found| found != expected);
        if !module.build_id.is_empty() && is_other(build_id(self.table.get(index))) {
            self.table.discard_image(index);
        }
        Some(index)
    }
}

/// A file that a process has mapped, as the library in it reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MappedModule {
    /// Its path, as the process sees it.
    pub path: PathBuf,
    /// Whether the path is the kernel's. Otherwise it is the loader's.
    pub is_mapped: bool,
    /// Whether it was written only to report that its allocations are not recorded.
    pub is_unseen: bool,
    /// Address of the beginning of the file in the first process that wrote it.
    pub start: u64,
    /// Slot of that process.
    pub slot: u32,
    /// The file's build id; empty if it has none.
    pub build_id: Vec<u8>,
}

/// Finds the mapping of a module in a process: its path as seen from here, its range, and the identity of the file. Returns
/// `None` if the process has ended, or has mapped something else there.
fn mapped(pid: u32, module: &MappedModule) -> Option<(PathBuf, Range<u64>, FileIdentity)> {
    let maps = std::fs::read(format!("/proc/{pid}/maps")).ok()?;
    let given = module.path.as_os_str().as_bytes();
    maps.split(|&byte| byte == b'\n').find_map(|line| {
        // start-end permissions offset major:minor inode path
        let mut fields = line.splitn(6, |&byte| byte == b' ');
        let mut next = || std::str::from_utf8(fields.next()?).ok();
        let (start, end) = next()?.split_once('-')?;
        let hexadecimal = |text: &str| u64::from_str_radix(text, 16).ok();
        let range = hexadecimal(start)?..hexadecimal(end)?;
        if range.start != module.start {
            return None;
        }
        let (_, _, device, inode) = (next()?, next()?, next()?, next()?);
        let (major, minor) = device.split_once(':')?;
        let device = (hexadecimal(major)? as u32, hexadecimal(minor)? as u32);
        let path = fields.next()?.trim_ascii_start();
        // The process may have another root folder.
        let is_it = path.ends_with(given) || !module.is_mapped && path.starts_with(b"/");
        let identity = FileIdentity { device, inode: inode.parse().ok()?, generation: 0 };
        is_it.then(|| (PathBuf::from(OsStr::from_bytes(path)), range, identity))
    })
}

/// Returns the identity of the file that a path names now.
fn identity_of_path(path: &Path) -> FileIdentity {
    let inode = std::fs::metadata(path).map_or(0, |metadata| metadata.ino());
    FileIdentity { inode, ..FileIdentity::default() }
}

/// A stack to symbolise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TargetStack {
    /// Its native frames.
    pub native: Option<NativeStack>,
    /// Node of its Python frames; 0 if there are none.
    pub python: u32,
}

/// A native stack within a [`TargetStacks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct NativeStack(RawStackId);

/// A symbolised [`TargetStack`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct SymbolisedStack {
    pub stack: Option<StackId>,
    /// Whether its innermost native function has a symbol.
    pub named: bool,
}

/// Collects native stacks and symbolises them.
#[derive(Debug)]
pub(crate) struct TargetStacks {
    modules: OpenedModules,
    stacks: RawStacks,
}

impl TargetStacks {
    /// Starts without stacks. `modules` contains the code of those to come.
    pub fn new(modules: OpenedModules) -> Self {
        Self { modules, stacks: RawStacks::default() }
    }

    /// Returns the stack in which `parent` calls the code at an address of a module. Code of simprof's own libraries, which lies
    /// between the program and its allocator, is skipped: then the result is `parent`.
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

    /// Symbolises stacks. Returns a profile without samples but with notices, and the stacks in their order. Relative paths of Python files start
    /// at `directory`.
    pub fn symbolise(
        self,
        stacks: &[TargetStack],
        tree: Tree,
        directory: &Path,
    ) -> (Profile, Vec<SymbolisedStack>) {
        let trace = self.into_trace(tree, directory.to_owned());
        let symbols = Symbols::for_traces(&[&trace]);
        let mut builder = ProfileBuilder::new(WeightKind::Bytes);
        builder.provenance().notices.extend(missing_debug_files(&symbols.missing_files));
        let mut frames = NativeFrames::new(&trace, &symbols);
        let native_stacks = NativeStacks::build(&trace, &mut frames, &mut builder);
        let recorded = trace.python.as_ref().expect("into_trace sets it");
        let mut merger = StackMerger::new(recorded, &trace.stacks, frames);
        let symbolised = stacks.iter().map(|stack| {
            let native = stack.native.map(|native| native.0);
            let named = native.is_none_or(|native| native_stacks.is_named(native));
            let stack = if stack.python == 0 {
                native.map(|native| native_stacks.id(native))
            } else {
                merger.merge(native, false, (stack.python, 0), &mut builder).stack
            };
            SymbolisedStack { stack, named }
        });
        let symbolised = symbolised.collect();
        (builder.finish(), symbolised)
    }

    fn into_trace(self, tree: Tree, directory: PathBuf) -> Trace {
        Trace {
            modules: self.modules.table,
            stacks: self.stacks,
            python: Some(PythonTrace { tree, directory, frames: true, ..PythonTrace::default() }),
            ..Trace::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preload::{HEAP, Library, PRELOAD};

    fn module(path: &str) -> MappedModule {
        let build_id = Vec::new();
        MappedModule {
            path: path.into(),
            is_mapped: true,
            is_unseen: false,
            start: 0,
            slot: 0,
            build_id,
        }
    }

    #[test]
    fn frames_of_simprofs_libraries_are_skipped() {
        let libraries = [&HEAP, &PRELOAD].map(|image| Library::create(image).expect("made"));
        let mut modules = OpenedModules::new();
        for library in &libraries {
            // The kernel reports the path with links resolved.
            let path = std::fs::canonicalize(library.path());
            let path = path.map_or(library.path(), |path| path.to_string_lossy().into_owned());
            modules.open(0, &module(&path));
            modules.open(0, &module(&format!("{path} (deleted)")));
        }
        modules.open(0, &module("/memfd:simprof-heap-library (deleted)"));
        assert_eq!(modules.opened[1..], [None; 5]);
        modules.open(0, &module("/usr/lib/libsimprof_heap.so"));
        assert!(modules.opened[6].is_some());
        let mut stacks = TargetStacks::new(modules);
        let outer = stacks.child(None, 6, 16);
        assert!(outer.is_some() && stacks.child(outer, 1, 32) == outer);
    }

    #[test]
    fn a_module_that_is_opened_late_keeps_its_number() {
        let mut modules = OpenedModules::new();
        modules.skip();
        modules.open(0, &module("/second"));
        assert_eq!((modules.opened[1], modules.next()), (Some(ModuleIndex::ANONYMOUS), 3));
        modules.open_late(1, 0, &module("/first"));
        assert_ne!(modules.opened[1], Some(ModuleIndex::ANONYMOUS));
        assert_ne!(modules.opened[1], modules.opened[2]);
        modules.open_late(9, 0, &module("/none"));
    }
}
