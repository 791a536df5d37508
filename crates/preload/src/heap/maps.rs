//! Anonymous memory that the program maps itself. What allocators map to serve others from is not counted.
//!
//! What is only reserved (without rights, or without a claim on memory) is no allocation. A part of a mapping that lives on
//! when the rest is unmapped becomes an allocation of its own.

use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::format::Origin;
use super::hooks::{Caller, call};
use super::live::Allocation;
use super::record::{Event, Recorder, ended, recorder};
use super::{modules, program, python, real, shared, system};

const PROT_NONE: i32 = 0;
const MAP_FIXED: i32 = 0x10;
const MAP_ANONYMOUS: i32 = 0x20;
const MAP_NORESERVE: i32 = 0x4000;
const FAILED: usize = usize::MAX;

/// How many recorded mappings can be live.
const MAPPINGS: usize = 4096;
/// A place that a thread works on.
const BUSY: usize = 1;

/// A recorded mapping. Whoever sets `start` to [`BUSY`] has the rest for itself.
struct Mapping {
    /// 0 where the place is free.
    start: AtomicUsize,
    end: AtomicUsize,
    allocation: UnsafeCell<Allocation>,
}

// SAFETY: `allocation` is only accessed by whoever set `start` to BUSY.
unsafe impl Sync for Mapping {}

const NOTHING: Allocation = Allocation { size: 0, origin: Origin::Map, made_ns: 0, stack: 0 };

static PLACES: [Mapping; MAPPINGS] = [const {
    Mapping {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        allocation: UnsafeCell::new(NOTHING),
    }
}; MAPPINGS];

/// Places from here on were never used.
static USED: AtomicUsize = AtomicUsize::new(0);

/// A recorded mapping that was taken out of its place.
struct Taken {
    range: Range<usize>,
    allocation: Allocation,
}

/// In a forked child: its parent's mappings are not recorded again.
pub fn forked() {
    let used = USED.swap(0, Ordering::Relaxed).min(MAPPINGS);
    for place in &PLACES[..used] {
        place.start.store(0, Ordering::Relaxed);
    }
}

/// `mmap` of the C library. Files are mapped without a detour.
///
/// # Safety
///
/// As the function's own.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn mmap() {
    // A seventh argument is passed on the stack, and the registers' place is it.
    naked_asm!(
        ".cfi_startproc",
        "push rbp", ".cfi_adjust_cfa_offset 8", ".cfi_rel_offset rbp, 0",
        "push rbx", ".cfi_adjust_cfa_offset 8", ".cfi_rel_offset rbx, 0",
        "mov rax, rsp",
        "sub rsp, 16", ".cfi_adjust_cfa_offset 16",
        "push rax", ".cfi_adjust_cfa_offset 8",
        "call {call}",
        "add rsp, 40", ".cfi_adjust_cfa_offset -40",
        "ret", ".cfi_endproc",
        call = sym mmap_seen,
    )
}

/// `mmap64` of the C library, which is the same.
///
/// # Safety
///
/// As the function's own.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn mmap64() {
    naked_asm!("jmp {mmap}", mmap = sym mmap)
}

super::hooks::plain!(munmap, "rdx", munmap_seen);
super::hooks::plain!(mremap, "r9", mremap_seen);

extern "C" fn mmap_seen(
    address: usize,
    bytes: usize,
    protection: i32,
    flags: i32,
    fd: i32,
    offset: i64,
    caller: &Caller,
) -> usize {
    // SAFETY: the program's call.
    let map = || unsafe { real::mmap(address, bytes, protection, flags, fd, offset) };
    let Some(recorder) = recorder() else { return map() };
    let made = map();
    if made != FAILED {
        if flags & MAP_FIXED != 0 {
            // What was there is gone.
            forget(recorder, &range(made, bytes));
        }
        remember(recorder, made, bytes, protection, flags, caller);
    }
    made
}

/// Records a new mapping that counts, if it is drawn.
fn remember(
    recorder: Recorder,
    start: usize,
    bytes: usize,
    protection: i32,
    flags: i32,
    caller: &Caller,
) {
    let anonymous = flags & MAP_ANONYMOUS != 0;
    if !anonymous || protection == PROT_NONE || flags & MAP_NORESERVE != 0 {
        return;
    }
    let range = range(start, bytes);
    let size = range.len() as u64;
    if is_allocator(caller.registers().pc) || !recorder.draws(size) {
        return;
    }
    let made = recorder.made(start, size, Origin::Map, caller);
    if put(Taken { range: range.clone(), allocation: made.allocation }) && !recorder.recorded(made)
    {
        take(|found| *found == range);
    }
}

/// Whether the code at this address maps memory to serve others from.
fn is_allocator(pc: usize) -> bool {
    let malloc = real::MALLOC.load(Ordering::Relaxed).addr();
    program::tells() || python::is_interpreter(pc) || modules::is_same(pc, malloc)
}

extern "C" fn munmap_seen(address: usize, bytes: usize, _: &Caller) -> i32 {
    // As soon as it is unmapped, another thread may map something there. What cannot be unmapped is not a page's address.
    if USED.load(Ordering::Relaxed) != 0
        && address.is_multiple_of(system::PAGE)
        && let Some(recorder) = recorder()
    {
        forget(recorder, &range(address, bytes));
    }
    // SAFETY: the program's call.
    unsafe { real::munmap(address, bytes) }
}

extern "C" fn mremap_seen(
    address: usize,
    old: usize,
    new: usize,
    flags: i32,
    to: usize,
    caller: &Caller,
) -> usize {
    // SAFETY: the program's call.
    let remap = || unsafe { real::mremap(address, old, new, flags, to) };
    let Some(recorder) = recorder() else { return remap() };
    let range_before = range(address, old);
    let Some(before) = take(|found| *found == range_before) else { return remap() };
    let end = ended(address, before.allocation);
    let made = remap();
    if made == FAILED {
        put(before);
        return made;
    }
    let after = range(made, new);
    let size = after.len() as u64;
    if !recorder.draws(size) {
        recorder.freed(end);
        return made;
    }
    let event = recorder.made(made, size, Origin::Map, caller);
    if put(Taken { range: after, allocation: event.allocation }) {
        recorder.exchanged(end, event);
    } else {
        recorder.freed(end);
    }
    made
}

/// Whole pages.
fn range(start: usize, bytes: usize) -> Range<usize> {
    start..start.saturating_add(bytes).checked_next_multiple_of(system::PAGE).unwrap_or(start)
}

/// Records that what is in `gone` ends; what else there is of the same mappings lives on.
fn forget(recorder: Recorder, gone: &Range<usize>) {
    while let Some(taken) = take(|found| found.start < gone.end && gone.start < found.end) {
        let mut end = Some(ended(taken.range.start, taken.allocation));
        for part in [taken.range.start..gone.start, gone.end..taken.range.end] {
            if let Some(event) = part_of(recorder, &taken, &part) {
                match end.take() {
                    Some(end) => recorder.exchanged(end, event),
                    None => _ = recorder.recorded(event),
                }
            }
        }
        if let Some(end) = end {
            recorder.freed(end);
        }
    }
}

/// The record of a part that lives on, if it is one, and was drawn.
fn part_of(recorder: Recorder, whole: &Taken, part: &Range<usize>) -> Option<Event> {
    if part.is_empty() {
        return None;
    }
    let within = |address: usize| (address - whole.range.start) as u64;
    if !recorder.draws_part(whole.allocation.size, within(part.start)..within(part.end)) {
        return None;
    }
    let event = recorder.remade(part.start, part.len() as u64, whole.allocation);
    let put = put(Taken { range: part.clone(), allocation: event.allocation });
    put.then_some(event)
}

/// Takes the first mapping out that `chosen` accepts.
fn take(chosen: impl Fn(&Range<usize>) -> bool) -> Option<Taken> {
    let used = USED.load(Ordering::Acquire).min(MAPPINGS);
    PLACES[..used].iter().find_map(|place| {
        let start = place.start.load(Ordering::Acquire);
        if start <= BUSY || !chosen(&(start..place.end.load(Ordering::Relaxed))) {
            return None;
        }
        let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
        place.start.compare_exchange(start, BUSY, acquire, relaxed).ok()?;
        // SAFETY: the place is this thread's.
        let allocation = unsafe { *place.allocation.get() };
        let range = start..place.end.load(Ordering::Relaxed);
        place.start.store(0, Ordering::Release);
        Some(Taken { range, allocation })
    })
}

/// Puts a mapping in; false where there is no room, and it stays unknown.
fn put(taken: Taken) -> bool {
    let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
    let free = |place: &&Mapping| {
        place.start.load(relaxed) == 0
            && place.start.compare_exchange(0, BUSY, acquire, relaxed).is_ok()
    };
    let Some(at) = PLACES.iter().position(|place| free(&place)) else {
        shared::count(|header| &header.live_full);
        return false;
    };
    let place = &PLACES[at];
    // SAFETY: the place is this thread's.
    unsafe { *place.allocation.get() = taken.allocation };
    place.end.store(taken.range.end, relaxed);
    USED.fetch_max(at + 1, Ordering::Release);
    place.start.store(taken.range.start, Ordering::Release);
    true
}
