//! SIGTRAP as the target sees it: its action, and whether it is blocked or pending.

use core::ffi::{c_int, c_long, c_void};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};

use super::abi::{
    Action, Information, SA_NODEFER, SA_RESETHAND, SA_SIGINFO, SIG_DFL, SIG_IGN, SIGTRAP, TRAP,
};
use super::real;
use crate::{process, sys, thread};

/// Whether the library's handler is installed, and the target's settings are stored here.
static ACTIVE: AtomicBool = AtomicBool::new(false);
static HANDLER: AtomicUsize = AtomicUsize::new(SIG_DFL);
static FLAGS: AtomicI32 = AtomicI32::new(0);
static MASK: AtomicU64 = AtomicU64::new(0);
static RESTORER: AtomicUsize = AtomicUsize::new(0);

/// Returns whether the library handles SIGTRAP in this process.
pub fn is_active() -> bool {
    ACTIVE.load(Ordering::Acquire)
}

/// Starts the emulation, once the library's handler is installed.
pub fn activate() {
    ACTIVE.store(true, Ordering::Release);
}

/// Returns whether calls of the target that change signals are emulated. They are not in a process made by `vfork`,
/// which has actions of its own but shares the memory.
pub fn is_emulated() -> bool {
    is_active() && process::is_registered()
}

/// Stores the target's action.
pub fn set_action(action: &Action) {
    MASK.store(action.mask.signals, Ordering::Relaxed);
    FLAGS.store(action.flags, Ordering::Relaxed);
    RESTORER.store(action.restorer, Ordering::Relaxed);
    HANDLER.store(action.handler, Ordering::Release);
}

/// Returns the target's action.
pub fn action() -> Action {
    let handler = HANDLER.load(Ordering::Acquire);
    let mut action =
        Action::new(handler, MASK.load(Ordering::Relaxed), FLAGS.load(Ordering::Relaxed));
    action.restorer = RESTORER.load(Ordering::Relaxed);
    action
}

/// Returns whether the target's action is to ignore the signal.
pub fn ignores() -> bool {
    HANDLER.load(Ordering::Relaxed) == SIG_IGN
}

/// Applies the target's action to a signal that is not a sample.
///
/// # Safety
///
/// The arguments must be those of a signal handler.
pub unsafe fn deliver(signal: c_int, information: *mut Information, context: *mut c_void) {
    let action = action();
    let block = thread::block();
    // The kernel's own signals (a breakpoint, a single step) cannot be blocked or ignored: the thread cannot continue.
    // SAFETY: the caller's promise.
    let forced = unsafe { (*information).code } > 0;
    let blocked = block.trap_blocked.load(Ordering::Relaxed) != 0;
    if blocked && !forced {
        return block.trap_pending.store(1, Ordering::Relaxed);
    }
    if action.handler == SIG_DFL || forced && (blocked || action.handler == SIG_IGN) {
        return end();
    }
    if action.handler == SIG_IGN {
        return;
    }
    // SAFETY: the target's handler, called as the kernel would have.
    unsafe { call(&action, signal, information, context) };
}

/// Ends the process by the signal, once the handler returns.
fn end() {
    real::change_action(SIGTRAP, Some(&Action::DEFAULT), None);
    raise();
}

/// Sends the signal to this thread.
pub fn raise() {
    // SAFETY: the system call accesses no memory.
    unsafe { sys::syscall(sys::TGKILL as c_long, sys::getpid(), thread::id(), SIGTRAP) };
}

/// Calls the target's handler with the signal mask of the action.
///
/// # Safety
///
/// As for [`deliver`]; the action must have a handler.
unsafe fn call(
    action: &Action,
    signal: c_int,
    information: *mut Information,
    context: *mut c_void,
) {
    if action.flags & SA_RESETHAND != 0 {
        set_action(&Action::DEFAULT);
    }
    let blocked = &thread::block().trap_blocked;
    let before = blocked.load(Ordering::Relaxed);
    let deferred = action.flags & SA_NODEFER == 0 || action.mask.signals & TRAP != 0;
    blocked.store(u32::from(deferred) | before, Ordering::Relaxed);
    // SAFETY: `context` is the kernel's context of the interrupted thread.
    let interrupted = unsafe { interrupted_mask(context) };
    let all = real::set_mask((interrupted | action.mask.signals) & !TRAP);
    // SAFETY: the handler has the type that its flags state.
    unsafe {
        if action.flags & SA_SIGINFO != 0 {
            let function: unsafe extern "C" fn(c_int, *mut Information, *mut c_void) =
                core::mem::transmute(action.handler);
            function(signal, information, context);
        } else {
            let function: unsafe extern "C" fn(c_int) = core::mem::transmute(action.handler);
            function(signal);
        }
    }
    real::set_mask(all);
    blocked.store(before, Ordering::Relaxed);
    send_pending();
}

/// Sends a signal again that arrived while the thread blocked it, if the thread no longer blocks it.
pub fn send_pending() {
    let block = thread::block();
    if block.trap_blocked.load(Ordering::Relaxed) == 0
        && block.trap_pending.swap(0, Ordering::Relaxed) != 0
    {
        raise();
    }
}

/// Reads the signals that were blocked when the handler was called: `uc_sigmask`.
///
/// # Safety
///
/// `context` must be the third argument of a signal handler.
unsafe fn interrupted_mask(context: *mut c_void) -> u64 {
    // It follows flags, link, stack and the machine context of 256 bytes.
    const OFFSET: usize = 8 + 8 + 24 + 256;
    // SAFETY: the caller's promise.
    unsafe { context.cast::<u8>().add(OFFSET).cast::<u64>().read() }
}
