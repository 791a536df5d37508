//! Appends marks to the shared memory.

use std::cell::Cell;
use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::append::{self, Mark};
use crate::format::{FILE_BYTES, Kind, MAGIC, RECORDS, RECORDS_OFFSET, VARIABLE};

/// Address of the mapped memory: null before the first mark, [`OFF`] if there is none.
static MEMORY: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

/// Stands for "no memory"; never dereferenced.
const OFF: *mut u8 = ptr::without_provenance_mut(1);

/// A number that differs in a forked child from its parent's, so that the child does not use its parent's
/// thread id.
static GENERATION: AtomicU32 = AtomicU32::new(1);

thread_local! {
    /// The generation and id of this thread; (0, 0) before its first mark.
    static THREAD: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
}

/// Appends a record if marks are recorded.
#[inline]
pub fn mark(kind: Kind, index: u64, population: u64) {
    let memory = MEMORY.load(Ordering::Acquire);
    if memory != OFF {
        append_here(memory, kind, index, population);
    }
}

/// Returns whether marks are recorded.
pub fn is_recorded() -> bool {
    let memory = MEMORY.load(Ordering::Acquire);
    (if memory.is_null() { open() } else { memory }) != OFF
}

#[inline(never)]
fn append_here(memory: *mut u8, kind: Kind, index: u64, population: u64) {
    let memory = if memory.is_null() { open() } else { memory };
    if memory == OFF {
        return;
    }
    let time_ns = now_ns();
    let thread = thread_id();
    // SAFETY: unless it is OFF, `open` returns memory that is mapped, FILE_BYTES long and never unmapped.
    unsafe { append::append(memory, Mark { kind, index, population, time_ns, thread }) };
}

/// Maps the memory once per process image. If several threads call this at the same time, each maps the memory
/// and all but one unmap it again, so that no thread waits for another.
#[cold]
fn open() -> *mut u8 {
    // The program may set errno before a mark and read it afterwards, so the value is kept.
    // SAFETY: this thread's errno is valid at any time.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { *errno };
    let memory = publish(map().unwrap_or(OFF));
    // SAFETY: as above.
    unsafe { *errno = before };
    memory
}

/// Publishes `memory` unless another thread was first. Returns the memory to use.
fn publish(memory: *mut u8) -> *mut u8 {
    match MEMORY.compare_exchange(ptr::null_mut(), memory, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            if memory != OFF {
                // SAFETY: the handler only adds to an atomic. If the registration fails (out of memory), a
                // forked child's marks carry its parent's thread id.
                unsafe { libc::pthread_atfork(None, None, Some(forked)) };
            }
            memory
        }
        Err(theirs) => {
            if memory != OFF {
                // SAFETY: it was mapped by this call and no other code knows its address.
                unsafe { libc::munmap(memory.cast(), FILE_BYTES) };
            }
            theirs
        }
    }
}

unsafe extern "C" fn forked() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// Maps the file that the environment names. `None` if it names no file, or a file of another format.
fn map() -> Option<*mut u8> {
    // SAFETY: the name is a C string. As with any getenv, no other thread may change the environment at the
    // same time.
    let path = unsafe { libc::getenv(VARIABLE.as_ptr()) };
    if path.is_null() {
        return None;
    }
    // SAFETY: getenv returned a C string.
    let path = unsafe { CStr::from_ptr(path) };
    let flags = libc::O_RDWR | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    // SAFETY: `path` is a C string.
    let fd = unsafe { libc::open(path.as_ptr(), flags) };
    if fd < 0 {
        return None;
    }
    let memory = map_file(fd);
    // SAFETY: it was opened above.
    unsafe { libc::close(fd) };
    memory
}

fn map_file(fd: libc::c_int) -> Option<*mut u8> {
    // SAFETY: zero is a valid value of every field.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `status` is valid for the result.
    let known = unsafe { libc::fstat(fd, &raw mut status) } == 0;
    let regular = status.st_mode & libc::S_IFMT == libc::S_IFREG;
    if !known || !regular || usize::try_from(status.st_size) != Ok(FILE_BYTES) {
        return None;
    }
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // No MAP_POPULATE: in a short program, pages that are never written would cost more than its marks. The
    // resident set grows by about 1 MiB at most.
    let flags = libc::MAP_SHARED;
    // SAFETY: a new mapping; the file has this length.
    let memory = unsafe { libc::mmap(ptr::null_mut(), FILE_BYTES, protection, flags, fd, 0) };
    if memory == libc::MAP_FAILED {
        return None;
    }
    let memory = memory.cast::<u8>();
    // SAFETY: both fields are within the mapping and aligned.
    let (magic, records) =
        unsafe { (*memory.cast::<u64>(), *memory.add(RECORDS_OFFSET).cast::<u64>()) };
    if (magic, records) == (MAGIC, RECORDS) {
        return Some(memory);
    }
    // SAFETY: it was mapped above and no other code knows its address.
    unsafe { libc::munmap(memory.cast(), FILE_BYTES) };
    None
}

#[inline]
fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the result; the clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[inline]
fn thread_id() -> u32 {
    let generation = GENERATION.load(Ordering::Relaxed);
    THREAD.with(|thread| {
        let (known, id) = thread.get();
        if known == generation {
            return id;
        }
        // SAFETY: gettid has no preconditions.
        let id = unsafe { libc::syscall(libc::SYS_gettid) } as u32;
        thread.set((generation, id));
        id
    })
}
