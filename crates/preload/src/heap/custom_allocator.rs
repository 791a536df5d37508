//! Allocations that a program with its own allocator reports through the probe. Such an allocator gets its
//! memory from the kernel.

use core::arch::naked_asm;
use core::sync::atomic::{AtomicBool, Ordering};

use super::caller::Caller;
use super::format::Origin;
use super::hooks::{allocate, call, count_down, filter, forget};
use super::live::FILTER;

static IS_REPORTED: AtomicBool = AtomicBool::new(false);

/// Returns whether the program reports its allocations. What its allocator maps must then not be counted as well.
pub fn is_reported() -> bool {
    IS_REPORTED.load(Ordering::Relaxed)
}

/// Must be called before the other two functions: whatever the program maps from now on belongs to its
/// allocator.
#[unsafe(no_mangle)]
pub extern "C" fn simprof_heap_begin() {
    IS_REPORTED.store(true, Ordering::Relaxed);
}

/// Reports an allocation of `size` bytes that the program is about to hand out.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub extern "C" fn simprof_heap_allocated(address: usize, size: usize) {
    naked_asm!(
        ".cfi_startproc",
        count_down!("rsi"), "ret", "2:", call!("rdx"),
        call = sym allocated_seen,
    )
}

/// Reports that an allocation is about to end.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub extern "C" fn simprof_heap_freed(address: usize) {
    naked_asm!(
        ".cfi_startproc",
        filter!("rdi"), "ret", "2:", call!("rsi"),
        filter = sym FILTER, call = sym forget_seen,
    )
}

extern "C" fn allocated_seen(address: usize, size: usize, caller: &Caller) {
    allocate(size, Origin::Program, caller, || address);
}

extern "C" fn forget_seen(address: usize) {
    forget(address);
}
