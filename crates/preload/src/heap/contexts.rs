//! Buffers for unwinding. A thread takes one for the duration of one record and never waits for another
//! thread.

use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use super::system;
use super::unwind::Trace;

/// Number of threads that can unwind at the same time. A thread usually gets the same buffer as before.
const CONTEXTS: usize = 64;
/// Number of contexts that a thread tries.
const TRIES: usize = 8;

#[repr(C, align(64))]
struct Context {
    /// 1 while a thread holds it.
    taken: AtomicU32,
    trace: Trace,
}

/// The first of the mapped contexts; null before they are mapped.
static FIRST_CONTEXT: AtomicPtr<Context> = AtomicPtr::new(core::ptr::null_mut());
const BYTES: usize = CONTEXTS * size_of::<Context>();

/// Maps the contexts. Returns false if there is no memory.
pub fn open() -> bool {
    let Some(memory) = system::map_private(BYTES) else { return false };
    system::wipe_on_fork(memory, BYTES);
    FIRST_CONTEXT.store(memory.cast(), Ordering::Release);
    true
}

/// Releases and empties all contexts. Called in a forked child, which does not have its parent's threads.
pub fn clear() {
    let contexts = FIRST_CONTEXT.load(Ordering::Acquire);
    if !contexts.is_null() {
        system::wipe(contexts.cast(), BYTES);
    }
}

/// Calls `work` with the context for this thread number or, if that is taken, with one of the next contexts.
/// `None` if [`TRIES`] contexts are taken.
#[inline]
pub fn with<T>(number: u32, work: impl FnOnce(&mut Trace) -> T) -> Option<T> {
    let contexts = FIRST_CONTEXT.load(Ordering::Acquire);
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
