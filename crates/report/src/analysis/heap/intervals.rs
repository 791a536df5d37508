//! 95 % intervals of amounts that are estimated from allocation samples.

use simprof_model::{HeapAmount, NORMAL_95};
use statrs::distribution::{ContinuousCDF, Gamma};

/// From this many samples on, the normal approximation agrees with the exact limit to within 0.2 %.
const MANY: f64 = 1000.0;

/// Returns the 95 % interval of an amount's bytes. Its ends are equal if every allocation was recorded
/// (`interval_bytes` is 1).
///
/// The lower end is that of the normal approximation. The upper end treats the number of samples as Poisson distributed
/// (Garwood 1936): without any sample it is 3.7 times `interval_bytes`, the most that is likely to be missed.
pub fn bytes_interval(amount: HeapAmount, interval_bytes: u64) -> [f64; 2] {
    interval(amount.bytes as f64, amount.bytes_error as f64, interval_bytes, interval_bytes as f64)
}

/// Returns the 95 % interval of an amount's count, like [`bytes_interval`]. Without any sample, each missed allocation may
/// be of one byte.
pub fn count_interval(amount: HeapAmount, interval_bytes: u64) -> [f64; 2] {
    let per_sample = |count: u64, bytes: u64| interval_bytes as f64 * count as f64 / bytes as f64;
    let weight = match amount {
        HeapAmount { bytes_error: 1.., .. } => per_sample(amount.count_error, amount.bytes_error),
        HeapAmount { bytes: 1.., .. } => per_sample(amount.count, amount.bytes),
        _ => interval_bytes as f64,
    };
    interval(amount.count as f64, amount.count_error as f64, interval_bytes, weight)
}

/// Returns the 95 % interval of a sum of sampled bytes whose standard error was not kept. It is at least as wide as the
/// interval for any sizes of allocations.
pub fn sum_interval(bytes: f64, interval_bytes: u64) -> [f64; 2] {
    let error = (bytes * interval_bytes as f64).sqrt();
    interval(bytes, error, interval_bytes, interval_bytes as f64)
}

/// Returns the interval of a value with this standard error, to which one sample of a small allocation adds `weight`.
fn interval(value: f64, error: f64, interval_bytes: u64, weight: f64) -> [f64; 2] {
    if interval_bytes <= 1 {
        return [value, value];
    }
    // Large allocations are always sampled and add nothing to the error. This is the number of the other samples.
    let samples = if weight > 0.0 { (error / weight).powi(2) } else { 0.0 };
    let above =
        if samples < MANY { (poisson_max(samples) - samples) * weight } else { NORMAL_95 * error };
    [(value - NORMAL_95 * error).max(0.0), value + above]
}

/// Returns the upper end of the 95 % interval of a Poisson mean, given the number of samples observed.
fn poisson_max(samples: f64) -> f64 {
    let gamma = Gamma::new(samples + 1.0, 1.0).expect("its shape and rate are positive and finite");
    gamma.inverse_cdf(0.975)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(count: u64) -> HeapAmount {
        let error = (count as f64).sqrt();
        HeapAmount {
            bytes: count * 4096,
            count: count * 64,
            bytes_error: (error * 4096.0).round() as u64,
            count_error: (error * 64.0).round() as u64,
        }
    }

    #[test]
    fn without_samples_the_upper_end_is_above_zero() {
        let [low, high] = bytes_interval(samples(0), 4096);
        assert_eq!(low, 0.0);
        assert!((high / 4096.0 - 3.689).abs() < 0.001, "{high}");
        assert_eq!(count_interval(samples(0), 4096), [low, high], "of a byte each");
        assert_eq!(bytes_interval(samples(0), 1), [0.0, 0.0], "all were recorded");
        assert_eq!(sum_interval(0.0, 4096), [low, high]);
    }

    #[test]
    fn the_upper_end_for_few_samples_is_garwoods() {
        // From the table of exact limits.
        for (count, most) in [(1, 5.572), (2, 7.225), (3, 8.767), (10, 18.39), (50, 65.92)] {
            let [low, high] = bytes_interval(samples(count), 4096);
            assert!((high / 4096.0 / most - 1.0).abs() < 2e-3, "{count}: {high}");
            let normal = (count as f64 - 1.96 * (count as f64).sqrt()).max(0.0);
            assert!((low / 4096.0 - normal).abs() < 0.01, "{count}: {low}");
            let [_, high] = count_interval(samples(count), 4096);
            assert!((high / 64.0 / most - 1.0).abs() < 0.05, "{count}: {high}");
        }
    }

    #[test]
    fn many_samples_have_the_normal_interval() {
        for count in [999, 1001, 1_000_000] {
            let [low, high] = bytes_interval(samples(count), 4096);
            let half = 1.96 * (count as f64).sqrt();
            assert!((low / 4096.0 - (count as f64 - half)).abs() < 1.0);
            assert!((high / 4096.0 - (count as f64 + half)).abs() < 2.1, "{count}: {high}");
        }
    }

    #[test]
    fn a_large_allocation_is_uncertain_only_by_what_was_missed() {
        let sure = HeapAmount { bytes: 64 << 20, count: 1, bytes_error: 0, count_error: 0 };
        let [low, high] = bytes_interval(sure, 4096);
        assert_eq!(low, f64::from(64 << 20));
        assert!((high - low - 3.689 * 4096.0).abs() < 10.0, "{high}");
        let [low, high] = count_interval(sure, 4096);
        assert!(low == 1.0 && high < 1.001, "{high}");
    }
}
