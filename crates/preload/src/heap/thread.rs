//! What the library keeps for each thread: 64 bytes of the thread's own storage, which exist, zeroed, from its first instruction.

use core::arch::{asm, global_asm};

/// Offsets are known to the assembly of [`super::hooks`]: `countdown` is the first.
#[repr(C)]
pub struct Thread {
    /// Bytes that may be allocated before the next draw: an allocation of at least as many is looked at. 0 in a new thread, and
    /// always in exact mode.
    pub countdown: u64,
    /// State of the generator of draws; 0: not begun.
    pub random: u64,
    /// Number of the thread, counted over all processes, plus 1; 0: not yet known.
    pub number: u32,
    /// Thread id, of the process image whose number is `image`.
    pub id: u32,
    pub image: u32,
    /// What Python's allocator is about, see [`super::python`].
    pub python: u32,
    /// The thread's own stack as far as it is known to be mapped: from here ...
    pub stack_low: usize,
    /// ... to here; both 0 before it is known.
    pub stack_high: usize,
    /// The countdown, while `python` is not 0.
    pub kept: u64,
    /// How deep the thread is in work of the profiler's own that may allocate: that is not recorded.
    pub own: u64,
}

const _: () = assert!(size_of::<Thread>() == 64);

#[cfg(target_arch = "x86_64")]
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

/// This thread's storage. Only the thread itself uses it, and its signal handlers: nothing may be assumed to stay between
/// two uses of a field.
#[cfg(target_arch = "x86_64")]
#[inline]
pub fn current() -> *mut Thread {
    let place: *mut Thread;
    // SAFETY: the model "initial exec": the offset from the thread pointer is a number that the loader filled in.
    unsafe {
        asm!(
            "mov {place}, qword ptr fs:[0]",
            "add {place}, qword ptr [rip + simprof_heap_thread@GOTTPOFF]",
            place = out(reg) place,
            options(nostack, pure, readonly)
        );
    }
    place
}

/// The thread pointer: glibc keeps it at the upper end of the thread's stack, except for the first thread.
#[cfg(target_arch = "x86_64")]
#[inline]
pub fn pointer() -> usize {
    let place: usize;
    // SAFETY: the word at the thread pointer is the pointer itself.
    unsafe { asm!("mov {}, qword ptr fs:[0]", out(reg) place, options(nostack, pure, readonly)) };
    place
}

/// Notes that the thread begins (1) or ends (-1) work of the profiler's own, which may be nested.
pub fn own_work(change: i32) {
    let thread = current();
    // SAFETY: it is this thread's storage.
    unsafe { (*thread).own = (*thread).own.wrapping_add_signed(change.into()) };
}

/// Whether the thread is about the profiler's own work.
#[inline]
pub fn is_own() -> bool {
    // SAFETY: it is this thread's storage.
    unsafe { (*current()).own != 0 }
}
