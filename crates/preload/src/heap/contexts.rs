//! Where stacks are unwound: places that threads take for the duration of one record, without waiting for each other.

use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use super::system;
use super::unwind::Trace;

/// How many threads can be at it at once; a thread mostly gets the one that it had before.
const CONTEXTS: usize = 64;
/// Contexts that are tried.
const TRIES: usize = 8;

#[repr(C, align(64))]
struct Context {
    /// 1 while a thread has it.
    taken: AtomicU32,
    trace: Trace,
}

static CONTEXTS_PLACE: AtomicPtr<Context> = AtomicPtr::new(core::ptr::null_mut());
const BYTES: usize = CONTEXTS * size_of::<Context>();

/// Maps the contexts; false where there is no memory.
pub fn open() -> bool {
    let Some(memory) = system::map_private(BYTES) else { return false };
    system::wipe_on_fork(memory, BYTES);
    CONTEXTS_PLACE.store(memory.cast(), Ordering::Release);
    true
}

/// Frees and empties all: in a forked child, whose parent's threads are not there.
pub fn clear() {
    let contexts = CONTEXTS_PLACE.load(Ordering::Acquire);
    if !contexts.is_null() {
        system::wipe(contexts.cast(), BYTES);
    }
}

/// Runs `work` with the context of the thread of this number, or with one beside it; none where all of them are taken.
#[inline]
pub fn with<T>(number: u32, work: impl FnOnce(&mut Trace) -> T) -> Option<T> {
    let contexts = CONTEXTS_PLACE.load(Ordering::Acquire);
    if contexts.is_null() {
        return None;
    }
    for probe in 0..TRIES {
        // SAFETY: the contexts are mapped, never unmapped, and zero is valid for each of their fields.
        let context = unsafe { contexts.add((number as usize + probe) % CONTEXTS) };
        // SAFETY: as above; only this field is used by several threads.
        let taken = unsafe { &(*context).taken };
        if taken.swap(1, Ordering::Acquire) == 0 {
            // SAFETY: this thread has the context until it gives it back.
            let result = work(unsafe { &mut (*context).trace });
            taken.store(0, Ordering::Release);
            return Some(result);
        }
    }
    None
}
