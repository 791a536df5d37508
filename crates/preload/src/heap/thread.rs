//! The heap library's state of each thread: thread-local memory that exists, zeroed, from the thread's first
//! instruction.

use core::arch::{asm, global_asm};

/// The state of one thread. The assembly of [`super::hooks`] relies on `countdown` being the first field.
#[repr(C, align(64))]
pub struct Thread {
    /// Bytes that may be allocated before the next sampled byte. An allocation of at least this size is
    /// examined. 0 in a new thread, and always in exact mode.
    pub countdown: u64,
    /// State of the random number generator; 0: not started.
    pub random: u64,
    /// Number of the thread among those of all processes, plus 1; 0: not assigned yet.
    pub number: u32,
    /// Thread id in the process image `image`.
    pub id: u32,
    /// Index of the process image, plus 1.
    pub image: u32,
    /// State of calls into Python's allocator, see [`super::python_allocator`].
    pub python: u32,
    /// Lower end of the part of the thread's own stack that is known to be mapped; 0: not known.
    pub stack_low: usize,
    /// Upper end of that part; 0: not known.
    pub stack_high: usize,
    /// Value of the countdown while `python` is not 0.
    pub saved_countdown: u64,
    /// Index of the thread's lane.
    pub lane: u32,
}

const _: () = assert!(size_of::<Thread>() == 64);

global_asm!(
    ".pushsection .tbss,\"awT\",@nobits",
    ".balign 64",
    ".type simprof_heap_thread, @object",
    ".size simprof_heap_thread, 64",
    ".globl simprof_heap_thread",
    ".hidden simprof_heap_thread",
    "simprof_heap_thread: .zero 64",
    ".popsection",
);

/// Returns this thread's state. Only the thread itself and its signal handlers use it. A handler may change a
/// field between any two accesses.
#[inline]
pub fn current() -> *mut Thread {
    let address: *mut Thread;
    // SAFETY: the model is "initial exec": the loader filled in the offset from the thread pointer.
    unsafe {
        asm!(
            "mov {address}, qword ptr fs:[0]",
            "add {address}, qword ptr [rip + simprof_heap_thread@GOTTPOFF]",
            address = out(reg) address,
            options(nostack, pure, readonly)
        );
    }
    address
}

/// Returns the thread pointer. glibc stores it at the upper end of the thread's stack, except for the first
/// thread.
#[inline]
pub fn pointer() -> usize {
    let address: usize;
    // SAFETY: the word at the thread pointer is the pointer itself.
    unsafe { asm!("mov {}, qword ptr fs:[0]", out(reg) address, options(nostack, pure, readonly)) };
    address
}
