//! Seccomp filters of the target: which system calls they leave to the library.
//!
//! The kernel may kill a process that makes a call which its filter does not allow, whoever made it. So the
//! library watches the functions by which a program installs a filter, and evaluates the filter for each
//! system call before it takes effect. From then on the library makes only calls that are allowed for all
//! arguments. It is conservative: a filter of one thread counts for all threads.
//!
//! A filter that was inherited over `exec` cannot be read. If the process has more filters than the
//! profiler, only the calls that the program's loader makes itself count as allowed.
//!
//! A program that installs a filter by an instruction of its own, without the C library, is not noticed.

mod filter;
#[cfg(simprof_preloaded)]
mod interposed;
#[cfg(simprof_preloaded)]
mod lookup;

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[cfg(simprof_preloaded)]
pub use interposed::{find, resolve};

use crate::format::filters_in;
use crate::sys;

/// Number of system calls that are considered.
const CALLS: usize = 512;

/// A bit for each system call that is forbidden.
static FORBIDDEN: [AtomicU64; CALLS / 64] = [const { AtomicU64::new(0) }; CALLS / 64];

/// Returns whether the library may make this system call.
#[inline]
pub fn allows(number: usize) -> bool {
    let word = FORBIDDEN.get(number / 64);
    word.is_some_and(|word| word.load(Ordering::Relaxed) & 1 << (number % 64) == 0)
}

/// Whether the target has entered strict mode.
static IS_STRICT: AtomicBool = AtomicBool::new(false);

/// Returns whether the target has entered strict mode, in which the clock cannot be read: the processor's time stamp
/// counter is disabled too.
pub fn is_strict() -> bool {
    IS_STRICT.load(Ordering::Relaxed)
}

/// Forbids the system calls for which `is_allowed` returns false.
fn restrict(is_allowed: impl Fn(usize) -> bool) {
    for (at, word) in FORBIDDEN.iter().enumerate() {
        let bit = |bit: usize| if is_allowed(at * 64 + bit) { 0 } else { 1 << bit };
        word.fetch_or((0..64).map(bit).sum(), Ordering::Relaxed);
    }
}

/// Compares the number of this thread's filters with that of the profiler. If there are more, allows only the
/// calls of the loader and returns true: the filters may forbid any other call.
///
/// Only calls that the loader makes are made until then.
pub fn is_inherited(profilers: u32) -> bool {
    let inherited = filters() > profilers;
    if inherited {
        restrict(|number| sys::LOADER_CALLS.contains(&number));
    }
    inherited
}

/// Returns the number of filters of this thread. Kernels before 5.9 only report whether there is one.
pub fn filters() -> u32 {
    let mut text = [0; 4096];
    let length = sys::read_file(c"/proc/thread-self/status", &mut text);
    filters_in(&text[..length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_filters_is_read() {
        let table: [(&[u8], u32); 5] = [
            (b"NoNewPrivs:\t0\nSeccomp:\t2\nSeccomp_filters:\t3\nX:\t1\n", 3),
            (b"Seccomp:\t0\nSeccomp_filters:\t0\n", 0),
            (b"Seccomp:\t2\n", 1),
            (b"Seccomp:\t0\n", 0),
            (b"", 0),
        ];
        for (status, expected) in table {
            assert_eq!(filters_in(status), expected, "{}", String::from_utf8_lossy(status));
        }
    }

    #[test]
    fn unknown_system_calls_are_forbidden() {
        assert!(allows(0) && allows(CALLS - 1));
        assert!(!allows(CALLS) && !allows(usize::MAX));
    }
}
