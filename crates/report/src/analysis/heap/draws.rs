//! Intervals of amounts that are estimated from draws.

use simprof_model::{HeapAmount, NORMAL_95};
use statrs::distribution::{ContinuousCDF, Gamma};

/// Of as many draws the normal distribution tells the same, to within 0.2 %.
const MANY: f64 = 1000.0;

/// 95 % interval of an amount's bytes; its ends are equal where every allocation was recorded, which an interval of 1 between draws says.
///
/// The lower end is that of the normal approximation. The upper end takes the draws for a Poisson number (Garwood 1936): with none at
/// all it is 3.7 times the interval, since so much may well have been missed.
pub fn bytes_interval(amount: HeapAmount, interval_bytes: u64) -> [f64; 2] {
    interval(amount.bytes as f64, amount.bytes_error as f64, interval_bytes, interval_bytes as f64)
}

/// 95 % interval of an amount's count, likewise. Where nothing was drawn, the allocations that were missed may be of one byte each.
pub fn count_interval(amount: HeapAmount, interval_bytes: u64) -> [f64; 2] {
    let draw = |count: u64, bytes: u64| interval_bytes as f64 * count as f64 / bytes as f64;
    let of_a_draw = match amount {
        HeapAmount { bytes_error: 1.., .. } => draw(amount.count_error, amount.bytes_error),
        HeapAmount { bytes: 1.., .. } => draw(amount.count, amount.bytes),
        _ => interval_bytes as f64,
    };
    interval(amount.count as f64, amount.count_error as f64, interval_bytes, of_a_draw)
}

/// 95 % interval of bytes that are a sum over draws whose errors were not kept: at least as wide as that of any sizes.
pub fn drawn_interval(bytes: f64, interval_bytes: u64) -> [f64; 2] {
    let error = (bytes * interval_bytes as f64).sqrt();
    interval(bytes, error, interval_bytes, interval_bytes as f64)
}

/// The interval of a value with this standard error, of which a draw of a small allocation adds `of_a_draw`.
fn interval(value: f64, error: f64, interval_bytes: u64, of_a_draw: f64) -> [f64; 2] {
    if interval_bytes <= 1 {
        return [value, value];
    }
    // What is large is drawn surely, and adds nothing to the error: these are the draws that chance has a part in.
    let draws = if of_a_draw > 0.0 { (error / of_a_draw).powi(2) } else { 0.0 };
    let above = if draws < MANY { (most(draws) - draws) * of_a_draw } else { NORMAL_95 * error };
    [(value - NORMAL_95 * error).max(0.0), value + above]
}

/// Upper end of the 95 % interval of a Poisson distribution's mean, of which so much was seen.
fn most(draws: f64) -> f64 {
    let gamma = Gamma::new(draws + 1.0, 1.0).expect("its shape and rate are positive and finite");
    gamma.inverse_cdf(0.975)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(count: u64) -> HeapAmount {
        let error = (count as f64).sqrt();
        HeapAmount {
            bytes: count * 4096,
            count: count * 64,
            bytes_error: (error * 4096.0).round() as u64,
            count_error: (error * 64.0).round() as u64,
        }
    }

    #[test]
    fn nothing_drawn_is_not_known_to_be_nothing() {
        let [low, high] = bytes_interval(draws(0), 4096);
        assert_eq!(low, 0.0);
        assert!((high / 4096.0 - 3.689).abs() < 0.001, "{high}");
        assert_eq!(count_interval(draws(0), 4096), [low, high], "of a byte each");
        assert_eq!(bytes_interval(draws(0), 1), [0.0, 0.0], "all were recorded");
        assert_eq!(drawn_interval(0.0, 4096), [low, high]);
    }

    #[test]
    fn few_draws_reach_as_far_as_garwood_says() {
        // The classical table of exact limits.
        for (count, most) in [(1, 5.572), (2, 7.225), (3, 8.767), (10, 18.39), (50, 65.92)] {
            let [low, high] = bytes_interval(draws(count), 4096);
            assert!((high / 4096.0 / most - 1.0).abs() < 2e-3, "{count}: {high}");
            let normal = (count as f64 - 1.96 * (count as f64).sqrt()).max(0.0);
            assert!((low / 4096.0 - normal).abs() < 0.01, "{count}: {low}");
            let [_, high] = count_interval(draws(count), 4096);
            assert!((high / 64.0 / most - 1.0).abs() < 0.05, "{count}: {high}");
        }
    }

    #[test]
    fn many_draws_are_as_the_normal_distribution_has_them() {
        for count in [999, 1001, 1_000_000] {
            let [low, high] = bytes_interval(draws(count), 4096);
            let half = 1.96 * (count as f64).sqrt();
            assert!((low / 4096.0 - (count as f64 - half)).abs() < 1.0);
            assert!((high / 4096.0 - (count as f64 + half)).abs() < 2.1, "{count}: {high}");
        }
    }

    #[test]
    fn what_is_drawn_surely_is_known_but_for_what_was_missed() {
        let sure = HeapAmount { bytes: 64 << 20, count: 1, bytes_error: 0, count_error: 0 };
        let [low, high] = bytes_interval(sure, 4096);
        assert_eq!(low, f64::from(64 << 20));
        assert!((high - low - 3.689 * 4096.0).abs() < 10.0, "{high}");
        let [low, high] = count_interval(sure, 4096);
        assert!(low == 1.0 && high < 1.001, "{high}");
    }
}
