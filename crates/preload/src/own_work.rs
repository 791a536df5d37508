//! Work that the profiler does in the target, whose allocations are not the target's.

#[cfg(simprof_heap)]
use core::sync::atomic::Ordering;

#[cfg(simprof_heap)]
use crate::thread;

/// Guard of the library's own work in a thread. While it lives, allocations that the C library or the interpreter make
/// in this thread are not recorded.
#[must_use]
pub struct OwnWork(());

impl OwnWork {
    pub fn begin() -> OwnWork {
        change_depth(1);
        OwnWork(())
    }
}

impl Drop for OwnWork {
    fn drop(&mut self) {
        change_depth(-1);
    }
}

/// Returns whether this thread is doing the library's own work, or that of the other library.
#[cfg(simprof_heap)]
#[inline]
pub fn is_active() -> bool {
    thread::block().own_work_depth.load(Ordering::Relaxed) != 0
}

/// Changes how deeply this thread is nested in own work. Only the heap library counts, since only it records allocations.
#[cfg(simprof_heap)]
fn change_depth(by: i32) {
    thread::block().own_work_depth.fetch_add(by.cast_unsigned(), Ordering::Relaxed);
}

/// Lets the other library change the depth.
#[cfg(simprof_heap)]
#[unsafe(no_mangle)]
extern "C" fn simprof_heap_own(change: i32) {
    change_depth(change);
}

// The heap library is a separate one, which may be loaded beside this one.
#[cfg(all(simprof_preloaded, not(simprof_heap)))]
core::arch::global_asm!(".weak simprof_heap_own");

/// Changes the depth that the heap library counts, if it is loaded.
#[cfg(all(simprof_preloaded, not(simprof_heap)))]
fn change_depth(by: i32) {
    let address: usize;
    // SAFETY: reads a word that the loader filled in: the function's address, or 0 if it is not defined.
    unsafe {
        core::arch::asm!(
            "mov {}, qword ptr [rip + simprof_heap_own@GOTPCREL]",
            out(reg) address,
            options(nostack, pure, readonly)
        );
    }
    if address != 0 {
        // SAFETY: the function of this name has this type.
        unsafe { core::mem::transmute::<usize, extern "C" fn(i32)>(address)(by) };
    }
}

#[cfg(not(simprof_preloaded))]
fn change_depth(_: i32) {}
