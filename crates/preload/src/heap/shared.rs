//! The shared memory, and this process image's place in it.

use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use super::format::{self, Header, Lane, Module, Node, Process, Record, offset, state};
use super::{contexts, live, system};

static MEMORY: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());

/// What a forked child finds zeroed, so that it knows that it is one however it was forked.
#[repr(C, align(4096))]
struct Alive {
    /// Position of this image in the processes, plus 1; or one of the values below.
    image: AtomicU32,
}

static ALIVE: Alive = Alive { image: AtomicU32::new(NEW) };

/// The image has no position yet.
const NEW: u32 = 0;
/// A thread takes a position.
const TAKING: u32 = u32::MAX;
/// There was no position: nothing is recorded.
const NONE: u32 = u32::MAX - 1;

/// The last image, which stays known to a forked child: its parent's.
static LAST_IMAGE: AtomicU32 = AtomicU32::new(NEW);

/// Whether the kernel zeroes what a child must not keep.
static WIPES: AtomicU32 = AtomicU32::new(0);
/// Where it does not: the process id that `ALIVE` is of.
static PROCESS_ID: AtomicU32 = AtomicU32::new(0);

/// The mapped memory.
#[derive(Clone, Copy)]
pub struct Shared(*mut u8);

/// The memory, where there is one.
#[inline]
pub fn get() -> Option<Shared> {
    let memory = MEMORY.load(Ordering::Acquire);
    (!memory.is_null()).then_some(Shared(memory))
}

/// Maps the memory that the environment names; false where there is none of this format.
pub fn open() -> bool {
    let Some(path) = system::variable(format::VARIABLE) else { return false };
    // SAFETY: variables are C strings.
    let Some(memory) = (unsafe { system::map_file(path, offset::END, offset::END) }) else {
        return false;
    };
    let header = Shared(memory).header();
    if header.magic != format::MAGIC || header.bytes != offset::END as u64 {
        // SAFETY: it was mapped here and nobody else knows it.
        unsafe { system::unmap(memory, offset::END) };
        return false;
    }
    let wipes = system::wipe_on_fork((&raw const ALIVE).cast_mut().cast(), size_of::<Alive>())
        && live::wipe_filter_on_fork();
    WIPES.store(wipes.into(), Ordering::Relaxed);
    MEMORY.store(memory, Ordering::Release);
    true
}

/// Says why this image records nothing, without keeping any memory.
#[cfg(simprof_heap)]
pub fn tell_refusal(reason: u32) {
    let Some(path) = system::variable(format::VARIABLE) else { return };
    // SAFETY: variables are C strings.
    let memory = unsafe { system::map_file(path, offset::END, offset::LANES) };
    let Some(memory) = memory else { return };
    let shared = Shared(memory);
    if shared.header().magic == format::MAGIC
        && let Some(image) = shared.free_process()
    {
        let process = shared.process(image);
        process.reason.store(reason, Ordering::Relaxed);
        process.state.store(state::UNSUPPORTED, Ordering::Release);
    }
    // SAFETY: it was mapped here and nobody else knows it.
    unsafe { system::unmap(memory, offset::LANES) };
}

/// Position of this process image in the processes, which it takes where it has none; none where there is no place, or
/// recording has ended.
#[inline]
pub fn begin() -> Option<(Shared, u32)> {
    let shared = get()?;
    if shared.header().abandoned.load(Ordering::Relaxed) != 0 {
        return None;
    }
    if WIPES.load(Ordering::Relaxed) == 0 {
        notice_fork();
    }
    match ALIVE.image.load(Ordering::Acquire) {
        NONE => None,
        NEW | TAKING => shared.take_image(),
        image => Some((shared, image - 1)),
    }
}

/// Whether nothing is recorded any more in this image, whatever comes.
pub fn is_over() -> bool {
    let is_abandoned = |shared: Shared| shared.header().abandoned.load(Ordering::Relaxed) != 0;
    ALIVE.image.load(Ordering::Relaxed) == NONE || get().is_some_and(is_abandoned)
}

/// Tells of an interpreter that was found after this image got its position.
#[cfg(simprof_heap)]
pub fn tell_python(version: u32) {
    let image = ALIVE.image.load(Ordering::Acquire);
    if let Some(shared) = get()
        && !matches!(image, NEW | NONE | TAKING)
    {
        shared.process(image - 1).python.store(version, Ordering::Relaxed);
    }
}

/// Tells that the library has touched more memory of its own.
pub fn touched(bytes: usize) {
    let image = ALIVE.image.load(Ordering::Relaxed);
    if let Some(shared) = get()
        && !matches!(image, NEW | NONE | TAKING)
    {
        shared.process(image - 1).own_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Position of this process image, or 0 before it has one.
pub fn image() -> u32 {
    ALIVE.image.load(Ordering::Relaxed).saturating_sub(1)
}

/// On kernels before 4.14.
#[cold]
fn notice_fork() {
    let process = system::process_id();
    let before = PROCESS_ID.swap(process, Ordering::Relaxed);
    if before != process && before != 0 {
        live::set_filter(false);
        ALIVE.image.store(NEW, Ordering::Relaxed);
    }
}

/// Makes this image one that records nothing, and says why.
pub fn refuse(reason: u32) {
    if let Some((shared, image)) = begin() {
        let process = shared.process(image);
        process.reason.store(reason, Ordering::Relaxed);
        process.state.store(state::UNSUPPORTED, Ordering::Release);
        live::set_filter(false);
    }
}

impl Shared {
    /// Memory of a type at an offset.
    #[inline]
    fn at<T>(self, offset: usize) -> &'static T {
        // SAFETY: the memory is mapped, never unmapped, and as long as the format says; every place is aligned and of the
        // asked type, whose fields are atomics, or are never written while the target runs.
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

    #[inline]
    pub fn record(self, lane: usize, position: u64) -> &'static Record {
        let at = lane * format::RECORDS as usize + (position % format::RECORDS) as usize;
        self.at(offset::RECORDS + at * size_of::<Record>())
    }

    #[inline]
    pub fn node(self, node: u32) -> &'static Node {
        self.at(offset::NODES + (node as usize % format::NODES) * size_of::<Node>())
    }

    #[inline]
    pub fn node_slots(self) -> &'static [AtomicU32; format::NODE_SLOTS] {
        self.at(offset::NODE_SLOTS)
    }

    pub fn module(self, number: u32) -> &'static Module {
        self.at(offset::MODULES + number as usize % format::MODULES * size_of::<Module>())
    }

    /// Whether every allocation is recorded.
    #[inline]
    pub fn is_exact(self) -> bool {
        self.header().interval <= 1
    }

    #[cold]
    fn take_image(self) -> Option<(Shared, u32)> {
        // A handler that allocates would wait for the thread that it interrupts.
        let _blocked = system::BlockedSignals::new();
        let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
        if ALIVE.image.compare_exchange(NEW, TAKING, acquire, relaxed).is_err() {
            return self.wait_for_image();
        }
        live::LIVE.clear();
        contexts::clear();
        #[cfg(simprof_heap)]
        if LAST_IMAGE.load(relaxed) != NEW {
            super::forget_parent();
        }
        let image = self.free_process();
        let value = image.map_or(NONE, |image| image + 1);
        if image.is_some() {
            live::set_filter(self.is_exact());
            LAST_IMAGE.store(value, relaxed);
        } else {
            self.header().processes_lost.fetch_add(1, relaxed);
        }
        ALIVE.image.store(value, Ordering::Release);
        image.map(|image| (self, image))
    }

    /// Another thread takes the position: it needs microseconds.
    fn wait_for_image(self) -> Option<(Shared, u32)> {
        for _ in 0..10_000 {
            match ALIVE.image.load(Ordering::Acquire) {
                NEW | NONE => return None,
                TAKING => system::sleep_ns(10_000),
                image => return Some((self, image - 1)),
            }
        }
        None
    }

    fn free_process(self) -> Option<u32> {
        let free = |&position: &u32| {
            let state = &self.process(position).state;
            state.load(Ordering::Relaxed) == state::FREE
                && state
                    .compare_exchange(
                        state::FREE,
                        state::TAKEN,
                        Ordering::Acquire,
                        Ordering::Relaxed,
                    )
                    .is_ok()
        };
        let position = (0..format::PROCESSES as u32).find(free)?;
        let process = self.process(position);
        process.pid.store(system::process_id(), Ordering::Relaxed);
        process.namespace.store(system::inode(c"/proc/self/ns/pid"), Ordering::Relaxed);
        process.parent.store(LAST_IMAGE.load(Ordering::Relaxed), Ordering::Relaxed);
        #[cfg(simprof_heap)]
        process.python.store(super::python::version(), Ordering::Relaxed);
        process.time_ns.store(system::now_ns(), Ordering::Relaxed);
        process.state.store(state::RECORDS, Ordering::Release);
        Some(position)
    }
}

/// Adds to a count of losses.
pub fn count(counter: impl FnOnce(&Header) -> &AtomicU64) {
    if let Some(shared) = get() {
        counter(shared.header()).fetch_add(1, Ordering::Relaxed);
    }
}
