//! What is done with a call of an interposed function, before and after the real one.

use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::format::{Cause, Kind, feature, flag};
use crate::memory::Memory;
use crate::python::Interpreter;
use crate::ring::Entry;
use crate::{memory, process, python, ring, sys, thread};

use super::functions::{self, FUNCTIONS, Function, READ, Reason, Work};
use super::module;
use super::sampling::{Progress, weigh};
use super::trampoline::{Call, HOOKS};

/// Bit of what is done with calls: they are timed, and recorded as waits.
const TIMED: u32 = 1;
/// Bit of what is done with calls: reading tries to schedule the script.
const SCRIPT: u32 = 2;

/// A call of less is not waiting but work: going to sleep and waking up takes as much by itself.
const SHORT_NS: u64 = 5_000;
/// The same for files, pipes and sockets, where the kernel copies and looks things up.
const SHORT_IO_NS: u64 = 20_000;
/// What the kernel copies in less than that time.
const SHORT_BYTES: usize = 64 << 10;

/// Mean waiting time between two records of short waits, ns.
static PERIOD_NS: AtomicU64 = AtomicU64::new(1);
/// Where the interpreter's module begins and ends.
static INTERPRETER: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

/// Looks for the real functions. To be called once, before the program begins, and not in a signal handler; calls that come earlier
/// look for their own.
pub fn prepare() {
    functions::resolve_all();
}

/// Begins to do with calls what is asked for in a process that runs Python. A wait for a condition variable of the module of
/// `interpreter` is a wait for its lock. Not for signal handlers.
pub fn begin(memory: Memory, interpreter: &Interpreter) {
    let header = memory.header();
    let (begin, end) = module::extent(interpreter.api.current_state as usize);
    INTERPRETER[0].store(begin, Ordering::Relaxed);
    INTERPRETER[1].store(end, Ordering::Relaxed);
    PERIOD_NS.store(header.wait_period_ns.max(1), Ordering::Relaxed);
    let hook = |feature, hook| if header.features & feature == 0 { 0 } else { hook };
    let hooks = hook(feature::WAITS, TIMED) | hook(feature::SCRIPT, SCRIPT);
    HOOKS.store(hooks, Ordering::Release);
}

/// Before the real function, which it returns.
pub(super) extern "C" fn before(call: &mut Call) -> *mut c_void {
    let real = functions::real(call.function);
    let hooks = HOOKS.load(Ordering::Acquire);
    call.start_ns = 0;
    if hooks & SCRIPT != 0 && call.function == READ {
        crate::script::try_schedule();
    }
    if hooks & TIMED != 0 && !crate::script::is_at_work() && may_wait(call) {
        start(call);
    }
    real
}

/// After the real function, whose error number it keeps.
pub(super) extern "C" fn after(call: &mut Call) {
    if call.start_ns == 0 {
        return;
    }
    let end_ns = sys::now_ns();
    inside().store(call.outer as u64, Ordering::Relaxed);
    let elapsed_ns = end_ns.saturating_sub(call.start_ns);
    if elapsed_ns >= short_ns(&FUNCTIONS[call.function]) {
        finish(call, end_ns, elapsed_ns);
    }
}

/// Address on the stack of the outermost call that the thread is in, or 0. A call from further down the stack is part of that one;
/// one from further up shows that the thread left it by `longjmp`.
fn inside() -> &'static AtomicU64 {
    &thread::block().waits[0]
}

/// False for calls that cannot block, and within another call that is timed.
fn may_wait(call: &mut Call) -> bool {
    if matches!(FUNCTIONS[call.function].reason, Reason::Control) && !is_lock(call.arguments[1]) {
        return false;
    }
    let place = core::ptr::from_ref(call).addr();
    call.outer = inside().load(Ordering::Relaxed) as usize;
    call.outer == 0 || place > call.outer
}

/// True for the commands of `fcntl` that wait for a lock: `F_SETLKW` and `F_OFD_SETLKW`.
fn is_lock(command: usize) -> bool {
    matches!(command as c_int, 7 | 38)
}

fn start(call: &mut Call) {
    inside().store(core::ptr::from_ref(call).addr() as u64, Ordering::Relaxed);
    call.cpu_ns = if is_work(call) { thread_cpu_ns() } else { 0 };
    call.start_ns = sys::now_ns();
}

/// Whether much of the call's time may be the kernel's work for the thread, which is no waiting.
fn is_work(call: &Call) -> bool {
    match FUNCTIONS[call.function].work {
        Work::Nothing => false,
        Work::Bytes(position) => call.arguments[position] >= SHORT_BYTES,
        Work::Unknown => true,
    }
}

/// CPU time of this thread, ns. It costs a system call.
fn thread_cpu_ns() -> u64 {
    const CLOCK_THREAD_CPUTIME_ID: c_int = 3;
    let mut time = sys::Timespec { seconds: 0, nanoseconds: 0 };
    // SAFETY: `time` is a valid place for the answer; the clock always exists.
    unsafe { sys::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.seconds as u64 * 1_000_000_000 + time.nanoseconds as u64
}

fn short_ns(function: &Function) -> u64 {
    if matches!(function.reason, Reason::Always(Cause::Io)) { SHORT_IO_NS } else { SHORT_NS }
}

/// Counts a call that was not short.
#[cold]
fn finish(call: &Call, end_ns: u64, elapsed_ns: u64) {
    let _errno = sys::KeptErrno::new();
    let worked_ns = match call.cpu_ns {
        0 => 0,
        before_ns => thread_cpu_ns().saturating_sub(before_ns),
    };
    let waited_ns = elapsed_ns.saturating_sub(worked_ns);
    if waited_ns < short_ns(&FUNCTIONS[call.function]) {
        return;
    }
    let [_, left_ns, random, _] = &thread::block().waits;
    let progress = Progress { left_ns, random };
    let seed = || end_ns ^ (core::ptr::from_ref(left_ns).addr() as u64).rotate_left(32);
    let weight_ns = weigh(progress, waited_ns, PERIOD_NS.load(Ordering::Relaxed), seed);
    if weight_ns > 0 {
        record(call, end_ns, waited_ns, weight_ns);
    }
}

/// Appends a record, in threads that run Python.
fn record(call: &Call, end_ns: u64, waited_ns: u64, weight_ns: u64) {
    let Some(memory) = memory::memory() else { return };
    if !process::is_own() {
        return;
    }
    let stack = python::record_stack(python::Moment::Any);
    if stack.flags & flag::NO_PYTHON != 0 {
        return;
    }
    let entry = Entry {
        time_ns: end_ns,
        node: stack.node,
        flags: stack.flags,
        duration_ns: waited_ns,
        weight_ns,
        cause: cause(call) as u32,
        caller: call.caller,
    };
    ring::append(memory, Kind::Wait, &entry);
}

fn cause(call: &Call) -> Cause {
    let [first, second, third, fourth, ..] = call.arguments;
    match FUNCTIONS[call.function].reason {
        Reason::Always(cause) => cause,
        Reason::Condition if is_interpreter(call.caller) => Cause::Interpreter,
        Reason::Condition => Cause::Synchronisation,
        Reason::Select if first == 0 || (second | third | fourth) == 0 => Cause::Sleep,
        Reason::Poll if second == 0 => Cause::Sleep,
        Reason::Select | Reason::Poll => Cause::Events,
        Reason::Control => Cause::Io,
    }
}

fn is_interpreter(address: usize) -> bool {
    let [begin, end] = &INTERPRETER;
    (begin.load(Ordering::Relaxed)..end.load(Ordering::Relaxed)).contains(&address)
}
