//! A sample that is taken while the kernel replaces the process's image would end the new one by a signal that it has no handler
//! for, so the signal is ignored for this time.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::format::{Process, state};
use crate::memory::Memory;
use crate::{process, signal, sys};

/// How many threads are replacing the image.
static RUNNING: AtomicU32 = AtomicU32::new(0);
/// The state of the place before.
static BEFORE: AtomicU32 = AtomicU32::new(state::UNSAMPLED);

/// Kept in [`Process::reason`] while the state is EXECUTING: the target itself ignores the signal, so the new
/// image is to ignore it.
const IGNORED: u32 = 1;

/// Runs `exec`, which returns only where it fails.
pub fn replacing<T>(exec: impl FnOnce() -> T) -> T {
    // A child made by `vfork` has no events.
    let place = process::place().filter(|_| signal::handles() && process::is_own());
    let Some(place) = place else { return exec() };
    leave(place);
    let result = exec();
    let _errno = sys::KeptErrno::new();
    stay(place);
    result
}

fn leave(place: &Process) {
    if RUNNING.fetch_add(1, Ordering::AcqRel) != 0 {
        return;
    }
    place.reason.store(if signal::ignores() { IGNORED } else { 0 }, Ordering::Relaxed);
    BEFORE.store(place.state.swap(state::EXECUTING, Ordering::AcqRel), Ordering::Relaxed);
    signal::ignore();
}

fn stay(place: &Process) {
    if RUNNING.fetch_sub(1, Ordering::AcqRel) != 1 {
        return;
    }
    signal::put_handler();
    place.reason.store(0, Ordering::Relaxed);
    let before = BEFORE.load(Ordering::Relaxed);
    let _ =
        place.state.compare_exchange(state::EXECUTING, before, Ordering::AcqRel, Ordering::Relaxed);
}

/// To be called when the library is loaded: where this image replaced one that was sampled, the signal is as it was.
pub fn arrived(memory: Memory) {
    if !signal::is_ignored() {
        return;
    }
    // SAFETY: getpid has no preconditions.
    let pid = unsafe { sys::getpid() } as u32;
    let is_ours = |place: &&Process| {
        place.state.load(Ordering::Acquire) == state::EXECUTING
            && place.pid.load(Ordering::Relaxed) == pid
    };
    if let Some(place) = memory.processes().iter().rfind(is_ours)
        && place.reason.load(Ordering::Relaxed) != IGNORED
    {
        signal::restore_default();
    }
}

/// To be called in a forked child: other threads' execs are not its own.
pub fn forked() {
    if RUNNING.swap(0, Ordering::AcqRel) != 0 {
        signal::put_handler();
    }
}
