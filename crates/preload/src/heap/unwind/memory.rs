//! The stack of this thread, as far as it may be read.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::super::system::{self, PAGE};
use super::super::thread;

/// Highest address of the first thread's stack that is in use; 0: not known.
pub static STACK_END: AtomicUsize = AtomicUsize::new(0);

/// Longest part of a thread's own stack that is tested page by page, once.
const OWN_BYTES: usize = 16 << 20;
/// Longest part of another stack (of a coroutine, of signals) that is tested, each time.
const OTHER_BYTES: usize = 1 << 20;

/// Memory from a stack pointer upwards.
pub struct Stack {
    low: usize,
    high: usize,
    /// Whether it is the thread's own stack: it stays mapped as long as the thread lives.
    pub own: bool,
}

impl Stack {
    /// The stack in which `sp` is. Where the thread's own is not known yet, or `sp` is not in it, it costs system calls.
    #[inline]
    pub fn at(sp: usize) -> Stack {
        let thread = thread::current();
        // SAFETY: it is this thread's storage.
        let (low, high) = unsafe { ((*thread).stack_low, (*thread).stack_high) };
        if (low..high).contains(&sp) {
            return Stack { low: sp, high, own: true };
        }
        Stack::found(sp)
    }

    #[cold]
    fn found(sp: usize) -> Stack {
        let thread = thread::current();
        let page = sp & !(PAGE - 1);
        for top in [thread::pointer(), STACK_END.load(Ordering::Relaxed)] {
            let distance = top.wrapping_sub(sp);
            // SAFETY: it is this thread's storage.
            let (low, high) = unsafe { ((*thread).stack_low, (*thread).stack_high) };
            let known = if top == high { low } else { top };
            if distance < OWN_BYTES && (page..known).step_by(PAGE).all(system::is_readable) {
                // SAFETY: as above.
                unsafe { ((*thread).stack_low, (*thread).stack_high) = (page, top) };
                return Stack { low: sp, high: top, own: true };
            }
        }
        // No page is known to be there: a signal may have interrupted a program that has lost its stack pointer.
        Stack { low: sp, high: page, own: false }
    }

    /// The word at this address; none where it is not in the stack.
    #[inline]
    pub fn word(&mut self, address: usize) -> Option<usize> {
        let inside = address >= self.low && address.is_multiple_of(8);
        if !inside || address >= self.high && !self.reaches(address) {
            return None;
        }
        // SAFETY: it is mapped, aligned and on this thread's stack, above its stack pointer.
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

    /// Upper end, for stacks of the thread's own.
    pub fn top(&self) -> usize {
        self.high
    }
}
