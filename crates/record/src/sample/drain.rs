//! The thread that empties the buffers while the target runs.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::merge::{self, View};
use super::observer::{Observer, Trace};
use super::ring::Ring;

/// How long a record may take from its time stamp until it is visible.
const SETTLE_NS: u64 = 1_000_000;
/// Longest sleep: bounds how stale [`Shared::samples`] may be.
const IDLE: Duration = Duration::from_millis(100);
/// Shortest sleep between two rounds, so that a target that forks in a loop does not wake us in one.
const PAUSE: Duration = Duration::from_millis(5);
/// Sleep while a mapping waits to become old enough to be ordered.
const PENDING: Duration = Duration::from_millis(2);

/// One buffer and the event that fills it.
#[derive(Debug)]
pub(super) struct Source {
    pub fd: std::os::fd::OwnedFd,
    pub ring: Ring,
    /// Whether it carries what happens to processes, rather than samples.
    pub lifecycle: bool,
}

/// What the thread returns.
#[derive(Debug)]
pub(super) struct Drained {
    pub trace: Trace,
    /// CPU time of the thread, ns.
    pub cpu_ns: u64,
}

/// Drains until a byte arrives at `stop`, then takes what is left and returns.
pub(super) fn run(mut sources: Vec<Source>, stop: RawFd, samples: &AtomicU64) -> Drained {
    ask_for_priority();
    let mut observer = Observer::new();
    let mut malformed = 0;
    let mut fds = poll_set(&sources, stop);
    let mut timeout = IDLE;
    loop {
        let stopped = sleep(&mut fds, timeout);
        let started = Instant::now();
        let horizon = if stopped { u64::MAX } else { now_ns().saturating_sub(SETTLE_NS) };
        let round = drain_once(&mut sources, horizon, &mut observer);
        malformed += round.malformed;
        samples.store(observer.samples() as u64, Ordering::Relaxed);
        if stopped || pause(&mut fds[..1], started) {
            drain_once(&mut sources, u64::MAX, &mut observer);
            break;
        }
        timeout = if round.pending { PENDING } else { IDLE };
    }
    Drained { trace: observer.into_trace(malformed), cpu_ns: thread_cpu_ns() }
}

/// Asks to run ahead of a target that has more threads than there are CPUs.
///
/// Only the privileged may; others are scheduled like the target, and may lose samples to a crowd of threads.
fn ask_for_priority() {
    const AHEAD: libc::c_int = -10;
    // SAFETY: the call has no preconditions; on Linux, zero stands for the calling thread alone.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, AHEAD) };
}

/// What one pass over the buffers left.
struct Round {
    pending: bool,
    malformed: u64,
}

/// Hands on every record that is older than the horizon and gives its room back.
fn drain_once(sources: &mut [Source], horizon_ns: u64, observer: &mut Observer) -> Round {
    let mut views: Vec<View<'_>> = sources.iter().map(|source| source.ring.view()).collect();
    merge::merge(&mut views, horizon_ns, |record| observer.handle(record));
    let malformed = views.iter().map(View::malformed).sum();
    let ends: Vec<_> = views.iter().map(|view| (view.tail(), view.is_empty())).collect();
    let mut pending = false;
    for (source, (tail, empty)) in sources.iter_mut().zip(ends) {
        source.ring.release(tail);
        pending |= source.lifecycle && !empty;
    }
    Round { pending, malformed }
}

/// The descriptors to wait for: `stop` first, then every source.
fn poll_set(sources: &[Source], stop: RawFd) -> Vec<libc::pollfd> {
    std::iter::once(stop)
        .chain(sources.iter().map(|source| source.fd.as_raw_fd()))
        .map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 })
        .collect()
}

/// Sleeps the rest of the shortest interval between two rounds; true when told to stop.
fn pause(stop: &mut [libc::pollfd], started: Instant) -> bool {
    match PAUSE.checked_sub(started.elapsed()) {
        Some(rest) => sleep(stop, rest),
        None => false,
    }
}

/// Sleeps until a descriptor is ready or the time is over; true when told to stop.
fn sleep(fds: &mut [libc::pollfd], timeout: Duration) -> bool {
    let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let count = fds.len() as libc::nfds_t;
    // SAFETY: the array is ours and has `count` entries.
    let ready = unsafe { libc::poll(fds.as_mut_ptr(), count, milliseconds) };
    if ready < 0 {
        // Interrupted by a signal: a round more does no harm.
        return io::Error::last_os_error().raw_os_error() != Some(libc::EINTR);
    }
    for polled in &mut fds[1..] {
        // Every thread of the event has ended: it would be ready for ever.
        if polled.revents & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0 {
            polled.fd = -1;
        }
    }
    fds[0].revents != 0
}

/// CLOCK_MONOTONIC, the clock of the records.
fn now_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// CPU time of the calling thread.
fn thread_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is ours; both clocks exist on every Linux, so the call cannot fail.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
