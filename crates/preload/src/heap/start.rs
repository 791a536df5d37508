//! Start of the library in a process: at the first allocation after the C library has set up the environment,
//! or when the loader calls the constructor, whichever comes first.

use core::ffi::{CStr, c_int, c_void};
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU32, Ordering};

use super::format::{reason, state};
use super::shared::FIRST_BYTES;
use super::system::{RTLD_DEFAULT, dladdr1, dlerror, dlsym};
use super::{contexts, image, loader, memory_limits, python_allocator, real, system, unwind};
use crate::own_work::OwnWork;
use crate::sys::{ErrnoGuard, SharedObject};

/// Not started.
const NEW: u32 = 0;
/// A thread is starting the library. What it allocates meanwhile is not recorded.
const STARTING: u32 = 1;
/// Allocations are recorded.
const ON: u32 = 2;
/// Nothing is recorded in this process image.
const OFF: u32 = 3;

static STATE: AtomicU32 = AtomicU32::new(NEW);

#[inline]
pub fn is_on() -> bool {
    STATE.load(Ordering::Acquire) == ON
}

pub fn is_off() -> bool {
    STATE.load(Ordering::Acquire) == OFF
}

/// Ends the recording in this process image, and reports why.
pub fn stop(reason: u32) {
    image::refuse(reason);
    STATE.store(OFF, Ordering::Release);
}

/// Starts the library unless it has started. Returns whether it records.
#[cold]
pub fn start() -> bool {
    if !system::has_environment() {
        return false;
    }
    let _errno = ErrnoGuard::new();
    let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
    if STATE.compare_exchange(NEW, STARTING, acquire, relaxed).is_ok() {
        real::resolve_all();
        crate::seccomp::resolve();
        let on = open();
        // Symbols that were not found left an error message, which the program must not see.
        // SAFETY: `dlerror` has no preconditions.
        unsafe { dlerror() };
        STATE.store(if on { ON } else { OFF }, Ordering::Release);
    }
    is_on()
}

/// Address space that the library uses to record: the first part of its shared memory, and the table for some thousand
/// allocations.
const USED_BYTES: usize = FIRST_BYTES + (16 << 20);

/// The library uses at most 1 / SHARE of the address space that a limit leaves to the process.
const SHARE: usize = 8;

fn open() -> bool {
    if image::is_filtered() {
        image::report_refusal(reason::FILTER);
        return false;
    }
    if memory_limits::bytes_below_rlimits() / SHARE < USED_BYTES {
        image::report_refusal(reason::LIMITED);
        return false;
    }
    if !image::open() {
        return false;
    }
    loader::FIND_OBJECT.store(find(c"_dl_find_object"), Ordering::Relaxed);
    if let Some(reason) = refusal() {
        image::refuse(reason);
        // A program with its own allocator may still report its allocations through the probe.
        if reason == reason::SANITIZER {
            return false;
        }
    }
    let stack_end = find(c"__libc_stack_end").cast::<usize>();
    if !stack_end.is_null() {
        // SAFETY: the symbol of this name is a word that the loader has set.
        unwind::STACK_END.store(unsafe { *stack_end }, Ordering::Relaxed);
    }
    contexts::open() && {
        python_allocator::find_interpreter();
        true
    }
}

/// Returns the reason why allocations cannot be recorded, if there is one.
fn refusal() -> Option<u32> {
    let sanitizers =
        [c"__asan_init", c"__tsan_init", c"__msan_init", c"__lsan_init", c"__hwasan_init"];
    if sanitizers.into_iter().any(|name| !find(name).is_null()) {
        return Some(reason::SANITIZER);
    }
    // Compares modules, since the library's own name for its function resolves to whichever definition comes
    // first.
    let first = find(c"malloc");
    let seen = loader::is_same(first.addr(), (loaded as *const ()).addr()) || is_imported(first);
    (!seen).then_some(reason::OWN_MALLOC)
}

/// Returns whether the symbol at this address is undefined in its module. A program that is linked to a fixed
/// address has an entry of its own for each library function whose address it takes. That entry stands for
/// the function in all modules and jumps to it.
fn is_imported(address: *const c_void) -> bool {
    let mut object = MaybeUninit::<SharedObject>::uninit();
    let mut symbol = core::ptr::null_mut();
    // SAFETY: both are valid for the result.
    let found = unsafe { dladdr1(address, object.as_mut_ptr(), &mut symbol, RTLD_DL_SYMENT) };
    // SAFETY: it is an entry of the symbol table (`Elf64_Sym`) of a loaded module.
    found != 0 && !symbol.is_null() && unsafe { symbol.byte_add(SECTION).cast::<u16>().read() } == 0
}

/// For [`dladdr1`]: return the symbol table entry.
const RTLD_DL_SYMENT: c_int = 1;
/// Offset of the section index in `Elf64_Sym`; the index is 0 for an undefined symbol.
const SECTION: usize = 6;

fn find(name: &CStr) -> *mut c_void {
    // SAFETY: the name is a C string.
    unsafe { dlsym(RTLD_DEFAULT, name.as_ptr()) }
}

extern "C" fn loaded() {
    {
        let (_errno, _own_work) = (ErrnoGuard::new(), OwnWork::begin());
        crate::exec::prepare();
    }
    start();
}

extern "C" fn exits() {
    if is_on()
        && let Some((shared, image)) = image::current()
    {
        let state = &shared.process(image).state;
        let (release, relaxed) = (Ordering::Release, Ordering::Relaxed);
        let _ = state.compare_exchange(state::RECORDS, state::EXITS, release, relaxed);
    }
}

#[used]
#[unsafe(link_section = ".init_array")]
static LOADED: extern "C" fn() = loaded;

#[used]
#[unsafe(link_section = ".fini_array")]
static EXITS: extern "C" fn() = exits;
