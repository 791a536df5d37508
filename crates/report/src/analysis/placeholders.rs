//! Placeholders for missing names: no symbol, no stack, no file, or a name that cannot be printed.
//!
//! All are in square brackets, so they differ from the names of functions and files.

/// A sample without a stack, or a function without a module.
pub const UNKNOWN: &str = "[unknown]";
/// A frame without a source file.
pub(crate) const UNKNOWN_FILE: &str = "[unknown file]";
/// A function whose name has no printable character.
pub(crate) const UNNAMED: &str = "[unnamed]";
/// The component of the operating system's functions.
pub(crate) const KERNEL: &str = "[kernel]";
/// The module of Python functions that are written in C.
pub(crate) const BUILT_IN: &str = "[built-in]";
/// The component of code that a library generates at run time, which has no file.
pub(crate) const GENERATED: &str = "[generated]";
/// The names of Python frames that stand for frames that were not read. They have no file.
pub(crate) const UNREAD_PYTHON: [&str; 2] = ["unreadable", "[frames left out]"];
