//! The Python interpreter of this process, and the Python stacks of its threads.
//!
//! | module | content |
//! | --- | --- |
//! | `interpreter` | the interpreter that was found: its version, functions and layout |
//! | `layout` | the layouts of the interpreter's objects, by version |
//! | `thread_state`, `data_stack` | a thread's state and data stack in the interpreter |
//! | `outer_states` | the states of a thread in the interpreters that called the current one |
//! | `walk` | reading the stack of the current thread |
//! | `deep_stack` | finding the outermost frames of a very deep stack |

mod data_stack;
mod deep_stack;
pub mod interpreter;
pub mod layout;
mod outer_states;
mod thread_state;
mod walk;

pub use interpreter::{find, find_at, interpreter};
pub use walk::{Moment, record_stack};
