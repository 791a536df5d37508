//! `dlsym`: a program that looks up an interposed function in the C library itself, as Python's `ctypes` does, gets
//! the library's function instead.

use core::arch::naked_asm;
use core::ffi::{CStr, c_char, c_void};
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::sys;

unsafe extern "C" {
    fn dlvsym(handle: *mut c_void, name: *const c_char, version: *const c_char) -> *mut c_void;
}

type Lookup = unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void;

/// The C library's `dlsym`; null until it is resolved.
static REAL: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());

/// Replaces the C library's `dlsym`. Unless the result is replaced, it jumps to the real function: what that finds
/// may depend on its caller.
///
/// # Safety
///
/// As for the function itself.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void {
    naked_asm!(
        ".cfi_startproc",
        "push rdi", ".cfi_adjust_cfa_offset 8",
        "push rsi", ".cfi_adjust_cfa_offset 8",
        "sub rsp, 8", ".cfi_adjust_cfa_offset 8",
        "call {replaced}",
        "add rsp, 8", ".cfi_adjust_cfa_offset -8",
        "pop rsi", ".cfi_adjust_cfa_offset -8",
        "pop rdi", ".cfi_adjust_cfa_offset -8",
        "test rax, rax",
        "jnz 2f",
        "jmp qword ptr [rip + {real}]",
        "2: ret",
        ".cfi_endproc",
        replaced = sym replaced, real = sym REAL,
    )
}

/// Returns the function to return instead of the real one, or null. Resolves the real `dlsym`.
extern "C" fn replaced(handle: *mut c_void, name: *const c_char) -> *const () {
    let nothing = core::ptr::null();
    if REAL.load(Ordering::Relaxed).is_null() {
        // SAFETY: the strings are C strings. All versions of the C library for x86-64 have this symbol, and the
        // profiler's libraries, whose symbols have no version, are not found.
        let found = unsafe { dlvsym(sys::RTLD_NEXT, c"dlsym".as_ptr(), c"GLIBC_2.2.5".as_ptr()) };
        REAL.store(found, Ordering::Relaxed);
    }
    if handle == sys::RTLD_DEFAULT || handle == sys::RTLD_NEXT || name.is_null() {
        return nothing;
    }
    // SAFETY: the program's argument is a C string.
    let Some((real, own)) = crate::interposed(unsafe { CStr::from_ptr(name) }) else {
        return nothing;
    };
    // SAFETY: the symbol of this name has this type, and every version of the C library has it.
    let lookup =
        unsafe { core::mem::transmute::<*mut c_void, Lookup>(REAL.load(Ordering::Relaxed)) };
    // SAFETY: the program's arguments. With a handle of a library the result does not depend on the caller.
    let found = unsafe { lookup(handle, name) };
    if !found.is_null() && found == real { own } else { nothing }
}
