//! The functions that change signal actions and masks, as the target calls them.

use core::ffi::c_int;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use super::abi::{Action, SA_NODEFER, SA_RESETHAND, SA_RESTART, SIGTRAP, Set, TRAP, bit};
use super::emulated::{self, is_emulated};
use super::real::{self, SIG_BLOCK, SIG_UNBLOCK};
use crate::real_function::RealFunction;
use crate::{sys, thread};

const SIG_ERR: usize = usize::MAX;

type SignalFunction = unsafe extern "C" fn(c_int, usize) -> usize;
type MaskFunction = unsafe extern "C" fn(c_int, *const Set, *mut Set) -> c_int;

/// A set of signals: those whose handlers, as the target installed them, block SIGTRAP.
static TRAP_IN_MASK: AtomicU64 = AtomicU64::new(0);

/// `sigaction` for the target.
///
/// # Safety
///
/// As for `sigaction`.
unsafe fn action(signal: c_int, new: *const Action, old: *mut Action) -> c_int {
    if signal != SIGTRAP || !is_emulated() {
        // SAFETY: the caller's promise.
        return unsafe { other_action(signal, new, old) };
    }
    let before = emulated::action();
    if !new.is_null() {
        // SAFETY: the caller's promise.
        emulated::set_action(unsafe { &*new });
    }
    if !old.is_null() {
        // SAFETY: the caller's promise.
        unsafe { *old = before };
    }
    0
}

/// `sigaction` for another signal: its handler must not block SIGTRAP.
///
/// # Safety
///
/// As for `sigaction`.
unsafe fn other_action(signal: c_int, new: *const Action, old: *mut Action) -> c_int {
    let Some(function) = real::sigaction() else { return -1 };
    // SAFETY: the caller's promise.
    let asked = unsafe { new.as_ref() }.map(|new| new.mask.signals & TRAP != 0);
    let usual = asked != Some(true) && TRAP_IN_MASK.load(Ordering::Relaxed) == 0;
    if usual || !(1..=64).contains(&signal) || !is_emulated() {
        // SAFETY: the caller's promise.
        return unsafe { function(signal, new, old) };
    }
    // SAFETY: the caller's promise.
    let mut changed = unsafe { new.as_ref() }.copied();
    if let Some(changed) = &mut changed {
        changed.mask.signals &= !TRAP;
    }
    let new = changed.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: a copy of the caller's action, or null; and the caller's own pointer.
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

/// `signal` and similar functions for the target. `flags` are the ones that the function implies.
///
/// # Safety
///
/// As for `signal`.
unsafe fn simple(real: &RealFunction, signal: c_int, handler: usize, flags: c_int) -> usize {
    if signal == SIGTRAP && is_emulated() {
        let before = emulated::action().handler;
        let mask = if flags & SA_NODEFER == 0 { TRAP } else { 0 };
        emulated::set_action(&Action::new(handler, mask, flags));
        return before;
    }
    // SAFETY: the C library's function of this name has this type.
    let function: Option<SignalFunction> = unsafe { core::mem::transmute(real.address()) };
    // SAFETY: the caller's promise.
    function.map_or(SIG_ERR, |function| unsafe { function(signal, handler) })
}

/// `pthread_sigmask` and `sigprocmask` for the target.
///
/// # Safety
///
/// As for `sigprocmask`.
unsafe fn mask(real: &RealFunction, how: c_int, new: *const Set, old: *mut Set) -> c_int {
    // SAFETY: the C library's functions of these names have this type.
    let function: Option<MaskFunction> = unsafe { core::mem::transmute(real.address()) };
    let Some(function) = function else { return sys::EINVAL };
    if !is_emulated() {
        // SAFETY: the caller's promise.
        return unsafe { function(how, new, old) };
    }
    let blocked = &thread::block().trap_blocked;
    let before = blocked.load(Ordering::Relaxed);
    // SAFETY: the caller's promise.
    let mut changed = unsafe { new.as_ref() }.copied();
    let mut wanted = before;
    if let Some(set) = &mut changed {
        let named = set.signals & TRAP != 0;
        wanted = match how {
            SIG_BLOCK => before | u32::from(named),
            SIG_UNBLOCK => before & u32::from(!named),
            _ => u32::from(named),
        };
        set.signals &= !TRAP;
    }
    let set = changed.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: a copy of the caller's set, or null; and the caller's own pointer.
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
    blocked.store(wanted, Ordering::Relaxed);
    emulated::send_pending();
    result
}

/// The exported functions. They are only exported by the library that is loaded into targets.
mod exported {
    use super::*;

    macro_rules! simple {
        ($($name:ident $text:literal $flags:expr;)*) => {$(
            #[cfg_attr(simprof_preloaded, unsafe(no_mangle))]
            unsafe extern "C" fn $name(signal: c_int, handler: usize) -> usize {
                static NEXT: RealFunction = RealFunction::new($text);
                // SAFETY: the target's arguments.
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
                // SAFETY: the target's arguments.
                unsafe { action(signal, new, old) }
            }
        )*};
    }

    action!(sigaction __sigaction);

    #[cfg_attr(simprof_preloaded, unsafe(no_mangle))]
    unsafe extern "C" fn pthread_sigmask(how: c_int, new: *const Set, old: *mut Set) -> c_int {
        static NEXT: RealFunction = RealFunction::new(c"pthread_sigmask");
        // SAFETY: the target's arguments.
        unsafe { mask(&NEXT, how, new, old) }
    }

    #[cfg_attr(simprof_preloaded, unsafe(no_mangle))]
    unsafe extern "C" fn sigprocmask(how: c_int, new: *const Set, old: *mut Set) -> c_int {
        static NEXT: RealFunction = RealFunction::new(c"sigprocmask");
        // SAFETY: the target's arguments.
        unsafe { mask(&NEXT, how, new, old) }
    }
}
