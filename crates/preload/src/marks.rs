//! Step marks for programs that do not link the probe. The profiler's script and the Python module call these
//! functions.
//!
//! The format and the code that appends a record are shared with the crate `simprof-probe`: its source files
//! are included here.

use core::ffi::{CStr, c_int};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::{seccomp, sys, thread};

#[path = "../../probe/src/append.rs"]
mod append;
#[allow(dead_code, reason = "the reader's half is used by the profiler")]
#[path = "../../probe/src/format.rs"]
mod format;

use append::Mark;
pub use format::Kind;
use format::{FILE_BYTES, MAGIC, RECORDS, RECORDS_OFFSET, VARIABLE};

/// Address of the mapped memory: null before the first mark, [`OFF`] if there is none.
static MEMORY: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

/// Stands for "no memory"; never dereferenced.
const OFF: *mut u8 = ptr::without_provenance_mut(1);

/// Appends a mark of this thread if marks are recorded.
pub fn mark(kind: Kind, index: u64, population: u64) {
    let memory = memory();
    if memory != OFF && !seccomp::is_strict() {
        let mark = Mark { kind, index, population, time_ns: sys::now_ns(), thread: thread::id() };
        // SAFETY: unless it is OFF, the memory is mapped, of this format, and never unmapped.
        unsafe { append::append(memory, mark) };
    }
}

/// Returns whether marks are recorded.
pub fn is_recorded() -> bool {
    memory() != OFF
}

fn memory() -> *mut u8 {
    let memory = MEMORY.load(Ordering::Acquire);
    if memory.is_null() { open() } else { memory }
}

/// Maps the memory once per process image. If several threads get here together, each maps the memory and all
/// but one unmap it again.
#[cold]
fn open() -> *mut u8 {
    let _errno = sys::ErrnoGuard::new();
    let memory = map().unwrap_or(OFF);
    let null = ptr::null_mut();
    match MEMORY.compare_exchange(null, memory, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => memory,
        Err(theirs) => {
            if memory != OFF {
                // SAFETY: it was mapped by this call and no other code knows its address.
                unsafe { sys::munmap(memory.cast(), FILE_BYTES) };
            }
            theirs
        }
    }
}

/// Maps the file that the environment names. `None` if it names no file, or a file of another format.
fn map() -> Option<*mut u8> {
    if !seccomp::allows(sys::OPENAT) || !seccomp::allows(sys::LSEEK) {
        return None;
    }
    // SAFETY: the name is a C string. As with any getenv, the program must not change its environment in another thread
    // meanwhile.
    let path = unsafe { sys::getenv(VARIABLE.as_ptr()) };
    if path.is_null() {
        return None;
    }
    // SAFETY: getenv returned a C string.
    let path = unsafe { CStr::from_ptr(path) };
    let flags = sys::O_RDWR | sys::O_CLOEXEC | sys::O_NONBLOCK | sys::O_NOCTTY;
    // SAFETY: `path` is a C string.
    let fd = unsafe { sys::open(path.as_ptr(), flags) };
    if fd < 0 {
        return None;
    }
    let memory = map_file(fd);
    // SAFETY: it was opened above.
    unsafe { sys::close(fd) };
    memory
}

fn map_file(fd: c_int) -> Option<*mut u8> {
    // SAFETY: seeking does not access memory. It fails on files without a length.
    if unsafe { sys::lseek(fd, 0, sys::SEEK_END) } != FILE_BYTES as i64 {
        return None;
    }
    let protection = sys::PROT_READ | sys::PROT_WRITE;
    // SAFETY: a new mapping; the file has this length.
    let base =
        unsafe { sys::mmap(ptr::null_mut(), FILE_BYTES, protection, sys::MAP_SHARED, fd, 0) };
    if base == sys::MAP_FAILED {
        return None;
    }
    let memory = base.cast::<u8>();
    // SAFETY: both fields are within the mapping and aligned.
    let (magic, records) =
        unsafe { (*memory.cast::<u64>(), *memory.add(RECORDS_OFFSET).cast::<u64>()) };
    if (magic, records) == (MAGIC, RECORDS) {
        return Some(memory);
    }
    // SAFETY: it was mapped above.
    unsafe { sys::munmap(base, FILE_BYTES) };
    None
}

/// Marks the beginning of the step with this index.
#[cfg_attr(simprof_preloaded, unsafe(no_mangle))]
pub extern "C" fn simprof_step_begin(index: u64) {
    mark(Kind::Begin, index, 0);
}

/// Marks the end of the step with this index, which this thread began.
#[cfg_attr(simprof_preloaded, unsafe(no_mangle))]
pub extern "C" fn simprof_step_end(index: u64) {
    mark(Kind::End, index, 0);
}

/// Marks the end of a step, with the number of live agents.
#[cfg_attr(simprof_preloaded, unsafe(no_mangle))]
pub extern "C" fn simprof_step_end_with_population(index: u64, population: u64) {
    mark(Kind::EndWithPopulation, index, population);
}

/// Marks the end of the previous step and the beginning of the step with this index.
#[cfg_attr(simprof_preloaded, unsafe(no_mangle))]
pub extern "C" fn simprof_step(index: u64) {
    mark(Kind::Boundary, index, 0);
}
