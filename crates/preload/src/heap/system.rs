//! Linux interfaces of the heap library. It makes system calls directly, since the C library's functions may
//! be the ones that it interposes.
//!
//! None of these functions changes `errno`.

use core::ffi::{c_char, c_int, c_void};

use crate::seccomp;
use crate::sys::SharedObject;
#[cfg(simprof_heap)]
pub use crate::sys::now_ns;
#[cfg(simprof_heap)]
pub use crate::sys::{RTLD_DEFAULT, RTLD_NEXT, dlsym};

unsafe extern "C" {
    pub fn dladdr1(
        address: *const c_void,
        found: *mut SharedObject,
        more: *mut *mut c_void,
        what: c_int,
    ) -> c_int;
    pub fn dlerror() -> *mut c_char;
    static environ: *const *const c_char;
}

pub const PAGE: usize = 4096;
const EPERM: isize = -1;
const EFAULT: isize = -14;

pub const PROT_READ: usize = 1;
pub const PROT_READ_WRITE: usize = 3;
pub const MAP_SHARED: usize = 1;
pub const MAP_PRIVATE_ANONYMOUS: usize = 0x22;
pub const MAP_NORESERVE: usize = 0x4000;
/// Advice for `madvise`: a forked child finds this memory zeroed.
pub const MADV_WIPEONFORK: usize = 18;
const O_RDWR_CLOEXEC: usize = 0o2_000_002;
const O_RDONLY_CLOEXEC: usize = 0o2_000_000;
const AT_FDCWD: usize = -100isize as usize;

pub mod number {
    pub const READ: usize = 0;
    pub const CLOSE: usize = 3;
    pub const MMAP: usize = 9;
    pub const MPROTECT: usize = 10;
    pub const MUNMAP: usize = 11;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const MADVISE: usize = 28;
    pub const GETTID: usize = 186;
    pub const FUTEX: usize = 202;
    pub const CLOCK_GETTIME: usize = 228;
    pub const OPENAT: usize = 257;
    pub const READLINKAT: usize = 267;
    pub const NEWFSTATAT: usize = 262;
    pub const PRLIMIT64: usize = 302;
}

/// Makes a system call with up to six arguments. Returns its result, or the negated error number: `EPERM` without a
/// call if a seccomp filter of the target may forbid it.
///
/// # Safety
///
/// As for the system call.
#[inline]
unsafe fn call(number: usize, arguments: [usize; 6]) -> isize {
    if !seccomp::allows(number) {
        return EPERM;
    }
    // SAFETY: the caller's promise.
    unsafe { crate::sys::raw_call(number, arguments) }
}

/// Prefetches the cache line of this address. Any address is allowed.
#[inline]
pub fn prefetch<T>(address: *const T) {
    // SAFETY: a prefetch has no architectural effect.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(address.cast())
    };
}

/// Maps anonymous private memory, zeroed. `None` if the system has none.
pub fn map_private(bytes: usize) -> Option<*mut u8> {
    let flags = MAP_PRIVATE_ANONYMOUS | MAP_NORESERVE;
    // SAFETY: a new mapping at an address that the kernel chooses affects nothing that exists.
    let address = unsafe { call(number::MMAP, [0, bytes, PROT_READ_WRITE, flags, usize::MAX, 0]) };
    (address > 0).then(|| core::ptr::with_exposed_provenance_mut(address as usize))
}

/// Maps the first `bytes` of a file, shared and writable. `None` unless the file begins with these two words.
///
/// # Safety
///
/// `path` must end with a zero. A file that begins like this must have that many bytes.
pub unsafe fn map_file(path: *const c_char, begin: [u64; 2], bytes: usize) -> Option<*mut u8> {
    // SAFETY: the caller's promise.
    let fd = unsafe { call(number::OPENAT, [AT_FDCWD, path.addr(), O_RDWR_CLOEXEC, 0, 0, 0]) };
    if fd < 0 {
        return None;
    }
    let fd = fd as usize;
    let mut words = [0_u64; 2];
    let arguments = [fd, words.as_mut_ptr().addr(), size_of_val(&words), 0, 0, 0];
    // SAFETY: the kernel writes into `words`.
    let read = unsafe { call(number::READ, arguments) };
    let address = match read == size_of_val(&words) as isize && words == begin {
        // SAFETY: as in `map_private`.
        true => unsafe { call(number::MMAP, [0, bytes, PROT_READ_WRITE, MAP_SHARED, fd, 0]) },
        false => -1,
    };
    close(fd);
    (address > 0).then(|| core::ptr::with_exposed_provenance_mut(address as usize))
}

/// Unmaps memory of `map_private` or `map_file`.
///
/// # Safety
///
/// The memory must not be in use.
pub unsafe fn unmap(address: *mut u8, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { call(number::MUNMAP, [address.addr(), bytes, 0, 0, 0, 0]) };
}

/// Changes the access rights of the page that contains an address. Returns whether they were changed.
#[cfg(simprof_heap)]
pub fn protect(address: usize, rights: usize) -> bool {
    let arguments = [address & !(PAGE - 1), PAGE, rights, 0, 0, 0];
    // SAFETY: the callers only add a right for a short time, and then take it again.
    unsafe { call(number::MPROTECT, arguments) == 0 }
}

/// Asks the kernel to zero pages of `map_private`, or of zeroed statics, in forked children. Returns whether it will.
pub fn wipe_on_fork(address: *mut u8, bytes: usize) -> bool {
    // SAFETY: the advice changes nothing in this process.
    unsafe { call(number::MADVISE, [address.addr(), bytes, MADV_WIPEONFORK, 0, 0, 0]) == 0 }
}

/// Disables huge pages for this memory, so that touching it makes only a small page resident.
pub fn disable_huge_pages(address: *mut u8, bytes: usize) {
    const MADV_NOHUGEPAGE: usize = 15;
    // SAFETY: the advice does not change the content.
    unsafe { call(number::MADVISE, [address.addr(), bytes, MADV_NOHUGEPAGE, 0, 0, 0]) };
}

/// Zeroes pages of `map_private` and releases them.
pub fn wipe(address: *mut u8, bytes: usize) {
    const MADV_DONTNEED: usize = 4;
    // SAFETY: the pages are the library's own and contain atomics.
    unsafe { call(number::MADVISE, [address.addr(), bytes, MADV_DONTNEED, 0, 0, 0]) };
}

/// Opens a file for reading.
pub fn open(path: &core::ffi::CStr) -> Option<usize> {
    let arguments = [AT_FDCWD, path.as_ptr().addr(), O_RDONLY_CLOEXEC, 0, 0, 0];
    // SAFETY: the path is a C string.
    usize::try_from(unsafe { call(number::OPENAT, arguments) }).ok()
}

/// Opens a folder, only to identify it.
#[cfg(simprof_heap)]
pub fn open_folder(path: &core::ffi::CStr) -> Option<usize> {
    /// `O_PATH | O_DIRECTORY | O_CLOEXEC`.
    const FLAGS: usize = 0o12_200_000;
    let arguments = [AT_FDCWD, path.as_ptr().addr(), FLAGS, 0, 0, 0];
    // SAFETY: the path is a C string.
    usize::try_from(unsafe { call(number::OPENAT, arguments) }).ok()
}

/// Reads a symbolic link. Returns the number of bytes; 0 after an error.
#[cfg(simprof_heap)]
pub fn read_link(path: &core::ffi::CStr, to: &mut [u8]) -> usize {
    let arguments = [AT_FDCWD, path.as_ptr().addr(), to.as_mut_ptr().addr(), to.len(), 0, 0];
    // SAFETY: the path is a C string, and the kernel writes into `to`.
    usize::try_from(unsafe { call(number::READLINKAT, arguments) }).unwrap_or(0)
}

/// Returns the inode of the file at a path; 0 if it does not exist.
pub fn inode(path: &core::ffi::CStr) -> u64 {
    // The beginning of `struct stat` is the device and the inode.
    let mut status = [0_u64; 18];
    let arguments = [AT_FDCWD, path.as_ptr().addr(), status.as_mut_ptr().addr(), 0, 0, 0];
    // SAFETY: the path is a C string, and `status` is large enough for the result.
    let result = unsafe { call(number::NEWFSTATAT, arguments) };
    if result == 0 { status[1] } else { 0 }
}

/// Reads from a file. Returns the number of bytes; 0 at the end or after an error.
pub fn read(fd: usize, to: &mut [u8]) -> usize {
    let arguments = [fd, to.as_mut_ptr().addr(), to.len(), 0, 0, 0];
    // SAFETY: the kernel writes into `to`.
    usize::try_from(unsafe { call(number::READ, arguments) }).unwrap_or(0)
}

/// Closes a descriptor of `open`.
pub fn close(fd: usize) {
    // SAFETY: the descriptor was opened by this library and is not used elsewhere.
    unsafe { call(number::CLOSE, [fd, 0, 0, 0, 0, 0]) };
}

/// Returns whether 8 bytes at this address can be read, without reading them here. It costs a system call.
///
/// The call passes the address as a new signal mask, with an invalid `how`. The kernel copies the mask before it
/// checks `how`, so the error shows whether the address is readable.
pub fn is_readable(address: usize) -> bool {
    const INVALID: usize = 0x7fff_ffff;
    // A null address means "no mask": the kernel would read nothing.
    // SAFETY: the call fails in any case, and changes nothing.
    address != 0
        && seccomp::allows(number::RT_SIGPROCMASK)
        && unsafe { call(number::RT_SIGPROCMASK, [INVALID, address, 0, 8, 0, 0]) != EFAULT }
}

/// Blocks all signals of the thread until this is dropped, except those that its own instructions raise.
pub struct BlockedSignals {
    before: u64,
}

impl BlockedSignals {
    pub fn new() -> Self {
        Self { before: set_mask(u64::MAX) }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        set_mask(self.before);
    }
}

/// Sets the thread's signal mask and returns the previous one.
fn set_mask(mask: u64) -> u64 {
    const SIG_SETMASK: usize = 2;
    let mut before = 0u64;
    let arguments =
        [SIG_SETMASK, (&raw const mask).addr(), (&raw mut before).addr(), size_of::<u64>(), 0, 0];
    // SAFETY: both masks live during the call, and have the size of the kernel's.
    unsafe { call(number::RT_SIGPROCMASK, arguments) };
    before
}

/// Returns the soft limit of a resource of this process; `usize::MAX` if there is none.
pub fn limit(resource: usize) -> usize {
    let mut limits = [usize::MAX; 2];
    let arguments = [0, resource, 0, limits.as_mut_ptr().addr(), 0, 0];
    // SAFETY: nothing is set, and the array has space for the soft and the hard limit.
    unsafe { call(number::PRLIMIT64, arguments) };
    limits[0]
}

/// Pauses for about this time.
///
/// A program that may allocate may nearly always wait for a lock, so the pause is a wait for a futex that nobody wakes.
/// Without system calls it is a loop.
#[cfg(simprof_heap)]
pub fn pause_ns(time_ns: u64) {
    const FUTEX_WAIT_PRIVATE: usize = 128;
    let (word, time) = (0_u32, [0, time_ns as i64]);
    let wait = [(&raw const word).addr(), FUTEX_WAIT_PRIVATE, 0, time.as_ptr().addr(), 0, 0];
    if seccomp::allows(number::FUTEX) {
        // SAFETY: the word and the time live during the call.
        unsafe { call(number::FUTEX, wait) };
        return;
    }
    let end_ns = now_ns() + time_ns;
    while now_ns() < end_ns {
        core::hint::spin_loop();
    }
}

/// Returns whether reading the clock needs a system call on this machine.
#[cfg(simprof_heap)]
pub fn does_clock_call() -> bool {
    let mut source = [0; 32];
    let path = c"/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let length = crate::sys::read_file(path, &mut source);
    let without = [&b"tsc"[..], b"kvm-clock", b"hyperv_clocksource_tsc_page"];
    !without.into_iter().any(|name| source[..length].starts_with(name))
}

/// Returns the id of this thread; 0 if it may not be read.
pub fn thread_id() -> u32 {
    // SAFETY: gettid has no preconditions.
    unsafe { call(number::GETTID, [0; 6]).try_into().unwrap_or(0) }
}

/// Returns the value of an environment variable. `None` also before the C library has set up the environment
/// ([`has_environment`]).
pub fn variable(name: &core::ffi::CStr) -> Option<*const c_char> {
    let name = name.to_bytes();
    // SAFETY: the environment is an array of C strings that ends with a null pointer. As with any getenv, the
    // program must not change it in another thread meanwhile; it is only read when the program starts.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let text = (*entry).cast::<u8>();
            if (0..name.len()).all(|at| *text.add(at) == name[at]) && *text.add(name.len()) == b'='
            {
                return Some(text.add(name.len() + 1).cast());
            }
            entry = entry.add(1);
        }
    }
    None
}

/// Returns whether the C library has set up the environment.
pub fn has_environment() -> bool {
    // SAFETY: reads a word that the C library sets once, before any code of the program runs.
    unsafe { !(&raw const environ).read_volatile().is_null() }
}
