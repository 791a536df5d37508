//! The library's begin in a process: at the first allocation after the C library knows the environment, or when the loader
//! calls its constructor, whatever comes first.

use core::ffi::{CStr, c_int, c_void};
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU32, Ordering};

use super::format::{offset, reason, state};
use super::system::{RTLD_DEFAULT, dlerror, dlsym};
use super::{contexts, modules, python, real, room, shared, system, unwind};
use crate::own::Own;
use crate::sys::{KeptErrno, SharedObject, dladdr1};

/// Not begun.
const NEW: u32 = 0;
/// A thread is at it: what it allocates meanwhile is not recorded.
const STARTING: u32 = 1;
/// Allocations are recorded.
const ON: u32 = 2;
/// Nothing is to be recorded in this process image.
const OFF: u32 = 3;

static STATE: AtomicU32 = AtomicU32::new(NEW);

#[inline]
pub fn is_on() -> bool {
    STATE.load(Ordering::Acquire) == ON
}

pub fn is_off() -> bool {
    STATE.load(Ordering::Acquire) == OFF
}

/// Makes the library ready unless it is; whether it records.
#[cold]
pub fn start() -> bool {
    if !system::has_environment() {
        return false;
    }
    let _errno = KeptErrno::new();
    let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
    if STATE.compare_exchange(NEW, STARTING, acquire, relaxed).is_ok() {
        real::look_up_all();
        let on = open();
        // What was not found left a message that the program must not see.
        // SAFETY: it has no preconditions.
        unsafe { dlerror() };
        STATE.store(if on { ON } else { OFF }, Ordering::Release);
    }
    is_on()
}

/// Address space that the library takes where it records: its memory, and places for some thousand allocations.
const TAKEN: usize = offset::END + (16 << 20);

fn open() -> bool {
    if room::left_of_limits() / 2 < TAKEN {
        shared::tell_refusal(reason::LIMITED);
        return false;
    }
    if !shared::open() {
        return false;
    }
    modules::FIND_OBJECT.store(find(c"_dl_find_object"), Ordering::Relaxed);
    if let Some(reason) = refusal() {
        shared::refuse(reason);
        // With an allocator of its own, the program may still tell of its allocations by the shim.
        if reason == reason::SANITIZER {
            return false;
        }
    }
    let stack_end = find(c"__libc_stack_end").cast::<usize>();
    if !stack_end.is_null() {
        // SAFETY: the symbol of this name is a word that the loader set.
        unwind::STACK_END.store(unsafe { *stack_end }, Ordering::Relaxed);
    }
    contexts::open() && {
        python::begin();
        true
    }
}

/// Why allocations cannot be seen, if they cannot.
fn refusal() -> Option<u32> {
    let sanitizers =
        [c"__asan_init", c"__tsan_init", c"__msan_init", c"__lsan_init", c"__hwasan_init"];
    if sanitizers.into_iter().any(|name| !find(name).is_null()) {
        return Some(reason::SANITIZER);
    }
    // By module, since the library's own name for its function stands for whatever comes first.
    let first = find(c"malloc");
    let seen = modules::is_same(first.addr(), (loaded as *const ()).addr()) || is_imported(first);
    (!seen).then_some(reason::OWN_MALLOC)
}

/// Whether no function is defined at this address: a program that is linked to lie where it lies has an entry of its own for each function
/// of a library whose address it takes, which stands for the function in every module, and goes on to it.
fn is_imported(address: *const c_void) -> bool {
    let mut object = MaybeUninit::<SharedObject>::uninit();
    let mut symbol = core::ptr::null_mut();
    // SAFETY: both are places for the answer.
    let found = unsafe { dladdr1(address, object.as_mut_ptr(), &mut symbol, RTLD_DL_SYMENT) };
    // SAFETY: it is an entry of a symbol table, `Elf64_Sym`, of a module that is loaded.
    found != 0 && !symbol.is_null() && unsafe { symbol.byte_add(SECTION).cast::<u16>().read() } == 0
}

/// Has [`dladdr1`] give the entry of the symbol.
const RTLD_DL_SYMENT: c_int = 1;
/// Where `Elf64_Sym` has the section of what it names; 0 where that is elsewhere.
const SECTION: usize = 6;

fn find(name: &CStr) -> *mut c_void {
    // SAFETY: the name is a C string.
    unsafe { dlsym(RTLD_DEFAULT, name.as_ptr()) }
}

extern "C" fn loaded() {
    {
        let (_errno, _own) = (KeptErrno::new(), Own::begin());
        crate::exec::prepare();
    }
    start();
}

extern "C" fn exits() {
    if is_on()
        && let Some((shared, image)) = shared::begin()
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
