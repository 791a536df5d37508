//! The files that code was loaded from: found by address, and registered once in the shared memory.

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};

use super::format::{self, Module};
use super::loader::{self, Loaded};
use super::proc_maps;
use super::shared::{self, Shared};
use crate::table;

/// The module at an address.
#[derive(Clone, Copy)]
pub struct ModuleInfo {
    /// Number in the shared memory; 0: the table was full.
    pub number: u32,
    /// Load bias: the difference between an address in memory and in the file.
    pub bias: usize,
    /// The mapped `.eh_frame_hdr`.
    pub header: *const u8,
}

/// Number of modules of this process that are cached.
const KNOWN: usize = 1024;

/// A registered module. `end` is written last, and is 0 if the entry is free.
struct Known {
    start: AtomicUsize,
    end: AtomicUsize,
    number: AtomicU32,
}

static KNOWN_MODULES: [Known; KNOWN] = [const {
    Known { start: AtomicUsize::new(0), end: AtomicUsize::new(0), number: AtomicU32::new(0) }
}; KNOWN];
static KNOWN_COUNT: AtomicUsize = AtomicUsize::new(0);

/// Returns the module that contains `pc`. `None` for code that is in no file.
pub fn find(pc: usize, scratch: &mut [u8]) -> Option<ModuleInfo> {
    let loaded = loader::loaded(pc)?;
    let number = known(&loaded).unwrap_or_else(|| {
        let (number, is_named) = register(&loaded, scratch);
        // If `/proc/self/maps` cannot be read now, it may be readable later.
        if is_named {
            remember(&loaded, number);
        }
        number
    });
    Some(ModuleInfo { number, bias: loaded.bias, header: loaded.header })
}

/// Empties the cache, after a module was unloaded.
pub fn clear() {
    let count = KNOWN_COUNT.swap(0, Ordering::Relaxed).min(KNOWN);
    for known in &KNOWN_MODULES[..count] {
        known.end.store(0, Ordering::Relaxed);
    }
}

/// Reports that allocations of the library at this path are not seen.
#[cfg(simprof_heap)]
pub fn report_unseen(path: &[u8]) {
    if let Some(shared) = shared::own_process().and_then(|_| shared::get()) {
        let entry = Registered { path, is_mapped: false, is_unseen: true, start: 0, build_id: &[] };
        register_in(shared, &entry);
    }
}

/// Returns the cached number of a module.
fn known(loaded: &Loaded) -> Option<u32> {
    let count = KNOWN_COUNT.load(Ordering::Acquire).min(KNOWN);
    let same = |known: &&Known| {
        known.end.load(Ordering::Acquire) == loaded.end
            && known.start.load(Ordering::Relaxed) == loaded.start
    };
    let known = KNOWN_MODULES[..count].iter().find(same)?;
    Some(known.number.load(Ordering::Relaxed))
}

fn remember(loaded: &Loaded, number: u32) {
    let at = KNOWN_COUNT.fetch_add(1, Ordering::AcqRel);
    if let Some(known) = KNOWN_MODULES.get(at) {
        known.end.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        known.start.store(loaded.start, Ordering::Relaxed);
        known.number.store(number, Ordering::Relaxed);
        known.end.store(loaded.end, Ordering::Release);
    }
}

/// Registers all loaded modules, while their paths can still be read. It takes the loader's lock for a short time.
#[cfg(simprof_heap)]
pub fn register_all() {
    loader::each_loaded(|listed| {
        // SAFETY: the loader's description of a loaded module.
        if let Some(loaded) = unsafe { listed.module() }
            && known(&loaded).is_none()
        {
            remember(&loaded, register(&loaded, &mut [0; 4096]).0);
        }
    });
}

/// Registers a module unless it is registered. Returns its number, or 0 if the table is full, and whether its path
/// is known.
fn register(loaded: &Loaded, scratch: &mut [u8]) -> (u32, bool) {
    let line = proc_maps::find_line(|range| range.start == loaded.start, scratch);
    let mapped = proc_maps::path_in(scratch, line);
    let (path, is_mapped) = match mapped.is_empty() {
        false => (&scratch[mapped], true),
        true => named(loaded, scratch),
    };
    let (start, build_id) = (loaded.start, loader::build_id_of(loaded));
    let entry = Registered { path, is_mapped, is_unseen: false, start, build_id };
    let number = shared::get().map_or(0, |shared| register_in(shared, &entry));
    (number, !path.is_empty())
}

/// Returns the path that the loader knows, and whether it is the path that others know too. After a change of the root
/// folder, or under a seccomp filter, there is no other one.
#[cfg_attr(not(simprof_heap), allow(unused_variables, reason = "tests do not change the root"))]
fn named<'a>(loaded: &Loaded, scratch: &'a mut [u8]) -> (&'a [u8], bool) {
    if loaded.name.is_null() {
        return (&[], false);
    }
    // SAFETY: the loader's name of a loaded module is a C string, which lives as long as the module.
    let name: &'a [u8] = unsafe { core::ffi::CStr::from_ptr(loaded.name) }.to_bytes();
    #[cfg(simprof_heap)]
    if let Some(path) = super::root::outside(name, scratch) {
        return (path, true);
    }
    (name, false)
}

/// What is registered of a module.
struct Registered<'a> {
    path: &'a [u8],
    /// Whether the path is the kernel's, not the loader's.
    is_mapped: bool,
    /// See [`Module::is_unseen`].
    is_unseen: bool,
    start: usize,
    build_id: &'a [u8],
}

fn register_in(shared: Shared, entry: &Registered<'_>) -> u32 {
    let &Registered { path, is_mapped, is_unseen, start, build_id } = entry;
    let count = shared.header().modules.load(Ordering::Acquire).min(format::MODULES as u64 - 1);
    // Another process may have another file at a path that only its loader knows.
    let is_comparable = |module: &Module| {
        is_mapped
            || !build_id.is_empty()
            || module.process.load(Ordering::Relaxed) == shared::image()
    };
    let same = |&number: &u32| {
        let Some(module) = shared.module(number) else { return false };
        let same_kind = module.is_unseen.load(Ordering::Relaxed) == is_unseen.into();
        same_kind && is_module(module, path, build_id) && is_comparable(module)
    };
    if let Some(number) = (1..=count as u32).find(same) {
        return number;
    }
    let reserved = table::reserve(&shared.header().modules, |number| shared.module(number));
    let Some((number, module)) = reserved else { return 0 };
    module.process.store(shared::image(), Ordering::Relaxed);
    module.start.store(start as u64, Ordering::Relaxed);
    module.is_mapped.store(is_mapped.into(), Ordering::Relaxed);
    module.is_unseen.store(is_unseen.into(), Ordering::Relaxed);
    let path_bytes = path.len().min(module.path.len());
    for (target, &byte) in module.path.iter().zip(path) {
        target.store(byte, Ordering::Relaxed);
    }
    module.path_bytes.store(path_bytes as u32, Ordering::Relaxed);
    for (target, &byte) in module.build_id.iter().zip(build_id) {
        target.store(byte, Ordering::Relaxed);
    }
    let build_id_bytes = build_id.len().min(module.build_id.len());
    module.build_id_bytes.store(build_id_bytes as u32, Ordering::Relaxed);
    module.written.store(1, Ordering::Release);
    number
}

fn is_module(module: &Module, path: &[u8], build_id: &[u8]) -> bool {
    let same = |stored: &[core::sync::atomic::AtomicU8], count: u32, bytes: &[u8]| {
        count as usize == bytes.len().min(stored.len())
            && stored
                .iter()
                .zip(bytes)
                .all(|(stored, &byte)| stored.load(Ordering::Relaxed) == byte)
    };
    module.written.load(Ordering::Acquire) == 1
        && same(&module.path, module.path_bytes.load(Ordering::Relaxed), path)
        && same(&module.build_id, module.build_id_bytes.load(Ordering::Relaxed), build_id)
}
