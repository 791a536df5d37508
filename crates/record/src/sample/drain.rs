//! The thread that empties the buffers while the target runs.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::merge::{self, View};
use super::observer::{Observer, Trace};
use super::python::Listener;
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
    pub cpu: u32,
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
pub(super) fn run(
    sources: Vec<Source>,
    mut listener: Option<Listener>,
    stop: RawFd,
    samples: &AtomicU64,
) -> Drained {
    ask_for_priority();
    let mut fds = poll_set(&sources, stop, listener.as_ref());
    let mut drain = Drain { sources, observer: Observer::new(), malformed: 0 };
    let mut timeout = IDLE;
    loop {
        let stopped = sleep(&mut fds, timeout);
        let started = Instant::now();
        drain.serve(listener.as_mut());
        let horizon = if stopped { u64::MAX } else { now_ns().saturating_sub(SETTLE_NS) };
        let pending = drain.once(listener.as_mut(), horizon);
        samples.store(drain.observer.samples() as u64, Ordering::Relaxed);
        if stopped || drain.pause(&mut fds[..LISTENED], listener.as_mut(), started) {
            drain.once(listener.as_mut(), u64::MAX);
            break;
        }
        timeout = if pending { PENDING } else { IDLE };
    }
    let Drain { mut observer, malformed, .. } = drain;
    let told = listener.map(|listener| listener.finish(&mut observer));
    Drained { trace: observer.into_trace(malformed, told), cpu_ns: thread_cpu_ns() }
}

/// Asks to run ahead of a target that has more threads than there are CPUs.
///
/// Only the privileged may; others are scheduled like the target, and may lose samples to a crowd of threads.
fn ask_for_priority() {
    const AHEAD: libc::c_int = -10;
    // SAFETY: the call has no preconditions; on Linux, zero stands for the calling thread alone.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, AHEAD) };
}

/// The buffers, and what was read from them.
struct Drain {
    sources: Vec<Source>,
    observer: Observer,
    malformed: u64,
}

impl Drain {
    /// Hands on every record that is older than the horizon and gives its room back. True where a record about processes
    /// waits to become so old.
    fn once(&mut self, mut listener: Option<&mut Listener>, horizon_ns: u64) -> bool {
        let Self { sources, observer, malformed } = self;
        listener.iter_mut().for_each(|listener| listener.hear());
        let mut views: Vec<View<'_>> = sources.iter().map(|source| source.ring.view()).collect();
        merge::merge(&mut views, horizon_ns, |record| {
            if let Some(listener) = &mut listener {
                listener.advance(record.time_ns, observer);
            }
            observer.handle(record);
        });
        if let Some(listener) = listener {
            listener.advance(horizon_ns, observer);
            listener.release(observer);
        }
        *malformed += views.iter().map(View::malformed).sum::<u64>();
        let ends: Vec<_> = views.iter().map(|view| (view.tail(), view.is_empty())).collect();
        let mut pending = false;
        for (source, (tail, empty)) in sources.iter_mut().zip(ends) {
            source.ring.release(tail);
            pending |= source.lifecycle && !empty;
        }
        pending
    }

    /// Answers processes that ask to be sampled.
    fn serve(&mut self, listener: Option<&mut Listener>) {
        if let Some(listener) = listener {
            listener.serve(&mut self.observer);
        }
    }

    /// Sleeps the rest of the shortest interval between two rounds; true when told to stop. Processes that ask are answered
    /// at once: they wait for it.
    fn pause(
        &mut self,
        fds: &mut [libc::pollfd],
        mut listener: Option<&mut Listener>,
        started: Instant,
    ) -> bool {
        while let Some(rest) = PAUSE.checked_sub(started.elapsed()).filter(|rest| !rest.is_zero()) {
            if sleep(fds, rest.max(Duration::from_millis(1))) {
                return true;
            }
            self.serve(listener.as_deref_mut());
        }
        false
    }
}

/// How many of the descriptors are waited for even between two rounds.
const LISTENED: usize = 2;

/// The descriptors to wait for: `stop` first, then who asks to be sampled, then every source.
fn poll_set(sources: &[Source], stop: RawFd, listener: Option<&Listener>) -> Vec<libc::pollfd> {
    // Descriptors below zero are ignored.
    [stop, listener.map_or(-1, Listener::fd)]
        .into_iter()
        .chain(sources.iter().map(|source| source.fd.as_raw_fd()))
        .map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 })
        .collect()
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
