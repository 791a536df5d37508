//! The thread that empties the ring buffers while the target runs.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::observer::Observer;
use super::python::Listener;
use super::record_order::{self, View};
use super::ring::Ring;
use super::trace::Trace;
use crate::clock;

/// Longest time between the time stamp of a record and its visibility in the buffer.
const SETTLE_NS: u64 = 1_000_000;
/// Longest sleep. It limits how old the published number of samples may be.
const IDLE: Duration = Duration::from_millis(100);
/// Shortest time between two rounds. Without it, a target that forks in a loop would keep this thread busy.
const PAUSE: Duration = Duration::from_millis(5);
/// Length of the sleep while a lifecycle record is still too recent to be handled.
const PENDING: Duration = Duration::from_millis(2);

/// A ring buffer and the event that fills it.
#[derive(Debug)]
pub(super) struct Source {
    pub fd: std::os::fd::OwnedFd,
    pub cpu: u32,
    pub ring: Ring,
    /// Whether it carries lifecycle records instead of samples.
    pub lifecycle: bool,
}

/// The result of the thread.
#[derive(Debug)]
pub(super) struct Drained {
    pub trace: Trace,
    /// CPU time of the thread, ns.
    pub cpu_ns: u64,
}

/// Drains the buffers until a byte arrives at `stop`, then drains the rest and returns. `departures` are the ids of the events that sample
/// threads that leave a CPU, `samples` is the number of other samples so far.
pub(super) fn run(
    sources: Vec<Source>,
    departures: &[u64],
    mut listener: Option<Listener>,
    stop: RawFd,
    samples: &AtomicU64,
) -> Drained {
    raise_priority();
    let mut fds = poll_set(&sources, stop, listener.as_ref());
    let mut observer = Observer::new();
    observer.add_departure_events(departures);
    let mut drain = Drain { sources, observer, malformed: 0 };
    let mut timeout = IDLE;
    loop {
        let stopped = sleep(&mut fds, timeout);
        let started = Instant::now();
        drain.answer_requests(listener.as_mut());
        let horizon = if stopped { u64::MAX } else { clock::now_ns().saturating_sub(SETTLE_NS) };
        let pending = drain.once(listener.as_mut(), horizon);
        samples.store(drain.observer.sample_count() as u64, Ordering::Relaxed);
        if stopped || drain.pause(&mut fds[..URGENT], listener.as_mut(), started) {
            drain.once(listener.as_mut(), u64::MAX);
            break;
        }
        timeout = if pending { PENDING } else { IDLE };
    }
    let Drain { mut observer, malformed, .. } = drain;
    let python = listener.map(|listener| listener.finish(&mut observer));
    Drained { trace: observer.into_trace(malformed, python), cpu_ns: clock::thread_cpu_ns() }
}

/// Tries to raise this thread's priority above that of the target, which may have more threads than there are CPUs.
///
/// This needs privileges. Without them, samples may be lost if the target has many busy threads.
fn raise_priority() {
    const NICE: libc::c_int = -10;
    // SAFETY: the call has no preconditions. On Linux, zero means only the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

/// The buffers and the state of the recording.
struct Drain {
    sources: Vec<Source>,
    observer: Observer,
    malformed: u64,
}

impl Drain {
    /// Handles every record before the horizon and releases its bytes. Returns whether lifecycle records are left.
    fn once(&mut self, mut listener: Option<&mut Listener>, horizon_ns: u64) -> bool {
        let Self { sources, observer, malformed } = self;
        listener.iter_mut().for_each(|listener| listener.read_records());
        let mut views: Vec<View<'_>> = sources.iter().map(|source| source.ring.view()).collect();
        record_order::for_each_before(&mut views, horizon_ns, |record| {
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

    /// Answers processes that request to be sampled with Python frames.
    fn answer_requests(&mut self, listener: Option<&mut Listener>) {
        if let Some(listener) = listener {
            listener.answer_requests(&mut self.observer);
        }
    }

    /// Sleeps for the rest of [`PAUSE`]. Returns true if the thread must stop. Requests are answered at once, because the
    /// processes wait for the answer.
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
            self.answer_requests(listener.as_deref_mut());
        }
        false
    }
}

/// Number of descriptors at the start of the poll set that are polled even between two rounds: `stop` and requests.
const URGENT: usize = 2;

/// Returns the descriptors to poll: `stop`, requests of processes, then every source.
fn poll_set(sources: &[Source], stop: RawFd, listener: Option<&Listener>) -> Vec<libc::pollfd> {
    // The system ignores negative descriptors.
    [stop, listener.map_or(-1, Listener::fd)]
        .into_iter()
        .chain(sources.iter().map(|source| source.fd.as_raw_fd()))
        .map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 })
        .collect()
}

/// Sleeps until a descriptor is ready or the time is over. Returns true if the thread must stop.
fn sleep(fds: &mut [libc::pollfd], timeout: Duration) -> bool {
    let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let count = fds.len() as libc::nfds_t;
    // SAFETY: the slice has `count` entries and is borrowed mutably.
    let ready = unsafe { libc::poll(fds.as_mut_ptr(), count, milliseconds) };
    if ready < 0 {
        // An interruption by a signal only causes one more round.
        return io::Error::last_os_error().raw_os_error() != Some(libc::EINTR);
    }
    for polled in &mut fds[1..] {
        // All threads of the event have ended: it would be ready forever.
        if polled.revents & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0 {
            polled.fd = -1;
        }
    }
    fds[0].revents != 0
}
