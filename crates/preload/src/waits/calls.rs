//! Measures the calls of interposed functions, before and after the real function.

use core::arch::global_asm;
use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::format::{Cause, Kind, feature, flag};
use crate::python::interpreter::Interpreter;
use crate::ring::Entry;
use crate::shared_memory::SharedMemory;
use crate::{process, python, ring, seccomp, shared_memory, sys, thread};

use super::functions::{self, FUNCTIONS, Function, READ, Reason, Work};
use super::module_range;
use super::sampling::{Progress, weigh};
use super::trampoline::HOOKS;

/// Bit of [`HOOKS`]: calls are timed, and recorded as waits.
const TIMED: u32 = 1;
/// Bit of [`HOOKS`]: calls of `read` try to schedule the script.
const SCRIPT: u32 = 2;

/// Calls shorter than this, ns, do not count as waits: to block and wake a thread takes about as long.
const SHORT_NS: u64 = 5_000;
/// Like [`SHORT_NS`], for files, pipes and sockets, for which the kernel copies data and looks up files.
const SHORT_IO_NS: u64 = 20_000;
/// Number of bytes that the kernel copies in less than that time.
const SHORT_BYTES: usize = 64 << 10;

/// Mean waiting time between two recorded short waits, ns.
static PERIOD_NS: AtomicU64 = AtomicU64::new(1);
/// Begin and end of the interpreter's module.
static INTERPRETER: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

/// One call of an interposed function, on the stack of its thread. The assembly at the end of this file relies on this
/// layout.
#[repr(C)]
pub(super) struct Call {
    /// The arguments of the function, then the other contents of the argument registers.
    arguments: [usize; 6],
    result: usize,
    /// Index in the table of functions.
    function: usize,
    /// Address of the call that the thread was in already, or 0.
    outer: usize,
    /// CLOCK_MONOTONIC when it began, ns; 0 if it is not timed.
    start_ns: u64,
    /// CPU time of the thread when it began, ns; 0 if it was not read.
    cpu_ns: u64,
    padding: usize,
    frame_pointer: usize,
    /// Return address.
    caller: usize,
}

const _: () = assert!(size_of::<Call>() == 112 && size_of::<Call>() % 16 == 0);

/// Resolves the real functions. Must be called once, before the program starts, and not in a signal handler.
/// A function that is called before that is resolved by its first call.
pub fn prepare() {
    functions::resolve_all();
}

/// Starts the measurements that the profiler asked for, in a process that runs Python. A wait for a condition
/// variable by code of the module of `interpreter` is a wait for the interpreter's lock. Not for signal
/// handlers.
pub fn begin(memory: SharedMemory, interpreter: &Interpreter) {
    let header = memory.header();
    let (begin, end) = module_range::containing(interpreter.api.current_state as usize);
    INTERPRETER[0].store(begin, Ordering::Relaxed);
    INTERPRETER[1].store(end, Ordering::Relaxed);
    PERIOD_NS.store(header.wait_period_ns.max(1), Ordering::Relaxed);
    let hook = |feature, hook| if header.features & feature == 0 { 0 } else { hook };
    let hooks = hook(feature::WAITS, TIMED) | hook(feature::SCRIPT, SCRIPT);
    HOOKS.store(hooks, Ordering::Release);
}

/// Ends the measurements, in a process that can no longer read the clock.
pub fn end() {
    HOOKS.store(0, Ordering::Release);
}

/// Runs before the real function, whose address it returns.
pub(super) extern "C" fn before(call: &mut Call) -> *mut c_void {
    let real = functions::real(call.function);
    let hooks = HOOKS.load(Ordering::Acquire);
    call.start_ns = 0;
    if hooks & SCRIPT != 0 && call.function == READ {
        crate::script::try_schedule();
    }
    if hooks & TIMED != 0 && !crate::script::is_running() && may_wait(call) {
        start(call);
    }
    real
}

/// Runs after the real function and preserves its `errno`.
pub(super) extern "C" fn after(call: &mut Call) {
    if call.start_ns == 0 {
        return;
    }
    let end_ns = sys::now_ns();
    outermost_call().store(call.outer as u64, Ordering::Relaxed);
    let elapsed_ns = end_ns.saturating_sub(call.start_ns);
    if elapsed_ns >= short_ns(&FUNCTIONS[call.function]) {
        finish(call, end_ns, elapsed_ns);
    }
}

/// Returns the variable with the stack address of the outermost timed call that the thread is in; 0: none. A call
/// at a lower address is nested in that one. A call at a higher address shows that the thread left it by
/// `longjmp`.
fn outermost_call() -> &'static AtomicU64 {
    &thread::block().waits[0]
}

/// Returns false for calls that cannot block, and for calls within another timed call.
fn may_wait(call: &mut Call) -> bool {
    if matches!(FUNCTIONS[call.function].reason, Reason::Control) && !is_lock(call.arguments[1]) {
        return false;
    }
    let address = core::ptr::from_ref(call).addr();
    call.outer = outermost_call().load(Ordering::Relaxed) as usize;
    call.outer == 0 || address > call.outer
}

/// Returns true for the commands of `fcntl` that wait for a lock: `F_SETLKW` and `F_OFD_SETLKW`.
fn is_lock(command: usize) -> bool {
    matches!(command as c_int, 7 | 38)
}

fn start(call: &mut Call) {
    outermost_call().store(core::ptr::from_ref(call).addr() as u64, Ordering::Relaxed);
    call.cpu_ns = if is_work(call) { thread_cpu_ns() } else { 0 };
    call.start_ns = sys::now_ns();
}

/// Returns whether the kernel may work for the thread during a large part of the call. Such work is not a wait.
fn is_work(call: &Call) -> bool {
    match FUNCTIONS[call.function].work {
        Work::Nothing => false,
        Work::Bytes(position) => call.arguments[position] >= SHORT_BYTES,
        Work::Unknown => true,
    }
}

/// Returns this thread's CPU time, ns; 0 if it is not known. It costs a system call.
fn thread_cpu_ns() -> u64 {
    const CLOCK_THREAD_CPUTIME_ID: c_int = 3;
    if !seccomp::allows(sys::CLOCK_GETTIME) {
        return 0;
    }
    let mut time = sys::Timespec { seconds: 0, nanoseconds: 0 };
    // SAFETY: `time` is valid for the result; the clock always exists.
    unsafe { sys::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.seconds as u64 * 1_000_000_000 + time.nanoseconds as u64
}

fn short_ns(function: &Function) -> u64 {
    if matches!(function.reason, Reason::Always(Cause::Io)) { SHORT_IO_NS } else { SHORT_NS }
}

/// Records a call that was not short, if it is sampled.
#[cold]
fn finish(call: &Call, end_ns: u64, elapsed_ns: u64) {
    let _errno = sys::ErrnoGuard::new();
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

/// Appends a record if the thread runs Python.
fn record(call: &Call, end_ns: u64, waited_ns: u64, weight_ns: u64) {
    let Some(memory) = shared_memory::memory() else { return };
    if !process::is_registered() {
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

// Calls the function at index `eax` with the arguments of the call, between `before` and `after`. Only the interposed
// functions jump here. The frame matches [`Call`].
global_asm!(
    ".pushsection .text.simprof_observed, \"ax\", @progbits",
    ".p2align 4",
    ".globl simprof_observed",
    ".hidden simprof_observed",
    ".type simprof_observed, @function",
    "simprof_observed:",
    ".cfi_startproc",
    "push rbp",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset rbp, -16",
    "mov rbp, rsp",
    ".cfi_def_cfa_register rbp",
    "sub rsp, 96",
    "mov [rsp], rdi",
    "mov [rsp + 8], rsi",
    "mov [rsp + 16], rdx",
    "mov [rsp + 24], rcx",
    "mov [rsp + 32], r8",
    "mov [rsp + 40], r9",
    "mov [rsp + 56], rax",
    "mov rdi, rsp",
    "call {before}",
    "mov rdi, [rsp]",
    "mov rsi, [rsp + 8]",
    "mov rdx, [rsp + 16]",
    "mov rcx, [rsp + 24]",
    "mov r8, [rsp + 32]",
    "mov r9, [rsp + 40]",
    "call rax",
    "mov [rsp + 48], rax",
    "mov rdi, rsp",
    "call {after}",
    "mov rax, [rsp + 48]",
    "leave",
    ".cfi_def_cfa rsp, 8",
    ".cfi_restore rbp",
    "ret",
    ".cfi_endproc",
    ".size simprof_observed, . - simprof_observed",
    ".popsection",
    before = sym before,
    after = sym after,
);
