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

#[cfg(simprof_preloaded)]
mod calls;
#[cfg(simprof_preloaded)]
mod functions;
#[cfg(simprof_preloaded)]
mod module_range;
mod sampling;
#[cfg(simprof_preloaded)]
mod trampoline;

#[cfg(simprof_preloaded)]
pub use calls::{begin, end, prepare};
