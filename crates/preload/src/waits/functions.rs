//! The interposed functions: the cause of waiting in each, and the addresses of the real functions.

use core::ffi::{CStr, c_char, c_void};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::format::Cause;

use super::trampoline::interpose;

/// How to determine the cause of a wait from the call.
#[derive(Clone, Copy)]
pub(super) enum Reason {
    /// The cause is always the same.
    Always(Cause),
    /// A condition variable. The interpreter's own ones belong to its lock.
    Condition,
    /// A sleep if the first argument and the sets (second to fourth) are zero, otherwise a wait for events.
    Select,
    /// A sleep if the second argument, the number of descriptors, is 0, otherwise a wait for events.
    Poll,
    /// A wait for a file lock if the second argument says so, otherwise no wait.
    Control,
}

/// How much of a call's time may be the kernel's work for the thread rather than waiting.
#[derive(Clone, Copy)]
pub(super) enum Work {
    /// Negligible.
    Nothing,
    /// Proportional to the number of bytes, which is the argument at this position.
    Bytes(usize),
    /// Unknown in advance.
    Unknown,
}

/// An interposed function.
pub(super) struct Function {
    name: &'static CStr,
    pub(super) reason: Reason,
    pub(super) work: Work,
}

const THREAD: Reason = Reason::Always(Cause::Synchronisation);
const SLEEP: Reason = Reason::Always(Cause::Sleep);
const EVENTS: Reason = Reason::Always(Cause::Events);
const IO: Reason = Reason::Always(Cause::Io);
const CHILD: Reason = Reason::Always(Cause::Child);

// All have at most six arguments, none of them a floating-point number: that is what the trampoline passes
// on.
interpose! {
    pthread_cond_wait: Reason::Condition, Work::Nothing;
    pthread_cond_timedwait: Reason::Condition, Work::Nothing;
    pthread_cond_clockwait: Reason::Condition, Work::Nothing;
    sem_wait: THREAD, Work::Nothing;
    sem_timedwait: THREAD, Work::Nothing;
    sem_clockwait: THREAD, Work::Nothing;
    pthread_join: THREAD, Work::Nothing;
    pthread_timedjoin_np: THREAD, Work::Nothing;
    pthread_clockjoin_np: THREAD, Work::Nothing;
    nanosleep: SLEEP, Work::Nothing;
    clock_nanosleep: SLEEP, Work::Nothing;
    usleep: SLEEP, Work::Nothing;
    sleep: SLEEP, Work::Nothing;
    poll: Reason::Poll, Work::Nothing;
    ppoll: Reason::Poll, Work::Nothing;
    __poll_chk: Reason::Poll, Work::Nothing;
    __ppoll_chk: Reason::Poll, Work::Nothing;
    select: Reason::Select, Work::Nothing;
    pselect: Reason::Select, Work::Nothing;
    epoll_wait: EVENTS, Work::Nothing;
    epoll_pwait: EVENTS, Work::Nothing;
    epoll_pwait2: EVENTS, Work::Nothing;
    read: IO, Work::Bytes(2);
    __read_chk: IO, Work::Bytes(2);
    pread: IO, Work::Bytes(2);
    pread64: IO, Work::Bytes(2);
    __pread_chk: IO, Work::Bytes(2);
    __pread64_chk: IO, Work::Bytes(2);
    readv: IO, Work::Unknown;
    preadv: IO, Work::Unknown;
    preadv64: IO, Work::Unknown;
    preadv2: IO, Work::Unknown;
    preadv64v2: IO, Work::Unknown;
    recv: IO, Work::Bytes(2);
    __recv_chk: IO, Work::Bytes(2);
    recvfrom: IO, Work::Bytes(2);
    recvmsg: IO, Work::Unknown;
    recvmmsg: IO, Work::Unknown;
    write: IO, Work::Bytes(2);
    pwrite: IO, Work::Bytes(2);
    pwrite64: IO, Work::Bytes(2);
    writev: IO, Work::Unknown;
    pwritev: IO, Work::Unknown;
    pwritev64: IO, Work::Unknown;
    pwritev2: IO, Work::Unknown;
    pwritev64v2: IO, Work::Unknown;
    send: IO, Work::Bytes(2);
    sendto: IO, Work::Bytes(2);
    sendmsg: IO, Work::Unknown;
    sendmmsg: IO, Work::Unknown;
    sendfile: IO, Work::Bytes(3);
    sendfile64: IO, Work::Bytes(3);
    copy_file_range: IO, Work::Bytes(4);
    splice: IO, Work::Bytes(4);
    accept: IO, Work::Nothing;
    accept4: IO, Work::Nothing;
    connect: IO, Work::Nothing;
    getaddrinfo: IO, Work::Unknown;
    fsync: IO, Work::Unknown;
    fdatasync: IO, Work::Unknown;
    syncfs: IO, Work::Unknown;
    sync: IO, Work::Unknown;
    flock: IO, Work::Nothing;
    lockf: IO, Work::Nothing;
    lockf64: IO, Work::Nothing;
    fcntl: Reason::Control, Work::Nothing;
    fcntl64: Reason::Control, Work::Nothing;
    wait: CHILD, Work::Nothing;
    wait3: CHILD, Work::Nothing;
    wait4: CHILD, Work::Nothing;
    waitpid: CHILD, Work::Nothing;
    waitid: CHILD, Work::Nothing;
    system: CHILD, Work::Unknown;
}

/// The real functions; null until they are resolved.
static REAL: [AtomicPtr<c_void>; FUNCTIONS.len()] =
    [const { AtomicPtr::new(null_mut()) }; FUNCTIONS.len()];

/// Index of `read` in [`FUNCTIONS`], as the trampolines pass it.
pub(super) const READ: usize = Index::read as usize;

/// Resolves all real functions, so that later calls, also from signal handlers, need not.
pub(super) fn resolve_all() {
    for position in 0..FUNCTIONS.len() {
        real(position);
    }
}

/// Returns the real function: the next definition after the interposed one.
pub(super) fn real(position: usize) -> *mut c_void {
    let known = REAL[position].load(Ordering::Relaxed);
    if !known.is_null() {
        return known;
    }
    let found = next(FUNCTIONS[position].name);
    let found = if found.is_null() { unavailable as *mut c_void } else { found };
    REAL[position].store(found, Ordering::Relaxed);
    found
}

/// Resolves a symbol. Condition variables have two versions of their functions; without a version, the older
/// one may be found.
fn next(name: &CStr) -> *mut c_void {
    const RTLD_NEXT: *mut c_void = -1_isize as *mut c_void;
    if matches!(name.to_bytes(), b"pthread_cond_wait" | b"pthread_cond_timedwait") {
        // SAFETY: both strings end with a zero, and the handle is a special value that the function knows.
        let found = unsafe { dlvsym(RTLD_NEXT, name.as_ptr(), c"GLIBC_2.3.2".as_ptr()) };
        if !found.is_null() {
            return found;
        }
    }
    // SAFETY: as above.
    unsafe { dlsym(RTLD_NEXT, name.as_ptr()) }
}

/// Stands for a function that this C library does not have. No program can have been linked to it.
extern "C" fn unavailable() -> isize {
    const ENOSYS: i32 = 38;
    // SAFETY: the address is that of this thread's errno.
    unsafe { *__errno_location() = ENOSYS };
    -1
}

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    fn dlvsym(handle: *mut c_void, name: *const c_char, version: *const c_char) -> *mut c_void;
    fn __errno_location() -> *mut i32;
}
