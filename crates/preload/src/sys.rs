//! What the library uses of the C library and of Linux, declared here because it is built without any dependency.
//!
//! All functions are found when the library is loaded; none of those that the signal handler calls allocates or
//! locks.

use core::ffi::{c_char, c_int, c_long, c_uint, c_ulong, c_void};

unsafe extern "C" {
    /// `errno` of this thread.
    fn __errno_location() -> *mut c_int;
    pub fn getenv(name: *const c_char) -> *mut c_char;
    pub fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    pub fn close(fd: c_int) -> c_int;
    pub fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
    pub fn write(fd: c_int, bytes: *const c_void, length: usize) -> isize;
    pub fn lseek(fd: c_int, offset: i64, whence: c_int) -> i64;
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
    pub fn pthread_self() -> c_ulong;
    pub fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    pub fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    pub fn dladdr(address: *const c_void, found: *mut SharedObject) -> c_int;
    pub fn dladdr1(
        address: *const c_void,
        found: *mut SharedObject,
        more: *mut *mut c_void,
        what: c_int,
    ) -> c_int;
    pub fn abort() -> !;
}

/// A function of the C library that this library stands in for, found when it is first needed.
pub struct Next {
    name: &'static core::ffi::CStr,
    address: core::sync::atomic::AtomicPtr<c_void>,
}

impl Next {
    /// The one of this name.
    pub const fn new(name: &'static core::ffi::CStr) -> Next {
        Next { name, address: core::sync::atomic::AtomicPtr::new(core::ptr::null_mut()) }
    }

    /// Its address; null where there is none. Looking for it is not for signal handlers, so it is looked for
    /// when the library starts.
    #[inline]
    pub fn get(&self) -> *mut c_void {
        use core::sync::atomic::Ordering::Relaxed;
        let address = self.address.load(Relaxed);
        if !address.is_null() {
            return address;
        }
        let _own = crate::own::Own::begin();
        // SAFETY: the name is a C string.
        let address = unsafe { dlsym(RTLD_NEXT, self.name.as_ptr()) };
        self.address.store(address, Relaxed);
        address
    }
}

/// `dlsym` in all that is loaded for everybody.
pub const RTLD_DEFAULT: *mut c_void = core::ptr::null_mut();
/// `dlsym` in what comes after the asking library.
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
pub const EINTR: c_int = 4;
pub const EAGAIN: c_int = 11;
pub const EACCES: c_int = 13;
pub const EFAULT: c_int = 14;
pub const ENOTDIR: c_int = 20;
pub const EINVAL: c_int = 22;
pub const ELOOP: c_int = 40;
pub const ETIMEDOUT: c_int = 110;

#[cfg(target_arch = "x86_64")]
mod number {
    use core::ffi::c_long;
    pub const GETTID: c_long = 186;
    pub const FUTEX: c_long = 202;
    pub const TGKILL: c_long = 234;
    pub const RT_SIGPROCMASK: c_long = 14;
}
#[cfg(target_arch = "aarch64")]
mod number {
    use core::ffi::c_long;
    pub const GETTID: c_long = 178;
    pub const FUTEX: c_long = 98;
    pub const TGKILL: c_long = 131;
    pub const RT_SIGPROCMASK: c_long = 135;
}
pub use number::*;

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

/// Keeps `errno` as it is while the library works within a function or a signal handler of the target.
pub struct KeptErrno {
    place: *mut c_int,
    value: c_int,
}

impl KeptErrno {
    pub fn new() -> KeptErrno {
        // SAFETY: errno's place is valid in this thread at any time.
        let place = unsafe { __errno_location() };
        // SAFETY: as above.
        KeptErrno { place, value: unsafe { *place } }
    }
}

impl Drop for KeptErrno {
    fn drop(&mut self) {
        // SAFETY: it is dropped in the thread that made it: it is never sent anywhere.
        unsafe { *self.place = self.value };
    }
}

/// `errno` after a function that failed.
pub fn errno() -> c_int {
    // SAFETY: errno's place is valid in this thread at any time.
    unsafe { *__errno_location() }
}

/// CLOCK_MONOTONIC, ns: a reading of shared memory in nearly every system, without a system call.
pub fn now_ns() -> u64 {
    const CLOCK_MONOTONIC: c_int = 1;
    let mut time = Timespec { seconds: 0, nanoseconds: 0 };
    // SAFETY: `time` is a valid place for the answer; the clock always exists.
    unsafe { clock_gettime(CLOCK_MONOTONIC, &raw mut time) };
    time.seconds as u64 * 1_000_000_000 + time.nanoseconds as u64
}

/// Copies memory of this process that may not exist; whether it did. It costs a system call for each page.
///
/// Between the kernel's look at a page and the copy another thread could unmap it. What is read by this way may
/// be a stale pointer only in an instant in which the thread holds the interpreter's lock, so that the
/// interpreter's own memory is unmapped by nobody.
pub fn copy_checked(address: usize, to: &mut [u8]) -> bool {
    let Some(end) = address.checked_add(to.len()) else { return false };
    let mut word = address & !7;
    while word < end {
        if !is_readable(word) {
            return false;
        }
        word = (word & !(PAGE - 1)) + PAGE;
    }
    let from = core::ptr::with_exposed_provenance::<u8>(address);
    // SAFETY: all pages of it can be read, see above; `to` is the caller's.
    unsafe { core::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
    true
}

/// The smallest page of any system.
const PAGE: usize = 4096;

/// Whether the 8 bytes at `address`, which is a multiple of 8, can be read.
///
/// A signal mask is to be changed to that at the address, in a way that does not exist: the kernel reads the
/// mask first, and so answers either that it cannot be read or that there is no such way. No other system call
/// is as cheap, and none is as rarely forbidden.
fn is_readable(address: usize) -> bool {
    const NO_WAY: c_int = -1;
    if address == 0 {
        // Without a set, the kernel has nothing to look at.
        return false;
    }
    let kept = KeptErrno::new();
    // SAFETY: the mask is not changed.
    unsafe { syscall(RT_SIGPROCMASK, NO_WAY, address, 0_usize, 8_usize) };
    let readable = errno() == EINVAL;
    drop(kept);
    readable
}

/// Waits until `word` is no longer `value`, somebody wakes it, or the time is over.
pub fn futex_wait(word: &core::sync::atomic::AtomicU32, value: u32, timeout_ns: u64) {
    const FUTEX_WAIT: c_int = 0;
    let time = Timespec {
        seconds: (timeout_ns / 1_000_000_000) as i64,
        nanoseconds: (timeout_ns % 1_000_000_000) as i64,
    };
    // SAFETY: both places live during the call.
    unsafe { syscall(FUTEX, word.as_ptr(), FUTEX_WAIT, value as c_uint, &raw const time) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_mapped_cannot_be_copied() {
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
    fn the_end_of_a_mapping_is_seen() {
        const MAP_PRIVATE: c_int = 2;
        const MAP_ANONYMOUS: c_int = 0x20;
        let flags = MAP_PRIVATE | MAP_ANONYMOUS;
        // SAFETY: a new mapping, whose second half is unmapped again.
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
    fn errno_is_kept() {
        // SAFETY: as in the function itself.
        unsafe { *__errno_location() = 77 };
        assert!(!copy_checked(0, &mut [0; 8]));
        assert_eq!(errno(), 77);
        // SAFETY: as above.
        unsafe { *__errno_location() = EINVAL };
        assert!(!copy_checked(0, &mut [0; 8]), "whatever failed before");
    }
}
