//! The interposed functions themselves: assembly that hands a call on as it came.
//!
//! No frame of Rust is on the stack while the real function runs, so that a thread may be cancelled in it, or leave it by
//! `longjmp`, as without us; unwinders pass by the directives. The address that the caller continues at is at hand.

use core::arch::global_asm;
use core::sync::atomic::AtomicU32;

/// What is done with calls, see [`super::begin`]; 0: they go straight to the real function.
pub(super) static HOOKS: AtomicU32 = AtomicU32::new(0);

/// One call of an interposed function, on the stack of its thread; the trampoline knows this layout.
#[repr(C)]
pub(super) struct Call {
    /// Those that the function has, then whatever was in the registers.
    pub(super) arguments: [usize; 6],
    result: usize,
    /// Position in the table of functions.
    pub(super) function: usize,
    /// Where the thread was waiting already, if anywhere.
    pub(super) outer: usize,
    /// CLOCK_MONOTONIC when it began, ns; 0 where it is not timed.
    pub(super) start_ns: u64,
    /// CPU time of the thread when it began, ns; 0 where it was not read.
    pub(super) cpu_ns: u64,
    padding: usize,
    frame_pointer: usize,
    /// Where the caller continues.
    pub(super) caller: usize,
}

const _: () = assert!(size_of::<Call>() == 112 && size_of::<Call>() % 16 == 0);

// Calls the function at position `eax` with the arguments of the call, between `before` and `after`. Only the interposed functions jump here.
global_asm!(
    ".pushsection .text.simprof_observed, \"ax\", @progbits",
    ".p2align 4",
    ".globl simprof_observed",
    ".hidden simprof_observed",
    ".type simprof_observed, @function",
    "simprof_observed:",
    ".cfi_startproc",
    "push rbp",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset rbp, -16",
    "mov rbp, rsp",
    ".cfi_def_cfa_register rbp",
    "sub rsp, 96",
    "mov [rsp], rdi",
    "mov [rsp + 8], rsi",
    "mov [rsp + 16], rdx",
    "mov [rsp + 24], rcx",
    "mov [rsp + 32], r8",
    "mov [rsp + 40], r9",
    "mov [rsp + 56], rax",
    "mov rdi, rsp",
    "call {before}",
    "mov rdi, [rsp]",
    "mov rsi, [rsp + 8]",
    "mov rdx, [rsp + 16]",
    "mov rcx, [rsp + 24]",
    "mov r8, [rsp + 32]",
    "mov r9, [rsp + 40]",
    "call rax",
    "mov [rsp + 48], rax",
    "mov rdi, rsp",
    "call {after}",
    "mov rax, [rsp + 48]",
    "leave",
    ".cfi_def_cfa rsp, 8",
    ".cfi_restore rbp",
    "ret",
    ".cfi_endproc",
    ".size simprof_observed, . - simprof_observed",
    ".popsection",
    before = sym super::calls::before,
    after = sym super::calls::after,
);

/// The table of the functions, and for each the symbol that takes its place.
macro_rules! interpose {
    ($($name:ident: $reason:expr, $work:expr;)*) => {
        #[allow(non_camel_case_types)]
        #[derive(Clone, Copy)]
        enum Index { $($name,)* }

        /// All interposed functions.
        pub(super) static FUNCTIONS: [Function; [$(Index::$name),*].len()] = [$(
            Function {
                // A name of the language has no zero within.
                name: match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                    Ok(name) => name,
                    Err(_) => panic!("a name without an end"),
                },
                reason: $reason,
                work: $work,
            },
        )*];

        $(
            /// Takes the place of the C library's function of that name.
            ///
            /// # Safety
            /// As of that function.
            #[unsafe(no_mangle)]
            #[unsafe(naked)]
            pub unsafe extern "C" fn $name() {
                crate::waits::trampoline::interposed!(Index::$name)
            }
        )*
    };
}

/// The body of an interposed function: straight to the real one where nothing is asked for and it is known.
macro_rules! interposed {
    ($index:expr) => {
        core::arch::naked_asm!(
            "mov eax, {index}",
            "cmp dword ptr [rip + {hooks}], 0",
            "jne simprof_observed",
            "lea r11, [rip + {real}]",
            "mov r11, [r11 + rax * 8]",
            "test r11, r11",
            "jz simprof_observed",
            "jmp r11",
            index = const $index as u32,
            hooks = sym $crate::waits::trampoline::HOOKS,
            real = sym REAL,
        )
    };
}

pub(super) use {interpose, interposed};
