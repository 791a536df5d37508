//! SIGTRAP: records the Python stack at each sample, and emulates the signal for the target.
//!
//! The library's handler stays installed and the signal unblocked. The functions by which a program changes
//! that are interposed: the settings of the target are stored, returned when it reads them, and applied to
//! signals that do not come from sampling.

mod abi;
mod emulated;
mod interposed;
mod real;

use core::ffi::{c_int, c_void};
use core::sync::atomic::Ordering;

use crate::format::{Kind, flag};
use crate::ring::{self, Entry};
use crate::{python, shared_memory, sys, thread};
use abi::{
    Action, Information, SA_ONSTACK, SA_RESTART, SA_SIGINFO, SIG_IGN, SIGTRAP, TRAP_PERF,
    TRAP_PERF_FLAG_ASYNC,
};
pub use emulated::{ignores, is_active as handles};

/// Installs the handler and returns whether it is installed. The previous action becomes the target's.
pub fn install() -> bool {
    // A forked child has its parent's handler and the target's stored action.
    if handles() {
        return true;
    }
    let mut before = Action::DEFAULT;
    if !real::change_action(SIGTRAP, None, Some(&mut before)) {
        return false;
    }
    emulated::set_action(&before);
    if !put_handler() {
        return false;
    }
    let blocked = real::unblock();
    thread::block().trap_blocked.store(u32::from(blocked), Ordering::Relaxed);
    emulated::activate();
    true
}

/// Sets the signal's action to the library's handler.
///
/// All signals are blocked while the handler runs, so that no other handler interrupts it. It runs on the
/// thread's alternate stack if there is one, since a thread with an alternate stack may have too little space for
/// a handler on its own stack.
pub fn put_handler() -> bool {
    let flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
    let function: unsafe extern "C" fn(c_int, *mut Information, *mut c_void) = handler;
    let action = Action::new(function as usize, u64::MAX, flags);
    real::change_action(SIGTRAP, Some(&action), None)
}

/// Ignores the signal, for the duration of an exec.
pub fn ignore() {
    real::change_action(SIGTRAP, Some(&Action::new(SIG_IGN, 0, 0)), None);
}

/// Returns whether the signal's real action is to ignore it.
pub fn is_ignored() -> bool {
    let mut now = Action::DEFAULT;
    real::change_action(SIGTRAP, None, Some(&mut now)) && now.handler == SIG_IGN
}

/// Undoes [`ignore`] in the image after an exec.
pub fn restore_default() {
    real::change_action(SIGTRAP, Some(&Action::DEFAULT), None);
}

unsafe extern "C" fn handler(signal: c_int, information: *mut Information, context: *mut c_void) {
    let _errno = sys::ErrnoGuard::new();
    // SAFETY: the kernel passes a valid pointer.
    let (code, flags) = unsafe { ((*information).code, (*information).perf_flags) };
    if code == TRAP_PERF {
        return sample(flags & TRAP_PERF_FLAG_ASYNC != 0);
    }
    // SAFETY: these are the kernel's arguments.
    unsafe { emulated::deliver(signal, information, context) };
}

/// Records the thread's current Python stack.
fn sample(late: bool) {
    let Some(memory) = shared_memory::memory() else { return };
    let time_ns = sys::now_ns();
    let stack = python::record_stack(python::Moment::Any);
    let flags = stack.flags | if late { flag::LATE } else { 0 };
    ring::append(
        memory,
        Kind::Sample,
        &Entry { time_ns, node: stack.node, flags, ..Entry::default() },
    );
}
