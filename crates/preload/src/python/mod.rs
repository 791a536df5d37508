//! The Python interpreter of this process, and the Python stacks of its threads.
//!
//! | module | content |
//! | --- | --- |
//! | `interpreter` | the interpreter that was found: its version, functions and layout |
//! | `layout` | the layouts of the interpreter's objects, by version |
//! | `thread_state`, `data_stack` | a thread's state and data stack in the interpreter |
//! | `walk` | reading the stack of the current thread |

mod data_stack;
pub mod interpreter;
pub mod layout;
mod thread_state;
mod walk;

pub use interpreter::{find, find_at, interpreter};
pub use walk::{Moment, record_stack};
