//! The shared memory as mapped into this process. It is mapped once, when the library is loaded.

use core::ffi::{CStr, c_int};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crate::format::{
    ARENA_BYTES, CODE_SLOTS, Header, MAGIC, NODE_SLOTS, NODES, Node, PROCESSES, Process, RECORDS,
    Record, VARIABLE, offset,
};
use crate::sys;

static BASE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

/// The mapped memory, which is never unmapped.
#[derive(Clone, Copy)]
pub struct SharedMemory(*mut u8);

// SAFETY: shared parts of the memory are atomics, or are owned by the one thread that reserved them by an
// atomic.
unsafe impl Send for SharedMemory {}
// SAFETY: as above.
unsafe impl Sync for SharedMemory {}

/// Returns the memory if it is mapped.
#[inline]
pub fn memory() -> Option<SharedMemory> {
    let base = BASE.load(Ordering::Acquire);
    (!base.is_null()).then_some(SharedMemory(base))
}

/// Returns the header of the memory if it is mapped.
#[inline]
pub fn header() -> Option<&'static Header> {
    memory().map(SharedMemory::header)
}

macro_rules! part {
    ($(#[$doc:meta])* $name:ident: [$type:ty; $count:expr] at $offset:expr) => {
        $(#[$doc])*
        #[inline]
        pub fn $name(self) -> &'static [$type] {
            // SAFETY: the part lies within the mapping, which is never unmapped, and is aligned. Its fields
            // are atomics, for which all zeros is valid.
            unsafe { core::slice::from_raw_parts(self.0.add($offset).cast(), $count) }
        }
    };
}

impl SharedMemory {
    /// Returns the header.
    #[inline]
    pub fn header(self) -> &'static Header {
        // SAFETY: the mapping begins with the header; its fields that change are atomics.
        unsafe { &*self.0.cast() }
    }

    part!(
        /// The slots of processes.
        processes: [Process; PROCESSES] at offset::PROCESSES
    );
    part!(
        /// The ring buffer.
        records: [Record; RECORDS as usize] at offset::RECORDS
    );
    part!(
        /// The nodes.
        nodes: [Node; NODES] at offset::NODES
    );
    part!(
        /// The nodes' hash table.
        node_slots: [AtomicU32; NODE_SLOTS] at offset::NODE_SLOTS
    );
    part!(
        /// The code objects' hash table.
        code_slots: [AtomicU32; CODE_SLOTS] at offset::CODE_SLOTS
    );
    part!(
        /// The arena, in units of 8 bytes.
        arena: [AtomicU64; ARENA_BYTES / 8] at offset::ARENA
    );

    /// Returns the script. The profiler writes it before the target starts.
    pub fn script(self) -> &'static [u8] {
        let bytes = (self.header().script_bytes as usize).min(crate::format::SCRIPT_BYTES);
        // SAFETY: within the mapping; it is not written any more.
        unsafe { core::slice::from_raw_parts(self.0.add(offset::SCRIPT), bytes) }
    }
}

/// How much of the memory is mapped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    All,
    /// The header and the slots of processes.
    Processes,
}

impl Part {
    fn bytes(self) -> usize {
        match self {
            Part::All => offset::END,
            Part::Processes => offset::RECORDS,
        }
    }
}

/// The library uses at most 1 / SHARE of the address space that a limit leaves to the process.
const SHARE: usize = 8;

/// Maps the file that the environment names. Does nothing if it names no file, or a file of another format, or if a limit
/// leaves too little address space.
pub fn map() {
    if is_affordable()
        && let Some(base) = map_part(Part::All)
    {
        BASE.store(base, Ordering::Release);
    }
}

/// Calls `report` with the part of the memory that holds the slots of processes, if a limit of address space prevents that all
/// of it is mapped.
pub fn with_processes(report: impl FnOnce(SharedMemory)) {
    if !is_affordable()
        && let Some(base) = map_part(Part::Processes)
    {
        report(SharedMemory(base));
        // SAFETY: it was mapped above, and nothing keeps it.
        unsafe { sys::munmap(base.cast(), Part::Processes.bytes()) };
    }
}

fn is_affordable() -> bool {
    sys::free_address_space() / SHARE >= offset::END
}

fn map_part(part: Part) -> Option<*mut u8> {
    // SAFETY: the name is a C string. While libraries are loaded no other thread may change the environment.
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
    let base = map_file(fd, part.bytes());
    // SAFETY: it was opened above.
    unsafe { sys::close(fd) };
    base
}

fn map_file(fd: c_int, bytes: usize) -> Option<*mut u8> {
    // Only system calls that the loader makes too, in case the process runs under a filter.
    let mut begin = [0_u64; 2];
    // SAFETY: at most the length of `begin` is written to it.
    let read = unsafe { sys::read(fd, begin.as_mut_ptr().cast(), size_of_val(&begin)) };
    // The profiler wrote the length of the file, and has sealed it.
    if read != size_of_val(&begin) as isize || begin != [MAGIC, offset::END as u64] {
        return None;
    }
    let protection = sys::PROT_READ | sys::PROT_WRITE;
    // SAFETY: a new mapping; the file has this length.
    let base = unsafe { sys::mmap(ptr::null_mut(), bytes, protection, sys::MAP_SHARED, fd, 0) };
    (base != sys::MAP_FAILED).then(|| base.cast())
}

/// Maps memory for tests, in the state in which a process receives it. It is never unmapped.
#[cfg(test)]
pub fn for_tests() -> SharedMemory {
    const MAP_PRIVATE: c_int = 2;
    const MAP_ANONYMOUS: c_int = 0x20;
    let protection = sys::PROT_READ | sys::PROT_WRITE;
    let flags = MAP_PRIVATE | MAP_ANONYMOUS;
    // SAFETY: a new mapping.
    let base = unsafe { sys::mmap(ptr::null_mut(), offset::END, protection, flags, -1, 0) };
    assert_ne!(base, sys::MAP_FAILED);
    SharedMemory(base.cast())
}
