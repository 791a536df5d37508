//! Records the waits of threads: the C library's blocking functions are interposed and timed in processes
//! that run Python.
//!
//! In other processes an interposed function costs a few instructions and a jump to the real one. If waits
//! are recorded ([`begin`]), a call is timed by two readings of the clock, which need no system call. Short
//! calls are dropped. Some of the others are recorded ([`sampling`]) with the Python stack of the wait, while
//! the thread is still in the call. Calls within a call (for example in a signal handler) belong to the outer
//! one.
//!
//! Results and error numbers are those of the real functions. Cancelled threads and `longjmp` work as usual.

#[cfg(all(simprof_preloaded, target_arch = "x86_64"))]
mod calls;
#[cfg(all(simprof_preloaded, target_arch = "x86_64"))]
mod functions;
#[cfg(all(simprof_preloaded, target_arch = "x86_64"))]
mod module_range;
mod sampling;
#[cfg(all(simprof_preloaded, target_arch = "x86_64"))]
mod trampoline;

#[cfg(all(simprof_preloaded, target_arch = "x86_64"))]
pub use calls::{begin, end, prepare};

/// Nothing is interposed on this architecture.
#[cfg(all(simprof_preloaded, not(target_arch = "x86_64")))]
pub fn prepare() {}

/// Nothing is interposed on this architecture: no wait is recorded.
#[cfg(all(simprof_preloaded, not(target_arch = "x86_64")))]
pub fn begin(
    _memory: crate::shared_memory::SharedMemory,
    _interpreter: &crate::python::interpreter::Interpreter,
) {
}
