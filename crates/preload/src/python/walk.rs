//! Reading the Python stack of the current thread, at any instant.

use crate::format::flag;

/// A recorded stack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stack {
    /// Node of the innermost frame; 0: none.
    pub node: u32,
    /// See [`crate::format::flag`].
    pub flags: u32,
}

/// Records the Python stack of this thread as nodes of the shared memory. Safe in a signal handler that interrupted
/// anything, and in ordinary code with or without the GIL; it neither allocates nor locks, and keeps `errno`.
pub fn record_stack() -> Stack {
    Stack { node: 0, flags: flag::NO_PYTHON }
}
