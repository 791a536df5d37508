//! Samples waits: decides which waits of a thread are recorded, and how much waiting time each represents.
//!
//! A wait of at least one period is recorded with its duration. Shorter waits are laid end to end and sampled
//! at points with exponentially distributed distances, whose mean is one period. Each point represents a
//! period. So the expected sum of recorded time is the time waited, and if S is the sum of the short waits,
//! the standard deviation is the square root of S times the period.

use core::sync::atomic::{AtomicU64, Ordering};

/// A thread's progress to its next sampling point; all zeros when it starts.
///
/// Only the thread itself uses it. If a signal handler waits while [`weigh`] runs, one point is misplaced.
#[derive(Clone, Copy)]
pub struct Progress<'a> {
    /// Waiting time until the next point, ns.
    pub left_ns: &'a AtomicU64,
    /// State of the random number generator; 0 before the first number.
    pub random: &'a AtomicU64,
}

/// Returns the waiting time that the record of a wait of `waited_ns` represents, ns; 0 if it is not recorded.
/// `seed` initialises a thread's random numbers.
pub fn weigh(
    progress: Progress<'_>,
    waited_ns: u64,
    period_ns: u64,
    seed: impl FnOnce() -> u64,
) -> u64 {
    if waited_ns >= period_ns {
        return waited_ns;
    }
    let mut random = progress.random.load(Ordering::Relaxed);
    let mut left_ns = progress.left_ns.load(Ordering::Relaxed);
    if random == 0 {
        random = begin(seed());
        left_ns = exponential(&mut random, period_ns);
    }
    let (mut rest_ns, mut weight_ns) = (waited_ns, 0);
    while rest_ns >= left_ns {
        rest_ns -= left_ns;
        weight_ns += period_ns;
        left_ns = exponential(&mut random, period_ns);
    }
    progress.random.store(random, Ordering::Relaxed);
    progress.left_ns.store(left_ns - rest_ns, Ordering::Relaxed);
    weight_ns
}

/// Returns an initial state that is not 0 and does not resemble the seed.
fn begin(seed: u64) -> u64 {
    let mut state = seed | 1;
    for _ in 0..16 {
        uniform(&mut state);
    }
    state
}

/// Returns the next 64 random bits: xorshift64* (Vigna 2016).
fn uniform(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_F491_4F6C_DD1D)
}

/// Returns an exponentially distributed number of this mean, at least 1. It only compares uniform numbers
/// (von Neumann 1951), since there is no logarithm without a library.
fn exponential(state: &mut u64, mean: u64) -> u64 {
    let mut whole = 0;
    loop {
        let first = uniform(state);
        if has_odd_decreasing_run(state, first) {
            let part = (u128::from(first) * u128::from(mean)) >> 64;
            return (whole + part as u64).max(1);
        }
        whole += mean;
    }
}

/// Returns whether the run of decreasing numbers that starts with `first` has an odd length.
fn has_odd_decreasing_run(state: &mut u64, first: u64) -> bool {
    let (mut last, mut odd) = (first, true);
    loop {
        let next = uniform(state);
        if next >= last {
            return odd;
        }
        (last, odd) = (next, !odd);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD_NS: u64 = 1_000_000;

    fn weights(waits: impl IntoIterator<Item = u64>, seed: u64) -> Vec<u64> {
        let (left_ns, random) = (AtomicU64::new(0), AtomicU64::new(0));
        let progress = Progress { left_ns: &left_ns, random: &random };
        waits.into_iter().map(|waited| weigh(progress, waited, PERIOD_NS, || seed)).collect()
    }

    #[test]
    fn long_waits_are_recorded_exactly() {
        let waits = [PERIOD_NS, 7 * PERIOD_NS + 3, u64::MAX];
        assert_eq!(weights(waits, 1), waits);
    }

    #[test]
    fn sums_of_short_waits_are_unbiased() {
        for (seed, waited) in [(1, 5_000), (2, 70_000), (3, 900_000), (4, 999_999)] {
            let count = 4_000_000_000 / waited;
            let sum = (waited * count) as f64;
            let recorded: u64 = weights((0..count).map(|_| waited), seed).iter().sum();
            let deviation = (sum * PERIOD_NS as f64).sqrt();
            assert!((recorded as f64 - sum).abs() < 4.0 * deviation, "{waited}: {recorded}");
        }
    }

    #[test]
    fn the_distances_of_points_are_exponential() {
        let mut state = begin(5);
        let count = 100_000;
        let values: Vec<f64> = (0..count)
            .map(|_| exponential(&mut state, PERIOD_NS) as f64 / PERIOD_NS as f64)
            .collect();
        // Kolmogorov-Smirnov, at a level of 0.1 %.
        let mut sorted = values;
        sorted.sort_by(f64::total_cmp);
        let distance = sorted
            .iter()
            .enumerate()
            .map(|(rank, value)| (1.0 - (-value).exp() - rank as f64 / f64::from(count)).abs())
            .fold(0.0, f64::max);
        assert!(distance < 1.95 / f64::from(count).sqrt(), "{distance}");
    }
}
