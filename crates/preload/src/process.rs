//! This process's slot in the shared memory: taking one, requesting to be sampled, and state changes.

use core::ffi::c_void;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::format::{Process, feature, state};
use crate::python::interpreter::Interpreter;
use crate::shared_memory::{self, SharedMemory};
use crate::{seccomp, sys, thread};

/// How long a process waits for the profiler to notice its request.
const ASKING_NS: u64 = 50_000_000;
/// How long a process then waits for events to be opened.
const OPENING_NS: u64 = 1_000_000_000;

/// Index of this process's slot, plus 1; 0 while it has none.
static SLOT: AtomicU32 = AtomicU32::new(0);
/// The id of the process that runs the interpreter.
static PID: AtomicU32 = AtomicU32::new(0);

/// Returns the index of this process's slot in the shared memory. `None` if it has no slot.
///
/// A child made by `vfork` sees its parent's slot: see [`is_registered`].
#[inline]
pub fn current() -> Option<u32> {
    SLOT.load(Ordering::Relaxed).checked_sub(1)
}

/// Returns this process's slot.
pub fn slot() -> Option<&'static Process> {
    Some(&shared_memory::memory()?.processes()[current()? as usize])
}

/// Returns whether this is the process that found the interpreter, or a forked child of it.
///
/// It is false in a process made by `vfork`, `clone` or a plain system call. Such a process shares or copies the
/// memory, but has neither the events nor, perhaps, the signal handlers.
pub fn is_registered() -> bool {
    // Where a filter forbids to ask, it is the process that installed the filter.
    !seccomp::allows(sys::GETPID) || PID.load(Ordering::Relaxed) == sys::process_id()
}

/// Takes a slot for this process, which runs `interpreter`, and returns whether one was free. Its state is then TAKEN.
pub fn take_slot(memory: SharedMemory, interpreter: &Interpreter) -> bool {
    let is_free = |slot: &&Process| {
        slot.state
            .compare_exchange(state::FREE, state::TAKEN, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    };
    let Some(position) = memory.processes().iter().position(|slot| is_free(&slot)) else {
        memory.header().processes_lost.fetch_add(1, Ordering::Relaxed);
        return false;
    };
    let slot = &memory.processes()[position];
    let pid = sys::process_id();
    slot.pid.store(pid, Ordering::Relaxed);
    slot.version.store(interpreter.version, Ordering::Relaxed);
    slot.free_threaded.store(u32::from(interpreter.free_threaded), Ordering::Relaxed);
    slot.reason.store(0, Ordering::Relaxed);
    slot.time_ns.store(sys::now_ns(), Ordering::Relaxed);
    PID.store(pid, Ordering::Relaxed);
    SLOT.store(position as u32 + 1, Ordering::Release);
    true
}

/// Marks the slot as that of an interpreter that the library cannot read.
pub fn set_unsupported(reason: u32) {
    if let Some(slot) = slot() {
        store_unsupported(slot, reason);
    }
}

fn store_unsupported(slot: &Process, reason: u32) {
    slot.reason.store(reason, Ordering::Relaxed);
    slot.state.store(state::UNSUPPORTED, Ordering::Release);
}

/// Takes a slot for this process and marks it like [`set_unsupported`]. `memory` need not stay mapped.
pub fn report_unsupported(memory: SharedMemory, interpreter: &Interpreter, reason: u32) {
    if take_slot(memory, interpreter)
        && let Some(position) = current()
    {
        store_unsupported(&memory.processes()[position as usize], reason);
    }
}

/// Requests to be sampled and waits for the answer for a limited time. Makes no request without [`feature::FRAMES`].
pub fn request_sampling() {
    let (Some(memory), Some(position), Some(slot)) = (shared_memory::memory(), current(), slot())
    else {
        return;
    };
    if memory.header().features & feature::FRAMES == 0 {
        return slot.state.store(state::UNSAMPLED, Ordering::Release);
    }
    slot.state.store(state::ASKS, Ordering::Release);
    if notify(memory, position) {
        wait_while(slot, state::ASKS, ASKING_NS);
        wait_while(slot, state::OPENING, OPENING_NS);
    }
    // The profiler changes the state by compare-and-exchange too, so it notices that the process stopped
    // waiting.
    for waited in [state::ASKS, state::OPENING] {
        let _ = slot.state.compare_exchange(
            waited,
            state::UNSAMPLED,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
    }
}

/// Sends the index of this process's slot to the profiler. Returns whether it was written.
fn notify(memory: SharedMemory, position: u32) -> bool {
    let path = &memory.header().notify;
    if !path.contains(&0) || !seccomp::allows(sys::OPENAT) {
        return false;
    }
    let flags = sys::O_WRONLY | sys::O_NONBLOCK | sys::O_CLOEXEC | sys::O_NOCTTY;
    // SAFETY: the path ends with a zero.
    let fd = unsafe { sys::open(path.as_ptr().cast(), flags) };
    if fd < 0 {
        return false;
    }
    let bytes = position.to_ne_bytes();
    // SAFETY: the bytes live during the call. The profiler holds the reading end of the pipe open. Without a
    // reader, opening for writing fails. If the reader goes away between the two calls, the result of the
    // write shows it.
    let written = unsafe { sys::write(fd, bytes.as_ptr().cast::<c_void>(), bytes.len()) };
    // SAFETY: it was opened above.
    unsafe { sys::close(fd) };
    written == bytes.len() as isize
}

/// Waits until the state is not `value`, at most `timeout_ns`.
fn wait_while(slot: &Process, value: u32, timeout_ns: u64) {
    let end_ns = sys::now_ns() + timeout_ns;
    while slot.state.load(Ordering::Acquire) == value {
        let now_ns = sys::now_ns();
        if now_ns >= end_ns {
            return;
        }
        sys::futex_wait(&slot.state, value, end_ns - now_ns);
    }
}

/// Must be called in a forked child: it is another process, which has no slot yet.
pub fn forked() {
    thread::forked();
    SLOT.store(0, Ordering::Relaxed);
    PID.store(sys::process_id(), Ordering::Relaxed);
}

/// Marks the slot as that of a process that is not sampled.
pub fn set_unsampled() {
    if let Some(slot) = slot() {
        slot.state.store(state::UNSAMPLED, Ordering::Release);
    }
}
