//! What the target wishes about SIGTRAP.

use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};

use super::{
    Action, Information, SA_NODEFER, SA_RESETHAND, SA_SIGINFO, SIG_DFL, SIG_IGN, SIGTRAP, TRAP,
    interposed,
};
use crate::{sys, thread};

static HANDLER: AtomicUsize = AtomicUsize::new(SIG_DFL);
static FLAGS: AtomicI32 = AtomicI32::new(0);
static MASK: AtomicU64 = AtomicU64::new(0);
static RESTORER: AtomicUsize = AtomicUsize::new(0);

/// Remembers an action.
pub fn keep(action: &Action) {
    MASK.store(action.mask.signals, Ordering::Relaxed);
    FLAGS.store(action.flags, Ordering::Relaxed);
    RESTORER.store(action.restorer, Ordering::Relaxed);
    HANDLER.store(action.handler, Ordering::Release);
}

/// The remembered action.
pub fn kept() -> Action {
    let handler = HANDLER.load(Ordering::Acquire);
    let mut action =
        Action::new(handler, MASK.load(Ordering::Relaxed), FLAGS.load(Ordering::Relaxed));
    action.restorer = RESTORER.load(Ordering::Relaxed);
    action
}

/// Whether the target wishes the signal to be ignored.
pub fn ignores() -> bool {
    HANDLER.load(Ordering::Relaxed) == SIG_IGN
}

/// Does with a signal that is not a sample what the target wishes.
///
/// # Safety
///
/// The arguments are those of a signal handler.
pub unsafe fn obey(signal: c_int, information: *mut Information, context: *mut c_void) {
    let action = kept();
    let block = thread::block();
    // SAFETY: the caller's promise.
    // The kernel's own (a breakpoint, a single step) cannot be blocked or ignored: the thread cannot go on.
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
    interposed::real_action(SIGTRAP, Some(&Action::new(SIG_DFL, 0, 0)), None);
    raise();
}

/// Sends the signal to this thread.
pub fn raise() {
    // SAFETY: no memory is involved.
    unsafe { sys::syscall(sys::TGKILL, sys::getpid(), thread::id(), SIGTRAP) };
}

/// Calls the target's handler with the mask that it asked for.
///
/// # Safety
///
/// As for [`obey`]; the action has a handler.
unsafe fn call(
    action: &Action,
    signal: c_int,
    information: *mut Information,
    context: *mut c_void,
) {
    if action.flags & SA_RESETHAND != 0 {
        keep(&Action::new(SIG_DFL, 0, 0));
    }
    let blocked = &thread::block().trap_blocked;
    let before = blocked.load(Ordering::Relaxed);
    let deferred = action.flags & SA_NODEFER == 0 || action.mask.signals & TRAP != 0;
    blocked.store(u32::from(deferred) | before, Ordering::Relaxed);
    // SAFETY: the kernel's context of the interrupted thread.
    let interrupted = unsafe { interrupted_mask(context) };
    let all = interposed::set_mask((interrupted | action.mask.signals) & !TRAP);
    // SAFETY: a handler has one of these types, as its flags say.
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
    interposed::set_mask(all);
    blocked.store(before, Ordering::Relaxed);
    deliver_pending();
}

/// Sends the signal again that came while the thread wished it to be blocked, where it does so no longer.
pub fn deliver_pending() {
    let block = thread::block();
    if block.trap_blocked.load(Ordering::Relaxed) == 0
        && block.trap_pending.swap(0, Ordering::Relaxed) != 0
    {
        raise();
    }
}

/// The signals that were blocked when the handler was called: `uc_sigmask`.
///
/// # Safety
///
/// `context` is the third argument of a signal handler.
unsafe fn interrupted_mask(context: *mut c_void) -> u64 {
    // After flags, link, stack and, on x86-64, the machine's context of 256 bytes.
    #[cfg(target_arch = "x86_64")]
    const OFFSET: usize = 8 + 8 + 24 + 256;
    #[cfg(target_arch = "aarch64")]
    const OFFSET: usize = 8 + 8 + 24;
    // SAFETY: the caller's promise.
    unsafe { context.cast::<u8>().add(OFFSET).cast::<u64>().read() }
}
