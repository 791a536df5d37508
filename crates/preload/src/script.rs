//! The script that a target runs before its own.

/// Schedules the script once the interpreter can run it.
pub fn try_schedule() {}
