//! Start of the library in a process, in its forked children, and in a program that loads Python late.

use core::ffi::{c_int, c_void};
use core::sync::atomic::Ordering;

use crate::format::{feature, reason};
use crate::own_work::OwnWork;
use crate::real_function::RealFunction;
use crate::sys;
use crate::{exec, process, python, scratch, seccomp, shared_memory, signal};
#[cfg(simprof_preloaded)]
use crate::{marks, waits};

/// The loader calls this when the library is loaded, before the program's constructors and `main`.
extern "C" fn start() {
    let (_errno, _own_work) = (sys::ErrnoGuard::new(), OwnWork::begin());
    shared_memory::map();
    shared_memory::with_refusal(report);
    let memory = shared_memory::memory();
    let is_filtered = memory.is_some_and(|memory| {
        seccomp::is_inherited(memory.header().filters.load(Ordering::Relaxed) as u32)
    });
    exec::prepare();
    #[cfg(simprof_preloaded)]
    exec::remove_added_variables(|| {
        // It reads one of the variables when it is first used.
        marks::is_recorded();
    });
    let Some(memory) = memory else { return };
    #[cfg(simprof_preloaded)]
    seccomp::resolve();
    #[cfg(simprof_preloaded)]
    waits::prepare();
    if is_filtered {
        return report(memory, reason::FILTER);
    }
    exec::restore_signal(memory);
    if python::find(sys::RTLD_DEFAULT) {
        begin();
    }
}

#[cfg(simprof_preloaded)]
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

/// Reports why the interpreter of this process, if it has one, is not read.
fn report(memory: shared_memory::SharedMemory, reason: u32) {
    if python::find(sys::RTLD_DEFAULT)
        && let Some(interpreter) = python::interpreter()
    {
        process::report_unsupported(memory, interpreter, reason);
    }
}

/// Called before the target installs a seccomp filter.
#[cfg(simprof_preloaded)]
pub fn prepare_for_filter() {
    if python::interpreter().is_some()
        && let Some(memory) = shared_memory::memory()
    {
        memory.prepare_for_filter();
    }
}

/// Called before a filter of the target takes effect. Without the system call that ends a signal handler the process
/// cannot be sampled.
#[cfg(simprof_preloaded)]
pub fn filter_was_added() {
    if seccomp::is_strict() {
        waits::end();
    }
    if signal::handles() && !seccomp::allows(sys::RT_SIGRETURN) {
        signal::ignore();
        process::set_unsupported(reason::FILTER);
    }
}

/// Runs once the interpreter is found, in the thread that loaded it, before the interpreter runs any code.
fn begin() {
    let (Some(memory), Some(interpreter)) = (shared_memory::memory(), python::interpreter()) else {
        return;
    };
    register_fork();
    #[cfg(simprof_preloaded)]
    waits::begin(memory, interpreter);
    if process::take_slot(memory, interpreter) {
        request_sampling(memory);
    }
}

/// Requests to be sampled if the profiler asked for it and the interpreter can be read.
fn request_sampling(memory: shared_memory::SharedMemory) {
    let Some(interpreter) = python::interpreter() else { return };
    if memory.header().features & feature::FRAMES == 0 {
        return process::set_unsampled();
    }
    match interpreter.layout {
        Err(reason) => process::set_unsupported(reason),
        Ok(_) if !signal::install() => process::set_unsupported(reason::SIGNAL),
        Ok(_) => process::request_sampling(),
    }
}

/// A forked child has its parent's memory and signal handlers, but neither its events nor its other threads.
unsafe extern "C" fn forked() {
    let (_errno, _own_work) = (sys::ErrnoGuard::new(), OwnWork::begin());
    process::forked();
    scratch::forked();
    exec::forked();
    if let (Some(memory), Some(interpreter)) = (shared_memory::memory(), python::interpreter())
        && process::take_slot(memory, interpreter)
    {
        request_sampling(memory);
    }
}

type Hook = Option<unsafe extern "C" fn()>;

/// Registers [`forked`] to be called in children. glibc links programs that call `pthread_atfork` to
/// `__register_atfork`.
fn register_fork() {
    // SAFETY: the names are C strings, and the functions have had these types in all versions. The last
    // argument names a module whose unloading ends the registration; null means none.
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

/// Detects an interpreter that is loaded late: during its initialisation it calls `pthread_key_create` for the key of
/// its thread states. `caller` is the return address of that call.
unsafe extern "C" fn key_created(
    key: *mut c_void,
    destructor: *mut c_void,
    caller: usize,
) -> c_int {
    static NEXT: RealFunction = RealFunction::new(c"pthread_key_create");
    type Function = unsafe extern "C" fn(*mut c_void, *mut c_void) -> c_int;
    // SAFETY: the C library's function of this name has this type.
    let function: Option<Function> = unsafe { core::mem::transmute(NEXT.address()) };
    let Some(function) = function else { return sys::EAGAIN };
    if shared_memory::memory().is_some() && python::interpreter().is_none() {
        look_for_interpreter(caller);
    }
    // SAFETY: the target's arguments.
    unsafe { function(key, destructor) }
}

/// Looks for an interpreter in the module that contains `address`.
fn look_for_interpreter(address: usize) {
    let (_errno, _own_work) = (sys::ErrnoGuard::new(), OwnWork::begin());
    if python::find_at(address) {
        begin();
    }
}

/// Replaces the C library's function. It passes its return address on as a third argument.
#[cfg(simprof_preloaded)]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_key_create(key: *mut c_void, destructor: *mut c_void) -> c_int {
    core::arch::naked_asm!("mov rdx, [rsp]", "jmp {next}", next = sym key_created);
}
