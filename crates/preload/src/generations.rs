//! The generations of a shared memory that are mapped into this process. The first is mapped together with what precedes it,
//! the others when they are first needed: a limit of the process's address space counts what is mapped, not what is used.

use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use crate::format::{GENERATIONS, GRANULE, Offsets, is_affordable};
use crate::{seccomp, sys};

/// Where the generations after the first are mapped in this process.
pub struct LaterGenerations {
    /// Null until it is mapped.
    begins: [AtomicPtr<u8>; GENERATIONS - 1],
    /// Whether no more are mapped.
    is_closed: AtomicBool,
}

impl LaterGenerations {
    pub const fn new() -> Self {
        Self {
            begins: [const { AtomicPtr::new(ptr::null_mut()) }; GENERATIONS - 1],
            is_closed: AtomicBool::new(false),
        }
    }

    /// Returns the address of a generation. `None` if this process cannot map it.
    ///
    /// # Safety
    ///
    /// The file must be mapped at `base` up to the end of its first generation, and stay mapped.
    #[inline]
    pub unsafe fn get(
        &self,
        base: *mut u8,
        offsets: &Offsets,
        generation: usize,
    ) -> Option<*mut u8> {
        if generation == 0 {
            // SAFETY: the caller's promise.
            return Some(unsafe { base.add(offsets[0]) });
        }
        let begin = self.begins[generation - 1].load(Ordering::Acquire);
        if begin.is_null() {
            // SAFETY: the caller's promise.
            unsafe { self.map(base, offsets, generation) }
        } else {
            Some(begin)
        }
    }

    /// Maps a generation after the first, and those before it. Signal handlers call this.
    ///
    /// # Safety
    ///
    /// As for [`LaterGenerations::get`].
    #[cold]
    unsafe fn map(&self, base: *mut u8, offsets: &Offsets, generation: usize) -> Option<*mut u8> {
        if self.is_closed.load(Ordering::Relaxed) {
            return None;
        }
        let _errno = sys::ErrnoGuard::new();
        // SAFETY: the caller's promise.
        let before = unsafe { self.get(base, offsets, generation - 1) }?;
        let bytes = |generation: usize| offsets[generation + 1] - offsets[generation];
        // SAFETY: the generation before is mapped and stays mapped.
        let map = || unsafe { map_behind(before.add(bytes(generation - 1)), bytes(generation)) };
        let is_mappable = |limit: usize| is_affordable(bytes(generation), limit);
        let limit = sys::address_space_limit().filter(|&limit| is_mappable(limit));
        let Some(begin) = limit.and_then(|_| map()) else {
            self.close();
            return None;
        };
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        let slot = &self.begins[generation - 1];
        match slot.compare_exchange(ptr::null_mut(), begin, success, failure) {
            Ok(_) => Some(begin),
            Err(theirs) => {
                unmap_behind(begin, bytes(generation));
                Some(theirs)
            }
        }
    }

    /// Maps no more generations in this process.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }
}

/// Maps the `bytes` of a file that follow what is mapped up to `end`. Returns their address.
///
/// For an old size of 0, mremap(2) maps pages of a shared mapping a second time, and what follows them in the file. Unlike mmap
/// this needs neither a descriptor nor the file's path, which the process may not be able to open any more.
///
/// # Safety
///
/// A shared mapping of the file must end at `end`, and must not be unmapped.
unsafe fn map_behind(end: *mut u8, bytes: usize) -> Option<*mut u8> {
    const MAYMOVE: usize = 1;
    if !seccomp::allows(sys::MREMAP) {
        return None;
    }
    let arguments = [end.expose_provenance() - GRANULE, 0, GRANULE + bytes, MAYMOVE, 0, 0];
    // SAFETY: the last granule of the mapping stays mapped where it is. The result is a new mapping.
    let new = unsafe { sys::raw_call(sys::MREMAP, arguments) };
    (new > 0).then(|| ptr::with_exposed_provenance_mut(new as usize + GRANULE))
}

/// Undoes [`map_behind`].
fn unmap_behind(begin: *mut u8, bytes: usize) {
    let arguments = [begin.expose_provenance() - GRANULE, GRANULE + bytes, 0, 0, 0, 0];
    // SAFETY: it was mapped by `map_behind`, and nothing refers to it.
    unsafe { sys::raw_call(sys::MUNMAP, arguments) };
}
