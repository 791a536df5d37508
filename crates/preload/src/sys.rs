//! Declarations of the C library and Linux interfaces that the library uses. They are declared here because
//! the library is built without dependencies.
//!
//! All functions are resolved when the library is loaded. Those that the signal handler calls neither
//! allocate nor lock.

use core::ffi::{CStr, c_char, c_int, c_long, c_uint, c_ulong, c_void};

use crate::seccomp;

unsafe extern "C" {
    /// `errno` of this thread.
    fn __errno_location() -> *mut c_int;
    pub fn getenv(name: *const c_char) -> *mut c_char;
    pub fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    pub fn close(fd: c_int) -> c_int;
    pub fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
    pub fn write(fd: c_int, bytes: *const c_void, length: usize) -> isize;
    pub fn lseek(fd: c_int, offset: i64, whence: c_int) -> i64;
    pub fn read(fd: c_int, bytes: *mut c_void, length: usize) -> isize;
    pub fn mmap(
        address: *mut c_void,
        length: usize,
        protection: c_int,
        flags: c_int,
        fd: c_int,
        offset: i64,
    ) -> *mut c_void;
    pub fn munmap(address: *mut c_void, length: usize) -> c_int;
    pub fn syscall(number: c_long, ...) -> c_long;
    pub fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int;
    pub fn getpid() -> c_int;
    fn getrlimit(resource: c_int, limits: *mut [usize; 2]) -> c_int;
    pub fn pthread_self() -> c_ulong;
    pub fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    pub fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    pub fn dladdr(address: *const c_void, found: *mut SharedObject) -> c_int;
    pub fn abort() -> !;
}

/// For `dlsym`: search all modules in global scope.
pub const RTLD_DEFAULT: *mut c_void = core::ptr::null_mut();
/// For `dlsym`: search the modules after the calling library.
pub const RTLD_NEXT: *mut c_void = core::ptr::without_provenance_mut(usize::MAX);
pub const RTLD_LAZY: c_int = 1;
pub const RTLD_NOLOAD: c_int = 4;

pub const O_RDWR: c_int = 2;
pub const O_WRONLY: c_int = 1;
pub const O_NOCTTY: c_int = 0o400;
pub const O_NONBLOCK: c_int = 0o4000;
pub const O_CLOEXEC: c_int = 0o2_000_000;
pub const SEEK_END: c_int = 2;
pub const PROT_READ: c_int = 1;
pub const PROT_WRITE: c_int = 2;
pub const MAP_SHARED: c_int = 1;
pub const MAP_FAILED: *mut c_void = core::ptr::without_provenance_mut(usize::MAX);

pub const EPERM: c_int = 1;
pub const ENOENT: c_int = 2;
pub const EAGAIN: c_int = 11;
pub const EACCES: c_int = 13;
pub const ENOTDIR: c_int = 20;
pub const EINVAL: c_int = 22;
pub const ENOSYS: c_int = 38;
pub const ELOOP: c_int = 40;

pub const LSEEK: usize = 8;
pub const RT_SIGPROCMASK: usize = 14;
pub const RT_SIGRETURN: usize = 15;
pub const MUNMAP: usize = 11;
pub const MREMAP: usize = 25;
pub const GETPID: usize = 39;
pub const GETTID: usize = 186;
pub const FUTEX: usize = 202;
pub const CLOCK_GETTIME: usize = 228;
pub const TGKILL: usize = 234;
pub const OPENAT: usize = 257;
pub const PRLIMIT64: usize = 302;
/// The system calls that the loader of the C library makes before any code of the program runs: read, close,
/// fstat, mmap, mprotect, munmap, pread64, openat, newfstatat.
pub const LOADER_CALLS: [usize; 9] = [0, 3, 5, 9, 10, 11, 17, 257, 262];

/// Makes a system call without the C library, of which the target or this library may replace functions. Returns a negative
/// error number if it fails.
///
/// # Safety
///
/// As for the system call.
#[inline]
pub unsafe fn raw_call(number: usize, arguments: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    let result: isize;
    // SAFETY: the kernel changes only the registers named here. Its effects on memory are the caller's responsibility.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    result
}

/// `struct timespec`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Timespec {
    pub seconds: i64,
    pub nanoseconds: i64,
}

/// `Dl_info`.
#[repr(C)]
pub struct SharedObject {
    pub path: *const c_char,
    pub base: *mut c_void,
    pub symbol: *const c_char,
    pub symbol_address: *mut c_void,
}

/// Preserves `errno` while the library runs within a function or a signal handler of the target.
pub struct ErrnoGuard {
    location: *mut c_int,
    value: c_int,
}

impl ErrnoGuard {
    pub fn new() -> ErrnoGuard {
        // SAFETY: this thread's errno is valid at any time.
        let location = unsafe { __errno_location() };
        // SAFETY: as above.
        ErrnoGuard { location, value: unsafe { *location } }
    }
}

impl Drop for ErrnoGuard {
    fn drop(&mut self) {
        // SAFETY: it is dropped in the thread that made it, since the type is not `Send`.
        unsafe { *self.location = self.value };
    }
}

/// Returns `errno` after a function has failed.
pub fn errno() -> c_int {
    // SAFETY: this thread's errno is valid at any time.
    unsafe { *__errno_location() }
}

/// Returns CLOCK_MONOTONIC, ns. On nearly every system this reads shared memory without a system call.
pub fn now_ns() -> u64 {
    const CLOCK_MONOTONIC: c_int = 1;
    let mut time = Timespec { seconds: 0, nanoseconds: 0 };
    // SAFETY: `time` is valid for the result; the clock always exists.
    unsafe { clock_gettime(CLOCK_MONOTONIC, &raw mut time) };
    time.seconds as u64 * 1_000_000_000 + time.nanoseconds as u64
}

/// Returns the process's limit of address space, bytes; `usize::MAX` if there is none. `None` if it cannot be read: a seccomp
/// filter may forbid that.
pub fn address_space_limit() -> Option<usize> {
    const RLIMIT_AS: c_int = 9;
    if !seccomp::allows(PRLIMIT64) {
        return None;
    }
    let mut limits = [usize::MAX; 2];
    // SAFETY: the array has space for the soft and the hard limit.
    let status = unsafe { getrlimit(RLIMIT_AS, &raw mut limits) };
    (status == 0).then_some(limits[0])
}

/// Returns how much address space the limit of the process leaves, bytes; `usize::MAX` if there is no limit. `None` if the limit
/// cannot be read.
pub fn free_address_space() -> Option<usize> {
    let limit = address_space_limit()?;
    if limit == usize::MAX {
        return Some(usize::MAX);
    }
    let mut text = [0; 32];
    let length = read_file(c"/proc/self/statm", &mut text);
    let digits = text[..length].iter().take_while(|byte| byte.is_ascii_digit());
    let pages = digits.fold(0, |sum: usize, digit| sum * 10 + usize::from(digit - b'0'));
    Some(limit.saturating_sub(pages * PAGE))
}

/// Returns the id of this process; 0 if the process may not read it.
pub fn process_id() -> u32 {
    if seccomp::allows(GETPID) {
        // SAFETY: getpid has no preconditions.
        return unsafe { getpid() } as u32;
    }
    let mut text = [0; 64];
    let length = read_file(c"/proc/self/stat", &mut text);
    let digits = text[..length].iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |sum: u32, digit| sum.wrapping_mul(10).wrapping_add(u32::from(digit - b'0')))
}

/// Reads the beginning of a file. Returns the number of bytes; 0 if it cannot be read.
pub fn read_file(path: &CStr, to: &mut [u8]) -> usize {
    if !seccomp::allows(OPENAT) {
        return 0;
    }
    let _errno = ErrnoGuard::new();
    // SAFETY: the path is a C string; at most the length of `to` is written to it; a descriptor that was
    // opened is closed.
    unsafe {
        let fd = open(path.as_ptr(), O_CLOEXEC | O_NOCTTY);
        if fd < 0 {
            return 0;
        }
        let length = read(fd, to.as_mut_ptr().cast(), to.len());
        close(fd);
        usize::try_from(length).unwrap_or(0)
    }
}

/// Copies memory of this process that may be unmapped. Returns whether it could be read. It costs a system
/// call per page.
///
/// Another thread could unmap a page between the kernel's check and the copy. But an address passed here is
/// only stale for an instant while the thread holds the interpreter's lock, when no other thread unmaps the
/// interpreter's memory.
pub fn copy_checked(address: usize, to: &mut [u8]) -> bool {
    if !is_range_readable(address, to.len()) {
        return false;
    }
    let from = core::ptr::with_exposed_provenance::<u8>(address);
    // SAFETY: the pages were found readable above; `to` is the caller's.
    unsafe { core::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
    true
}

/// Returns whether this memory can be read. It costs a system call per page.
pub fn is_range_readable(address: usize, bytes: usize) -> bool {
    let Some(end) = address.checked_add(bytes) else { return false };
    let mut word = address & !7;
    while word < end {
        if !is_readable(word) {
            return false;
        }
        word = (word & !(PAGE - 1)) + PAGE;
    }
    true
}

/// The smallest page size of any system.
const PAGE: usize = 4096;

/// Returns whether the 8 bytes at `address`, a multiple of 8, can be read.
///
/// It asks the kernel to change the signal mask to the one at `address`, with an invalid `how`. The kernel reads
/// the mask before it checks `how`, so the error shows whether the address is readable. No other system call for
/// this is as cheap, or as rarely forbidden by a seccomp filter.
fn is_readable(address: usize) -> bool {
    const INVALID_HOW: c_int = -1;
    // A null address means "no mask": the kernel would read nothing.
    if address == 0 || !seccomp::allows(RT_SIGPROCMASK) {
        return false;
    }
    let kept = ErrnoGuard::new();
    // SAFETY: the call fails and does not change the mask.
    unsafe { syscall(RT_SIGPROCMASK as c_long, INVALID_HOW, address, 0_usize, 8_usize) };
    let readable = errno() == EINVAL;
    drop(kept);
    readable
}

/// Waits until `word` differs from `value`, a wake-up, or the timeout.
pub fn futex_wait(word: &core::sync::atomic::AtomicU32, value: u32, timeout_ns: u64) {
    const FUTEX_WAIT: c_int = 0;
    let time = Timespec {
        seconds: (timeout_ns / 1_000_000_000) as i64,
        nanoseconds: (timeout_ns % 1_000_000_000) as i64,
    };
    // SAFETY: both the word and the time live during the call.
    unsafe {
        syscall(FUTEX as c_long, word.as_ptr(), FUTEX_WAIT, value as c_uint, &raw const time)
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmapped_memory_is_not_copied() {
        let text = *b"some bytes that are here";
        let address = text.as_ptr().expose_provenance();
        let mut copy = [0; 10];
        assert!(copy_checked(address + 5, &mut copy));
        assert_eq!(&copy, b"bytes that");
        for address in [0, 8, 4096, usize::MAX - 4, usize::MAX - 100, 0x7fff_ffff_f000] {
            assert!(!copy_checked(address, &mut copy), "{address:#x}");
        }
    }

    #[test]
    fn the_end_of_a_mapping_is_detected() {
        const MAP_PRIVATE: c_int = 2;
        const MAP_ANONYMOUS: c_int = 0x20;
        let flags = MAP_PRIVATE | MAP_ANONYMOUS;
        // SAFETY: a new mapping; its second half is unmapped.
        let address = unsafe {
            let base = mmap(core::ptr::null_mut(), 0x20000, PROT_READ | PROT_WRITE, flags, -1, 0);
            assert_ne!(base, MAP_FAILED);
            assert_eq!(munmap(base.cast::<u8>().add(0x10000).cast(), 0x10000), 0);
            base.expose_provenance()
        };
        let mut copy = [1; 64];
        assert!(copy_checked(address + 0x10000 - 64, &mut copy));
        assert_eq!(copy, [0; 64]);
        assert!(!copy_checked(address + 0x10000 - 63, &mut copy));
    }

    #[test]
    fn errno_is_preserved() {
        // SAFETY: this thread's errno is valid at any time.
        unsafe { *__errno_location() = 77 };
        assert!(!copy_checked(0, &mut [0; 8]));
        assert_eq!(errno(), 77);
        // SAFETY: as above.
        unsafe { *__errno_location() = EINVAL };
        assert!(!copy_checked(0, &mut [0; 8]), "an earlier error must not matter");
    }
}
