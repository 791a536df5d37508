//! SIGTRAP: recording the Python stack at each sample, and obeying what the target itself wishes about the signal.
//!
//! The library's handler stays in place and the signal unblocked. The functions by which a program changes that
//! are stood in for: its wishes are kept beside, told to it when it asks, and obeyed for signals that do not
//! come from sampling.

mod interposed;
mod wish;

use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicBool, Ordering};

use crate::format::{Kind, flag};
use crate::ring::{self, Entry};
use crate::{memory, process, python, sys, thread};
pub use wish::ignores;

/// The signal.
pub const SIGTRAP: c_int = 5;
const SIG_DFL: usize = 0;
const SIG_IGN: usize = 1;
const SA_SIGINFO: c_int = 4;
const SA_ONSTACK: c_int = 0x0800_0000;
const SA_RESTART: c_int = 0x1000_0000;
const SA_NODEFER: c_int = 0x4000_0000;
const SA_RESETHAND: c_int = i32::MIN;

/// `sigset_t` of the C library: only the first word is ever used.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Set {
    signals: u64,
    rest: [u64; 15],
}

/// The bit of a signal in a set.
const fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

const TRAP: u64 = bit(SIGTRAP);

/// `struct sigaction` of the C library.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Action {
    handler: usize,
    mask: Set,
    flags: c_int,
    restorer: usize,
}

impl Action {
    const fn new(handler: usize, signals: u64, flags: c_int) -> Action {
        Action { handler, mask: Set { signals, rest: [0; 15] }, flags, restorer: 0 }
    }
}

/// `siginfo_t` as it is for a trap.
#[repr(C)]
pub struct Information {
    signal: c_int,
    error: c_int,
    code: c_int,
    padding: c_int,
    address: usize,
    perf_data: u64,
    perf_type: u32,
    perf_flags: u32,
}

/// `si_code` of a sample.
const TRAP_PERF: c_int = 6;
/// Bit of `si_perf_flags`: the signal was blocked when the sample was taken.
const TRAP_PERF_FLAG_ASYNC: u32 = 1;

/// Whether the handler is in place, and wishes are kept beside.
static HANDLES: AtomicBool = AtomicBool::new(false);

/// Whether this process's SIGTRAP is the library's.
pub fn handles() -> bool {
    HANDLES.load(Ordering::Acquire)
}

/// Puts the handler in place; whether it is. What was there before becomes the target's wish.
pub fn install() -> bool {
    // A forked child has its parent's handler, and the target's wishes.
    if handles() {
        return true;
    }
    let mut before = Action::new(SIG_DFL, 0, 0);
    if !interposed::real_action(SIGTRAP, None, Some(&mut before)) {
        return false;
    }
    wish::keep(&before);
    if !put_handler() {
        return false;
    }
    let blocked = interposed::unblock();
    thread::block().trap_blocked.store(u32::from(blocked), Ordering::Relaxed);
    HANDLES.store(true, Ordering::Release);
    true
}

/// Makes the handler that of the signal (again).
///
/// All signals are blocked while it runs, so that it is never left half-way. It runs on the alternate stack
/// where a thread has one: those threads that run on stacks too small for a signal have one for this reason.
pub fn put_handler() -> bool {
    let flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
    let function: unsafe extern "C" fn(c_int, *mut Information, *mut c_void) = handler;
    let action = Action::new(function as usize, u64::MAX, flags);
    interposed::real_action(SIGTRAP, Some(&action), None)
}

/// Ignores the signal, for the time of an exec.
pub fn ignore() {
    interposed::real_action(SIGTRAP, Some(&Action::new(SIG_IGN, 0, 0)), None);
}

/// Whether the process ignores the signal, really.
pub fn is_ignored() -> bool {
    let mut now = Action::new(SIG_DFL, 0, 0);
    interposed::real_action(SIGTRAP, None, Some(&mut now)) && now.handler == SIG_IGN
}

/// Undoes [`ignore`] in the image after an exec.
pub fn restore_default() {
    interposed::real_action(SIGTRAP, Some(&Action::new(SIG_DFL, 0, 0)), None);
}

unsafe extern "C" fn handler(signal: c_int, information: *mut Information, context: *mut c_void) {
    let _errno = sys::KeptErrno::new();
    // SAFETY: the kernel gives a valid one.
    let (code, flags) = unsafe { ((*information).code, (*information).perf_flags) };
    if code == TRAP_PERF {
        return sample(flags & TRAP_PERF_FLAG_ASYNC != 0);
    }
    // SAFETY: these are the kernel's arguments.
    unsafe { wish::obey(signal, information, context) };
}

/// Records where the thread is.
fn sample(late: bool) {
    let Some(memory) = memory::memory() else { return };
    let time_ns = sys::now_ns();
    let stack = python::record_stack(python::Moment::Any);
    let flags = stack.flags | if late { flag::LATE } else { 0 };
    ring::append(
        memory,
        Kind::Sample,
        &Entry { time_ns, node: stack.node, flags, ..Entry::default() },
    );
}

/// Whether the target's calls about signals are to be changed: not in a process that was made by `vfork`, which
/// has dispositions of its own but shares the memory.
fn is_ours() -> bool {
    handles() && process::is_own()
}
