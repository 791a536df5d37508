//! Replacing the process's image: what the library must see to before.

mod environment;
#[cfg(not(simprof_heap))]
mod image;
mod interposed;

pub use environment::prepare;
#[cfg(not(simprof_heap))]
pub use image::{arrived, forked, replacing};

/// Runs `exec`, which returns only where it fails: the library that records allocations uses no signal.
#[cfg(simprof_heap)]
fn replacing<T>(exec: impl FnOnce() -> T) -> T {
    exec()
}
