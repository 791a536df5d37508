//! The readable part of this thread's stack.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::super::system::{self, PAGE};
use super::super::thread;

/// Highest used address of the first thread's stack; 0: not known.
pub static STACK_END: AtomicUsize = AtomicUsize::new(0);

/// Lowest address to which the first thread's stack may grow; 0: not known. No other mapping is between it and the
/// stack.
static STACK_LIMIT: AtomicUsize = AtomicUsize::new(0);

/// Largest part of a thread's own stack that is checked page by page, once.
const OWN_BYTES: usize = 16 << 20;
/// Largest part of another stack (of a coroutine, of signals) that is checked, each time.
const OTHER_BYTES: usize = 1 << 20;

/// Finds out which part of this thread's stack can be read, before a seccomp filter forbids that.
#[cfg(simprof_heap)]
pub fn learn() {
    const RLIMIT_STACK: usize = 3;
    let thread = thread::current();
    let here = (&raw const thread).addr();
    let (below, range) = super::super::proc_maps::mapping_at(here);
    let end = STACK_END.load(Ordering::Relaxed);
    let is_first = range.contains(&end.wrapping_sub(1));
    if is_first {
        let limit = end.saturating_sub(system::limit(RLIMIT_STACK).min(OWN_BYTES));
        STACK_LIMIT.store(limit.max(below).max(1), Ordering::Relaxed);
    }
    let top = if is_first { end } else { thread::pointer() };
    if range.contains(&here) && range.start < top && top <= range.end {
        // SAFETY: it is this thread's storage.
        unsafe { ((*thread).stack_low, (*thread).stack_high) = (range.start, top) };
    }
}

/// The stack from a stack pointer upwards.
pub struct StackMemory {
    low: usize,
    high: usize,
    /// Whether it is the thread's own stack, which stays mapped as long as the thread lives.
    pub own: bool,
}

impl StackMemory {
    /// Returns the stack that contains `sp`. It costs system calls if the thread's own stack is not known yet
    /// or does not contain `sp`.
    #[inline]
    pub fn at(sp: usize) -> StackMemory {
        let thread = thread::current();
        // SAFETY: it is this thread's storage.
        let (low, high) = unsafe { ((*thread).stack_low, (*thread).stack_high) };
        if (low..high).contains(&sp) {
            return StackMemory { low: sp, high, own: true };
        }
        StackMemory::probe(sp)
    }

    #[cold]
    fn probe(sp: usize) -> StackMemory {
        let thread = thread::current();
        let page = sp & !(PAGE - 1);
        let (limit, end) = (STACK_LIMIT.load(Ordering::Relaxed), STACK_END.load(Ordering::Relaxed));
        if limit != 0 && (limit..end).contains(&sp) {
            // The first thread's stack is contiguous, and has grown down to its stack pointer.
            // SAFETY: it is this thread's storage.
            unsafe { ((*thread).stack_low, (*thread).stack_high) = (page, end) };
            return StackMemory { low: sp, high: end, own: true };
        }
        for top in [thread::pointer(), STACK_END.load(Ordering::Relaxed)] {
            let distance = top.wrapping_sub(sp);
            // SAFETY: it is this thread's storage.
            let (low, high) = unsafe { ((*thread).stack_low, (*thread).stack_high) };
            let known = if top == high { low } else { top };
            if distance < OWN_BYTES && (page..known).step_by(PAGE).all(system::is_readable) {
                // SAFETY: as above.
                unsafe { ((*thread).stack_low, (*thread).stack_high) = (page, top) };
                return StackMemory { low: sp, high: top, own: true };
            }
        }
        // No page is known to be mapped: a signal may have interrupted a program whose stack pointer is
        // invalid.
        StackMemory { low: sp, high: page, own: false }
    }

    /// Reads the word at this address. `None` if it is not in the stack.
    #[inline]
    pub fn word(&mut self, address: usize) -> Option<usize> {
        let inside = address >= self.low && address.is_multiple_of(8);
        if !inside || address >= self.high && !self.reaches(address) {
            return None;
        }
        // SAFETY: it is mapped, aligned, and on this thread's stack above its stack pointer.
        Some(unsafe { core::ptr::with_exposed_provenance::<usize>(address).read_volatile() })
    }

    #[cold]
    fn reaches(&mut self, address: usize) -> bool {
        if self.own || address - self.low > OTHER_BYTES {
            return false;
        }
        while self.high <= address {
            if !system::is_readable(self.high) {
                return false;
            }
            self.high += PAGE;
        }
        true
    }

    /// Returns the upper end of the known part. It never changes for the thread's own stack.
    pub fn top(&self) -> usize {
        self.high
    }
}
