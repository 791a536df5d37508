//! A thread that samples the resource usage of the target's processes.
//!
//! The first sample is taken at the target's exec. The last one is taken when its main process has
//! ended but is still a zombie: totals are then exact. The kernel has already freed its memory, so
//! the last sample repeats the memory usage of the one before.
//!
//! Before the exec and between samples, the CPU time alone is read. The interval of these readings grows with the age of the target. So they bound
//! when CPU time was used as a share of the time passed, also in short runs. There are at most 1000 per second at first, and
//! none once their interval would exceed that of the samples. They take at most 1 % of the time. They are of the processes that the
//! sample before found: if the next sample finds another one, they are discarded.
//!
//! Reading the proportional set takes time that grows with the target's memory. It is read at most once
//! per sample, and rarely enough to cost less than 0.1 % of a core.

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

/// Maximum number of samples: an hour at 20 Hz. When it is exceeded, samples are merged in pairs and the
/// interval doubles.
const MAX_SAMPLES: usize = 72_000;

/// Shortest interval, which bounds the cost.
const MIN_INTERVAL: Duration = Duration::from_millis(1);

/// The interval between readings of the CPU time is the age of the target divided by this.
const CPU_READINGS_PER_AGE: u32 = 128;

/// Reading the CPU time may take at most 1 / CPU_READING_SHARE of the time.
const CPU_READING_SHARE: u32 = 100;

/// A handle of the running thread.
pub struct Sampler {
    thread: JoinHandle<Sampled>,
    orders: Sender<Order>,
}

/// The result of the thread.
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
    /// Starts the thread for all descendants of `guardian`. `target` is the first of them, and waits for its exec.
    pub fn prepare(guardian: u32, target: u32, interval: Duration) -> io::Result<Sampler> {
        let (orders, received) = mpsc::channel();
        let (ready, is_ready) = mpsc::channel();
        let interval = interval.max(MIN_INTERVAL);
        let thread = thread::Builder::new()
            .name("resources".to_owned())
            .spawn(move || run(guardian, target, interval, &ready, &received))?;
        // After the exec the thread may run late, when the first steps have ended. So it reads the CPU time before.
        let _ = is_ready.recv();
        Ok(Sampler { thread, orders })
    }

    /// Starts sampling. Call it at the target's exec.
    pub fn begin(&self) {
        // If the thread has failed, `finish` reports it.
        let _ = self.orders.send(Order::Begin);
    }

    /// Takes the last sample and ends the thread. The target's main process must have ended but not been reaped.
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

fn run(
    guardian: u32,
    target: u32,
    interval: Duration,
    ready: &Sender<()>,
    orders: &Receiver<Order>,
) -> Sampled {
    let mut tracker = Tracker::new(guardian, target);
    let mut series = Series { interval, samples: Vec::new() };
    let mut cpu_readings = vec![tracker.cpu_reading()];
    // If nobody waits any more, no order comes either.
    let _ = ready.send(());
    if let Ok(Order::Begin) = orders.recv() {
        series.push(tracker.sample(true));
        let mut complete = cpu_readings.len();
        let mut cost = Duration::ZERO;
        let begin = Instant::now();
        let mut next = begin + series.interval;
        let mut reading = begin + MIN_INTERVAL;
        while let Err(RecvTimeoutError::Timeout) =
            orders.recv_timeout(reading.min(next).saturating_duration_since(Instant::now()))
        {
            let start = Instant::now();
            if reading < next {
                cpu_readings.push(tracker.cpu_reading());
                cost = start.elapsed();
            } else {
                series.push(tracker.sample(false));
                if tracker.has_found_processes() {
                    cpu_readings.truncate(complete);
                }
                complete = cpu_readings.len();
                // After a late sample, the following ones are not taken in quick succession to catch up.
                next = (next + series.interval).max(Instant::now());
            }
            let now = Instant::now();
            let interval = (now - begin) / CPU_READINGS_PER_AGE;
            reading = now + interval.max(cost * CPU_READING_SHARE).max(MIN_INTERVAL);
        }
        series.push(tracker.sample(true));
        if tracker.has_found_processes() {
            cpu_readings.truncate(complete);
        }
    }
    let interval_ns = series.interval.as_nanos() as u64;
    let mut timeline =
        Timeline { interval_ns, samples: series.samples, cpu_readings, ..Timeline::default() };
    tracker.finish(&mut timeline);
    Sampled { timeline, cpu_ns: clock::thread_cpu_ns() }
}

/// A bounded number of samples.
struct Series {
    interval: Duration,
    samples: Vec<ResourceSample>,
}

impl Series {
    fn push(&mut self, sample: ResourceSample) {
        self.samples.push(sample);
        if self.samples.len() > MAX_SAMPLES {
            self.thin();
        }
    }

    /// Keeps the first sample and merges the others in pairs.
    fn thin(&mut self) {
        let mut thinned = Vec::with_capacity(MAX_SAMPLES);
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

/// Merges two neighbours: the later one, with the mean of shares and the last known proportional set.
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
    fn a_long_series_is_thinned_and_keeps_its_first_and_last_sample() {
        let mut series = Series { interval: Duration::from_millis(50), samples: Vec::new() };
        for time_ns in 0..=MAX_SAMPLES as u64 {
            let core_busy = vec![(time_ns % 2) as f32];
            series.push(ResourceSample { time_ns, core_busy, ..ResourceSample::default() });
        }
        assert_eq!(series.interval, Duration::from_millis(100));
        assert_eq!(series.samples.len(), MAX_SAMPLES / 2 + 1);
        assert_eq!(series.samples[0].time_ns, 0);
        assert_eq!(series.samples[1].time_ns, 2);
        assert_eq!(series.samples[1].core_busy, [0.5]);
        assert_eq!(series.samples[MAX_SAMPLES / 2].time_ns, MAX_SAMPLES as u64);
    }
}
