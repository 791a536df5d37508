//! An interpreter that the program loads only later: it makes itself known by creating a key for its thread states.

use core::arch::naked_asm;
use core::ffi::c_void;

use super::{python, real, start};
use crate::own::Own;
use crate::sys;

/// `pthread_key_create` of the C library, which is jumped to: it returns to the program, as for others who look from where
/// it is called.
///
/// # Safety
///
/// As the function's own.
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

/// The function that is to be called, after a look at who calls it.
extern "C" fn called(caller: usize) -> *mut c_void {
    let _errno = sys::KeptErrno::new();
    if start::is_on() && crate::python::interpreter().is_none() {
        let _own = Own::begin();
        if crate::python::find_at(caller) {
            python::found();
        }
    }
    real::key_create()
}
