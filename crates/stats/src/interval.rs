//! An interval with the confidence it really has, and the one for a share of samples.

use serde::Serialize;
use statrs::distribution::{Beta, ContinuousCDF};

use crate::error::{StatsError, require_probability};

/// A range that covers the true value with the stated probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end, in the unit of the estimate.
    pub lo: f64,
    /// Upper end, in the unit of the estimate.
    pub hi: f64,
    /// The confidence achieved, 0 to 1: exact methods on discrete distributions give more than was
    /// asked, and a sample that is too small gives less.
    pub confidence: f64,
}

impl Interval {
    /// Whether `value` lies within the ends, both included.
    pub fn contains(&self, value: f64) -> bool {
        self.lo <= value && value <= self.hi
    }

    /// Half the distance between the ends.
    pub fn half_width(&self) -> f64 {
        (self.hi - self.lo) / 2.0
    }

    /// The interval with `f`, which must be increasing, applied to both ends.
    pub(crate) fn map(self, f: impl Fn(f64) -> f64) -> Interval {
        Interval { lo: f(self.lo), hi: f(self.hi), confidence: self.confidence }
    }
}

/// The interval of a share, given `successes` out of `trials`: Clopper and Pearson 1934.
///
/// It never covers less than `confidence`. Wilson's interval is shorter and covers that much on
/// average, but dips to about 84 % for shares near one in `trials`: just where the rare functions
/// of a profile lie. A few tenths of a percent of width are the price of never overstating. With no
/// trials the interval is 0 to 1. Samples are taken as independent.
///
/// # Errors
/// More successes than trials, or a confidence outside (0, 1).
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

/// The value that a beta variable with both shapes above zero stays below with probability `p`.
fn beta_quantile(p: f64, a: f64, b: f64) -> f64 {
    Beta::new(a, b).expect("both shapes are above zero here").inverse_cdf(p)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reference values: scipy `binomtest(k, n).proportion_ci(method="exact")`.
    #[test]
    fn agrees_with_known_intervals() {
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
    fn no_trials_allow_every_share() {
        let all = binomial_interval(0, 0, 0.95).unwrap();
        assert_eq!((all.lo, all.hi), (0.0, 1.0));
        assert!(binomial_interval(2, 1, 0.95).is_err());
        assert!(binomial_interval(1, 2, 1.0).is_err());
    }

    proptest! {
        #[test]
        fn holds_the_share_and_is_symmetric(n in 1u64..100_000, share in 0.0f64..=1.0) {
            let k = (share * n as f64) as u64;
            let one = binomial_interval(k, n, 0.95).unwrap();
            let other = binomial_interval(n - k, n, 0.95).unwrap();
            prop_assert!(one.contains(k as f64 / n as f64));
            prop_assert!((one.lo + other.hi - 1.0).abs() < 1e-9);
        }
    }
}
