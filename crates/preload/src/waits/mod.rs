//! Where threads wait: the C library's blocking functions, interposed and timed in processes that run Python.
//!
//! Elsewhere each of them is a few instructions and a jump to the real one. Where waits are asked for ([`begin`]), a call is timed by two
//! readings of the clock, which need no system call. A short one is forgotten; of the others some are recorded ([`sampling`]), with
//! the Python stack of the wait: the thread is still in the call. Calls within a call (of a signal handler, say) are part of it.
//!
//! Results and error numbers are those of the real functions, and so is what a cancelled thread or a `longjmp` does.

#[cfg(all(simprof_preloaded, target_arch = "x86_64"))]
mod calls;
#[cfg(all(simprof_preloaded, target_arch = "x86_64"))]
mod functions;
#[cfg(all(simprof_preloaded, target_arch = "x86_64"))]
mod module;
mod sampling;
#[cfg(all(simprof_preloaded, target_arch = "x86_64"))]
mod trampoline;

#[cfg(all(simprof_preloaded, target_arch = "x86_64"))]
pub use calls::{begin, prepare};

/// Nothing is interposed on this machine.
#[cfg(all(simprof_preloaded, not(target_arch = "x86_64")))]
pub fn prepare() {}

/// Nothing is interposed on this machine: no wait is recorded.
#[cfg(all(simprof_preloaded, not(target_arch = "x86_64")))]
pub fn begin(_memory: crate::memory::Memory, _interpreter: &crate::python::Interpreter) {}
