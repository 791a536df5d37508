//! Replacing the process's image by the `exec` functions.

mod environment;
#[cfg(not(simprof_heap))]
mod image;
mod interposed;
#[cfg(not(simprof_heap))]
mod restored;

pub use environment::prepare;
#[cfg(not(simprof_heap))]
pub use image::{forked, restore_signal, with_signal_ignored};
#[cfg(simprof_preloaded)]
pub use interposed::{execve_by_number, execveat_by_number};

/// Removes the variables that the library added to the environment of this image. `before` is called first if there are any. Must be called
/// when the library is loaded.
#[cfg(all(simprof_preloaded, not(simprof_heap)))]
pub fn remove_added_variables(before: impl FnOnce()) {
    let Some(path) = environment::own_path() else { return };
    // SAFETY: while libraries are loaded no other thread uses the environment.
    unsafe {
        let environment = interposed::environment();
        if restored::has_added(environment) {
            before();
            restored::remove_added(path, environment.cast_mut().cast());
        }
    }
}

/// Calls `exec`, which returns only if it fails. The heap library uses no signal, so there is nothing to
/// disarm.
#[cfg(simprof_heap)]
fn with_signal_ignored<T>(exec: impl FnOnce() -> T) -> T {
    exec()
}
