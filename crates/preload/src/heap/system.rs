//! What the heap library asks of Linux: by system calls of its own, since the C library's functions may be the ones it interposes.
//!
//! None of them touches `errno`.

use core::arch::asm;
use core::ffi::c_char;

pub use crate::sys::now_ns;
#[cfg(simprof_heap)]
pub use crate::sys::{RTLD_DEFAULT, RTLD_NEXT, dlsym};

unsafe extern "C" {
    pub fn dlerror() -> *mut c_char;
    static environ: *const *const c_char;
}

pub const PAGE: usize = 4096;
pub const EFAULT: isize = -14;

pub const PROT_READ_WRITE: usize = 3;
pub const MAP_SHARED: usize = 1;
pub const MAP_PRIVATE_ANONYMOUS: usize = 0x22;
pub const MAP_NORESERVE: usize = 0x4000;
/// Memory that a forked child finds zeroed.
pub const MADV_WIPEONFORK: usize = 18;
const O_RDWR_CLOEXEC: usize = 0o2_000_002;
const O_RDONLY_CLOEXEC: usize = 0o2_000_000;
const AT_FDCWD: usize = -100isize as usize;

#[cfg(target_arch = "x86_64")]
mod number {
    pub const READ: usize = 0;
    pub const CLOSE: usize = 3;
    pub const LSEEK: usize = 8;
    pub const MMAP: usize = 9;
    pub const MUNMAP: usize = 11;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const MADVISE: usize = 28;
    pub const NANOSLEEP: usize = 35;
    pub const GETPID: usize = 39;
    pub const GETTID: usize = 186;
    pub const OPENAT: usize = 257;
    pub const NEWFSTATAT: usize = 262;
    pub const PRLIMIT64: usize = 302;
}

/// A system call of up to six arguments: its result, or the error's number negated.
///
/// # Safety
///
/// As the call's own.
#[cfg(target_arch = "x86_64")]
#[inline]
unsafe fn call(number: usize, arguments: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    let result: isize;
    // SAFETY: the kernel changes rax, rcx and r11 only; what it does to memory is the caller's care.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    result
}

/// Brings the cache line of this address near, while other work goes on. Any address will do.
#[inline]
pub fn prefetch<T>(place: *const T) {
    // SAFETY: it reads nothing as far as the program can see.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(place.cast())
    };
}

/// Anonymous private memory, zeroed; none where the system gives none.
pub fn map_private(bytes: usize) -> Option<*mut u8> {
    let flags = MAP_PRIVATE_ANONYMOUS | MAP_NORESERVE;
    // SAFETY: a new mapping at a place of the kernel's choice touches nothing that exists.
    let place = unsafe { call(number::MMAP, [0, bytes, PROT_READ_WRITE, flags, usize::MAX, 0]) };
    (place > 0).then(|| core::ptr::with_exposed_provenance_mut(place as usize))
}

/// Maps the first `bytes` of a file of exactly this `length`, shared and writable.
///
/// # Safety
///
/// `path` ends with a zero.
pub unsafe fn map_file(path: *const c_char, length: usize, bytes: usize) -> Option<*mut u8> {
    const SEEK_END: usize = 2;
    // SAFETY: the caller's.
    let fd = unsafe { call(number::OPENAT, [AT_FDCWD, path.addr(), O_RDWR_CLOEXEC, 0, 0, 0]) };
    if fd < 0 {
        return None;
    }
    let fd = fd as usize;
    // SAFETY: it asks for a length; the descriptor's position is its own, since it was opened here.
    let end = unsafe { call(number::LSEEK, [fd, 0, SEEK_END, 0, 0, 0]) };
    let place = match end == length as isize {
        // SAFETY: as in `map_private`.
        true => unsafe { call(number::MMAP, [0, bytes, PROT_READ_WRITE, MAP_SHARED, fd, 0]) },
        false => -1,
    };
    close(fd);
    (place > 0).then(|| core::ptr::with_exposed_provenance_mut(place as usize))
}

/// Unmaps what `map_private` or `map_file` gave.
///
/// # Safety
///
/// Nobody uses it.
pub unsafe fn unmap(place: *mut u8, bytes: usize) {
    // SAFETY: the caller's.
    unsafe { call(number::MUNMAP, [place.addr(), bytes, 0, 0, 0, 0]) };
}

/// Whether forked children will find this memory zeroed: pages of `map_private`, or of zeroed statics.
pub fn wipe_on_fork(place: *mut u8, bytes: usize) -> bool {
    // SAFETY: the advice changes nothing in this process.
    unsafe { call(number::MADVISE, [place.addr(), bytes, MADV_WIPEONFORK, 0, 0, 0]) == 0 }
}

/// Has each page of this memory taken when it is touched, and not many at once.
pub fn take_small_pages(place: *mut u8, bytes: usize) {
    const MADV_NOHUGEPAGE: usize = 15;
    // SAFETY: the advice changes nothing of what is there.
    unsafe { call(number::MADVISE, [place.addr(), bytes, MADV_NOHUGEPAGE, 0, 0, 0]) };
}

/// Zeroes pages of `map_private`, and gives them back.
pub fn wipe(place: *mut u8, bytes: usize) {
    const MADV_DONTNEED: usize = 4;
    // SAFETY: the pages are the library's own, of atomics.
    unsafe { call(number::MADVISE, [place.addr(), bytes, MADV_DONTNEED, 0, 0, 0]) };
}

/// Opens a file to be read.
pub fn open(path: &core::ffi::CStr) -> Option<usize> {
    let arguments = [AT_FDCWD, path.as_ptr().addr(), O_RDONLY_CLOEXEC, 0, 0, 0];
    // SAFETY: the path is a C string.
    usize::try_from(unsafe { call(number::OPENAT, arguments) }).ok()
}

/// Inode of the file at a path; 0 where there is none.
pub fn inode(path: &core::ffi::CStr) -> u64 {
    // `struct stat`: the device, the inode, and more.
    let mut status = [0_u64; 18];
    let arguments = [AT_FDCWD, path.as_ptr().addr(), status.as_mut_ptr().addr(), 0, 0, 0];
    // SAFETY: the path is a C string, and `status` has room for the answer.
    let result = unsafe { call(number::NEWFSTATAT, arguments) };
    if result == 0 { status[1] } else { 0 }
}

/// Reads; 0 at the end and after an error.
pub fn read(fd: usize, to: &mut [u8]) -> usize {
    let arguments = [fd, to.as_mut_ptr().addr(), to.len(), 0, 0, 0];
    // SAFETY: the kernel writes into `to`.
    usize::try_from(unsafe { call(number::READ, arguments) }).unwrap_or(0)
}

/// Closes what `open` gave.
pub fn close(fd: usize) {
    // SAFETY: the descriptor was opened by this library and is used by nobody else.
    unsafe { call(number::CLOSE, [fd, 0, 0, 0, 0, 0]) };
}

/// Whether 8 bytes at this address can be read, without reading them here. It costs a system call.
///
/// The kernel copies the new set of signals before it looks at the way to apply it, which is none.
pub fn is_readable(address: usize) -> bool {
    const NO_WAY: usize = 0x7fff_ffff;
    // Of address 0 the kernel would take it that there is no set, and look at nothing.
    // SAFETY: the call fails either way, and changes nothing.
    address != 0 && unsafe { call(number::RT_SIGPROCMASK, [NO_WAY, address, 0, 8, 0, 0]) != EFAULT }
}

/// No signal interrupts the thread until this is dropped, but for those that its own instructions raise.
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

/// Sets which signals the thread does not take; which those were.
fn set_mask(mask: u64) -> u64 {
    const SIG_SETMASK: usize = 2;
    let mut before = 0u64;
    let arguments =
        [SIG_SETMASK, (&raw const mask).addr(), (&raw mut before).addr(), size_of::<u64>(), 0, 0];
    // SAFETY: both places live during the call, and are as large as the kernel's sets.
    unsafe { call(number::RT_SIGPROCMASK, arguments) };
    before
}

/// The limit of a resource of this process; `usize::MAX` where there is none.
pub fn limit(resource: usize) -> usize {
    let mut limits = [usize::MAX; 2];
    let arguments = [0, resource, 0, limits.as_mut_ptr().addr(), 0, 0];
    // SAFETY: nothing is set, and there is room for the soft and the hard limit.
    unsafe { call(number::PRLIMIT64, arguments) };
    limits[0]
}

/// Sleeps.
pub fn sleep_ns(time_ns: u64) {
    let time = [0, time_ns as i64];
    // SAFETY: the place lives during the call.
    unsafe { call(number::NANOSLEEP, [time.as_ptr().addr(), 0, 0, 0, 0, 0]) };
}

/// This process.
pub fn process_id() -> u32 {
    // SAFETY: it has no preconditions.
    unsafe { call(number::GETPID, [0; 6]) as u32 }
}

/// This thread.
pub fn thread_id() -> u32 {
    // SAFETY: it has no preconditions.
    unsafe { call(number::GETTID, [0; 6]) as u32 }
}

/// Value of an environment variable; none too before the C library knows the environment ([`has_environment`]).
pub fn variable(name: &core::ffi::CStr) -> Option<*const c_char> {
    let name = name.to_bytes();
    // SAFETY: the environment is an array of C strings that ends with a null. As with any getenv, the program must not
    // change it in another thread meanwhile; it is read when the program begins.
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

/// Whether the C library knows the environment yet.
pub fn has_environment() -> bool {
    // SAFETY: a word that the C library sets once, before any code of the program runs.
    unsafe { !(&raw const environ).read_volatile().is_null() }
}
