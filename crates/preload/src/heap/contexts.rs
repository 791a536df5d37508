//! Buffers for unwinding. A thread takes one for the duration of one record and never waits for another
//! thread.

use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use super::system;
use super::unwind::Trace;

/// Number of threads that can unwind at the same time. A thread mostly gets the same buffer as before.
const CONTEXTS: usize = 64;
/// Number of contexts that a thread tries.
const TRIES: usize = 8;

#[repr(C, align(64))]
struct Context {
    /// 1 while a thread holds it.
    taken: AtomicU32,
    trace: Trace,
}

static CONTEXTS_PLACE: AtomicPtr<Context> = AtomicPtr::new(core::ptr::null_mut());
const BYTES: usize = CONTEXTS * size_of::<Context>();

/// Maps the contexts. Returns false if there is no memory.
pub fn open() -> bool {
    let Some(memory) = system::map_private(BYTES) else { return false };
    system::wipe_on_fork(memory, BYTES);
    CONTEXTS_PLACE.store(memory.cast(), Ordering::Release);
    true
}

/// Releases and empties all contexts: in a forked child, which does not have its parent's threads.
pub fn clear() {
    let contexts = CONTEXTS_PLACE.load(Ordering::Acquire);
    if !contexts.is_null() {
        system::wipe(contexts.cast(), BYTES);
    }
}

/// Calls `work` with the context for this thread number, or one close to it. `None` if all of these are
/// taken.
#[inline]
pub fn with<T>(number: u32, work: impl FnOnce(&mut Trace) -> T) -> Option<T> {
    let contexts = CONTEXTS_PLACE.load(Ordering::Acquire);
    if contexts.is_null() {
        return None;
    }
    for probe in 0..TRIES {
        // SAFETY: the contexts are mapped and never unmapped, and zero is valid for each of their fields.
        let context = unsafe { contexts.add((number as usize + probe) % CONTEXTS) };
        // SAFETY: as above; only this field is shared between threads.
        let taken = unsafe { &(*context).taken };
        if taken.swap(1, Ordering::Acquire) == 0 {
            // SAFETY: this thread holds the context until it releases it.
            let result = work(unsafe { &mut (*context).trace });
            taken.store(0, Ordering::Release);
            return Some(result);
        }
    }
    None
}
