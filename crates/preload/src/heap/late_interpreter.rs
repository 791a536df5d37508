//! Detects an interpreter that the program loads after its start. Such an interpreter calls
//! `pthread_key_create` for the key of its thread states, so this function is replaced.

use core::arch::naked_asm;
use core::ffi::c_void;

use super::{python_allocator, real, start};
use crate::own_work::OwnWork;
use crate::sys;

/// Replaces the C library's `pthread_key_create`. It jumps to the real function, which returns to the
/// program, so that other libraries see the original return address.
///
/// # Safety
///
/// As for the function itself.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn pthread_key_create() {
    naked_asm!(
        ".cfi_startproc",
        "mov rax, qword ptr [rsp]",
        "push rdi", ".cfi_adjust_cfa_offset 8",
        "push rsi", ".cfi_adjust_cfa_offset 8",
        "sub rsp, 8", ".cfi_adjust_cfa_offset 8",
        "mov rdi, rax",
        "call {called}",
        "add rsp, 8", ".cfi_adjust_cfa_offset -8",
        "pop rsi", ".cfi_adjust_cfa_offset -8",
        "pop rdi", ".cfi_adjust_cfa_offset -8",
        "test rax, rax",
        "jz 2f",
        "jmp rax",
        "2: mov eax, {again}",
        "ret",
        ".cfi_endproc",
        called = sym called, again = const sys::EAGAIN,
    )
}

/// Looks for an interpreter in the module that contains the caller. Returns the real function to jump to.
extern "C" fn called(caller: usize) -> *mut c_void {
    let _errno = sys::ErrnoGuard::new();
    if start::is_on() && crate::python::interpreter().is_none() {
        let _own_work = OwnWork::begin();
        if crate::python::find_at(caller) {
            python_allocator::interpreter_found();
        }
    }
    real::key_create()
}
