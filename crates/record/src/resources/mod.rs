//! A thread that samples what the target's processes use while they run.
//!
//! The first sample is taken at the target's exec, the last when its main process has ended and
//! its remains are still there: totals are then exact, and memory (which the kernel has already
//! taken back) is what was last seen. The proportional set costs time that grows with the target's
//! memory; it is read as often as keeps that below 0.1 % of a core, at most at each sample.

mod cores;
mod file;
mod process;
mod tracker;

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use simprof_model::{Notice, NoticeId, ResourceSample, Timeline};

use crate::clock;
use tracker::Tracker;

/// More samples than this are thinned to half, at twice the interval: an hour at 20 Hz.
const SAMPLES: usize = 72_000;

/// Shortest interval, which bounds the cost.
const INTERVAL_MIN: Duration = Duration::from_millis(1);

/// The running thread.
pub struct Sampler {
    thread: JoinHandle<Sampled>,
    orders: Sender<Order>,
}

/// What the thread has sampled.
#[derive(Debug, Default)]
pub struct Sampled {
    /// Resources over time.
    pub timeline: Timeline,
    /// CPU time that the sampling took, ns.
    pub cpu_ns: u64,
}

enum Order {
    Begin,
    Finish,
}

impl Sampler {
    /// Gets ready to watch all that descends from `guardian`, of which `target` is the first.
    pub fn prepare(guardian: u32, target: u32, interval: Duration) -> io::Result<Sampler> {
        let (orders, received) = mpsc::channel();
        let interval = interval.max(INTERVAL_MIN);
        let thread = thread::Builder::new()
            .name("resources".to_owned())
            .spawn(move || run(guardian, target, interval, &received))?;
        Ok(Sampler { thread, orders })
    }

    /// The target has begun.
    pub fn begin(&self) {
        // A thread that has failed is noticed at the end.
        let _ = self.orders.send(Order::Begin);
    }

    /// The target has ended; its remains must still be there.
    pub fn finish(self) -> Sampled {
        let _ = self.orders.send(Order::Finish);
        self.thread.join().unwrap_or_else(|_| {
            let mut sampled = Sampled::default();
            sampled
                .timeline
                .notices
                .push(Notice::new(NoticeId::ResourcesFailed, "Sampling of resources failed."));
            sampled
        })
    }
}

fn run(guardian: u32, target: u32, interval: Duration, orders: &Receiver<Order>) -> Sampled {
    let mut tracker = Tracker::new(guardian, target);
    let mut series = Series { interval, samples: Vec::new() };
    if let Ok(Order::Begin) = orders.recv() {
        series.push(tracker.sample(true));
        let mut next = Instant::now() + series.interval;
        while let Err(RecvTimeoutError::Timeout) =
            orders.recv_timeout(next.saturating_duration_since(Instant::now()))
        {
            series.push(tracker.sample(false));
            // A sample that came late does not make the next ones come in a row.
            next = (next + series.interval).max(Instant::now());
        }
        series.push(tracker.sample(true));
    }
    let interval_ns = series.interval.as_nanos() as u64;
    let mut timeline = Timeline { interval_ns, samples: series.samples, ..Timeline::default() };
    tracker.finish(&mut timeline);
    Sampled { timeline, cpu_ns: clock::thread_cpu_ns() }
}

/// Samples of bounded number.
struct Series {
    interval: Duration,
    samples: Vec<ResourceSample>,
}

impl Series {
    fn push(&mut self, sample: ResourceSample) {
        self.samples.push(sample);
        if self.samples.len() > SAMPLES {
            self.thin();
        }
    }

    /// Keeps the first sample and every second after it.
    fn thin(&mut self) {
        let mut thinned = Vec::with_capacity(SAMPLES);
        let mut samples = std::mem::take(&mut self.samples).into_iter();
        thinned.extend(samples.next());
        while let Some(odd) = samples.next() {
            match samples.next() {
                Some(even) => thinned.push(merged(&odd, even)),
                None => thinned.push(odd),
            }
        }
        self.samples = thinned;
        self.interval *= 2;
    }
}

/// The later of two neighbours, for the time of both.
fn merged(earlier: &ResourceSample, mut later: ResourceSample) -> ResourceSample {
    for (share, before) in later.core_busy.iter_mut().zip(&earlier.core_busy) {
        *share = (*share + before) / 2.0;
    }
    later.pss_bytes = later.pss_bytes.or(earlier.pss_bytes);
    later
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_series_is_thinned_and_keeps_its_ends() {
        let mut series = Series { interval: Duration::from_millis(50), samples: Vec::new() };
        for time_ns in 0..=SAMPLES as u64 {
            let core_busy = vec![(time_ns % 2) as f32];
            series.push(ResourceSample { time_ns, core_busy, ..ResourceSample::default() });
        }
        assert_eq!(series.interval, Duration::from_millis(100));
        assert_eq!(series.samples.len(), SAMPLES / 2 + 1);
        assert_eq!(series.samples[0].time_ns, 0);
        assert_eq!(series.samples[1].time_ns, 2);
        assert_eq!(series.samples[1].core_busy, [0.5]);
        assert_eq!(series.samples[SAMPLES / 2].time_ns, SAMPLES as u64);
    }
}
