//! The functions by which a program installs a filter: `prctl` and `syscall`. They are passed on unchanged, except that
//! a program that replaces its image by `syscall` gets the library's `execve`: the signal of a sample that arrives
//! during an exec would end the process.

use core::arch::naked_asm;
use core::ffi::{CStr, c_void};
use core::sync::atomic::{AtomicPtr, Ordering};

use super::filter::{self, Filter, Instruction};
use super::{IS_STRICT, restrict};
use crate::own_work::OwnWork;
use crate::{exec, sys};

const SYS_EXECVE: usize = 59;
const SYS_PRCTL: usize = 157;
const SYS_SECCOMP: usize = 317;
const SYS_EXECVEAT: usize = 322;

const PR_SET_SECCOMP: usize = 22;
/// Modes of `prctl`.
const MODE_STRICT: usize = 1;
const MODE_FILTER: usize = 2;
/// Operations of `seccomp`.
const SET_MODE_STRICT: usize = 0;
const SET_MODE_FILTER: usize = 1;

static PRCTL: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());
static SYSCALL: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());

/// Resolves the real functions. Must be called when the library starts.
pub fn resolve() {
    for (real, name) in [(&PRCTL, c"prctl"), (&SYSCALL, c"syscall")] {
        // SAFETY: the name is a C string.
        let found = unsafe { sys::dlsym(sys::RTLD_NEXT, name.as_ptr()) };
        real.store(found, Ordering::Relaxed);
    }
}

/// Returns the real function of this name, and the one that replaces it.
pub fn find(name: &CStr) -> Option<(*mut c_void, *const ())> {
    match name.to_bytes() {
        b"prctl" => Some((real(&PRCTL), prctl as *const ())),
        b"syscall" => Some((real(&SYSCALL), syscall as *const ())),
        _ => None,
    }
}

/// Saves the argument registers, calls `seen` with them, and jumps to the real function that it returns, which
/// returns to the program. Neither function has arguments on the stack below the return address, and
/// `syscall` may return twice (`vfork`), so no frame may remain.
macro_rules! passed_on {
    ($seen:path) => {
        naked_asm!(
            ".cfi_startproc",
            "push rdi", ".cfi_adjust_cfa_offset 8",
            "push rsi", ".cfi_adjust_cfa_offset 8",
            "push rdx", ".cfi_adjust_cfa_offset 8",
            "push rcx", ".cfi_adjust_cfa_offset 8",
            "push r8", ".cfi_adjust_cfa_offset 8",
            "push r9", ".cfi_adjust_cfa_offset 8",
            "push rax", ".cfi_adjust_cfa_offset 8",
            "call {seen}",
            "mov r11, rax",
            "pop rax", ".cfi_adjust_cfa_offset -8",
            "pop r9", ".cfi_adjust_cfa_offset -8",
            "pop r8", ".cfi_adjust_cfa_offset -8",
            "pop rcx", ".cfi_adjust_cfa_offset -8",
            "pop rdx", ".cfi_adjust_cfa_offset -8",
            "pop rsi", ".cfi_adjust_cfa_offset -8",
            "pop rdi", ".cfi_adjust_cfa_offset -8",
            "jmp r11",
            ".cfi_endproc",
            seen = sym $seen,
        )
    };
}

/// Replaces the C library's `prctl`.
///
/// # Safety
///
/// As for the function itself.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn prctl() {
    passed_on!(prctl_seen)
}

/// Replaces the C library's `syscall`.
///
/// # Safety
///
/// As for the function itself.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn syscall() {
    passed_on!(syscall_seen)
}

extern "C" fn prctl_seen(option: usize, mode: usize, filter: *const Filter) -> *mut c_void {
    if option as i32 as usize == PR_SET_SECCOMP {
        set_by_prctl(mode, filter);
    }
    real(&PRCTL)
}

extern "C" fn syscall_seen(
    number: usize,
    first: usize,
    second: usize,
    third: *const Filter,
) -> *mut c_void {
    match number {
        SYS_PRCTL if first == PR_SET_SECCOMP => set_by_prctl(second, third),
        SYS_SECCOMP if first == SET_MODE_STRICT => added(&[]),
        SYS_SECCOMP if first == SET_MODE_FILTER => filter_added(third),
        SYS_EXECVE => return exec::execve_by_number as *mut c_void,
        SYS_EXECVEAT => return exec::execveat_by_number as *mut c_void,
        _ => {}
    }
    real(&SYSCALL)
}

fn set_by_prctl(mode: usize, filter: *const Filter) {
    match mode {
        MODE_STRICT => added(&[]),
        MODE_FILTER => filter_added(filter),
        _ => {}
    }
}

/// Prepares for a filter that is about to be installed. Does nothing if the kernel will not be able to read it:
/// programs pass a null pointer to find out what the kernel supports.
fn filter_added(filter: *const Filter) {
    let is_readable = |address: usize, bytes| {
        // If another filter forbids to check, the program's pointers are trusted.
        address != 0
            && (!super::allows(sys::RT_SIGPROCMASK) || sys::is_range_readable(address, bytes))
    };
    if !is_readable(filter.addr(), size_of::<Filter>()) {
        return;
    }
    // SAFETY: it can be read.
    let Filter { length, instructions } = unsafe { filter.read_unaligned() };
    let bytes = usize::from(length) * size_of::<Instruction>();
    // The kernel refuses a filter without instructions.
    if length != 0 && instructions.is_aligned() && is_readable(instructions.addr(), bytes) {
        // SAFETY: they can be read. The program must not change them while the kernel reads them.
        added(unsafe { core::slice::from_raw_parts(instructions, length.into()) });
    }
}

/// Forbids what a new filter forbids; one without instructions stands for strict mode. If the kernel then
/// refuses the filter, the library only makes fewer system calls than it might.
fn added(filter: &[Instruction]) {
    let (_errno, _own_work) = (sys::ErrnoGuard::new(), OwnWork::begin());
    crate::prepare_for_filter();
    IS_STRICT.fetch_or(filter.is_empty(), Ordering::Relaxed);
    restrict(|number| filter::allows(filter, number as u32));
    crate::filter_was_added();
}

/// Returns the real function. A call before [`resolve`], from a constructor of another library, resolves it.
fn real(known: &AtomicPtr<c_void>) -> *mut c_void {
    if known.load(Ordering::Relaxed).is_null() {
        resolve();
    }
    known.load(Ordering::Relaxed)
}
