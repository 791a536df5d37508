//! An allocator that reports the allocations of another one to simprof.

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::{CStr, c_char, c_void};
use std::mem::transmute;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Wraps an allocator that gets its memory directly from the kernel, as jemalloc and mimalloc do, so that
/// simprof can record its allocations.
///
/// ```
/// # use std::alloc::System as Mimalloc;
/// #[global_allocator]
/// static ALLOCATOR: simprof_probe::HeapProbe<Mimalloc> = simprof_probe::HeapProbe(Mimalloc);
/// # fn main() { drop(vec![1; 100]); }
/// ```
///
/// If the program's allocations are not recorded, a call takes about a nanosecond longer than without the
/// wrapper. Do not wrap an allocator that calls `malloc`, like [`std::alloc::System`]. simprof records the
/// calls of `malloc`, and with the wrapper it would count each allocation twice.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeapProbe<A>(pub A);

type Begin = unsafe extern "C" fn();
type Allocated = unsafe extern "C" fn(*mut u8, usize);
type Freed = unsafe extern "C" fn(*mut u8);

/// The functions of the recording library: null until they are looked up, [`OFF`] if there are none.
static ALLOCATED: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static FREED: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// Stands for "no function"; never called.
const OFF: *mut c_void = ptr::without_provenance_mut(1);

// SAFETY: the wrapped allocator does all the work.
unsafe impl<A: GlobalAlloc> GlobalAlloc for HeapProbe<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        look_up();
        // SAFETY: the caller's promise.
        report_allocated(unsafe { self.0.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        look_up();
        // SAFETY: the caller's promise.
        report_allocated(unsafe { self.0.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        report_freed(address);
        // SAFETY: the caller's promise.
        unsafe { self.0.dealloc(address, layout) };
    }

    unsafe fn realloc(&self, address: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Report this first: another thread may get the old memory as soon as it is freed.
        report_freed(address);
        // SAFETY: the caller's promise.
        let new = unsafe { self.0.realloc(address, layout, size) };
        if new.is_null() {
            // The call failed, so the old memory stays allocated.
            report_allocated(address, layout.size());
        }
        report_allocated(new, size)
    }
}

/// Reports an allocation unless it failed. Returns its address.
#[inline]
fn report_allocated(address: *mut u8, size: usize) -> *mut u8 {
    let function = ALLOCATED.load(Ordering::Relaxed);
    if !function.is_null() && function != OFF && !address.is_null() {
        // SAFETY: the library's function of this name has this type, and may be called with any address.
        unsafe { transmute::<*mut c_void, Allocated>(function)(address, size) };
    }
    address
}

#[inline]
fn report_freed(address: *mut u8) {
    let function = FREED.load(Ordering::Relaxed);
    if !function.is_null() && function != OFF {
        // SAFETY: as in `report_allocated`.
        unsafe { transmute::<*mut c_void, Freed>(function)(address) };
    }
}

/// Looks up the library's functions at the first allocation.
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
    // Declared here, so that this file needs no dependency.
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// Makes `dlsym` search all modules in global scope.
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
        let layout = Layout::from_size_align(100, 8).expect("the layout is valid");
        // SAFETY: each call is given the layout of the allocation.
        unsafe {
            let address = probe.alloc_zeroed(layout);
            assert_eq!(std::slice::from_raw_parts(address, 100), [0; 100]);
            let address = probe.realloc(address, layout, 1000);
            probe.dealloc(address, Layout::from_size_align(1000, 8).expect("the layout is valid"));
        }
        assert_eq!(ALLOCATED.load(Ordering::Relaxed), OFF);
    }
}
