//! Finds the address range of a loaded module.

use core::ffi::{c_char, c_int, c_void};

/// The beginning of `struct dl_phdr_info`.
#[repr(C)]
struct Module {
    base: usize,
    name: *const c_char,
    headers: *const Header,
    header_count: u16,
}

/// `Elf64_Phdr`.
#[repr(C)]
struct Header {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    physical: u64,
    file_bytes: u64,
    memory_bytes: u64,
    align: u64,
}

struct Search {
    address: usize,
    found: (usize, usize),
}

unsafe extern "C" {
    fn dl_iterate_phdr(
        each: extern "C" fn(&Module, usize, &mut Search) -> c_int,
        search: *mut c_void,
    ) -> c_int;
}

/// Returns begin and end of the loaded module that contains `address`; (0, 0) if there is none. Not for signal handlers,
/// since it takes the loader's lock.
pub(super) fn containing(address: usize) -> (usize, usize) {
    let mut search = Search { address, found: (0, 0) };
    // SAFETY: the loader passes on `search`, which lives until it returns.
    unsafe { dl_iterate_phdr(each, (&raw mut search).cast()) };
    search.found
}

extern "C" fn each(module: &Module, _bytes: usize, search: &mut Search) -> c_int {
    // SAFETY: the loader's description of a module has this many headers.
    let headers =
        unsafe { core::slice::from_raw_parts(module.headers, usize::from(module.header_count)) };
    const LOADED: u32 = 1;
    let parts = headers.iter().filter(|header| header.kind == LOADED);
    let (mut begin, mut end) = (usize::MAX, 0);
    for part in parts {
        let address = module.base.wrapping_add(part.address as usize);
        begin = begin.min(address);
        end = end.max(address.wrapping_add(part.memory_bytes as usize));
    }
    let is_it = (begin..end).contains(&search.address);
    if is_it {
        search.found = (begin, end);
    }
    c_int::from(is_it)
}
