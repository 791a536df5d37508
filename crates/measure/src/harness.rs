//! Times one operation inside a fresh process: warm-up, calibrated batches, the clock's own cost taken off.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// How long to measure and how many samples to aim for.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Wall time to spend in all, warm-up included.
    pub total: Duration,
    /// Samples wanted; fewer come where one call takes long, but never fewer than `least`.
    pub most: usize,
    /// Samples taken whatever they cost.
    pub least: usize,
}

/// What the clock of this process costs and resolves.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Cost of reading it twice, ns (the least seen).
    pub overhead_ns: f64,
}

impl Clock {
    /// Measures the clock.
    pub fn calibrate() -> Self {
        let overhead_ns =
            (0..1000).map(|_| nanoseconds(Instant::now().elapsed())).fold(f64::MAX, f64::min);
        Self { overhead_ns }
    }

    /// ns of a single call, the clock's own cost taken off: for distributions, where a batch would
    /// average the tail away. Calls shorter than the clock resolves come out coarse.
    pub fn time_once<R>(&self, operation: impl FnOnce() -> R) -> f64 {
        let start = Instant::now();
        black_box(operation());
        (nanoseconds(start.elapsed()) - self.overhead_ns).max(0.0)
    }
}

/// Times `operation` and returns ns per call, one value per batch, in order.
///
/// A batch holds as many calls as make the clock's resolution negligible (at least 20 times the cost
/// of reading it); an operation that takes longer is timed call by call. One batch is thrown away to
/// warm up. The result of every call is kept from the optimiser.
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

/// Times `operation` on a fresh value from `prepare` each time; preparing is not timed.
pub fn time_prepared<T, R>(
    budget: Budget,
    mut prepare: impl FnMut() -> T,
    mut operation: impl FnMut(&mut T) -> R,
) -> Vec<f64> {
    let clock = Clock::calibrate();
    let began = Instant::now();
    let mut once = || {
        let mut value = prepare();
        let start = Instant::now();
        black_box(operation(black_box(&mut value)));
        (nanoseconds(start.elapsed()) - clock.overhead_ns).max(0.0)
    };
    once();
    let mut samples = Vec::with_capacity(budget.most);
    while samples.len() < budget.least
        || (samples.len() < budget.most && began.elapsed() < budget.total)
    {
        samples.push(once());
    }
    samples
}

/// Doubles the batch until it is long enough to be timed well.
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

/// ns per call over one batch.
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
    fn the_least_is_taken_whatever_it_costs() {
        assert_eq!(time(SHORT, || 1 + 1).len(), 3);
        assert_eq!(time_prepared(SHORT, Vec::<u8>::new, |value| value.push(1)).len(), 3);
    }

    #[test]
    fn no_more_than_the_most_is_taken() {
        let budget = Budget { total: Duration::from_secs(60), most: 5, least: 1 };
        assert_eq!(time(budget, || black_box(3)).len(), 5);
    }

    #[test]
    fn each_prepared_value_is_used_once() {
        let mut prepared = 0;
        let samples = time_prepared(
            SHORT,
            || {
                prepared += 1;
                0
            },
            |value| {
                *value += 1;
                assert_eq!(*value, 1);
            },
        );
        assert_eq!(prepared, samples.len() + 1);
    }
}
