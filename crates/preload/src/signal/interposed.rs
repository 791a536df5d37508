//! The functions by which a program changes what happens with signals, as the target calls them.

use core::ffi::c_int;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{Action, SA_NODEFER, SA_RESETHAND, SA_RESTART, SIGTRAP, Set, TRAP, bit, is_ours, wish};
use crate::sys::{self, Next};
use crate::thread;

const SIG_ERR: usize = usize::MAX;
const SIG_BLOCK: c_int = 0;
const SIG_UNBLOCK: c_int = 1;
const SIG_SETMASK: c_int = 2;

type ActionFunction = unsafe extern "C" fn(c_int, *const Action, *mut Action) -> c_int;
type SignalFunction = unsafe extern "C" fn(c_int, usize) -> usize;
type MaskFunction = unsafe extern "C" fn(c_int, *const Set, *mut Set) -> c_int;

static ACTION: Next = Next::new(c"sigaction");

/// Signals in whose actions the target asked for SIGTRAP to be blocked.
static TRAP_IN_MASK: AtomicU64 = AtomicU64::new(0);

fn next_action() -> Option<ActionFunction> {
    let address = ACTION.get();
    // SAFETY: the C library's function of this name has this type; null is the niche of the option.
    unsafe { core::mem::transmute(address) }
}

/// The C library's `sigaction`; whether it succeeded.
pub fn real_action(signal: c_int, new: Option<&Action>, old: Option<&mut Action>) -> bool {
    let new = new.map_or(ptr::null(), ptr::from_ref);
    let old = old.map_or(ptr::null_mut(), ptr::from_mut);
    // SAFETY: both are valid or null.
    next_action().is_some_and(|function| unsafe { function(signal, new, old) } == 0)
}

/// Sets this thread's mask, really; what it was.
pub fn set_mask(signals: u64) -> u64 {
    change_mask(SIG_SETMASK, signals)
}

/// Unblocks SIGTRAP in this thread, really; whether it was blocked.
pub fn unblock() -> bool {
    change_mask(SIG_UNBLOCK, TRAP) & TRAP != 0
}

fn change_mask(how: c_int, signals: u64) -> u64 {
    let mut before = 0_u64;
    // SAFETY: both places live during the call; the kernel's sets have 8 bytes.
    unsafe {
        sys::syscall(sys::RT_SIGPROCMASK, how, &raw const signals, &raw mut before, 8_usize);
    }
    before
}

/// `sigaction` for the target.
///
/// # Safety
///
/// As for `sigaction`.
unsafe fn action(signal: c_int, new: *const Action, old: *mut Action) -> c_int {
    if signal != SIGTRAP || !is_ours() {
        // SAFETY: the caller's promise.
        return unsafe { other_action(signal, new, old) };
    }
    let before = wish::kept();
    if !new.is_null() {
        // SAFETY: the caller's promise.
        wish::keep(unsafe { &*new });
    }
    if !old.is_null() {
        // SAFETY: the caller's promise.
        unsafe { *old = before };
    }
    0
}

/// `sigaction` of another signal: its handler does not block SIGTRAP.
///
/// # Safety
///
/// As for `sigaction`.
unsafe fn other_action(signal: c_int, new: *const Action, old: *mut Action) -> c_int {
    let Some(function) = next_action() else { return -1 };
    // SAFETY: the caller's promise.
    let asked = unsafe { new.as_ref() }.map(|new| new.mask.signals & TRAP != 0);
    let usual = asked != Some(true) && TRAP_IN_MASK.load(Ordering::Relaxed) == 0;
    if usual || !(1..=64).contains(&signal) || !is_ours() {
        // SAFETY: the caller's promise.
        return unsafe { function(signal, new, old) };
    }
    // SAFETY: the caller's promise.
    let mut changed = unsafe { new.as_ref() }.copied();
    if let Some(changed) = &mut changed {
        changed.mask.signals &= !TRAP;
    }
    let new = changed.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: a copy of the caller's, or null; and the caller's own.
    let result = unsafe { function(signal, new, old) };
    if result != 0 {
        return result;
    }
    let before = match asked {
        Some(true) => TRAP_IN_MASK.fetch_or(bit(signal), Ordering::Relaxed),
        Some(false) => TRAP_IN_MASK.fetch_and(!bit(signal), Ordering::Relaxed),
        None => TRAP_IN_MASK.load(Ordering::Relaxed),
    };
    // SAFETY: the caller's promise.
    if let Some(old) = unsafe { old.as_mut() }
        && before & bit(signal) != 0
    {
        old.mask.signals |= TRAP;
    }
    result
}

/// `signal` and its kin for the target: `flags` are what the function means.
///
/// # Safety
///
/// As for `signal`.
unsafe fn simple(next: &Next, signal: c_int, handler: usize, flags: c_int) -> usize {
    if signal == SIGTRAP && is_ours() {
        let before = wish::kept().handler;
        let mask = if flags & SA_NODEFER == 0 { TRAP } else { 0 };
        wish::keep(&Action::new(handler, mask, flags));
        return before;
    }
    // SAFETY: the C library's function of this name has this type.
    let function: Option<SignalFunction> = unsafe { core::mem::transmute(next.get()) };
    // SAFETY: the caller's promise.
    function.map_or(SIG_ERR, |function| unsafe { function(signal, handler) })
}

/// `pthread_sigmask` and `sigprocmask` for the target.
///
/// # Safety
///
/// As for `sigprocmask`.
unsafe fn mask(next: &Next, how: c_int, new: *const Set, old: *mut Set) -> c_int {
    // SAFETY: the C library's functions of these names have this type.
    let function: Option<MaskFunction> = unsafe { core::mem::transmute(next.get()) };
    let Some(function) = function else { return sys::EINVAL };
    if !is_ours() {
        // SAFETY: the caller's promise.
        return unsafe { function(how, new, old) };
    }
    let blocked = &thread::block().trap_blocked;
    let before = blocked.load(Ordering::Relaxed);
    // SAFETY: the caller's promise.
    let mut changed = unsafe { new.as_ref() }.copied();
    let mut wished = before;
    if let Some(set) = &mut changed {
        let named = set.signals & TRAP != 0;
        wished = match how {
            SIG_BLOCK => before | u32::from(named),
            SIG_UNBLOCK => before & u32::from(!named),
            _ => u32::from(named),
        };
        set.signals &= !TRAP;
    }
    let set = changed.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: a copy of the caller's, or null; and the caller's own.
    let result = unsafe { function(how, set, old) };
    if result != 0 {
        return result;
    }
    // SAFETY: the caller's promise.
    if let Some(old) = unsafe { old.as_mut() }
        && before != 0
    {
        old.signals |= TRAP;
    }
    blocked.store(wished, Ordering::Relaxed);
    wish::deliver_pending();
    result
}

/// What is exported: only from the library that is loaded into targets.
mod exported {
    use super::*;

    macro_rules! simple {
        ($($name:ident $text:literal $flags:expr;)*) => {$(
            #[cfg_attr(simprof_preloaded, unsafe(no_mangle))]
            unsafe extern "C" fn $name(signal: c_int, handler: usize) -> usize {
                static NEXT: Next = Next::new($text);
                // SAFETY: the target's own arguments.
                unsafe { simple(&NEXT, signal, handler, $flags) }
            }
        )*};
    }

    simple! {
        signal c"signal" SA_RESTART;
        bsd_signal c"bsd_signal" SA_RESTART;
        ssignal c"ssignal" SA_RESTART;
        sysv_signal c"sysv_signal" SA_RESETHAND | SA_NODEFER;
        __sysv_signal c"__sysv_signal" SA_RESETHAND | SA_NODEFER;
    }

    macro_rules! action {
        ($($name:ident)*) => {$(
            #[cfg_attr(simprof_preloaded, unsafe(no_mangle))]
            unsafe extern "C" fn $name(signal: c_int, new: *const Action, old: *mut Action) -> c_int {
                // SAFETY: the target's own arguments.
                unsafe { action(signal, new, old) }
            }
        )*};
    }

    action!(sigaction __sigaction);

    #[cfg_attr(simprof_preloaded, unsafe(no_mangle))]
    unsafe extern "C" fn pthread_sigmask(how: c_int, new: *const Set, old: *mut Set) -> c_int {
        static NEXT: Next = Next::new(c"pthread_sigmask");
        // SAFETY: the target's own arguments.
        unsafe { mask(&NEXT, how, new, old) }
    }

    #[cfg_attr(simprof_preloaded, unsafe(no_mangle))]
    unsafe extern "C" fn sigprocmask(how: c_int, new: *const Set, old: *mut Set) -> c_int {
        static NEXT: Next = Next::new(c"sigprocmask");
        // SAFETY: the target's own arguments.
        unsafe { mask(&NEXT, how, new, old) }
    }
}
