//! The library's state of each thread: a block of thread-local memory that exists from the thread's first
//! instruction.
//!
//! Rust's thread-local variables need its standard library. Those of a library loaded at run time may be
//! allocated at first use, which a signal handler must not do. A block of the "initial exec" model is
//! allocated together with each thread's stack. A library that is loaded when the program starts may have
//! one.

use core::cell::UnsafeCell;
use core::ffi::c_long;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::{seccomp, sys};

/// The state of one thread; all zeros when the thread starts.
///
/// Only the thread itself uses it, but a signal handler may interrupt it. So the fields are atomics, which
/// are never torn.
#[repr(C, align(64))]
pub struct Block {
    /// The thread's id; valid if the generation is current.
    tid: AtomicU32,
    /// Generation of `tid`. A forked child inherits the block with its parent's thread id.
    generation: AtomicU32,
    /// 1 while the target has SIGTRAP blocked in this thread.
    pub trap_blocked: AtomicU32,
    /// 1 if a SIGTRAP of the target's arrived while it was blocked.
    pub trap_pending: AtomicU32,
    /// Address of the Python thread state that was verified to be this thread's, see `python`.
    pub known_state: core::sync::atomic::AtomicUsize,
    /// State of the module `waits`.
    pub waits: [core::sync::atomic::AtomicU64; 4],
    /// How deeply the thread is nested in the profiler's own work, see `own_work`.
    pub own_work_depth: AtomicU32,
    reserved: UnsafeCell<[u64; 8]>,
}

const BLOCK_BYTES: usize = 128;
const _: () = assert!(size_of::<Block>() == BLOCK_BYTES && align_of::<Block>() == 64);

core::arch::global_asm!(
    ".pushsection .tbss.simprof_preload_block,\"awT\",@nobits",
    ".balign 64",
    ".type simprof_preload_block, @object",
    ".local simprof_preload_block",
    "simprof_preload_block:",
    ".zero {bytes}",
    ".size simprof_preload_block, {bytes}",
    ".popsection",
    bytes = const BLOCK_BYTES,
);

/// Returns this thread's block.
#[inline]
pub fn block() -> &'static Block {
    let address: usize;
    // SAFETY: reads the thread pointer and the block's offset from it. Neither memory nor the program's flags
    // change.
    unsafe {
        core::arch::asm!(
            "mov {address}, qword ptr fs:[0]",
            "add {address}, qword ptr [rip + simprof_preload_block@GOTTPOFF]",
            address = out(reg) address,
            options(nostack, readonly),
        );
    }
    // SAFETY: the block is this thread's, contains zeros or what the thread wrote, and lives as long as the
    // thread. The reference is not sent to other threads, since nothing here outlives a call.
    unsafe { &*core::ptr::with_exposed_provenance::<Block>(address) }
}

/// Counts forks on the way to this process.
static GENERATION: AtomicU32 = AtomicU32::new(1);

/// Returns this thread's id, as the process sees it. Only the first call makes a system call.
#[inline]
pub fn id() -> u32 {
    let block = block();
    let generation = GENERATION.load(Ordering::Relaxed);
    if block.generation.load(Ordering::Relaxed) != generation {
        let tid = match seccomp::allows(sys::GETTID) {
            // SAFETY: gettid has no preconditions.
            true => unsafe { sys::syscall(sys::GETTID as c_long) as u32 },
            false => 0,
        };
        block.tid.store(tid, Ordering::Relaxed);
        block.generation.store(generation, Ordering::Relaxed);
    }
    block.tid.load(Ordering::Relaxed)
}

/// Must be called in a forked child, whose thread has a new id.
pub fn forked() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    block().trap_pending.store(0, Ordering::Relaxed);
}
