//! Intervals with the confidence they achieve, and the interval of a share of samples.

use serde::Serialize;
use statrs::distribution::{Beta, ContinuousCDF, Gamma};

use crate::error::{StatsError, require_probability};

/// A range that covers the true value with the stated probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end, in the unit of the estimate.
    pub lo: f64,
    /// Upper end, in the unit of the estimate.
    pub hi: f64,
    /// The confidence achieved, 0 to 1. Exact methods on discrete distributions achieve more than
    /// requested; a sample that is too small achieves less.
    pub confidence: f64,
}

impl Interval {
    /// Returns whether `value` lies in the interval, both ends included.
    pub fn contains(&self, value: f64) -> bool {
        self.lo <= value && value <= self.hi
    }

    /// Returns half the distance between the ends.
    pub fn half_width(&self) -> f64 {
        (self.hi - self.lo) / 2.0
    }

    /// Applies `f` to both ends. `f` must be increasing.
    pub(crate) fn map(self, f: impl Fn(f64) -> f64) -> Interval {
        Interval { lo: f(self.lo), hi: f(self.hi), confidence: self.confidence }
    }
}

/// Returns the interval of a share, given `successes` out of `trials` (Clopper and Pearson 1934).
///
/// Its coverage is never below `confidence`. Wilson's interval (Wilson 1927) has that coverage only
/// on average. For shares near one in `trials`, as the rare functions of a profile have, its
/// coverage falls to about 84 %. The price of the exact interval is its width: it is wider than
/// Wilson's by about 1 / `trials` at most. Without trials the interval is 0 to 1. Samples are
/// assumed to be independent.
///
/// # Errors
/// Returns an error if there are more successes than trials, or if `confidence` is outside (0, 1).
pub fn binomial_interval(
    successes: u64,
    trials: u64,
    confidence: f64,
) -> Result<Interval, StatsError> {
    require_probability("confidence", confidence)?;
    if successes > trials {
        return Err(StatsError::TooManySuccesses { successes, trials });
    }
    let tail = (1.0 - confidence) / 2.0;
    let (k, misses) = (successes as f64, (trials - successes) as f64);
    let lo = if successes == 0 { 0.0 } else { beta_quantile(tail, k, misses + 1.0) };
    let hi = if misses == 0.0 { 1.0 } else { beta_quantile(1.0 - tail, k + 1.0, misses) };
    Ok(Interval { lo, hi, confidence })
}

/// Returns the interval of the mean of a Poisson distribution of which `count` events were seen (Garwood 1936).
///
/// # Errors
/// Returns an error if `confidence` is not between 0 and 1.
pub fn poisson_interval(count: u64, confidence: f64) -> Result<Interval, StatsError> {
    require_probability("confidence", confidence)?;
    let tail = (1.0 - confidence) / 2.0;
    let quantile = |p: f64, shape: f64| {
        Gamma::new(shape, 1.0).expect("callers pass shapes above zero").inverse_cdf(p)
    };
    let lo = if count == 0 { 0.0 } else { quantile(tail, count as f64) };
    Ok(Interval { lo, hi: quantile(1.0 - tail, count as f64 + 1.0), confidence })
}

/// Returns the quantile at probability `p` of the beta distribution with shapes `a` and `b`, both
/// above zero.
fn beta_quantile(p: f64, a: f64, b: f64) -> f64 {
    Beta::new(a, b).expect("callers pass shapes above zero").inverse_cdf(p)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reference values: scipy `binomtest(k, n).proportion_ci(method="exact")`.
    #[test]
    fn agrees_with_reference_intervals() {
        for (k, n, confidence, lo, hi) in [
            (0, 10, 0.95, 0.0, 0.308_497_1),
            (1, 10, 0.95, 0.002_528_579, 0.445_016_1),
            (5, 10, 0.95, 0.187_086_0, 0.812_914_0),
            (10, 10, 0.95, 0.691_502_9, 1.0),
            (61, 100, 0.95, 0.507_314_5, 0.705_989_6),
            (3, 1000, 0.99, 0.000_338_3, 0.010_933_8),
        ] {
            let got = binomial_interval(k, n, confidence).unwrap();
            assert!((got.lo - lo).abs() < 1e-6, "{k}/{n} lo {}", got.lo);
            assert!((got.hi - hi).abs() < 1e-6, "{k}/{n} hi {}", got.hi);
        }
    }

    #[test]
    fn poisson_intervals_match_tables() {
        for (count, lo, hi) in
            [(0, 0.0, 3.6889), (1, 0.0253, 5.5716), (10, 4.7954, 18.3904), (1000, 938.97, 1063.95)]
        {
            let got = poisson_interval(count, 0.95).unwrap();
            assert!((got.lo - lo).abs() < 2e-4 * (1.0 + lo), "{count} lo {}", got.lo);
            assert!((got.hi - hi).abs() < 2e-4 * (1.0 + hi), "{count} hi {}", got.hi);
        }
        assert!(poisson_interval(1, 0.0).is_err());
    }

    #[test]
    fn without_trials_every_share_is_possible() {
        let all = binomial_interval(0, 0, 0.95).unwrap();
        assert_eq!((all.lo, all.hi), (0.0, 1.0));
        assert!(binomial_interval(2, 1, 0.95).is_err());
        assert!(binomial_interval(1, 2, 1.0).is_err());
    }

    proptest! {
        #[test]
        fn contains_the_share_and_is_symmetric(n in 1u64..100_000, share in 0.0f64..=1.0) {
            let k = (share * n as f64) as u64;
            let one = binomial_interval(k, n, 0.95).unwrap();
            let other = binomial_interval(n - k, n, 0.95).unwrap();
            prop_assert!(one.contains(k as f64 / n as f64));
            prop_assert!((one.lo + other.hi - 1.0).abs() < 1e-9);
        }
    }
}
