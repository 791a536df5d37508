//! A program whose allocator takes memory from the kernel. If built with `--cfg shim`, it reports its allocations.
//!
//!     own_allocator

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

#[cfg(shim)]
#[path = "../../crates/probe/src/heap.rs"]
#[allow(dead_code)]
mod heap;

/// An allocator that takes memory from one mapping and never reuses it.
struct Bump;

static NEXT: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" {
    fn mmap(address: usize, bytes: usize, protection: i32, flags: i32, fd: i32, offset: i64) -> usize;
}

unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if NEXT.load(Relaxed) == 0 {
            NEXT.store(unsafe { mmap(0, 256 << 20, 3, 0x22, -1, 0) }, Relaxed);
        }
        let address = NEXT.load(Relaxed).next_multiple_of(layout.align().max(16));
        NEXT.store(address + layout.size(), Relaxed);
        address as *mut u8
    }
    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[cfg(shim)]
#[global_allocator]
static ALLOCATOR: heap::HeapProbe<Bump> = heap::HeapProbe(Bump);

#[cfg(not(shim))]
#[global_allocator]
static ALLOCATOR: Bump = Bump;

fn main() {
    let mut kept = Vec::with_capacity(500);
    for i in 0..500 {
        kept.push(vec![i as u8 | 1; 70_000]); // KEPT LINE
    }
    let sum: usize = kept.iter().map(|block| block[7] as usize).sum();
    println!("{sum}");
    std::mem::forget(kept);
}
