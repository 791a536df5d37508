//! Work of the profiler's own within the target, whose allocations are not the target's.

/// Work of this library's own, for as long as this lives, in the thread that made it: where allocations are recorded, those that the
/// C library or the interpreter make for it are not.
#[must_use]
pub struct Own(());

impl Own {
    pub fn begin() -> Own {
        change(1);
        Own(())
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        change(-1);
    }
}

#[cfg(simprof_heap)]
use crate::heap::own_work as change;

// The library that records allocations is another one, which may be loaded beside this one.
#[cfg(all(simprof_preloaded, not(simprof_heap), target_arch = "x86_64"))]
core::arch::global_asm!(".weak simprof_heap_own");

#[cfg(all(simprof_preloaded, not(simprof_heap), target_arch = "x86_64"))]
fn change(by: i32) {
    let place: usize;
    // SAFETY: a word that the loader filled in: the function's address, or 0 where nobody has it.
    unsafe {
        core::arch::asm!(
            "mov {}, qword ptr [rip + simprof_heap_own@GOTPCREL]",
            out(reg) place,
            options(nostack, pure, readonly)
        );
    }
    if place != 0 {
        // SAFETY: the function of this name has this type.
        unsafe { core::mem::transmute::<usize, extern "C" fn(i32)>(place)(by) };
    }
}

#[cfg(not(all(simprof_preloaded, target_arch = "x86_64")))]
fn change(_: i32) {}
