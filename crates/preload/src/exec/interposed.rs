//! The functions by which the target starts programs: `exec` and `posix_spawn`.

#[cfg(simprof_preloaded)]
use core::ffi::c_long;
use core::ffi::{c_char, c_int};
use core::mem::MaybeUninit;

use super::environment::{Buffer, Texts, for_new_image};
use super::with_signal_ignored;
use crate::real_function::RealFunction;

type Text = *const c_char;

unsafe extern "C" {
    static environ: Texts;
}

/// Returns the environment of this process.
#[cfg(all(simprof_preloaded, not(simprof_heap)))]
pub fn environment() -> Texts {
    // SAFETY: the caller sees to it that no other thread changes it meanwhile.
    unsafe { environ }
}

/// Returns the C library's function of a name; `None` if there is none.
macro_rules! real {
    ($name:ident: $type:ty) => {{
        const NAME: &[u8] = concat!(stringify!($name), "\0").as_bytes();
        static NEXT: RealFunction =
            RealFunction::new(match core::ffi::CStr::from_bytes_with_nul(NAME) {
                Ok(name) => name,
                Err(_) => panic!("the name contains no zero"),
            });
        // SAFETY: the C library's function of this name has this type.
        let function: Option<$type> = unsafe { core::mem::transmute(NEXT.address()) };
        function
    }};
}

macro_rules! exec {
    ($($name:ident($($before:ident: $type:ty),*; $environment:ident $(, $after:ident: $last:ty)*);)*) => {$(
        #[cfg_attr(simprof_preloaded, unsafe(no_mangle))]
        unsafe extern "C" fn $name(
            $($before: $type,)*
            $environment: Texts
            $(, $after: $last)*
        ) -> c_int {
            let function =
                real!($name: unsafe extern "C" fn($($type,)* Texts $(, $last)*) -> c_int);
            let mut buffer = MaybeUninit::<Buffer>::uninit();
            // SAFETY: the target's arguments; the buffer outlives the call.
            function.map_or(-1, |function| unsafe {
                let $environment = for_new_image($environment, &mut buffer);
                with_signal_ignored(|| function($($before,)* $environment $(, $after)*))
            })
        }
    )*};
}

exec! {
    execve(path: Text, arguments: Texts; environment);
    execvpe(file: Text, arguments: Texts; environment);
    fexecve(fd: c_int, arguments: Texts; environment);
    execveat(fd: c_int, path: Text, arguments: Texts; environment, flags: c_int);
}

/// `syscall(SYS_execve, path, arguments, environment)`.
///
/// # Safety
///
/// As for `execve`.
#[cfg(simprof_preloaded)]
pub unsafe extern "C" fn execve_by_number(
    _number: c_long,
    path: Text,
    arguments: Texts,
    environment: Texts,
) -> c_long {
    // SAFETY: the target's arguments.
    unsafe { execve(path, arguments, environment).into() }
}

/// `syscall(SYS_execveat, fd, path, arguments, environment, flags)`.
///
/// # Safety
///
/// As for `execveat`.
#[cfg(simprof_preloaded)]
pub unsafe extern "C" fn execveat_by_number(
    _number: c_long,
    fd: c_int,
    path: Text,
    arguments: Texts,
    environment: Texts,
    flags: c_int,
) -> c_long {
    // SAFETY: the target's arguments.
    unsafe { execveat(fd, path, arguments, environment, flags).into() }
}

/// The arguments of `posix_spawn` that are passed on unchanged.
type Unchanged = *const core::ffi::c_void;

macro_rules! spawn {
    ($($name:ident;)*) => {$(
        /// Like the C library's. The child has neither the events nor the handlers of this process, so the signal stays as it is.
        #[cfg_attr(simprof_preloaded, unsafe(no_mangle))]
        unsafe extern "C" fn $name(
            pid: Unchanged,
            path: Text,
            actions: Unchanged,
            attributes: Unchanged,
            arguments: Texts,
            environment: Texts,
        ) -> c_int {
            let function = real!($name: unsafe extern "C" fn(
                Unchanged, Text, Unchanged, Unchanged, Texts, Texts
            ) -> c_int);
            let mut buffer = MaybeUninit::<Buffer>::uninit();
            // SAFETY: the target's arguments; the buffer outlives the call, which returns when the child has its own memory.
            function.map_or(crate::sys::ENOSYS, |function| unsafe {
                let environment = for_new_image(environment, &mut buffer);
                function(pid, path, actions, attributes, arguments, environment)
            })
        }
    )*};
}

spawn! {
    posix_spawn;
    posix_spawnp;
}

/// Like the C library's, with the environment of this process.
#[cfg_attr(simprof_preloaded, unsafe(no_mangle))]
unsafe extern "C" fn execv(path: Text, arguments: Texts) -> c_int {
    // SAFETY: the target's arguments.
    unsafe { execve(path, arguments, environ) }
}

/// Like the C library's, with the environment of this process.
#[cfg_attr(simprof_preloaded, unsafe(no_mangle))]
unsafe extern "C" fn execvp(file: Text, arguments: Texts) -> c_int {
    // SAFETY: the target's arguments.
    unsafe { execvpe(file, arguments, environ) }
}

/// `execle`, with its arguments as an array that ends with a null pointer. The environment follows it.
#[cfg(simprof_preloaded)]
unsafe extern "C" fn execle_array(path: Text, arguments: Texts) -> c_int {
    // SAFETY: the target's arguments end with a null pointer and are followed by the environment.
    unsafe {
        let mut end = arguments;
        while !(*end).is_null() {
            end = end.add(1);
        }
        execve(path, arguments, end.add(1).cast::<Texts>().read())
    }
}

/// Defines functions with a variable number of arguments, which Rust cannot define. They store the register
/// arguments below those on the stack, so that all are one array, and call the given function with it.
#[cfg(simprof_preloaded)]
macro_rules! listed {
    ($($name:ident => $array:ident;)*) => {$(
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name() {
            // The slot of the return address is used for the last register's argument; the return address is
            // put back at the end.
            core::arch::naked_asm!(
                "pop rax",
                "push r9",
                "push r8",
                "push rcx",
                "push rdx",
                "push rsi",
                "mov rsi, rsp",
                "push rax",
                "call {array}",
                "pop rcx",
                "add rsp, 40",
                "push rcx",
                "ret",
                array = sym $array,
            );
            // At the call, the stack pointer points to the first stack argument.
        }
    )*};
}

#[cfg(simprof_preloaded)]
listed! {
    execl => execv;
    execlp => execvp;
    execle => execle_array;
}
