//! The shared memory, as mapped into this process: found once, when the library is loaded.

use core::ffi::{CStr, c_int};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crate::format::{
    ARENA_BYTES, CODE_SLOTS, Header, MAGIC, NODE_SLOTS, NODES, Node, PROCESSES, Process, RECORDS,
    Record, VARIABLE, offset,
};
use crate::sys;

static BASE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

/// The mapped memory. It is never unmapped.
#[derive(Clone, Copy)]
pub struct Memory(*mut u8);

// SAFETY: what is changed in the memory are atomics, or parts that one thread took by an atomic.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

/// The memory, where the process was given one.
#[inline]
pub fn memory() -> Option<Memory> {
    let base = BASE.load(Ordering::Acquire);
    (!base.is_null()).then_some(Memory(base))
}

/// The header of the memory, where the process was given one.
#[inline]
pub fn header() -> Option<&'static Header> {
    memory().map(Memory::header)
}

macro_rules! part {
    ($(#[$doc:meta])* $name:ident: [$type:ty; $count:expr] at $offset:expr) => {
        $(#[$doc])*
        #[inline]
        pub fn $name(self) -> &'static [$type] {
            // SAFETY: the part lies within the mapping, which is never unmapped, and is aligned; its fields are
            // atomics, for which all zeros is valid.
            unsafe { core::slice::from_raw_parts(self.0.add($offset).cast(), $count) }
        }
    };
}

impl Memory {
    /// The header.
    #[inline]
    pub fn header(self) -> &'static Header {
        // SAFETY: the mapping begins with it; what changes in it are atomics.
        unsafe { &*self.0.cast() }
    }

    part!(
        /// The processes.
        processes: [Process; PROCESSES] at offset::PROCESSES
    );
    part!(
        /// The ring.
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
        /// The arena, in its units of 8 bytes.
        arena: [AtomicU64; ARENA_BYTES / 8] at offset::ARENA
    );

    /// The script's bytes; the profiler writes them before the target starts.
    pub fn script(self) -> &'static [u8] {
        let bytes = (self.header().script_bytes as usize).min(crate::format::SCRIPT_BYTES);
        // SAFETY: within the mapping; nobody writes it any more.
        unsafe { core::slice::from_raw_parts(self.0.add(offset::SCRIPT), bytes) }
    }
}

/// Maps what the environment names; leaves everything as it is where it names nothing, or nothing of this format.
pub fn map() {
    // SAFETY: the name is a C string; while libraries are loaded no other thread may change the environment.
    let path = unsafe { sys::getenv(VARIABLE.as_ptr()) };
    if path.is_null() {
        return;
    }
    // SAFETY: getenv returned a C string.
    let path = unsafe { CStr::from_ptr(path) };
    let flags = sys::O_RDWR | sys::O_CLOEXEC | sys::O_NONBLOCK | sys::O_NOCTTY;
    // SAFETY: `path` is a C string.
    let fd = unsafe { sys::open(path.as_ptr(), flags) };
    if fd < 0 {
        return;
    }
    if let Some(base) = map_file(fd) {
        BASE.store(base, Ordering::Release);
    }
    // SAFETY: it was opened here.
    unsafe { sys::close(fd) };
}

fn map_file(fd: c_int) -> Option<*mut u8> {
    // SAFETY: seeking has no effect on memory; it fails on what has no length.
    let bytes = unsafe { sys::lseek(fd, 0, sys::SEEK_END) };
    if bytes != offset::END as i64 {
        return None;
    }
    let protection = sys::PROT_READ | sys::PROT_WRITE;
    // SAFETY: a new mapping; the file is as long as that.
    let base =
        unsafe { sys::mmap(ptr::null_mut(), offset::END, protection, sys::MAP_SHARED, fd, 0) };
    if base == sys::MAP_FAILED {
        return None;
    }
    let memory = Memory(base.cast());
    let header = memory.header();
    if (header.magic, header.bytes) == (MAGIC, offset::END as u64) {
        return Some(memory.0);
    }
    // SAFETY: it was mapped above and is known to nobody else.
    unsafe { sys::munmap(base, offset::END) };
    None
}

/// Memory for tests, as it is in a process that was given some: it lives for ever.
#[cfg(test)]
pub fn fresh() -> Memory {
    const MAP_PRIVATE: c_int = 2;
    const MAP_ANONYMOUS: c_int = 0x20;
    let protection = sys::PROT_READ | sys::PROT_WRITE;
    let flags = MAP_PRIVATE | MAP_ANONYMOUS;
    // SAFETY: a new mapping.
    let base = unsafe { sys::mmap(ptr::null_mut(), offset::END, protection, flags, -1, 0) };
    assert_ne!(base, sys::MAP_FAILED);
    Memory(base.cast())
}
