//! An allocator that tells simprof of what another one does.

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::{CStr, c_char, c_void};
use std::mem::transmute;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Wraps an allocator that gets its memory from the kernel by itself, as jemalloc and mimalloc do, so that
/// simprof can record what it allocates.
///
/// ```
/// # use std::alloc::System as Mimalloc;
/// #[global_allocator]
/// static ALLOCATOR: simprof_probe::HeapProbe<Mimalloc> = simprof_probe::HeapProbe(Mimalloc);
/// # fn main() { drop(vec![1; 100]); }
/// ```
///
/// When the program's allocations are not recorded, a call costs about a nanosecond more than the wrapped
/// allocator's. An allocator that calls `malloc`, like [`std::alloc::System`], needs no wrapping: simprof sees
/// what it does, and would count it twice.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeapProbe<A>(pub A);

type Begin = unsafe extern "C" fn();
type Allocated = unsafe extern "C" fn(*mut u8, usize);
type Freed = unsafe extern "C" fn(*mut u8);

/// The functions of the library that records: null before they were looked for, [`OFF`] where there are none.
static ALLOCATED: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static FREED: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// Stands for "there is none"; never called.
const OFF: *mut c_void = ptr::without_provenance_mut(1);

// SAFETY: all is done by the wrapped allocator.
unsafe impl<A: GlobalAlloc> GlobalAlloc for HeapProbe<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        look_up();
        // SAFETY: the caller's.
        told(unsafe { self.0.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        look_up();
        // SAFETY: the caller's.
        told(unsafe { self.0.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        tell_freed(place);
        // SAFETY: the caller's.
        unsafe { self.0.dealloc(place, layout) };
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Before, since another thread may have the old memory as soon as it is freed.
        tell_freed(place);
        // SAFETY: the caller's.
        let new = unsafe { self.0.realloc(place, layout, size) };
        if new.is_null() {
            // The old memory stays.
            told(place, layout.size());
        }
        told(new, size)
    }
}

/// Tells of an allocation that came about.
#[inline]
fn told(place: *mut u8, size: usize) -> *mut u8 {
    let function = ALLOCATED.load(Ordering::Relaxed);
    if !function.is_null() && function != OFF && !place.is_null() {
        // SAFETY: the library's function of this name has this type, and may be called with any address.
        unsafe { transmute::<*mut c_void, Allocated>(function)(place, size) };
    }
    place
}

#[inline]
fn tell_freed(place: *mut u8) {
    let function = FREED.load(Ordering::Relaxed);
    if !function.is_null() && function != OFF {
        // SAFETY: as in `told`.
        unsafe { transmute::<*mut c_void, Freed>(function)(place) };
    }
}

/// Looks for the library at the first allocation.
#[inline]
fn look_up() {
    if ALLOCATED.load(Ordering::Relaxed).is_null() {
        find();
    }
}

#[cold]
fn find() {
    let begin = symbol(c"simprof_heap_begin");
    if begin != OFF {
        // SAFETY: the library's function of this name has this type, and may be called more than once.
        unsafe { transmute::<*mut c_void, Begin>(begin)() };
    }
    FREED.store(symbol(c"simprof_heap_freed"), Ordering::Relaxed);
    ALLOCATED.store(symbol(c"simprof_heap_allocated"), Ordering::Relaxed);
}

unsafe extern "C" {
    // Declared here, so that the file is all that an allocator's crate needs to have.
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// Looks in all that is loaded for everybody.
const RTLD_DEFAULT: *mut c_void = ptr::null_mut();

fn symbol(name: &CStr) -> *mut c_void {
    // SAFETY: the name is a C string.
    let found = unsafe { dlsym(RTLD_DEFAULT, name.as_ptr()) };
    if found.is_null() { OFF } else { found }
}

#[cfg(test)]
mod tests {
    use std::alloc::System;

    use super::*;

    #[test]
    fn without_the_library_the_wrapped_allocator_works() {
        let probe = HeapProbe(System);
        let layout = Layout::from_size_align(100, 8).expect("it is a layout");
        // SAFETY: the layout is the allocation's in each call.
        unsafe {
            let place = probe.alloc_zeroed(layout);
            assert_eq!(std::slice::from_raw_parts(place, 100), [0; 100]);
            let place = probe.realloc(place, layout, 1000);
            probe.dealloc(place, Layout::from_size_align(1000, 8).expect("it is a layout"));
        }
        assert_eq!(ALLOCATED.load(Ordering::Relaxed), OFF);
    }
}
