//! Ignores the sampling signal while the process's image is replaced.
//!
//! A sample that the kernel takes meanwhile would send the signal to the new image, which has no handler for
//! it and would end.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::format::{Process, state};
use crate::shared_memory::SharedMemory;
use crate::{process, signal, sys};

/// Number of threads that are replacing the image.
static RUNNING: AtomicU32 = AtomicU32::new(0);
/// State of the slot before the first of these threads called `exec`.
static BEFORE: AtomicU32 = AtomicU32::new(state::UNSAMPLED);

/// Value of [`Process::reason`] while the state is EXECUTING: the target itself ignores the signal, so the
/// new image must ignore it too.
const IGNORED: u32 = 1;

/// Calls `exec`, which returns only if it fails, with the signal ignored.
pub fn with_signal_ignored<T>(exec: impl FnOnce() -> T) -> T {
    // A child made by `vfork` has no events.
    let slot = process::slot().filter(|_| signal::handles() && process::is_registered());
    let Some(slot) = slot else { return exec() };
    disarm(slot);
    let result = exec();
    let _errno = sys::ErrnoGuard::new();
    rearm(slot);
    result
}

fn disarm(slot: &Process) {
    if RUNNING.fetch_add(1, Ordering::AcqRel) != 0 {
        return;
    }
    slot.reason.store(if signal::ignores() { IGNORED } else { 0 }, Ordering::Relaxed);
    BEFORE.store(slot.state.swap(state::EXECUTING, Ordering::AcqRel), Ordering::Relaxed);
    signal::ignore();
}

fn rearm(slot: &Process) {
    if RUNNING.fetch_sub(1, Ordering::AcqRel) != 1 {
        return;
    }
    signal::put_handler();
    slot.reason.store(0, Ordering::Relaxed);
    let before = BEFORE.load(Ordering::Relaxed);
    let _ =
        slot.state.compare_exchange(state::EXECUTING, before, Ordering::AcqRel, Ordering::Relaxed);
}

/// Restores the signal if this image replaced one that was sampled. Must be called when the library is loaded.
pub fn restore_signal(memory: SharedMemory) {
    if !signal::is_ignored() {
        return;
    }
    let pid = sys::process_id();
    let is_ours = |slot: &&Process| {
        slot.state.load(Ordering::Acquire) == state::EXECUTING
            && slot.pid.load(Ordering::Relaxed) == pid
    };
    if let Some(slot) = memory.processes().iter().rfind(is_ours)
        && slot.reason.load(Ordering::Relaxed) != IGNORED
    {
        signal::restore_default();
    }
}

/// Must be called in a forked child, which does not have the threads that were replacing the image.
pub fn forked() {
    if RUNNING.swap(0, Ordering::AcqRel) != 0 {
        signal::put_handler();
    }
}
