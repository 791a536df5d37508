//! Which thread state of the interpreter is the current thread's.

use core::sync::atomic::Ordering;

use super::Interpreter;
use super::layout::{Chain, Layout};
use crate::{sys, thread};

/// A thread state.
#[derive(Debug, Clone, Copy)]
pub struct State {
    /// Its address.
    pub address: usize,
    /// Whether it may be freed at any time by another thread, which finalises the interpreter.
    pub checked: bool,
}

/// The thread state of this thread; none where the thread belongs to no interpreter.
#[inline]
pub fn own(interpreter: &Interpreter, layout: &Layout) -> Option<State> {
    let address = candidate(interpreter, layout)?;
    // SAFETY: the functions read a variable each.
    let checked = unsafe {
        interpreter.api.is_finalizing.is_some_and(|function| function() != 0)
            || (interpreter.api.is_initialized)() == 0
    };
    let known = &thread::block().known_state;
    if checked || known.load(Ordering::Relaxed) != address {
        // Before the interpreter is initialised, the slot may be one that another library uses.
        if !is_of_this_thread(layout, address) {
            return None;
        }
        known.store(address, Ordering::Relaxed);
    }
    Some(State { address, checked })
}

/// What the interpreter says is the thread state of this thread.
fn candidate(interpreter: &Interpreter, layout: &Layout) -> Option<usize> {
    // SAFETY: the function reads a slot of pthread's.
    let own = unsafe { (interpreter.api.this_thread_state)() }.addr();
    if own == 0 {
        return None;
    }
    match layout.chain {
        // The slot names the state that was last attached. The thread-local variable beside it, which names the
        // one that is attached now, is not asked: in a shared library its first use may allocate.
        Chain::Shims | Chain::Direct => Some(own),
        Chain::Objects | Chain::Marked if !has_subinterpreters(interpreter) => Some(own),
        // A thread may have several, of different interpreters, of which the slot names the first.
        Chain::Objects | Chain::Marked => {
            // SAFETY: the function reads a variable of the process.
            let current = unsafe { (interpreter.api.current_state)() }.addr();
            let is_own = current != own && current != 0 && is_of_this_thread(layout, current);
            Some(if is_own { current } else { own })
        }
    }
}

/// Whether there is more than the main interpreter; the newest is the head of their list.
fn has_subinterpreters(interpreter: &Interpreter) -> bool {
    // SAFETY: the functions read variables.
    interpreter.api.interpreters.is_none_or(|(head, main)| unsafe { head() != main() })
}

/// Whether a thread state says that it is this thread's. It need not exist.
fn is_of_this_thread(layout: &Layout, address: usize) -> bool {
    let mut id = [0_u8; 8];
    // SAFETY: pthread_self has no preconditions.
    let own = unsafe { sys::pthread_self() };
    sys::copy_checked(address + layout.thread.id, &mut id) && u64::from_ne_bytes(id) == own
}
