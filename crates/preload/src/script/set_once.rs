//! A value that is set once and read without locks.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering};

/// A value that is set at most once.
pub struct SetOnce<T> {
    value: UnsafeCell<MaybeUninit<T>>,
    claimed: AtomicBool,
    ready: AtomicBool,
}

// SAFETY: one thread writes the value, before `ready` is set with release ordering; afterwards it is only read.
unsafe impl<T: Send + Sync> Sync for SetOnce<T> {}

impl<T> SetOnce<T> {
    pub const fn new() -> Self {
        Self {
            value: UnsafeCell::new(MaybeUninit::uninit()),
            claimed: AtomicBool::new(false),
            ready: AtomicBool::new(false),
        }
    }

    /// Returns the value; `None` if it is not set, or is being set.
    pub fn get(&self) -> Option<&T> {
        // SAFETY: it is never written again once `ready` is set.
        self.ready.load(Ordering::Acquire).then(|| unsafe { (*self.value.get()).assume_init_ref() })
    }

    /// Sets the value unless another call did or does. Returns what `get` then returns.
    pub fn set(&self, value: T) -> Option<&T> {
        if !self.claimed.swap(true, Ordering::AcqRel) {
            // SAFETY: only one call ever gets here, and none reads before `ready`.
            unsafe { (*self.value.get()).write(value) };
            self.ready.store(true, Ordering::Release);
        }
        self.get()
    }
}
