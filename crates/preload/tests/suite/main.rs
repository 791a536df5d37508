//! The libraries that simprof loads into targets, tested in real programs.

// The layout tables are compiled into the tests a second time, because the library does not export them. They refer to
// `crate::format`.
#[path = "../../src/format.rs"]
#[allow(dead_code, reason = "the layout tables use a part")]
mod format;

mod heap;
mod layout;
mod processes;
mod stacks;
mod support;
mod waits;
