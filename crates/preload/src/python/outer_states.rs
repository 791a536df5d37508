//! The other thread states of the current thread.
//!
//! A thread that runs code of a second interpreter has a thread state in each: the frames of the code that called the
//! second interpreter belong to the state in the first one. The interpreters and their states are linked lists, which
//! other threads change, so they are read with checks. A state that has frames cannot be freed meanwhile, since its
//! frames run in this thread.

use super::interpreter::Interpreter;
use super::layout::{Chain, Layout};
use crate::sys;

/// Maximum number of states of one thread. Each is one more level of nested interpreters.
pub const STATES: usize = 8;
/// Maximum number of interpreters and states that are examined.
const EXAMINED: usize = 1024;
/// Bytes that contain all fields of a thread state that are read here.
const STATE_BYTES: usize = 192;

/// Addresses of thread states of one thread, from the innermost.
#[derive(Debug, Clone, Copy, Default)]
pub struct States {
    addresses: [usize; STATES],
    count: usize,
}

impl States {
    /// Returns a single state.
    pub fn one(address: usize) -> Self {
        let mut states = Self::default();
        states.push(address);
        states
    }

    /// Returns the state at this position; `None` beyond the outermost.
    pub fn get(&self, position: usize) -> Option<usize> {
        self.addresses[..self.count].get(position).copied()
    }

    fn push(&mut self, address: usize) {
        if let Some(slot) = self.addresses.get_mut(self.count) {
            *slot = address;
            self.count += 1;
        }
    }

    /// Adds all states of this thread but the first, those of newer interpreters first: an interpreter is mostly called by code
    /// that created it. Adds none if the first state belongs to the main interpreter, which no other interpreter calls.
    pub fn add_outer(&mut self, interpreter: &Interpreter, layout: &Layout) {
        let Some((head, main)) = interpreter.api.interpreters else { return };
        let current = self.addresses[0];
        // SAFETY: the functions read variables.
        let (head, main) = unsafe { (head().addr(), main().addr()) };
        if head != main && word(current + layout.thread.interpreter) != Some(main) {
            of_this_thread(head, layout, |state| {
                if state != current {
                    self.push(state);
                }
            });
        }
    }
}

/// Returns the state of this thread that runs frames, in the newest interpreter that has one.
pub fn newest_running(interpreter: &Interpreter, layout: &Layout) -> Option<usize> {
    // SAFETY: the function reads a variable.
    let head = unsafe { (interpreter.api.interpreters?.0)() }.addr();
    let mut newest = None;
    of_this_thread(head, layout, |state| {
        if newest.is_none() && has_frames(layout, state) {
            newest = Some(state);
        }
    });
    newest
}

fn has_frames(layout: &Layout, state: usize) -> bool {
    let frame = word(state + layout.thread.frame);
    match layout.chain {
        Chain::Objects | Chain::Direct => frame.is_some_and(|frame| frame != 0),
        Chain::Marked | Chain::Shims => {
            let current = frame.and_then(|frame| word(frame.checked_add(layout.thread.current)?));
            current.is_some_and(|frame| frame != 0)
        }
    }
}

/// Calls `found` with each state of this thread in the interpreters from `head` on, which are in order from the newest.
fn of_this_thread(head: usize, layout: &Layout, mut found: impl FnMut(usize)) {
    // SAFETY: `pthread_self` has no preconditions.
    let own = unsafe { sys::pthread_self() } as usize;
    let (mut examined, mut at) = (0, head);
    while at != 0 && examined < EXAMINED {
        let mut state = word(at + layout.interpreter.1).unwrap_or(0);
        while state != 0 && examined < EXAMINED {
            examined += 1;
            let mut copy = [0; STATE_BYTES];
            if !sys::copy_checked(state, &mut copy) {
                break;
            }
            if field(&copy, layout.thread.id) == own {
                found(state);
            }
            state = field(&copy, layout.thread.next);
        }
        examined += 1;
        at = word(at + layout.interpreter.0).unwrap_or(0);
    }
}

fn field(copy: &[u8; STATE_BYTES], offset: usize) -> usize {
    let bytes = copy.get(offset..offset + 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, usize::from_ne_bytes)
}

fn word(address: usize) -> Option<usize> {
    let mut copy = [0; 8];
    sys::copy_checked(address, &mut copy).then(|| usize::from_ne_bytes(copy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limited_number_of_states_is_kept_in_order() {
        let mut states = States::one(8);
        (2..20).for_each(|at| states.push(8 * at));
        let kept: Vec<_> = (0..).map_while(|at| states.get(at)).collect();
        assert_eq!(kept, (1..=STATES).map(|at| 8 * at).collect::<Vec<_>>());
    }

    #[test]
    fn fields_beyond_the_copy_are_null() {
        let mut copy = [0; STATE_BYTES];
        copy[8] = 7;
        assert_eq!((field(&copy, 8), field(&copy, STATE_BYTES - 4)), (7, 0));
    }
}
