//! What the shim in the program tells, where the program has an allocator of its own that gets its memory from the kernel.

use core::arch::naked_asm;
use core::sync::atomic::{AtomicBool, Ordering};

use super::format::Origin;
use super::hooks::{Caller, allocate, call, count_down, filter, forget};
use super::live::FILTER_PLACES;

static TELLS: AtomicBool = AtomicBool::new(false);

/// Whether the program tells of its allocations: then what its allocator maps is not to be counted too.
pub fn tells() -> bool {
    TELLS.load(Ordering::Relaxed)
}

/// To be called once, before the first of the other two: what the program maps from now on is its allocator's.
#[unsafe(no_mangle)]
pub extern "C" fn simprof_heap_begin() {
    TELLS.store(true, Ordering::Relaxed);
}

/// The program made an allocation of `size` bytes, which nobody has yet.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub extern "C" fn simprof_heap_allocated(address: usize, size: usize) {
    naked_asm!(
        ".cfi_startproc",
        count_down!("rsi"), "ret", "2:", call!("rdx"),
        call = sym allocated_seen,
    )
}

/// The program is about to end an allocation.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub extern "C" fn simprof_heap_freed(address: usize) {
    naked_asm!(
        ".cfi_startproc",
        filter!("rdi"), "ret", "2:", call!("rsi"),
        filter = sym FILTER_PLACES, call = sym forget_seen,
    )
}

extern "C" fn allocated_seen(address: usize, size: usize, caller: &Caller) {
    allocate(size, Origin::Program, caller, || address);
}

extern "C" fn forget_seen(address: usize) {
    forget(address);
}
