//! Anonymous memory that the program maps itself. What allocators map to serve others from is not counted.
//!
//! What is only reserved (without rights, or without a claim on memory) is no allocation. A part of a mapping that lives on
//! when the rest is unmapped is known on its own from then on, but was not allocated anew. What `mremap` makes of a mapping
//! is an allocation in its place, as with `realloc`.

use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::format::Origin;
use super::hooks::{Caller, call};
use super::live::Allocation;
use super::record::{Event, Recorder, ended_at, recorder};
use super::{modules, program, python, real, shared, system};

const PROT_NONE: i32 = 0;
const MAP_FIXED: i32 = 0x10;
const MAP_ANONYMOUS: i32 = 0x20;
const MAP_NORESERVE: i32 = 0x4000;
const MREMAP_FIXED: i32 = 2;
const FAILED: usize = usize::MAX;

/// How many recorded mappings can be live.
const MAPPINGS: usize = 4096;
/// A place that a thread works on.
const BUSY: usize = 1;
/// How many recorded mappings one `mremap` may be of: those that were made beside each other, and are one for the kernel.
const MOVED: usize = 8;

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
            forget(recorder, &range(made, bytes), system::now_ns());
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
    if !is_allocator(caller.registers().pc) && recorder.draws(range.len() as u64) {
        made(recorder, range, caller);
    }
}

/// Records a mapping that was made, and drawn.
fn made(recorder: Recorder, range: Range<usize>, caller: &Caller) {
    let event = recorder.made(range.start, range.len() as u64, Origin::Map, caller);
    if put(Taken { range: range.clone(), allocation: event.allocation })
        && !recorder.recorded(event)
    {
        unput(&range);
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
        forget(recorder, &range(address, bytes), system::now_ns());
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
    let moved = range(address, old);
    let before = take_all(&moved);
    let time_ns = system::now_ns();
    let made = remap();
    if made == FAILED {
        // What was there lives on. Where there is no room for it any more, it can only end.
        for taken in before.into_iter().flatten() {
            let end = ended_at(time_ns, taken.range.start, taken.allocation);
            if !put(taken) {
                recorder.freed(end);
            }
        }
        return made;
    }
    let after = range(made, new);
    if flags & MREMAP_FIXED != 0 {
        // What was there is gone.
        forget(recorder, &after, time_ns);
    }
    match before {
        [Some(whole), None, ..] if whole.range == moved => {
            let end = ended_at(time_ns, whole.range.start, whole.allocation);
            replace(recorder, end, after, caller);
        }
        [None, ..] => remember_moved(recorder, after, caller),
        parts => {
            parts.into_iter().flatten().for_each(|taken| cut(recorder, taken, &moved, time_ns));
            if recorder.draws(after.len() as u64) {
                self::made(recorder, after, caller);
            }
        }
    }
    made
}

/// Records that a recorded mapping became another one.
fn replace(recorder: Recorder, end: Event, after: Range<usize>, caller: &Caller) {
    let size = after.len() as u64;
    if !recorder.draws(size) {
        return recorder.freed(end);
    }
    let event = recorder.made(after.start, size, Origin::Map, caller);
    if !put(Taken { range: after.clone(), allocation: event.allocation }) {
        recorder.freed(end);
    } else if !recorder.exchanged(end, event) {
        unput(&after);
    }
}

/// Records what `mremap` made of something that was not recorded: in sampled mode, it may be that it was not drawn.
fn remember_moved(recorder: Recorder, after: Range<usize>, caller: &Caller) {
    if !recorder.is_exact()
        && !is_allocator(caller.registers().pc)
        && recorder.draws(after.len() as u64)
        && modules::is_anonymous(after.start)
    {
        made(recorder, after, caller);
    }
}

/// Whole pages.
fn range(start: usize, bytes: usize) -> Range<usize> {
    start..start.saturating_add(bytes).checked_next_multiple_of(system::PAGE).unwrap_or(start)
}

/// Records that what is in `gone` ends at this time; what else there is of the same mappings lives on.
fn forget(recorder: Recorder, gone: &Range<usize>, time_ns: u64) {
    while let Some(taken) = take(overlaps(gone)) {
        cut(recorder, taken, gone, time_ns);
    }
}

/// Records that what is in `gone` of a mapping ends at this time.
fn cut(recorder: Recorder, taken: Taken, gone: &Range<usize>, time_ns: u64) {
    let mut end = Some(ended_at(time_ns, taken.range.start, taken.allocation));
    for part in [taken.range.start..gone.start, gone.end..taken.range.end] {
        let Some(event) = part_of(recorder, &taken, &part, time_ns) else { continue };
        let is_recorded = match end.take() {
            Some(end) => recorder.exchanged(end, event),
            None => recorder.recorded(event),
        };
        if !is_recorded {
            unput(&part);
        }
    }
    if let Some(end) = end {
        recorder.freed(end);
    }
}

/// The record of a part that lives on, if it is one, and was drawn.
fn part_of(recorder: Recorder, whole: &Taken, part: &Range<usize>, time_ns: u64) -> Option<Event> {
    if part.is_empty() {
        return None;
    }
    let within = |address: usize| (address - whole.range.start) as u64;
    if !recorder.draws_part(whole.allocation.size, within(part.start)..within(part.end)) {
        return None;
    }
    let event = recorder.remade(time_ns, part.start, part.len() as u64, whole.allocation);
    let put = put(Taken { range: part.clone(), allocation: event.allocation });
    put.then_some(event)
}

/// Accepts what has something in common with a range.
fn overlaps(range: &Range<usize>) -> impl Fn(&Range<usize>) -> bool {
    |found| found.start < range.end && range.start < found.end
}

/// Takes out what has something in common with a range, as much as there is room for.
fn take_all(range: &Range<usize>) -> [Option<Taken>; MOVED] {
    let mut is_more = true;
    core::array::from_fn(|_| {
        let taken = is_more.then(|| take(overlaps(range))).flatten();
        is_more = taken.is_some();
        taken
    })
}

/// Takes a mapping out whose record was lost.
fn unput(range: &Range<usize>) {
    take(|found| found == range);
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
