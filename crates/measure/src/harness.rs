//! Times one operation inside a fresh process: in batches, after a warm-up, without the cost of reading the clock.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// The limits of a measurement.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Limit of the wall time, including the warm-up.
    pub total: Duration,
    /// Largest number of samples. There are fewer if the time runs out.
    pub most: usize,
    /// Smallest number of samples. It is reached even if the time runs out.
    pub least: usize,
}

/// The clock of this process with its cost.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Cost of reading the clock twice, ns: the smallest of many measurements.
    pub overhead_ns: f64,
}

impl Clock {
    /// Measures the cost of the clock.
    pub fn calibrate() -> Self {
        let overhead_ns =
            (0..1000).map(|_| nanoseconds(Instant::now().elapsed())).fold(f64::MAX, f64::min);
        Self { overhead_ns }
    }

    /// Returns the time of a single call in ns, without the cost of the clock.
    ///
    /// Use it to measure a distribution, because batches would average out the tail. If a call is shorter than the resolution of
    /// the clock, the result is inaccurate.
    pub fn time_once<R>(&self, operation: impl FnOnce() -> R) -> f64 {
        let start = Instant::now();
        black_box(operation());
        (nanoseconds(start.elapsed()) - self.overhead_ns).max(0.0)
    }
}

/// Times `operation` and returns the time per call in ns, one value per batch, in order.
///
/// A batch takes at least 20 times the cost of reading the clock and at least 1 µs, so that errors of the clock are negligible. A
/// slow operation has one call per batch. The batches that determine the number of calls and one more are the warm-up. Their
/// times are discarded. The result of every call goes through `black_box`, so that the optimiser does not remove the call.
pub fn time<R>(budget: Budget, mut operation: impl FnMut() -> R) -> Vec<f64> {
    let clock = Clock::calibrate();
    let began = Instant::now();
    let calls = calls_per_batch(clock, &mut operation);
    batch(clock, calls, &mut operation);
    let mut samples = Vec::with_capacity(budget.most);
    while samples.len() < budget.least
        || (samples.len() < budget.most && began.elapsed() < budget.total)
    {
        samples.push(batch(clock, calls, &mut operation));
    }
    samples
}

/// Returns the number of calls per batch: doubles it until a batch is long enough, up to 2^20.
fn calls_per_batch<R>(clock: Clock, operation: &mut impl FnMut() -> R) -> u32 {
    let enough = Duration::from_nanos((clock.overhead_ns * 20.0).max(1_000.0) as u64);
    let mut calls = 1;
    loop {
        let start = Instant::now();
        for _ in 0..calls {
            black_box(operation());
        }
        if start.elapsed() >= enough || calls >= 1 << 20 {
            return calls;
        }
        calls *= 2;
    }
}

/// Times one batch and returns the time per call in ns.
fn batch<R>(clock: Clock, calls: u32, operation: &mut impl FnMut() -> R) -> f64 {
    let start = Instant::now();
    for _ in 0..calls {
        black_box(operation());
    }
    (nanoseconds(start.elapsed()) - clock.overhead_ns).max(0.0) / f64::from(calls)
}

fn nanoseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Budget = Budget { total: Duration::ZERO, most: 50, least: 3 };

    #[test]
    fn the_smallest_number_of_samples_is_taken_without_time_left() {
        assert_eq!(time(SHORT, || 1 + 1).len(), 3);
    }

    #[test]
    fn the_largest_number_of_samples_ends_the_measurement() {
        let budget = Budget { total: Duration::from_secs(60), most: 5, least: 1 };
        assert_eq!(time(budget, || black_box(3)).len(), 5);
    }
}
