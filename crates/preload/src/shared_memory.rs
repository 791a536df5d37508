//! The shared memory as mapped into this process: its first part when the library is loaded, the later generations of its
//! tables when they are first needed.

use core::ffi::{CStr, c_int};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::format::{
    Code, GENERATIONS, Header, Location, MAGIC, Node, PROCESSES, Process, RECORDS, Record,
    VARIABLE, location, offset, reason, size,
};
use crate::generations::LaterGenerations;
use crate::sys;

static BASE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static LATER: LaterGenerations = LaterGenerations::new();

/// The mapped memory, which is never unmapped.
#[derive(Clone, Copy)]
pub struct SharedMemory {
    base: *mut u8,
    pub later: &'static LaterGenerations,
}

// SAFETY: shared parts of the memory are atomics, or are owned by the one thread that reserved them by an
// atomic.
unsafe impl Send for SharedMemory {}
// SAFETY: as above.
unsafe impl Sync for SharedMemory {}

/// Returns the memory if it is mapped.
#[inline]
pub fn memory() -> Option<SharedMemory> {
    let base = BASE.load(Ordering::Acquire);
    (!base.is_null()).then_some(SharedMemory { base, later: &LATER })
}

/// Returns the header of the memory if it is mapped.
#[inline]
pub fn header() -> Option<&'static Header> {
    memory().map(SharedMemory::header)
}

impl SharedMemory {
    /// Returns the header.
    #[inline]
    pub fn header(self) -> &'static Header {
        // SAFETY: the mapping begins with the header; its fields that change are atomics.
        unsafe { &*self.base.cast() }
    }

    /// Returns the slots of processes.
    #[inline]
    pub fn processes(self) -> &'static [Process] {
        // SAFETY: as for `record`.
        unsafe { core::slice::from_raw_parts(self.base.add(offset::PROCESSES).cast(), PROCESSES) }
    }

    /// Returns the record of the ring buffer for a position, which counts up without wrapping.
    #[inline]
    pub fn record(self, position: u64) -> &'static Record {
        let at = offset::RECORDS + (position % RECORDS) as usize * size_of::<Record>();
        // SAFETY: it is within the mapping, which is never unmapped, and aligned. Its fields are atomics, for which all zeros
        // is valid.
        unsafe { &*self.base.add(at).cast() }
    }

    /// Returns a node. `None` if there is no such node, or this process cannot map it.
    #[inline]
    pub fn node(self, index: u32) -> Option<&'static Node> {
        let node = self.at(location::node(index as usize)?)?;
        // SAFETY: as for `record`.
        Some(unsafe { &*node.cast() })
    }

    /// Returns the address of a code object. `None` if there is no such number, or this process cannot map it.
    #[inline]
    pub fn code(self, number: u32) -> Option<*mut Code> {
        Some(self.at(location::code(number)?)?.cast())
    }

    /// Returns a generation's slots for nodes. `None` if this process cannot map it.
    #[inline]
    pub fn node_slots(self, generation: usize) -> Option<&'static [AtomicU32]> {
        self.slots(generation, offset::node_slots(generation), size::NODE_SLOTS[generation])
    }

    /// Returns a generation's slots for code objects. `None` if this process cannot map it.
    #[inline]
    pub fn code_slots(self, generation: usize) -> Option<&'static [AtomicU32]> {
        self.slots(generation, offset::code_slots(generation), size::CODE_SLOTS[generation])
    }

    #[inline]
    fn slots(self, generation: usize, at: usize, count: usize) -> Option<&'static [AtomicU32]> {
        let slots = self.at((generation, at))?;
        // SAFETY: as for `record`.
        Some(unsafe { core::slice::from_raw_parts(slots.cast(), count) })
    }

    /// Returns the address of an object. `None` if this process cannot map its generation.
    #[inline]
    fn at(self, (generation, offset): Location) -> Option<*mut u8> {
        // SAFETY: the location is within the generation.
        Some(unsafe { self.generation(generation)?.add(offset) })
    }

    /// Returns the address of a generation. `None` if this process cannot map it.
    #[inline]
    fn generation(self, generation: usize) -> Option<*mut u8> {
        // SAFETY: the first part is mapped, and is never unmapped.
        unsafe { self.later.get(self.base, &offset::GENERATIONS, generation) }
    }

    /// Maps all generations that the limits of this process allow, before it may be forbidden.
    pub fn prepare_for_filter(self) {
        self.generation(GENERATIONS - 1);
    }

    /// Returns the script. The profiler writes it before the target starts.
    pub fn script(self) -> &'static [u8] {
        let bytes = (self.header().script_bytes as usize).min(crate::format::SCRIPT_BYTES);
        // SAFETY: within the mapping; it is not written any more.
        unsafe { core::slice::from_raw_parts(self.base.add(offset::SCRIPT), bytes) }
    }
}

/// How much of the memory is mapped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// All before the second generation.
    First,
    /// The header and the slots of processes.
    Processes,
}

impl Part {
    fn bytes(self) -> usize {
        match self {
            Part::First => offset::GENERATIONS[1],
            Part::Processes => offset::SCRIPT,
        }
    }
}

/// The first part of the memory uses at most 1 / SHARE of the address space that a limit leaves to the process.
const SHARE: usize = 8;

/// Maps the file that the environment names. Does nothing if it names no file, or a file of another format, or for a reason of
/// [`with_refusal`].
pub fn map() {
    if refusal().is_none()
        && let Some(base) = map_part(Part::First)
    {
        BASE.store(base, Ordering::Release);
    }
}

/// Calls `report` with the part of the memory that holds the slots of processes, if the first part may not be mapped, and with
/// the [`mod@reason`].
pub fn with_refusal(report: impl FnOnce(SharedMemory, u32)) {
    if let Some(reason) = refusal()
        && let Some(base) = map_part(Part::Processes)
    {
        report(SharedMemory { base, later: &LATER }, reason);
        // SAFETY: it was mapped above, and nothing keeps it.
        unsafe { sys::munmap(base.cast(), Part::Processes.bytes()) };
    }
}

/// Returns the [`mod@reason`] why the first part may not be mapped, if there is one.
fn refusal() -> Option<u32> {
    match sys::free_address_space() {
        Some(free) if free / SHARE >= Part::First.bytes() => None,
        Some(_) => Some(reason::LIMITED),
        None => Some(reason::FILTER),
    }
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
    // SAFETY: the name is a C string, the descriptor is new, and the new mapping is within the file.
    let base = unsafe {
        let fd = libc::memfd_create(c"simprof-test".as_ptr(), libc::MFD_CLOEXEC);
        assert_eq!(libc::ftruncate(fd, offset::END as i64), 0);
        let protection = sys::PROT_READ | sys::PROT_WRITE;
        let bytes = Part::First.bytes();
        let base = sys::mmap(ptr::null_mut(), bytes, protection, sys::MAP_SHARED, fd, 0);
        libc::close(fd);
        base
    };
    assert_ne!(base, sys::MAP_FAILED);
    SharedMemory { base: base.cast(), later: Box::leak(Box::new(LaterGenerations::new())) }
}
