//! Preparation for a seccomp filter that the program is about to install: whatever needs system calls is done before
//! the filter forbids them.

use core::sync::atomic::{AtomicBool, Ordering};

use super::format::reason;
use super::live::LIVE;
use super::{modules, record, shared, start, system, unwind};
use crate::{seccomp, shared_memory};

/// Whether reading the clock needs a system call.
static CLOCK_CALLS: AtomicBool = AtomicBool::new(false);

/// Prepares this process and this thread. Must be called before the filter takes effect.
pub fn prepare() {
    if record::recorder().is_none() {
        return;
    }
    if let Some(shared) = shared::get() {
        shared.prepare_for_filter();
    }
    LIVE.prepare();
    modules::register_all();
    unwind::learn_stack();
    if let Some(memory) = shared_memory::memory() {
        memory.prepare_for_filter();
    }
    CLOCK_CALLS.store(system::does_clock_call(), Ordering::Relaxed);
}

/// Stops the recording if it cannot continue under the filter.
pub fn filter_was_added() {
    let may_call = seccomp::allows(system::number::CLOCK_GETTIME);
    if seccomp::is_strict() || CLOCK_CALLS.load(Ordering::Relaxed) && !may_call {
        start::stop(reason::FILTER);
    }
}

/// Returns whether a filter forbids to find out which part of a stack can be read.
pub fn hides_stacks() -> bool {
    !seccomp::allows(system::number::RT_SIGPROCMASK)
}
