//! A Rust program whose allocator counts its calls and forwards them to the system allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

struct Counted;

static COUNT: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);
static FREED: AtomicUsize = AtomicUsize::new(0);
static FREED_BYTES: AtomicUsize = AtomicUsize::new(0);

fn made(bytes: usize) {
    COUNT.fetch_add(1, Relaxed);
    BYTES.fetch_add(bytes, Relaxed);
}

fn ended(bytes: usize) {
    FREED.fetch_add(1, Relaxed);
    FREED_BYTES.fetch_add(bytes, Relaxed);
}

unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        made(layout.size());
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ended(layout.size());
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        made(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ended(layout.size());
        made(size);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

fn work(seed: usize) -> usize {
    let mut map = BTreeMap::new();
    for i in 0..5000 {
        map.entry(i * seed % 97).or_insert_with(Vec::new).push(format!("{i} {seed}"));
    }
    let zeros = vec![0u64; seed * 100];
    std::mem::forget(std::hint::black_box(Box::new([seed; 20])));
    map.values().map(Vec::len).sum::<usize>() + zeros.len()
}

fn main() {
    // Only one thread: the standard library allocates the data of threads directly with the system allocator.
    let sum: usize = (1..5).map(work).sum();
    let caught = std::panic::catch_unwind(|| {
        let buffer = vec![1; 1000];
        if sum > 0 {
            std::panic::resume_unwind(Box::new(buffer.len()));
        }
    });
    assert!(caught.is_err());
    drop(caught);
    let mut line = [0u8; 200];
    let counts = [COUNT.load(Relaxed), BYTES.load(Relaxed), FREED.load(Relaxed), FREED_BYTES.load(Relaxed)];
    let mut rest = &mut line[..];
    use std::io::Write;
    for (name, count) in ["count", "bytes", "freed_count", "freed_bytes"].iter().zip(counts) {
        writeln!(rest, "{name} {count}").unwrap();
    }
    let left = rest.len();
    unsafe extern "C" {
        fn write(fd: i32, bytes: *const u8, length: usize) -> isize;
        fn _exit(status: i32) -> !;
    }
    unsafe {
        write(1, line.as_ptr(), 200 - left);
        _exit(0);
    }
}
