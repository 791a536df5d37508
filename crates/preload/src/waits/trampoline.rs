//! The interposed functions: assembly that passes a call on unchanged.
//!
//! While the real function runs, no Rust frame is on the stack. So a thread can be cancelled in it, or leave
//! it by `longjmp`, as without the library. Unwinders use the CFI directives. The caller's return address is
//! available.

use core::sync::atomic::AtomicU32;

/// What to do with calls, see [`super::begin`]; 0: they go straight to the real function.
pub(super) static HOOKS: AtomicU32 = AtomicU32::new(0);

/// Defines the table of the functions, and for each function the symbol that replaces it.
macro_rules! interpose {
    ($($name:ident: $reason:expr, $work:expr;)*) => {
        #[allow(non_camel_case_types)]
        #[derive(Clone, Copy)]
        enum Index { $($name,)* }

        /// The interposed functions.
        pub(super) static FUNCTIONS: [Function; [$(Index::$name),*].len()] = [$(
            Function {
                // An identifier contains no zero.
                name: match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                    Ok(name) => name,
                    Err(_) => panic!("the name contains no zero"),
                },
                reason: $reason,
                work: $work,
            },
        )*];

        $(
            /// Replaces the C library's function of that name.
            ///
            /// # Safety
            /// As for that function.
            #[unsafe(no_mangle)]
            #[unsafe(naked)]
            pub unsafe extern "C" fn $name() {
                crate::waits::trampoline::interposed!(Index::$name)
            }
        )*
    };
}

/// The body of an interposed function: jumps straight to the real one if nothing is measured and it is
/// resolved.
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
