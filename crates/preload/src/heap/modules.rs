//! The files that code was loaded from: found by address, and registered once in the shared memory.

use core::ffi::{c_char, c_int, c_void};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence};

use super::format::{self, Module};
use super::shared::{self, Shared};
use super::system;

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

/// Where a module is in memory.
struct Loaded {
    start: usize,
    end: usize,
    bias: usize,
    header: *const u8,
    /// The path by which the loader opened it; empty for the program.
    name: *const c_char,
}

/// `struct dl_find_object` of glibc 2.35 and later.
#[repr(C)]
struct Object {
    flags: u64,
    start: *mut c_void,
    end: *mut c_void,
    link_map: *const LinkMap,
    header: *const u8,
    reserved: [u64; 7],
}

/// The beginning of `struct link_map`.
#[repr(C)]
struct LinkMap {
    bias: usize,
    name: *const c_char,
}

type FindObject = unsafe extern "C" fn(*mut c_void, *mut Object) -> c_int;

/// glibc's `_dl_find_object`, which takes no lock; null before 2.35.
pub static FIND_OBJECT: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());

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
    let loaded = loaded(pc)?;
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

/// Returns whether both addresses are in the same module.
pub fn is_same(one: usize, other: usize) -> bool {
    loaded(one).is_some_and(|module| (module.start..module.end).contains(&other))
}

fn loaded(pc: usize) -> Option<Loaded> {
    let find = FIND_OBJECT.load(Ordering::Relaxed);
    if find.is_null() {
        return iterate(pc);
    }
    // SAFETY: the symbol of this name has this type.
    let find = unsafe { core::mem::transmute::<*mut c_void, FindObject>(find) };
    let mut object = core::mem::MaybeUninit::<Object>::uninit();
    let address = core::ptr::without_provenance_mut(pc);
    // SAFETY: `object` is valid for the result.
    if unsafe { find(address, object.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: the function succeeded, so all fields are written.
    let object = unsafe { object.assume_init() };
    // SAFETY: the link map is that of a loaded module.
    let &LinkMap { bias, name } = unsafe { &*object.link_map };
    let (start, end, header) = (object.start.addr(), object.end.addr(), object.header);
    (!header.is_null()).then_some(Loaded { start, end, bias, header, name })
}

/// The beginning of `struct dl_phdr_info`.
#[repr(C)]
pub struct Listed {
    bias: usize,
    name: *const c_char,
    segments: *const Segment,
    count: u16,
}

/// `Elf64_Phdr`.
#[repr(C)]
pub struct Segment {
    pub kind: u32,
    flags: u32,
    offset: u64,
    pub address: usize,
    physical: u64,
    file_bytes: u64,
    pub bytes: usize,
    align: u64,
}

const PT_LOAD: u32 = 1;
pub const PT_DYNAMIC: u32 = 2;
const PT_NOTE: u32 = 4;
pub const PT_GNU_RELRO: u32 = 0x6474_e552;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;

unsafe extern "C" {
    fn dl_iterate_phdr(
        visit: unsafe extern "C" fn(*const Listed, usize, *mut c_void) -> c_int,
        data: *mut c_void,
    ) -> c_int;
}

/// Like [`loaded`], by the loader's list of modules. It takes the loader's lock for a short time.
fn iterate(pc: usize) -> Option<Loaded> {
    unsafe extern "C" fn visit(listed: *const Listed, _: usize, data: *mut c_void) -> c_int {
        // SAFETY: `data` is the address that is passed below.
        let (pc, found) = unsafe { &mut *data.cast::<(usize, Option<Loaded>)>() };
        // SAFETY: the loader's description of a loaded module.
        *found = unsafe { (*listed).module() }.filter(|it| (it.start..it.end).contains(pc));
        found.is_some().into()
    }
    let mut search = (pc, None);
    // SAFETY: the function is called with the address of `search`, which lives until it returns.
    unsafe { dl_iterate_phdr(visit, (&raw mut search).cast()) };
    search.1
}

/// Calls `visit` with each loaded module, in the order in which they were loaded. It takes the loader's lock.
#[cfg(simprof_heap)]
pub fn each_loaded(mut visit: impl FnMut(&Listed)) {
    unsafe extern "C" fn called<F: FnMut(&Listed)>(
        listed: *const Listed,
        _: usize,
        visit: *mut c_void,
    ) -> c_int {
        // SAFETY: the address of `visit`, and the loader's description of a loaded module.
        unsafe { (*visit.cast::<F>())(&*listed) };
        0
    }
    fn iterate<F: FnMut(&Listed)>(visit: &mut F) {
        // SAFETY: `visit` lives until the function returns.
        unsafe { dl_iterate_phdr(called::<F>, (&raw mut *visit).cast()) };
    }
    iterate(&mut visit);
}

#[cfg(simprof_heap)]
impl Listed {
    /// Returns the program headers.
    ///
    /// # Safety
    ///
    /// It must be the loader's description of a loaded module.
    pub unsafe fn segments(&self) -> &[Segment] {
        // SAFETY: the caller's promise.
        unsafe { core::slice::from_raw_parts(self.segments, self.count.into()) }
    }

    /// Returns an address of the file in memory.
    pub fn address(&self, address: usize) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(self.bias.wrapping_add(address))
    }

    /// Returns the pointer in an entry of the dynamic section, which the loader may have relocated.
    pub fn pointer(&self, value: usize) -> *mut u8 {
        if value < self.bias {
            self.address(value)
        } else {
            core::ptr::with_exposed_provenance_mut(value)
        }
    }

    /// Returns whether an address is in the module.
    pub fn contains(&self, address: usize) -> bool {
        // SAFETY: only the loader makes these descriptions.
        let segments = unsafe { self.segments() };
        let mut loads = segments.iter().filter(|segment| segment.kind == PT_LOAD);
        loads.any(|load| address.wrapping_sub(self.address(load.address).addr()) < load.bytes)
    }

    /// Reports that allocations of this module are not seen.
    pub fn report_unseen(&self) {
        // SAFETY: the loader's name of a module is null or a C string.
        if !self.name.is_null() {
            report_unseen(unsafe { core::ffi::CStr::from_ptr(self.name) }.to_bytes());
        }
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

impl Listed {
    /// Returns the module. `None` if it has no unwind information.
    ///
    /// # Safety
    ///
    /// It must be the loader's description of a loaded module.
    unsafe fn module(&self) -> Option<Loaded> {
        // SAFETY: the caller's promise: the segments are in memory.
        let segments = unsafe { core::slice::from_raw_parts(self.segments, self.count.into()) };
        let by_kind = |kind| segments.iter().filter(move |segment| segment.kind == kind);
        let begin = |segment: &Segment| self.bias.wrapping_add(segment.address);
        let start = by_kind(PT_LOAD).map(begin).min()? & !(system::PAGE - 1);
        let end = by_kind(PT_LOAD).map(|segment| begin(segment) + segment.bytes).max()?;
        let header = begin(by_kind(PT_GNU_EH_FRAME).next()?);
        let header = core::ptr::with_exposed_provenance(header);
        Some(Loaded { start, end, bias: self.bias, header, name: self.name })
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
    each_loaded(|listed| {
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
    let line = find_line(|range| range.start == loaded.start, scratch);
    let mapped = path_in(scratch, line);
    let (path, is_mapped) = match mapped.is_empty() {
        false => (&scratch[mapped], true),
        true => named(loaded, scratch),
    };
    let (start, build_id) = (loaded.start, build_id_of(loaded));
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
        let module = shared.module(number);
        let same_kind = module.is_unseen.load(Ordering::Relaxed) == is_unseen.into();
        same_kind && is_module(module, path, build_id) && is_comparable(module)
    };
    if let Some(number) = (1..=count as u32).find(same) {
        return number;
    }
    let number = shared.header().modules.fetch_add(1, Ordering::AcqRel) + 1;
    if number >= format::MODULES as u64 {
        shared.header().modules.fetch_sub(1, Ordering::AcqRel);
        return 0;
    }
    let module = shared.module(number as u32);
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
    number as u32
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

/// Returns the range of the mapping that contains `address`, and the end of the mapping below; 0 for what is not known.
#[cfg(simprof_heap)]
pub fn mapping_at(address: usize) -> (usize, core::ops::Range<usize>) {
    let below = core::cell::Cell::new(0);
    let mut scratch = [0; 4096];
    let is_it = |range: core::ops::Range<usize>| {
        let found = range.contains(&address);
        if !found {
            below.set(range.end);
        }
        found
    };
    let line = find_line(is_it, &mut scratch);
    (below.get(), range_of(&scratch[line]))
}

/// Returns whether the memory at this address belongs to no file and is accessible.
#[cfg(simprof_heap)]
pub fn is_anonymous(address: usize) -> bool {
    let mut scratch = [0; 4096];
    let line = find_line(|range| range.contains(&address), &mut scratch);
    is_line_anonymous(&scratch[line])
}

/// Like [`is_anonymous`], for a line of `/proc/self/maps`.
fn is_line_anonymous(line: &[u8]) -> bool {
    let Some(rights) = line.split(|&byte| byte == b' ').nth(1) else { return false };
    let path = &line[path_in(line, 0..line.len())];
    // Anonymous memory that the program has named, and shared anonymous memory.
    let is_named = [&b"[anon"[..], b"/dev/zero"].into_iter().any(|name| path.starts_with(name));
    !rights.starts_with(b"---") && (path.is_empty() || is_named)
}

/// Reads into `scratch` the line of the first mapping whose address range `is_it` accepts. Returns the
/// position of the line in `scratch`; empty if there is none, or if that line or one before it does not fit.
fn find_line(
    is_it: impl Fn(core::ops::Range<usize>) -> bool,
    scratch: &mut [u8],
) -> core::ops::Range<usize> {
    let Some(fd) = system::open(c"/proc/self/maps") else { return 0..0 };
    let found = find_line_in(fd, is_it, scratch);
    system::close(fd);
    found
}

fn find_line_in(
    fd: usize,
    is_it: impl Fn(core::ops::Range<usize>) -> bool,
    scratch: &mut [u8],
) -> core::ops::Range<usize> {
    let mut filled = 0;
    loop {
        let read = system::read(fd, &mut scratch[filled..]);
        filled += read;
        let mut begin = 0;
        while let Some(length) = scratch[begin..filled].iter().position(|&byte| byte == b'\n') {
            if is_it(range_of(&scratch[begin..begin + length])) {
                return begin..begin + length;
            }
            begin += length + 1;
        }
        if read == 0 || begin == 0 && filled == scratch.len() {
            return 0..0;
        }
        scratch.copy_within(begin..filled, 0);
        filled -= begin;
    }
}

/// Parses the range at the beginning of a line.
fn range_of(line: &[u8]) -> core::ops::Range<usize> {
    let mut values = [0usize; 2];
    let mut at = 0;
    for &byte in line {
        match (byte as char).to_digit(16) {
            Some(digit) => values[at] = values[at] << 4 | digit as usize,
            None if byte == b'-' && at == 0 => at = 1,
            None => break,
        }
    }
    values[0]..values[1]
}

/// Returns the sixth field of a line: range, rights, offset, device, inode, path.
fn path_in(line: &[u8], range: core::ops::Range<usize>) -> core::ops::Range<usize> {
    let mut at = range.start;
    for _ in 0..5 {
        while at < range.end && line[at] != b' ' {
            at += 1;
        }
        while at < range.end && line[at] == b' ' {
            at += 1;
        }
    }
    at..range.end
}

/// Returns the build id in the notes of a loaded module. Empty if it has none.
fn build_id_of(loaded: &Loaded) -> &'static [u8] {
    let first = core::ptr::with_exposed_provenance::<u8>(loaded.start);
    // SAFETY: the module is mapped from here on. Linkers make the first page of the file the first page that is
    // mapped; it is only read as an ELF header if it begins like one.
    unsafe {
        if loaded.end - loaded.start < system::PAGE || first.cast::<[u8; 4]>().read() != *b"\x7fELF"
        {
            return &[];
        }
        let segments = first.add(first.add(32).cast::<usize>().read()).cast::<Segment>();
        let count = first.add(56).cast::<u16>().read();
        let segments = core::slice::from_raw_parts(segments, count.into());
        let notes = segments.iter().filter(|segment| segment.kind == PT_NOTE);
        notes.map(|segment| notes_of(loaded, segment)).find_map(build_id_in).unwrap_or(&[])
    }
}

unsafe fn notes_of(loaded: &Loaded, segment: &Segment) -> &'static [u8] {
    let begin = loaded.bias.wrapping_add(segment.address);
    if begin < loaded.start || begin.saturating_add(segment.bytes) > loaded.end {
        return &[];
    }
    // SAFETY: the segment is within the mapped range.
    unsafe { core::slice::from_raw_parts(core::ptr::with_exposed_provenance(begin), segment.bytes) }
}

/// Finds the build id. A note has two lengths, a kind, a name and contents, padded to 4 bytes.
fn build_id_in(mut notes: &'static [u8]) -> Option<&'static [u8]> {
    const BUILD_ID: u32 = 3;
    loop {
        let number = |at: usize| Some(u32::from_ne_bytes(*notes.get(at..)?.first_chunk()?));
        let (name, contents, kind) = (number(0)? as usize, number(4)? as usize, number(8)?);
        let begin = 12 + name.next_multiple_of(4);
        let found = notes.get(begin..begin + contents)?;
        if kind == BUILD_ID && notes.get(12..16) == Some(b"GNU\0") {
            return Some(found);
        }
        notes = notes.get(begin + contents.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_maps_are_parsed() {
        let table: [(&[u8], &[u8], bool); 7] = [
            (b"7f00-7f10 rw-p 00000000 00:00 0 ", b"", true),
            (b"7f00-7f10 rw-p 00000000 00:00 0", b"", true),
            (b"7f00-7f10 ---p 00000000 00:00 0 ", b"", false),
            (b"7f00-7f10 rw-p 00000000 00:00 0    [anon:a name]", b"[anon:a name]", true),
            (
                b"7f00-7f10 rw-s 00000000 00:01 7    /dev/zero (deleted)",
                b"/dev/zero (deleted)",
                true,
            ),
            (b"7f00-7f10 rw-p 00000000 00:00 0    [heap]", b"[heap]", false),
            (b"7f00-7f10 r--p 00001000 08:01 9    /a b/c", b"/a b/c", false),
        ];
        for (line, path, anonymous) in table {
            let text = String::from_utf8_lossy(line);
            assert_eq!(range_of(line), 0x7f00..0x7f10);
            assert_eq!(&line[path_in(line, 0..line.len())], path, "{text}");
            assert_eq!(is_line_anonymous(line), anonymous, "{text}");
        }
        assert!(!is_line_anonymous(b""));
    }

    #[test]
    fn the_line_of_an_address_is_found() {
        let mut scratch = [0; 4096];
        let own = (lines_of_proc_maps_are_parsed as *const ()).addr();
        let line = find_line(|range| range.contains(&own), &mut scratch);
        let path = path_in(&scratch, line);
        let program = std::env::current_exe().expect("a path");
        assert_eq!(&scratch[path], program.as_os_str().as_encoded_bytes());
        assert_eq!(find_line(|_| false, &mut scratch), 0..0);
    }
}
