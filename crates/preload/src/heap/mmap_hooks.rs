//! Hooks for anonymous memory that the program maps itself. Memory that an allocator maps to serve requests
//! from is not counted.
//!
//! Memory that is only reserved (without access rights, or with `MAP_NORESERVE`) is not an allocation. When a
//! part of a mapping is unmapped, the remaining part becomes a separate allocation that does not count as new.
//! `mremap` replaces an allocation by another one, like `realloc`.

use core::arch::naked_asm;
use core::ops::Range;
use core::sync::atomic::Ordering;

use super::caller::Caller;
use super::format::Origin;
use super::hooks::call;
use super::mappings::{self, Mapping};
use super::record::{Event, Recorder, end_event_at, recorder};
use super::{custom_allocator, loader, proc_maps, python, real, system};

const PROT_NONE: i32 = 0;
const MAP_FIXED: i32 = 0x10;
const MAP_ANONYMOUS: i32 = 0x20;
const MAP_NORESERVE: i32 = 0x4000;
const MREMAP_FIXED: i32 = 2;
const FAILED: usize = usize::MAX;

/// Maximum number of recorded mappings that one `mremap` may affect: adjacent mappings, which are one for the kernel.
const MOVED: usize = 8;

/// Replaces the C library's `mmap`. Mappings of files are passed straight on.
///
/// # Safety
///
/// As for the function itself.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn mmap() {
    // The seventh argument, the address of the saved registers, is passed on the stack.
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

/// Replaces the C library's `mmap64`, which is the same function.
///
/// # Safety
///
/// As for the function itself.
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
            // The previous mapping at this address is gone.
            record_unmapped(recorder, &range(made, bytes), system::now_ns());
        }
        record_if_counted(recorder, made, bytes, protection, flags, caller);
    }
    made
}

/// Records a new mapping if it counts and is sampled.
fn record_if_counted(
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
    if !is_allocator(caller.registers().pc) && recorder.sample(range.len() as u64) {
        record_new(recorder, range, caller);
    }
}

/// Records a new mapping that was sampled.
fn record_new(recorder: Recorder, range: Range<usize>, caller: &Caller) {
    let event = recorder.allocation_event(range.start, range.len() as u64, Origin::Map, caller);
    if mappings::insert(Mapping { range: range.clone(), allocation: event.allocation })
        && !recorder.record_allocation(event)
    {
        mappings::remove(&range);
    }
}

/// Returns whether the code at this address is an allocator, which maps memory to serve requests from.
fn is_allocator(pc: usize) -> bool {
    let malloc = real::MALLOC.load(Ordering::Relaxed).addr();
    custom_allocator::is_reported() || python::is_interpreter(pc) || loader::is_same(pc, malloc)
}

extern "C" fn munmap_seen(address: usize, bytes: usize, _: &Caller) -> i32 {
    // Once it is unmapped, another thread may map something there. An address that is not page-aligned cannot
    // be unmapped.
    if mappings::is_any()
        && address.is_multiple_of(system::PAGE)
        && let Some(recorder) = recorder()
    {
        record_unmapped(recorder, &range(address, bytes), system::now_ns());
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
    let before = mappings::take_all_overlapping::<MOVED>(&moved);
    let time_ns = system::now_ns();
    let made = remap();
    if made == FAILED {
        // The old mapping stays live. If the table no longer has space for it, its end is recorded.
        for mapping in before.into_iter().flatten() {
            let end = end_event_at(time_ns, mapping.range.start, mapping.allocation);
            if !mappings::insert(mapping) {
                recorder.record_end(end);
            }
        }
        return made;
    }
    let after = range(made, new);
    if flags & MREMAP_FIXED != 0 {
        // The previous mapping at this address is gone.
        record_unmapped(recorder, &after, time_ns);
    }
    match before {
        [Some(original), None, ..] if original.range == moved => {
            let end = end_event_at(time_ns, original.range.start, original.allocation);
            replace(recorder, end, after, caller);
        }
        [None, ..] => record_moved(recorder, after, caller),
        parts => {
            parts
                .into_iter()
                .flatten()
                .for_each(|mapping| split(recorder, mapping, &moved, time_ns));
            if recorder.sample(after.len() as u64) {
                record_new(recorder, after, caller);
            }
        }
    }
    made
}

/// Records that a recorded mapping was replaced by another one.
fn replace(recorder: Recorder, end: Event, after: Range<usize>, caller: &Caller) {
    let size = after.len() as u64;
    if !recorder.sample(size) {
        return recorder.record_end(end);
    }
    let event = recorder.allocation_event(after.start, size, Origin::Map, caller);
    if !mappings::insert(Mapping { range: after.clone(), allocation: event.allocation }) {
        recorder.record_end(end);
    } else if !recorder.record_exchange(end, event) {
        mappings::remove(&after);
    }
}

/// Records the result of an `mremap` of something that was not recorded. In sampled mode the old mapping may
/// exist without having been sampled.
fn record_moved(recorder: Recorder, after: Range<usize>, caller: &Caller) {
    if !recorder.is_exact()
        && !is_allocator(caller.registers().pc)
        && recorder.sample(after.len() as u64)
        && proc_maps::is_anonymous(after.start)
    {
        record_new(recorder, after, caller);
    }
}

/// Returns the pages of a range of bytes.
fn range(start: usize, bytes: usize) -> Range<usize> {
    start..start.saturating_add(bytes).checked_next_multiple_of(system::PAGE).unwrap_or(start)
}

/// Records that the mappings in `gone` end at this time. The remaining parts of the same mappings stay live.
fn record_unmapped(recorder: Recorder, gone: &Range<usize>, time_ns: u64) {
    while let Some(mapping) = mappings::take_overlapping(gone) {
        split(recorder, mapping, gone, time_ns);
    }
}

/// Records that a mapping ends at this time in the range `gone`.
fn split(recorder: Recorder, mapping: Mapping, gone: &Range<usize>, time_ns: u64) {
    let mut end = Some(end_event_at(time_ns, mapping.range.start, mapping.allocation));
    for part in [mapping.range.start..gone.start, gone.end..mapping.range.end] {
        let Some(event) = part_of(recorder, &mapping, &part, time_ns) else { continue };
        let is_recorded = match end.take() {
            Some(end) => recorder.record_exchange(end, event),
            None => recorder.record_allocation(event),
        };
        if !is_recorded {
            mappings::remove(&part);
        }
    }
    if let Some(end) = end {
        recorder.record_end(end);
    }
}

/// Returns the record of a part that stays live, if it is not empty and is sampled, and inserts it.
fn part_of(
    recorder: Recorder,
    original: &Mapping,
    part: &Range<usize>,
    time_ns: u64,
) -> Option<Event> {
    if part.is_empty() {
        return None;
    }
    let within = |address: usize| (address - original.range.start) as u64;
    if !recorder.sample_part(original.allocation.size, within(part.start)..within(part.end)) {
        return None;
    }
    let event =
        recorder.remainder_event(time_ns, part.start, part.len() as u64, original.allocation);
    let inserted = mappings::insert(Mapping { range: part.clone(), allocation: event.allocation });
    inserted.then_some(event)
}
