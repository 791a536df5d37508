//! The real action and mask of signals, which the target does not see.

use core::ffi::{c_int, c_long};
use core::ptr;

use super::abi::{Action, TRAP};
use crate::real_function::RealFunction;
use crate::{seccomp, sys};

pub const SIG_BLOCK: c_int = 0;
pub const SIG_UNBLOCK: c_int = 1;
const SIG_SETMASK: c_int = 2;

type ActionFunction = unsafe extern "C" fn(c_int, *const Action, *mut Action) -> c_int;

static SIGACTION: RealFunction = RealFunction::new(c"sigaction");

/// Returns the C library's `sigaction`.
pub fn sigaction() -> Option<ActionFunction> {
    let address = SIGACTION.address();
    // SAFETY: the C library's function of this name has this type; null is the niche of the option.
    unsafe { core::mem::transmute(address) }
}

/// Calls the C library's `sigaction` and returns whether it succeeded.
pub fn change_action(signal: c_int, new: Option<&Action>, old: Option<&mut Action>) -> bool {
    let new = new.map_or(ptr::null(), ptr::from_ref);
    let old = old.map_or(ptr::null_mut(), ptr::from_mut);
    // SAFETY: both are valid or null.
    sigaction().is_some_and(|function| unsafe { function(signal, new, old) } == 0)
}

/// Sets this thread's real mask and returns the previous one.
pub fn set_mask(signals: u64) -> u64 {
    change_mask(SIG_SETMASK, signals)
}

/// Unblocks SIGTRAP in this thread's real mask and returns whether it was blocked.
pub fn unblock() -> bool {
    change_mask(SIG_UNBLOCK, TRAP) & TRAP != 0
}

fn change_mask(how: c_int, signals: u64) -> u64 {
    let mut before = 0_u64;
    if !seccomp::allows(sys::RT_SIGPROCMASK) {
        return before;
    }
    // SAFETY: both sets live during the call; the kernel's sets have 8 bytes.
    unsafe {
        sys::syscall(
            sys::RT_SIGPROCMASK as c_long,
            how,
            &raw const signals,
            &raw mut before,
            8_usize,
        );
    }
    before
}
