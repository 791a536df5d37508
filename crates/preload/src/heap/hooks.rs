//! The functions that replace the allocator's.
//!
//! The common case, an allocation or an end that is not recorded, takes a few instructions of assembly: they
//! compare and jump to the real function, which returns to the program. In the other cases a hook calls the
//! function `..._seen`, and passes the caller's registers so that the stack can be unwound from there.

use core::arch::naked_asm;

use super::caller::Caller;
use super::format::{Origin, flag};
use super::live::{FILTER, LIVE, may_be_recorded};
use super::record::{end_event, end_event_at, recorder};
use super::{python_allocator, real, system};
use crate::own_work;

/// Saves the registers, calls the function with their address in `$register`, and returns its result.
macro_rules! call {
    ($register:literal) => {
        concat!(
            "push rbp\n",
            ".cfi_adjust_cfa_offset 8\n",
            ".cfi_rel_offset rbp, 0\n",
            "push rbx\n",
            ".cfi_adjust_cfa_offset 8\n",
            ".cfi_rel_offset rbx, 0\n",
            "sub rsp, 8\n",
            ".cfi_adjust_cfa_offset 8\n",
            "lea ",
            $register,
            ", [rsp + 8]\n",
            "call {call}\n",
            "add rsp, 24\n",
            ".cfi_adjust_cfa_offset -24\n",
            "ret\n",
            ".cfi_endproc\n",
        )
    };
}

/// Subtracts a size from the thread's countdown. Jumps to `2` if the size reaches the next sampled byte.
macro_rules! count_down {
    ($size:literal) => {
        concat!(
            "mov rax, qword ptr [rip + simprof_heap_thread@GOTTPOFF]\n",
            "mov r11, qword ptr fs:[rax]\n",
            "sub r11, ",
            $size,
            "\n",
            // Below or equal: this allocation contains the next sampled byte.
            "jbe 2f\n",
            "mov qword ptr fs:[rax], r11\n",
        )
    };
}

/// Jumps to `2` if the address may belong to a recorded allocation.
macro_rules! filter {
    ($address:literal) => {
        concat!(
            "mov rax, ",
            $address,
            "\nmov r10, rax\n",
            "shr rax, 7\n",
            "shr r10, 23\n",
            "xor eax, r10d\n",
            "movzx eax, ax\n",
            "lea r10, [rip + {filter}]\n",
            "cmp byte ptr [r10 + rax], 0\n",
            "jne 2f\n",
        )
    };
}

/// Ends the common case: jumps to the real function, or to `2` if it is not resolved yet.
macro_rules! leave {
    () => {
        concat!(
            "mov rax, qword ptr [rip + {real}]\n",
            "test rax, rax\n",
            "jz 2f\n",
            "jmp rax\n",
            "2:\n"
        )
    };
}

/// Defines a hook that has no common case.
macro_rules! plain {
    ($name:ident, $register:literal, $call:ident) => {
        #[doc = concat!("Replaces the C library's `", stringify!($name), "`.")]
        ///
        /// # Safety
        ///
        /// As for the function itself.
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name() {
            naked_asm!(".cfi_startproc", call!($register), call = sym $call)
        }
    };
}
pub(super) use {call, count_down, filter, plain};

/// Replaces the C library's `malloc`.
///
/// # Safety
///
/// As for the function itself.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn malloc(size: usize) -> usize {
    naked_asm!(
        ".cfi_startproc", count_down!("rdi"), leave!(), call!("rsi"),
        real = sym real::MALLOC, call = sym malloc_seen,
    )
}

/// Replaces the C library's `free`.
///
/// # Safety
///
/// As for the function itself.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn free(address: usize) {
    naked_asm!(
        ".cfi_startproc", filter!("rdi"), leave!(), call!("rsi"),
        filter = sym FILTER, real = sym real::FREE, call = sym free_seen,
    )
}

/// Replaces the C library's `calloc`.
///
/// # Safety
///
/// As for the function itself.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn calloc(count: usize, size: usize) -> usize {
    naked_asm!(
        ".cfi_startproc", "mov rax, rdi", "mul rsi", "jo 2f", "mov r10, rax",
        count_down!("r10"), leave!(), call!("rdx"),
        real = sym real::CALLOC, call = sym calloc_seen,
    )
}

/// Replaces the C library's `realloc`.
///
/// # Safety
///
/// As for the function itself.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn realloc(address: usize, size: usize) -> usize {
    naked_asm!(
        ".cfi_startproc", filter!("rdi"), count_down!("rsi"), leave!(), call!("rdx"),
        filter = sym FILTER, real = sym real::REALLOC, call = sym realloc_seen,
    )
}

plain!(reallocarray, "rcx", reallocarray_seen);
plain!(posix_memalign, "rcx", posix_memalign_seen);
plain!(aligned_alloc, "rdx", aligned_alloc_seen);
plain!(memalign, "rdx", memalign_seen);
plain!(valloc, "rsi", valloc_seen);
plain!(pvalloc, "rsi", pvalloc_seen);
plain!(cfree, "rsi", free_seen);

/// Makes an allocation, and records it if it is sampled and succeeds.
#[inline]
pub fn allocate(
    size: usize,
    origin: Origin,
    caller: &Caller,
    make: impl FnOnce() -> usize,
) -> usize {
    if python_allocator::is_test_allocation() || own_work::is_active() {
        return make();
    }
    let recorder = recorder().filter(|recorder| recorder.sample(size as u64));
    if recorder.is_some() {
        python_allocator::check_hooks();
    }
    let address = make();
    if let Some(recorder) = recorder
        && address != 0
    {
        recorder.record_new(address, size as u64, origin, 0, caller);
    }
    address
}

extern "C" fn malloc_seen(size: usize, caller: &Caller) -> usize {
    // SAFETY: the program's call.
    allocate(size, Origin::Malloc, caller, || unsafe { real::malloc(size) })
}

extern "C" fn calloc_seen(count: usize, size: usize, caller: &Caller) -> usize {
    // SAFETY: the program's call.
    let make = || unsafe { real::calloc(count, size) };
    match count.checked_mul(size) {
        Some(bytes) => allocate(bytes, Origin::Malloc, caller, make),
        None => make(),
    }
}

extern "C" fn aligned_alloc_seen(align: usize, size: usize, caller: &Caller) -> usize {
    // SAFETY: the program's call.
    allocate(size, Origin::Malloc, caller, || unsafe { real::aligned_alloc(align, size) })
}

extern "C" fn memalign_seen(align: usize, size: usize, caller: &Caller) -> usize {
    // SAFETY: the program's call.
    allocate(size, Origin::Malloc, caller, || unsafe { real::memalign(align, size) })
}

extern "C" fn valloc_seen(size: usize, caller: &Caller) -> usize {
    // SAFETY: the program's call.
    allocate(size, Origin::Malloc, caller, || unsafe { real::valloc(size) })
}

extern "C" fn pvalloc_seen(size: usize, caller: &Caller) -> usize {
    // SAFETY: the program's call.
    allocate(size, Origin::Malloc, caller, || unsafe { real::pvalloc(size) })
}

extern "C" fn posix_memalign_seen(
    to: *mut usize,
    align: usize,
    size: usize,
    caller: &Caller,
) -> i32 {
    let mut result = 0;
    allocate(size, Origin::Malloc, caller, || {
        // SAFETY: the program's call.
        result = unsafe { real::posix_memalign(to, align, size) };
        // SAFETY: the function succeeded, and wrote the address to where the program asked.
        if result == 0 { unsafe { *to } } else { 0 }
    });
    result
}

extern "C" fn free_seen(address: usize) {
    forget(address);
    // SAFETY: the program's call.
    unsafe { real::free(address) };
}

/// Records the end of an allocation if the allocation was recorded.
pub fn forget(address: usize) {
    if may_be_recorded(address)
        && let Some(recorder) = recorder()
    {
        LIVE.prefetch(address);
        recorder.prefetch();
        // Reading the clock takes about as long as the memory accesses.
        let time_ns = system::now_ns();
        if let Some(allocation) = LIVE.remove(address) {
            recorder.record_end(end_event_at(time_ns, address, allocation));
        }
    }
}

extern "C" fn realloc_seen(address: usize, size: usize, caller: &Caller) -> usize {
    python_allocator::note_realloc_reached();
    // SAFETY: the program's call.
    let make = || unsafe { real::realloc(address, size) };
    reallocate(address, size, Origin::Malloc, caller, make)
}

extern "C" fn reallocarray_seen(
    address: usize,
    count: usize,
    size: usize,
    caller: &Caller,
) -> usize {
    match count.checked_mul(size) {
        // The C library's function calls `realloc`, which would be recorded twice.
        Some(bytes) => realloc_seen(address, bytes, caller),
        // SAFETY: the program's call.
        None => unsafe { real::reallocarray(address, count, size) },
    }
}

/// Reallocates, and records the end of the old allocation and the new one as needed.
pub fn reallocate(
    address: usize,
    size: usize,
    origin: Origin,
    caller: &Caller,
    make: impl FnOnce() -> usize,
) -> usize {
    let Some(recorder) = recorder() else { return make() };
    let is_sampled = !own_work::is_active() && recorder.sample(size as u64);
    // It is removed first: once it is freed, another thread may get the address.
    let before = if may_be_recorded(address) { LIVE.remove(address) } else { None };
    let end = before.map(|allocation| end_event(address, allocation));
    let made = make();
    match end {
        // If it failed, the old allocation stays live. If the table no longer has space for it, its end is
        // recorded.
        Some(end) if made == 0 && size != 0 && LIVE.insert(address, end.allocation) => {}
        Some(end) if made != 0 && is_sampled => {
            recorder.record_replacement(end, made, size as u64, caller)
        }
        Some(end) if made != 0 => recorder.record_end(end.as_realloc()),
        Some(end) => recorder.record_end(end),
        None if made != 0 && is_sampled => {
            let flags = if address == 0 { 0 } else { flag::REALLOC };
            recorder.record_new(made, size as u64, origin, flags, caller);
        }
        None => {}
    }
    made
}
