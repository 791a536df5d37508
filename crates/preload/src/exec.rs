//! Replacing the process's image by the `exec` functions.

mod environment;
#[cfg(not(simprof_heap))]
mod image;
mod interposed;

pub use environment::prepare;
#[cfg(not(simprof_heap))]
pub use image::{forked, restore_signal, with_signal_ignored};

/// Calls `exec`, which returns only if it fails. The heap library uses no signal, so there is nothing to
/// disarm.
#[cfg(simprof_heap)]
fn with_signal_ignored<T>(exec: impl FnOnce() -> T) -> T {
    exec()
}
