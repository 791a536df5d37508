//! This process image's slot in the shared memory: taking it, noticing forks, and reporting its state.

use core::sync::atomic::{AtomicU32, Ordering};

use super::format::{self, offset, state};
use super::shared::image_state::{NEW, NONE, TAKING};
use super::shared::{self, Shared, image_state};
use super::{contexts, live, mappings, python, system};
use crate::seccomp;

/// Index of the last image's slot, plus 1. A forked child still sees its parent's here.
static LAST_IMAGE: AtomicU32 = AtomicU32::new(NEW);

/// 1 if the kernel zeroes the state that a forked child must not inherit.
static WIPES: AtomicU32 = AtomicU32::new(0);
/// Id of the process that the state belongs to, if the kernel does not zero it.
static PROCESS_ID: AtomicU32 = AtomicU32::new(0);

/// Maps the memory that the environment names. Returns false if there is none of this format.
pub fn open() -> bool {
    let Some(shared) = shared::map() else { return false };
    let wipes = shared::reset_image_on_fork() && live::wipe_filter_on_fork();
    WIPES.store(wipes.into(), Ordering::Relaxed);
    shared::publish(shared);
    true
}

/// Returns whether the process has inherited seccomp filters that the profiler does not have.
pub fn is_filtered() -> bool {
    if seccomp::filters() == 0 {
        return false;
    }
    let Some(shared) = shared::map_bytes(system::PAGE) else { return false };
    let profilers = shared.header().filters as u32;
    // SAFETY: it was mapped above and no other code knows its address.
    unsafe { shared.unmap(system::PAGE) };
    seccomp::is_inherited(profilers)
}

/// Reports why this image records nothing, without keeping the memory mapped.
pub fn report_refusal(reason: u32) {
    let Some(shared) = shared::map_bytes(offset::LANES) else { return };
    if let Some(image) = take_process(shared) {
        set_unsupported(shared, image, reason);
    }
    // SAFETY: it was mapped above and no other code knows its address.
    unsafe { shared.unmap(offset::LANES) };
}

/// Returns the memory and the index of this process image's slot, which it takes if necessary. `None` if there is no
/// free slot, or recording has stopped.
#[inline]
pub fn current() -> Option<(Shared, u32)> {
    let shared = shared::get()?;
    if shared.header().abandoned.load(Ordering::Relaxed) != 0 {
        return None;
    }
    if WIPES.load(Ordering::Relaxed) == 0 {
        notice_fork();
    }
    match image_state().load(Ordering::Acquire) {
        NONE => None,
        NEW | TAKING => take(shared),
        image => Some((shared, image - 1)),
    }
}

/// Returns whether nothing will be recorded any more in this image.
pub fn is_finished() -> bool {
    let is_abandoned = |shared: Shared| shared.header().abandoned.load(Ordering::Relaxed) != 0;
    image_state().load(Ordering::Relaxed) == NONE || shared::get().is_some_and(is_abandoned)
}

/// Reports an interpreter that was found after this image took its slot.
pub fn report_python(version: u32) {
    if let Some(process) = shared::own_process() {
        process.python.store(version, Ordering::Relaxed);
    }
}

/// Marks this image as one that records nothing, with the reason.
pub fn refuse(reason: u32) {
    if let Some((shared, image)) = current() {
        set_unsupported(shared, image, reason);
        live::set_filter(false);
    }
}

fn set_unsupported(shared: Shared, image: u32, reason: u32) {
    let process = shared.process(image);
    process.reason.store(reason, Ordering::Relaxed);
    process.state.store(state::UNSUPPORTED, Ordering::Release);
}

/// Detects a fork on kernels before 4.14.
#[cold]
fn notice_fork() {
    let process = crate::sys::process_id();
    let before = PROCESS_ID.swap(process, Ordering::Relaxed);
    if before != process && before != 0 {
        live::set_filter(false);
        image_state().store(NEW, Ordering::Relaxed);
    }
}

/// Takes a slot for this image, or waits for another thread that is taking it.
#[cold]
fn take(shared: Shared) -> Option<(Shared, u32)> {
    // A signal handler that allocates would wait for the thread that it interrupts.
    let _blocked = system::BlockedSignals::new();
    let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
    if image_state().compare_exchange(NEW, TAKING, acquire, relaxed).is_err() {
        return wait(shared);
    }
    live::LIVE.clear();
    contexts::clear();
    if LAST_IMAGE.load(relaxed) != NEW {
        // This is a forked child. Clear the part of its parent's state that the kernel did not zero.
        mappings::forked();
        python::forked();
    }
    let image = take_process(shared);
    let value = image.map_or(NONE, |image| image + 1);
    if image.is_some() {
        live::set_filter(shared.is_exact());
        LAST_IMAGE.store(value, relaxed);
    } else {
        shared.header().processes_lost.fetch_add(1, relaxed);
    }
    image_state().store(value, Ordering::Release);
    image.map(|image| (shared, image))
}

/// Waits while another thread takes the slot, which takes microseconds.
fn wait(shared: Shared) -> Option<(Shared, u32)> {
    for _ in 0..10_000 {
        match image_state().load(Ordering::Acquire) {
            NEW | NONE => return None,
            TAKING => system::pause_ns(10_000),
            image => return Some((shared, image - 1)),
        }
    }
    None
}

/// Takes a free slot, fills it in and returns its index.
fn take_process(shared: Shared) -> Option<u32> {
    let is_free = |&position: &u32| {
        let (free, taken) = (state::FREE, state::TAKEN);
        let state = &shared.process(position).state;
        state.load(Ordering::Relaxed) == free
            && state.compare_exchange(free, taken, Ordering::Acquire, Ordering::Relaxed).is_ok()
    };
    let position = (0..format::PROCESSES as u32).find(is_free)?;
    let process = shared.process(position);
    process.pid.store(crate::sys::process_id(), Ordering::Relaxed);
    process.namespace.store(system::inode(c"/proc/self/ns/pid"), Ordering::Relaxed);
    process.parent.store(LAST_IMAGE.load(Ordering::Relaxed), Ordering::Relaxed);
    process.python.store(python::version(), Ordering::Relaxed);
    process.time_ns.store(system::now_ns(), Ordering::Relaxed);
    process.state.store(state::RECORDS, Ordering::Release);
    Some(position)
}
