//! Unloading of code. Everything cached about code addresses must be forgotten, since other code may be
//! loaded there next.

use core::ffi::c_void;
use core::sync::atomic::{AtomicU32, Ordering};

use super::{modules, real, unwind};

static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Changes whenever code may have been unloaded.
#[inline]
pub fn generation() -> u64 {
    GENERATION.load(Ordering::Acquire).into()
}

/// Replaces the C library's `dlclose`.
///
/// # Safety
///
/// As for the function itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dlclose(handle: *mut c_void) -> i32 {
    // SAFETY: the program's call.
    let result = unsafe { real::dlclose(handle) };
    GENERATION.fetch_add(1, Ordering::AcqRel);
    unwind::clear();
    modules::clear();
    result
}
