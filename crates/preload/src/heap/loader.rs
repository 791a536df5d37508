//! The loaded modules, as the C library's loader knows them.

use core::ffi::{c_char, c_int, c_void};
use core::sync::atomic::{AtomicPtr, Ordering};

use super::system;

/// Where a module is in memory.
pub struct Loaded {
    pub start: usize,
    pub end: usize,
    /// Load bias: the difference between an address in memory and in the file.
    pub bias: usize,
    /// The mapped `.eh_frame_hdr`.
    pub header: *const u8,
    /// The path by which the loader opened it; empty for the program.
    pub name: *const c_char,
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

/// Returns whether both addresses are in the same module.
pub fn is_same(one: usize, other: usize) -> bool {
    loaded(one).is_some_and(|module| (module.start..module.end).contains(&other))
}

/// Returns the module that contains `pc`. `None` for code that is in no file.
pub fn loaded(pc: usize) -> Option<Loaded> {
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

    /// Returns the path by which the loader opened the module; empty for the program.
    pub fn name(&self) -> &[u8] {
        if self.name.is_null() {
            return &[];
        }
        // SAFETY: the loader's name of a module is null or a C string.
        unsafe { core::ffi::CStr::from_ptr(self.name) }.to_bytes()
    }
}

impl Listed {
    /// Returns the program headers.
    ///
    /// # Safety
    ///
    /// It must be the loader's description of a loaded module.
    pub unsafe fn segments(&self) -> &[Segment] {
        // SAFETY: the caller's promise: the headers are in memory.
        unsafe { core::slice::from_raw_parts(self.segments, self.count.into()) }
    }

    /// Returns the module. `None` if it has no unwind information.
    ///
    /// # Safety
    ///
    /// It must be the loader's description of a loaded module.
    pub unsafe fn module(&self) -> Option<Loaded> {
        // SAFETY: the caller's promise.
        let segments = unsafe { self.segments() };
        let by_kind = |kind| segments.iter().filter(move |segment| segment.kind == kind);
        let begin = |segment: &Segment| self.bias.wrapping_add(segment.address);
        let start = by_kind(PT_LOAD).map(begin).min()? & !(system::PAGE - 1);
        let end = by_kind(PT_LOAD).map(|segment| begin(segment) + segment.bytes).max()?;
        let header = begin(by_kind(PT_GNU_EH_FRAME).next()?);
        let header = core::ptr::with_exposed_provenance(header);
        Some(Loaded { start, end, bias: self.bias, header, name: self.name })
    }
}

/// Returns the build id in the notes of a loaded module. Empty if it has none.
pub fn build_id_of(loaded: &Loaded) -> &'static [u8] {
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
