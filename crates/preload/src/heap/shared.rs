//! The mapped shared memory, and which slot this process image has.
//!
//! The first part of the memory is mapped at the start, the later generations of its tables when they are first needed.

use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use super::format::{self, Header, Lane, Module, Node, Process, Record, location, offset, size};
use super::system;
use crate::format::Location;
use crate::generations::LaterGenerations;

static MEMORY: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());
static LATER: LaterGenerations = LaterGenerations::new();

/// Bytes of the first part.
pub const FIRST_BYTES: usize = offset::GENERATIONS[1];

/// State that the kernel zeroes in a forked child, so that the child notices the fork however it was made.
#[repr(C, align(4096))]
struct WipedOnFork {
    image: AtomicU32,
}

static WIPED_ON_FORK: WipedOnFork = WipedOnFork { image: AtomicU32::new(image_state::NEW) };

/// Values of [`image_state`], other than the index of an image's slot, plus 1.
pub mod image_state {
    /// The image has no slot yet.
    pub const NEW: u32 = 0;
    /// A thread is taking a slot.
    pub const TAKING: u32 = u32::MAX;
    /// There was no free slot: nothing is recorded.
    pub const NONE: u32 = u32::MAX - 1;
}

/// The mapped memory.
#[derive(Clone, Copy)]
pub struct Shared(*mut u8);

/// Returns the memory if it is mapped.
#[inline]
pub fn get() -> Option<Shared> {
    let memory = MEMORY.load(Ordering::Acquire);
    (!memory.is_null()).then_some(Shared(memory))
}

/// Maps the first part of the memory that the environment names. `None` if there is none of this format.
pub fn map() -> Option<Shared> {
    map_bytes(FIRST_BYTES)
}

/// Maps the first bytes of the memory that the environment names. `None` if there is none of this format.
pub fn map_bytes(bytes: usize) -> Option<Shared> {
    let path = system::variable(format::VARIABLE)?;
    // SAFETY: variables are C strings. The profiler wrote the length into the file, and has sealed it.
    unsafe { system::map_file(path, [format::MAGIC, offset::END as u64], bytes) }.map(Shared)
}

/// Makes [`get`] return this memory from now on.
pub fn publish(shared: Shared) {
    MEMORY.store(shared.0, Ordering::Release);
}

/// Asks the kernel to reset [`image_state`] in forked children. Returns whether it will.
pub fn reset_image_on_fork() -> bool {
    let state = (&raw const WIPED_ON_FORK).cast_mut().cast();
    system::wipe_on_fork(state, size_of::<WipedOnFork>())
}

/// The state of this process image: the index of its slot, plus 1, or a constant of [`mod@image_state`].
#[inline]
pub fn image_state() -> &'static AtomicU32 {
    &WIPED_ON_FORK.image
}

/// Returns the index of this process image's slot, or 0 before it has one.
pub fn image() -> u32 {
    image_state().load(Ordering::Relaxed).saturating_sub(1)
}

/// Returns this process image's slot. `None` if it has none.
pub fn own_process() -> Option<&'static Process> {
    match image_state().load(Ordering::Acquire) {
        image_state::NEW | image_state::NONE | image_state::TAKING => None,
        image => Some(get()?.process(image - 1)),
    }
}

/// Reports that the library uses more memory of its own.
pub fn add_own_bytes(bytes: usize) {
    if let Some(process) = own_process() {
        process.own_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Shared {
    /// Returns the object at an offset of the first part.
    #[inline]
    fn at<T>(self, offset: usize) -> &'static T {
        // SAFETY: the part is mapped and never unmapped. Every object is aligned and of the requested type; its fields are
        // atomics, or are not written while the target runs.
        unsafe { &*self.0.add(offset).cast::<T>() }
    }

    #[inline]
    pub fn header(self) -> &'static Header {
        self.at(0)
    }

    pub fn process(self, position: u32) -> &'static Process {
        self.at(offset::PROCESSES + position as usize % format::PROCESSES * size_of::<Process>())
    }

    #[inline]
    pub fn lane(self, lane: usize) -> &'static Lane {
        self.at(offset::LANES + lane * size_of::<Lane>())
    }

    /// Returns the address of a generation. `None` if this process cannot map it.
    #[inline]
    fn generation(self, generation: usize) -> Option<*mut u8> {
        // SAFETY: the first part is mapped and never unmapped.
        unsafe { LATER.get(self.0, &offset::GENERATIONS, generation) }
    }

    /// Returns the object at a location. `None` if this process cannot map it.
    #[inline]
    fn item<T>(self, (generation, offset): Location) -> Option<&'static T> {
        let begin = self.generation(generation)?;
        // SAFETY: as in `at`.
        Some(unsafe { &*begin.add(offset).cast::<T>() })
    }

    /// Returns the lane for a thread that should use `lane`: that one, or another if this process cannot map it.
    pub fn usable_lane(self, lane: usize) -> usize {
        let mut lanes = 0;
        for (generation, count) in size::LANES.into_iter().enumerate() {
            if self.generation(generation).is_none() {
                return lane % lanes;
            }
            lanes += count;
            if lane < lanes {
                return lane;
            }
        }
        lane % lanes
    }

    /// Returns the record of a lane for a position. `None` if this process cannot map the lane.
    #[inline]
    pub fn record(self, lane: usize, position: u64) -> Option<&'static Record> {
        self.item(location::record(lane, position)?)
    }

    /// Returns a node. `None` if there is no such node, or this process cannot map it.
    #[inline]
    pub fn node(self, node: u32) -> Option<&'static Node> {
        self.item(location::node(node as usize)?)
    }

    /// Returns a generation's slots for nodes. `None` if this process cannot map it.
    #[inline]
    pub fn node_slots(self, generation: usize) -> Option<&'static [AtomicU32]> {
        let begin = self.generation(generation)?;
        let (at, count) = (offset::node_slots(generation), size::NODE_SLOTS[generation]);
        // SAFETY: as in `at`.
        Some(unsafe { core::slice::from_raw_parts(begin.add(at).cast(), count) })
    }

    /// Returns a module. `None` if there is no such module, or this process cannot map it.
    pub fn module(self, number: u32) -> Option<&'static Module> {
        self.item(location::module(number as usize)?)
    }

    /// Maps all generations that the limits of this process allow, before it may be forbidden.
    #[cfg(simprof_heap)]
    pub fn prepare_for_filter(self) {
        self.generation(crate::format::GENERATIONS - 1);
    }

    /// Unmaps the memory.
    ///
    /// # Safety
    ///
    /// This many bytes must be mapped, and not in use.
    pub unsafe fn unmap(self, bytes: usize) {
        // SAFETY: the caller's promise.
        unsafe { system::unmap(self.0, bytes) };
    }

    /// Returns whether every allocation is recorded.
    #[inline]
    pub fn is_exact(self) -> bool {
        self.header().interval <= 1
    }
}

/// Increments a counter of losses.
pub fn count(counter: impl FnOnce(&Header) -> &AtomicU64) {
    if let Some(shared) = get() {
        counter(shared.header()).fetch_add(1, Ordering::Relaxed);
    }
}
