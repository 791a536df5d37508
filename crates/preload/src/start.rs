//! The library's beginning in a process, in its forked children, and in a program that loads Python only later.

use core::ffi::{c_int, c_void};

use crate::format::feature;
use crate::own::Own;
use crate::sys::{self, Next};
#[cfg(simprof_preloaded)]
use crate::waits;
use crate::{exec, memory, process, python, scratch, signal};

/// Called when the library was loaded, before the program's own constructors and `main`.
extern "C" fn start() {
    let (_errno, _own) = (sys::KeptErrno::new(), Own::begin());
    memory::map();
    exec::prepare();
    let Some(memory) = memory::memory() else { return };
    #[cfg(simprof_preloaded)]
    waits::prepare();
    exec::arrived(memory);
    if python::find(sys::RTLD_DEFAULT) {
        begin();
    }
}

#[cfg(simprof_preloaded)]
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

/// What happens once the interpreter is found: in the thread that loaded it, before it runs anything.
fn begin() {
    let (Some(memory), Some(interpreter)) = (memory::memory(), python::interpreter()) else {
        return;
    };
    register_fork();
    #[cfg(simprof_preloaded)]
    waits::begin(memory, interpreter);
    if process::take(memory, interpreter) {
        settle(memory);
    }
}

/// Asks to be sampled, where that can be.
fn settle(memory: memory::Memory) {
    let Some(interpreter) = python::interpreter() else { return };
    if memory.header().features & feature::FRAMES == 0 {
        return process::stay_unsampled();
    }
    match interpreter.layout {
        Err(reason) => process::refuse(reason),
        Ok(_) if !signal::install() => process::refuse(crate::format::reason::SIGNAL),
        Ok(_) => process::ask(),
    }
}

/// A forked child has its parent's memory and signal handlers, but not its events, nor its other threads.
unsafe extern "C" fn forked() {
    let (_errno, _own) = (sys::KeptErrno::new(), Own::begin());
    process::forked();
    scratch::forked();
    exec::forked();
    if let (Some(memory), Some(interpreter)) = (memory::memory(), python::interpreter())
        && process::take(memory, interpreter)
    {
        settle(memory);
    }
}

type Hook = Option<unsafe extern "C" fn()>;

/// Makes [`forked`] be called in children. It goes by the name that `pthread_atfork` of a linked program stands for.
fn register_fork() {
    // SAFETY: the names are C strings, and the functions have had these types in all versions. The last
    // argument names a module whose unloading ends the registration: none.
    unsafe {
        let glibc = sys::dlsym(sys::RTLD_DEFAULT, c"__register_atfork".as_ptr());
        if !glibc.is_null() {
            let register: unsafe extern "C" fn(Hook, Hook, Hook, *mut c_void) -> c_int =
                core::mem::transmute(glibc);
            register(None, None, Some(forked), core::ptr::null_mut());
            return;
        }
        let other = sys::dlsym(sys::RTLD_DEFAULT, c"pthread_atfork".as_ptr());
        if !other.is_null() {
            let register: unsafe extern "C" fn(Hook, Hook, Hook) -> c_int =
                core::mem::transmute(other);
            register(None, None, Some(forked));
        }
    }
}

/// An interpreter that is loaded later makes itself known by creating a key for its thread states, when it is
/// initialised. `caller` is the address that the function returns to.
unsafe extern "C" fn key_created(
    key: *mut c_void,
    destructor: *mut c_void,
    caller: usize,
) -> c_int {
    static NEXT: Next = Next::new(c"pthread_key_create");
    type Function = unsafe extern "C" fn(*mut c_void, *mut c_void) -> c_int;
    // SAFETY: the C library's function of this name has this type.
    let function: Option<Function> = unsafe { core::mem::transmute(NEXT.get()) };
    let Some(function) = function else { return sys::EAGAIN };
    if memory::memory().is_some() && python::interpreter().is_none() {
        look_at(caller);
    }
    // SAFETY: the target's own arguments.
    unsafe { function(key, destructor) }
}

/// Looks for an interpreter in the module that `address` is in.
fn look_at(address: usize) {
    let (_errno, _own) = (sys::KeptErrno::new(), Own::begin());
    if python::find_at(address) {
        begin();
    }
}

/// Stands in for the C library's: hands on the address that it returns to as a third argument.
#[cfg(simprof_preloaded)]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_key_create(key: *mut c_void, destructor: *mut c_void) -> c_int {
    #[cfg(target_arch = "x86_64")]
    core::arch::naked_asm!("mov rdx, [rsp]", "jmp {next}", next = sym key_created);
    #[cfg(target_arch = "aarch64")]
    core::arch::naked_asm!("mov x2, x30", "b {next}", next = sym key_created);
}
