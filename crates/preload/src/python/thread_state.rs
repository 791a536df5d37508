//! Finds the current thread's thread state in the interpreter.

use core::sync::atomic::Ordering;

use super::interpreter::Interpreter;
use super::layout::{Chain, Layout};
use super::outer_states;
use crate::{sys, thread};

/// A thread state.
#[derive(Debug, Clone, Copy)]
pub struct ThreadState {
    /// Its address.
    pub address: usize,
    /// Whether another thread, which finalises the interpreter, may free it at any time. Then every access is
    /// checked.
    pub checked: bool,
}

/// Returns the thread state of this thread. `None` if the thread belongs to no interpreter.
#[inline]
pub fn current(interpreter: &Interpreter, layout: &Layout) -> Option<ThreadState> {
    let address = reported(interpreter, layout)?;
    // SAFETY: the functions only read a variable each.
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
    Some(ThreadState { address, checked })
}

/// Returns the thread state that the interpreter reports for this thread.
fn reported(interpreter: &Interpreter, layout: &Layout) -> Option<usize> {
    // SAFETY: the function reads a thread-specific value of pthread.
    let own = unsafe { (interpreter.api.this_thread_state)() }.addr();
    if own == 0 {
        return None;
    }
    match layout.chain {
        // The slot names the state that was attached last. There is also a thread-local variable that names
        // the state attached now, but in a shared library its first use may allocate.
        Chain::Shims | Chain::Direct => Some(own),
        Chain::Objects | Chain::Marked if !has_subinterpreters(interpreter) => Some(own),
        // A thread may have several states, of different interpreters. The slot names the first.
        Chain::Objects | Chain::Marked => {
            // SAFETY: the function reads a global variable.
            let current = unsafe { (interpreter.api.current_state)() }.addr();
            if current == own || (current != 0 && is_of_this_thread(layout, current)) {
                return Some(current);
            }
            // The thread released the lock of the interpreters.
            outer_states::newest_running(interpreter, layout).or(Some(own))
        }
    }
}

/// Returns whether there are other interpreters than the main one. The newest one is the head of their list.
fn has_subinterpreters(interpreter: &Interpreter) -> bool {
    // SAFETY: the functions read variables.
    interpreter.api.interpreters.is_none_or(|(head, main)| unsafe { head() != main() })
}

/// Returns whether the thread id in a thread state is this thread's. The state need not exist.
fn is_of_this_thread(layout: &Layout, address: usize) -> bool {
    let mut id = [0_u8; 8];
    // SAFETY: pthread_self has no preconditions.
    let own = unsafe { sys::pthread_self() };
    sys::copy_checked(address + layout.thread.id, &mut id) && u64::from_ne_bytes(id) == own
}
