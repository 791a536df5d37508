//! The Python interpreter of this process, as far as recording allocations needs it.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::format::flag;
use super::loader;
use crate::python::interpreter::{Interpreter, interpreter};
use crate::python::{Moment, record_stack};
use crate::{process, scratch, shared_memory};

/// An address in the interpreter's module; 0 before one was found.
static INTERPRETER: AtomicUsize = AtomicUsize::new(0);
/// Whether the interpreter's objects are recorded.
static RECORDED: AtomicBool = AtomicBool::new(false);

/// Prepares for the stacks of an interpreter that was just found. Must be called once.
pub fn interpreter_found(interpreter: &Interpreter) {
    // Not earlier, since the memory takes much address space.
    shared_memory::map();
    take_slot();
    INTERPRETER.store(interpreter.api.code_type, Ordering::Relaxed);
}

/// Notes that the interpreter's objects are recorded.
pub fn set_recorded() {
    RECORDED.store(true, Ordering::Release);
}

/// Must be called in a forked child.
pub fn forked() {
    process::forked();
    scratch::forked();
    take_slot();
}

/// Takes a slot for this process in the memory of Python stacks.
fn take_slot() {
    if let Some(interpreter) = interpreter()
        && let Some(memory) = shared_memory::memory()
        && process::take_slot(memory, interpreter)
    {
        match interpreter.layout {
            Ok(_) => process::set_unsampled(),
            Err(reason) => process::set_unsupported(reason),
        }
    }
}

/// Returns `PY_VERSION_HEX` of the interpreter whose objects are recorded, or 0.
pub fn version() -> u32 {
    match interpreter() {
        Some(interpreter) if RECORDED.load(Ordering::Relaxed) => interpreter.version,
        _ => 0,
    }
}

/// Records this thread's Python stack. Returns the high half of [`super::format::Record::stack`], and flags.
/// `is_call` states that the interpreter called the allocating code and was not interrupted.
#[inline]
pub fn stack(is_call: bool) -> (u64, u64) {
    if interpreter().is_none() {
        return (0, 0);
    }
    let moment = if is_call { Moment::Call } else { Moment::Any };
    let stack = record_stack(moment);
    let is_complete = stack.flags & !crate::format::flag::NO_PYTHON == 0;
    (u64::from(stack.node) << 32, if is_complete { 0 } else { flag::PYTHON_PARTIAL })
}

/// Returns whether this address is in the interpreter's code.
pub fn is_interpreter(pc: usize) -> bool {
    let interpreter = INTERPRETER.load(Ordering::Relaxed);
    interpreter != 0 && loader::is_same(pc, interpreter)
}
