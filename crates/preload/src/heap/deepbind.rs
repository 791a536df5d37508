//! Libraries that are opened with `RTLD_DEEPBIND`. They look up functions in their own dependencies first, and so
//! find the C library's allocator before the hooks.
//!
//! After such a library was opened, the entries of its relocation tables that refer to the real functions are
//! replaced by the hooks. Its constructors have run by then: what they allocated is not recorded.
//!
//! A library opened by `dlmopen` in a namespace of its own has its own C library with its own allocator, to which the
//! hooks must not pass anything. It is reported as not seen.

use core::arch::naked_asm;
use core::ffi::{CStr, c_char, c_int, c_void};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::hooks;
use super::loader::{self, Listed, PT_DYNAMIC, PT_GNU_RELRO, Segment};
use super::modules;
use super::real::{self, Address};
use super::system::{self, dlsym};
use super::{mmap_hooks, unload};
use crate::own_work::OwnWork;
use crate::sys::ErrnoGuard;

/// Flag of `dlopen`.
const RTLD_DEEPBIND: c_int = 8;

/// Replaces the C library's `dlopen`. It jumps to the real function, which must see the caller's address: it searches
/// the folders that the caller's file names.
///
/// A library that is opened by its path is opened from here if it binds deeply, since no folder is searched for it.
///
/// # Safety
///
/// As for the function itself.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void {
    naked_asm!(
        ".cfi_startproc",
        "test esi, {deepbind}",
        "jz 2f",
        "push rdi", ".cfi_adjust_cfa_offset 8",
        "push rsi", ".cfi_adjust_cfa_offset 8",
        "sub rsp, 8", ".cfi_adjust_cfa_offset 8",
        "call {is_path}",
        "add rsp, 8", ".cfi_adjust_cfa_offset -8",
        "pop rsi", ".cfi_adjust_cfa_offset -8",
        "pop rdi", ".cfi_adjust_cfa_offset -8",
        "test al, al",
        "jnz 3f",
        "2:", "mov rax, qword ptr [rip + {real}]",
        "test rax, rax",
        "jz 3f",
        "jmp rax",
        "3:", "jmp {open}",
        ".cfi_endproc",
        deepbind = const RTLD_DEEPBIND, is_path = sym is_path, real = sym real::DLOPEN, open = sym open,
    )
}

/// Whether a library was opened whose entries are not replaced yet.
static IS_PENDING: AtomicBool = AtomicBool::new(false);
/// Number of modules before that.
static PENDING_SINCE: AtomicUsize = AtomicUsize::new(0);

/// Returns whether the loader searches no folders for a library. If it does, its entries are replaced at the next event
/// that is recorded.
extern "C" fn is_path(path: *const c_char) -> bool {
    // SAFETY: the program's argument: null or a C string.
    let name = if path.is_null() { &[] } else { unsafe { CStr::from_ptr(path) }.to_bytes() };
    // The loader replaces `$ORIGIN` by the folder of the caller's file.
    let is_path = name.contains(&b'/') && !name.contains(&b'$');
    if !is_path && !IS_PENDING.load(Ordering::Relaxed) {
        PENDING_SINCE.store(count_modules(), Ordering::Relaxed);
        IS_PENDING.store(true, Ordering::Release);
    }
    is_path
}

/// Opens a library by its path and replaces its entries.
extern "C" fn open(path: *const c_char, flags: c_int) -> *mut c_void {
    let since = count_modules();
    // SAFETY: the program's call.
    let handle = unsafe { real::dlopen(path, flags) };
    if !handle.is_null() && flags & RTLD_DEEPBIND != 0 {
        replace(Some(handle), since);
    }
    handle
}

/// Replaces the entries of a library that was opened by its name.
#[inline]
pub fn replace_pending() {
    if IS_PENDING.load(Ordering::Relaxed) && IS_PENDING.swap(false, Ordering::AcqRel) {
        replace(None, PENDING_SINCE.load(Ordering::Relaxed));
    }
}

/// Replaces the C library's `dlmopen`, to which it jumps.
///
/// # Safety
///
/// As for the function itself.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn dlmopen(namespace: isize, path: *const c_char, flags: c_int) {
    naked_asm!(
        ".cfi_startproc",
        "push rdi", ".cfi_adjust_cfa_offset 8",
        "push rsi", ".cfi_adjust_cfa_offset 8",
        "push rdx", ".cfi_adjust_cfa_offset 8",
        "call {seen}",
        "pop rdx", ".cfi_adjust_cfa_offset -8",
        "pop rsi", ".cfi_adjust_cfa_offset -8",
        "pop rdi", ".cfi_adjust_cfa_offset -8",
        "jmp rax",
        ".cfi_endproc",
        seen = sym dlmopen_seen,
    )
}

/// Reports a library that is opened in another namespace. Returns the real function.
extern "C" fn dlmopen_seen(namespace: isize, path: *const c_char) -> *mut c_void {
    let _errno = ErrnoGuard::new();
    if namespace != 0 && !path.is_null() {
        // SAFETY: the program's argument is a C string.
        modules::report_unseen(unsafe { CStr::from_ptr(path) }.to_bytes());
    }
    real::dlmopen()
}

fn count_modules() -> usize {
    let mut count = 0;
    loader::each_loaded(|_| count += 1);
    count
}

/// A function that a library may refer to.
struct Replaced {
    name: &'static CStr,
    real: &'static Address,
    hook: *const (),
}

macro_rules! replaced {
    ($($name:literal $real:ident $hook:path;)*) => {
        [$(Replaced { name: $name, real: &real::$real, hook: $hook as *const () },)*]
    };
}

fn functions() -> [Replaced; 17] {
    replaced! {
        c"malloc" MALLOC hooks::malloc;
        c"free" FREE hooks::free;
        c"calloc" CALLOC hooks::calloc;
        c"realloc" REALLOC hooks::realloc;
        c"reallocarray" REALLOCARRAY hooks::reallocarray;
        c"posix_memalign" POSIX_MEMALIGN hooks::posix_memalign;
        c"aligned_alloc" ALIGNED_ALLOC hooks::aligned_alloc;
        c"memalign" MEMALIGN hooks::memalign;
        c"valloc" VALLOC hooks::valloc;
        c"pvalloc" PVALLOC hooks::pvalloc;
        c"cfree" FREE hooks::cfree;
        c"mmap" MMAP mmap_hooks::mmap;
        c"mmap64" MMAP mmap_hooks::mmap64;
        c"munmap" MUNMAP mmap_hooks::munmap;
        c"mremap" MREMAP mmap_hooks::mremap;
        c"dlclose" DLCLOSE unload::dlclose;
        c"dlopen" DLOPEN dlopen;
    }
}

/// Returns the real function of this name, and the hook that replaces it.
pub fn interposed(name: &CStr) -> Option<(*mut c_void, *const ())> {
    let functions = functions();
    let function = functions.iter().find(|function| function.name == name);
    let found = function.map(|function| (function.address(), function.hook));
    found.or_else(|| crate::seccomp::find(name))
}

/// Replaces the entries of the modules after the first `since`. `handle` is that of the library that was opened.
fn replace(handle: Option<*mut c_void>, since: usize) {
    let (_errno, _own_work) = (ErrnoGuard::new(), OwnWork::begin());
    let functions = functions();
    // What the library finds: its own allocator must stay.
    let is_found = handle.map(|handle| {
        functions.each_ref().map(|function| {
            // SAFETY: the handle is open, and the name is a C string.
            let found = unsafe { dlsym(handle, function.name.as_ptr()) };
            // The hook of `dlsym` returns the hook.
            found == function.address() || found.addr() == function.hook.addr()
        })
    });
    // SAFETY: `dlerror` has no preconditions. Names that were not found left an error message.
    unsafe { system::dlerror() };
    let mut at = 0;
    loader::each_loaded(|module| {
        at += 1;
        if at > since {
            // SAFETY: the loader's description of a module that it has relocated.
            unsafe { replace_in(module, &functions, is_found) };
        }
    });
}

impl Replaced {
    fn address(&self) -> *mut c_void {
        self.real.load(Ordering::Relaxed)
    }
}

/// `Elf64_Rela`.
#[repr(C)]
struct Relocation {
    offset: usize,
    info: u64,
    addend: i64,
}

/// `Elf64_Sym`.
#[repr(C)]
struct Symbol {
    name: u32,
    kind: u8,
    other: u8,
    section: u16,
    value: usize,
    bytes: usize,
}

/// Kinds of relocations that contain the address of a function.
const R_64: u32 = 1;
const R_GLOB_DAT: u32 = 6;
const R_JUMP_SLOT: u32 = 7;

/// Replaces the entries of one module. `is_found` states for each function whether the library finds the real one;
/// `None` if that is not known.
///
/// # Safety
///
/// The module must be loaded and relocated.
unsafe fn replace_in<const N: usize>(
    module: &Listed,
    functions: &[Replaced; N],
    is_found: Option<[bool; N]>,
) {
    // SAFETY: the caller's promise: the tables that the dynamic section names are in memory.
    unsafe {
        let Some(tables) = Tables::of(module) else { return };
        for relocation in tables.relocations() {
            let kind = relocation.info as u32;
            if !matches!(kind, R_64 | R_GLOB_DAT | R_JUMP_SLOT) || relocation.addend != 0 {
                continue;
            }
            let name = tables.name((relocation.info >> 32) as usize);
            let Some(at) = functions.iter().position(|function| function.name == name) else {
                continue;
            };
            let slot = module.address(relocation.offset).cast::<usize>();
            let value = slot.read();
            // An entry that was not used yet leads to the loader, by code of the module itself.
            let is_unbound = kind == R_JUMP_SLOT && module.contains(value);
            if is_unbound && is_found.is_none() {
                modules::report_unseen(module.name());
            }
            let is_found = is_found.is_some_and(|is_found| is_found[at]);
            if is_unbound && is_found || value == functions[at].address().addr() {
                tables.write(module, slot, functions[at].hook.addr());
            }
        }
    }
}

/// The tables of a module that its dynamic section names.
struct Tables {
    symbols: *const Symbol,
    names: *const c_char,
    /// Relocations of functions, and others.
    relocations: [(*const Relocation, usize); 2],
    /// The part that is read-only after relocation.
    read_only: core::ops::Range<usize>,
}

impl Tables {
    /// # Safety
    ///
    /// As for [`replace_in`].
    unsafe fn of(module: &Listed) -> Option<Tables> {
        const DT_PLTRELSZ: usize = 2;
        const DT_STRTAB: usize = 5;
        const DT_SYMTAB: usize = 6;
        const DT_RELA: usize = 7;
        const DT_RELASZ: usize = 8;
        const DT_JMPREL: usize = 23;
        // SAFETY: the caller's promise. The section ends with an entry of the kind 0.
        unsafe {
            let segments = module.segments();
            let dynamic = segments.iter().find(|segment| segment.kind == PT_DYNAMIC)?;
            let mut entry = module.address(dynamic.address).cast::<[usize; 2]>();
            let mut values = [0; 24];
            while let [kind, value] = entry.read()
                && kind != 0
            {
                if let Some(known) = values.get_mut(kind) {
                    *known = value;
                }
                entry = entry.add(1);
            }
            let table = |kind: usize| module.pointer(values[kind]);
            let count = |kind: usize| values[kind] / size_of::<Relocation>();
            let read_only = segments.iter().find(|segment| segment.kind == PT_GNU_RELRO);
            let read_only = read_only.map_or(0..0, |segment: &Segment| {
                let start = module.address(segment.address).addr();
                let down = |address: usize| address & !(system::PAGE - 1);
                down(start)..down(start + segment.bytes)
            });
            if values[DT_STRTAB] == 0 || values[DT_SYMTAB] == 0 {
                return None;
            }
            Some(Tables {
                symbols: table(DT_SYMTAB).cast(),
                names: table(DT_STRTAB).cast(),
                relocations: [
                    (table(DT_JMPREL).cast(), count(DT_PLTRELSZ)),
                    (table(DT_RELA).cast(), count(DT_RELASZ)),
                ],
                read_only,
            })
        }
    }

    /// # Safety
    ///
    /// As for [`replace_in`].
    unsafe fn relocations(&self) -> impl Iterator<Item = &Relocation> {
        let filled = self.relocations.iter().filter(|(_, count)| *count > 0);
        // SAFETY: the caller's promise.
        filled.flat_map(|&(first, count)| unsafe { core::slice::from_raw_parts(first, count) })
    }

    /// # Safety
    ///
    /// As for [`replace_in`]; the number must be that of a symbol.
    unsafe fn name(&self, symbol: usize) -> &CStr {
        // SAFETY: the caller's promise.
        unsafe { CStr::from_ptr(self.names.add((*self.symbols.add(symbol)).name as usize)) }
    }

    /// Writes an entry, and makes its page writable for this time if necessary. Other threads may call through the
    /// entry meanwhile.
    ///
    /// # Safety
    ///
    /// As for [`replace_in`]; `slot` must be an entry of the module.
    unsafe fn write(&self, module: &Listed, slot: *mut usize, value: usize) {
        let is_read_only = self.read_only.contains(&slot.addr());
        if is_read_only && !system::protect(slot.addr(), system::PROT_READ_WRITE) {
            return modules::report_unseen(module.name());
        }
        // SAFETY: the entry is mapped and writable, and aligned as the loader needs it.
        unsafe { (*slot.cast::<AtomicUsize>()).store(value, Ordering::Release) };
        if is_read_only {
            system::protect(slot.addr(), system::PROT_READ);
        }
    }
}
