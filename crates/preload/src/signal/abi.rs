//! Types and constants of the C library's and the kernel's signal interface.

use core::ffi::c_int;

/// The sampling signal.
pub const SIGTRAP: c_int = 5;
pub const SIG_DFL: usize = 0;
pub const SIG_IGN: usize = 1;
pub const SA_SIGINFO: c_int = 4;
pub const SA_ONSTACK: c_int = 0x0800_0000;
pub const SA_RESTART: c_int = 0x1000_0000;
pub const SA_NODEFER: c_int = 0x4000_0000;
pub const SA_RESETHAND: c_int = i32::MIN;

/// `sigset_t` of the C library. Only the first word is used.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Set {
    pub signals: u64,
    rest: [u64; 15],
}

/// Returns the bit of a signal in a set.
pub const fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

pub const TRAP: u64 = bit(SIGTRAP);

/// `struct sigaction` of the C library.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Action {
    pub handler: usize,
    pub mask: Set,
    pub flags: c_int,
    pub restorer: usize,
}

impl Action {
    pub const DEFAULT: Action = Action::new(SIG_DFL, 0, 0);

    pub const fn new(handler: usize, signals: u64, flags: c_int) -> Action {
        Action { handler, mask: Set { signals, rest: [0; 15] }, flags, restorer: 0 }
    }
}

/// `siginfo_t` for a trap.
#[repr(C)]
pub struct Information {
    signal: c_int,
    error: c_int,
    pub code: c_int,
    padding: c_int,
    address: usize,
    perf_data: u64,
    perf_type: u32,
    pub perf_flags: u32,
}

/// `si_code` of a sample.
pub const TRAP_PERF: c_int = 6;
/// Bit of `si_perf_flags`: the signal was blocked when the sample was taken.
pub const TRAP_PERF_FLAG_ASYNC: u32 = 1;
