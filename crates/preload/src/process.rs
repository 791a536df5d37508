//! This process's place in the shared memory: taking one, asking to be sampled, and what becomes of it.

use core::ffi::c_void;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::format::{Process, feature, state};
use crate::memory::{self, Memory};
use crate::python::Interpreter;
use crate::{sys, thread};

/// How long a process waits for the profiler to notice that it asks.
const ASKING_NS: u64 = 50_000_000;
/// How long it waits for events to be opened.
const OPENING_NS: u64 = 1_000_000_000;

/// Position of this process's place, plus 1; 0 while it has none.
static PLACE: AtomicU32 = AtomicU32::new(0);
/// The id of the process that runs the interpreter.
static PID: AtomicU32 = AtomicU32::new(0);

/// Position of this process in the processes of the memory; none where it has nothing to tell.
///
/// In a child made by `vfork` this is its parent's: see [`is_own`].
#[inline]
pub fn current() -> Option<u32> {
    PLACE.load(Ordering::Relaxed).checked_sub(1)
}

/// This process's place.
pub fn place() -> Option<&'static Process> {
    Some(&memory::memory()?.processes()[current()? as usize])
}

/// Whether this is the process that found the interpreter, or a forked child of it, and not one that was made
/// by `vfork`, `clone` or a plain system call, which share memory with it or have a copy, but neither its
/// events nor, perhaps, its signal handlers.
pub fn is_own() -> bool {
    // SAFETY: getpid has no preconditions.
    PID.load(Ordering::Relaxed) == unsafe { sys::getpid() } as u32
}

/// Takes a place for this process, which runs `interpreter`; whether there was one. Its state is then TAKEN.
pub fn take(memory: Memory, interpreter: &Interpreter) -> bool {
    let free = |place: &&Process| {
        place
            .state
            .compare_exchange(state::FREE, state::TAKEN, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    };
    let Some(position) = memory.processes().iter().position(|place| free(&place)) else {
        memory.header().processes_lost.fetch_add(1, Ordering::Relaxed);
        return false;
    };
    let place = &memory.processes()[position];
    // SAFETY: getpid has no preconditions.
    let pid = unsafe { sys::getpid() } as u32;
    place.pid.store(pid, Ordering::Relaxed);
    place.version.store(interpreter.version, Ordering::Relaxed);
    place.free_threaded.store(u32::from(interpreter.free_threaded), Ordering::Relaxed);
    place.reason.store(0, Ordering::Relaxed);
    place.time_ns.store(sys::now_ns(), Ordering::Relaxed);
    PID.store(pid, Ordering::Relaxed);
    PLACE.store(position as u32 + 1, Ordering::Release);
    true
}

/// Leaves the place as that of an interpreter that the library cannot read.
pub fn refuse(reason: u32) {
    if let Some(place) = place() {
        place.reason.store(reason, Ordering::Relaxed);
        place.state.store(state::UNSUPPORTED, Ordering::Release);
    }
}

/// Asks to be sampled and waits, for a bounded time, for the answer. Without [`feature::FRAMES`] it does not ask.
pub fn ask() {
    let (Some(memory), Some(position), Some(place)) = (memory::memory(), current(), place()) else {
        return;
    };
    if memory.header().features & feature::FRAMES == 0 {
        return place.state.store(state::UNSAMPLED, Ordering::Release);
    }
    place.state.store(state::ASKS, Ordering::Release);
    if notify(memory, position) {
        wait_while(place, state::ASKS, ASKING_NS);
        wait_while(place, state::OPENING, OPENING_NS);
    }
    // The profiler changes the state by compare and exchange too, so it knows if the process gave up.
    for waited in [state::ASKS, state::OPENING] {
        let _ = place.state.compare_exchange(
            waited,
            state::UNSAMPLED,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
    }
}

/// Tells the profiler where to look; whether somebody may read it.
fn notify(memory: Memory, position: u32) -> bool {
    let path = &memory.header().notify;
    if !path.contains(&0) {
        return false;
    }
    let flags = sys::O_WRONLY | sys::O_NONBLOCK | sys::O_CLOEXEC | sys::O_NOCTTY;
    // SAFETY: the path ends with a zero.
    let fd = unsafe { sys::open(path.as_ptr().cast(), flags) };
    if fd < 0 {
        return false;
    }
    let bytes = position.to_ne_bytes();
    // SAFETY: the bytes live during the call. The profiler holds the pipe's reading end open; if it died, this
    // fails: opening for writing without a reader is an error, and a reader that goes away between the two
    // calls is answered below.
    let written = unsafe { sys::write(fd, bytes.as_ptr().cast::<c_void>(), bytes.len()) };
    // SAFETY: it was opened here.
    unsafe { sys::close(fd) };
    written == bytes.len() as isize
}

/// Waits until the state is not `value`, for so long at most.
fn wait_while(place: &Process, value: u32, timeout_ns: u64) {
    let end_ns = sys::now_ns() + timeout_ns;
    while place.state.load(Ordering::Acquire) == value {
        let now_ns = sys::now_ns();
        if now_ns >= end_ns {
            return;
        }
        sys::futex_wait(&place.state, value, end_ns - now_ns);
    }
}

/// To be called in a forked child: it is another process, which has no place yet.
pub fn forked() {
    thread::forked();
    PLACE.store(0, Ordering::Relaxed);
    // SAFETY: getpid has no preconditions.
    PID.store(unsafe { sys::getpid() } as u32, Ordering::Relaxed);
}

/// Leaves the place as that of a process that is not to be sampled.
pub fn stay_unsampled() {
    if let Some(place) = place() {
        place.state.store(state::UNSAMPLED, Ordering::Release);
    }
}
