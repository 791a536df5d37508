//! Description of one sample: mean, median, spread, percentiles, and the interval of its median.

use serde::Serialize;

use crate::dist::fair_coin_cdf;
use crate::error::{StatsError, require_finite, require_probability};
use crate::interval::Interval;

/// Descriptive statistics of one sample, in the unit of its values.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Number of values.
    pub n: usize,
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub median: f64,
    /// Standard deviation with the n - 1 divisor. `None` for a single value.
    pub sd: Option<f64>,
    /// Smallest value.
    pub min: f64,
    /// 5th percentile.
    pub p5: f64,
    /// 25th percentile.
    pub p25: f64,
    /// 75th percentile.
    pub p75: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile. With fewer than 100 values it is close to the maximum.
    pub p99: f64,
    /// Largest value.
    pub max: f64,
    /// 95 % interval of the median. With fewer than six values it is the whole range of the sample,
    /// at a lower confidence: see [`median_interval`].
    pub median_interval: Interval,
}

impl Summary {
    /// Describes `samples`, in any order.
    ///
    /// # Errors
    /// Returns an error if there are no samples, or if a sample is not finite.
    pub fn new(samples: &[f64]) -> Result<Summary, StatsError> {
        let sorted = sorted(samples)?;
        let n = sorted.len();
        let mean = sorted.iter().sum::<f64>() / n as f64;
        let at = |p| percentile_of_sorted(&sorted, p);
        Ok(Summary {
            n,
            mean,
            median: at(50.0),
            sd: standard_deviation(&sorted, mean),
            min: sorted[0],
            p5: at(5.0),
            p25: at(25.0),
            p75: at(75.0),
            p90: at(90.0),
            p95: at(95.0),
            p99: at(99.0),
            max: sorted[n - 1],
            median_interval: median_interval_of_sorted(&sorted, 0.95),
        })
    }
}

/// Returns the `p`-th percentile by linear interpolation between order statistics: type 7 of Hyndman
/// and Fan 1996, the default of R and NumPy. `p` is clamped to 0 to 100.
///
/// # Errors
/// Returns an error if there are no samples, or if a sample is not finite.
pub fn percentile(samples: &[f64], p: f64) -> Result<f64, StatsError> {
    Ok(percentile_of_sorted(&sorted(samples)?, p))
}

/// Returns the median. For an even number of values it is the mean of the two middle ones.
///
/// # Errors
/// Returns an error if there are no samples, or if a sample is not finite.
pub fn median(samples: &[f64]) -> Result<f64, StatsError> {
    percentile(samples, 50.0)
}

/// Returns the interval of the median: its ends are two values of the sample (order statistics). It
/// is exact for any continuous distribution, because the number of values below the median is
/// binomial (Thompson 1936; Conover 1999, section 3.2).
///
/// The result is the narrowest symmetric pair of order statistics that covers at least `confidence`,
/// with the confidence achieved. If there are too few values (95 % needs 6), the result is the whole
/// range of the sample. Its confidence is then 1 - 2^(1-n), which is 0 for a single value.
///
/// # Errors
/// Returns an error if there are no samples, if a sample is not finite, or if `confidence` is outside
/// (0, 1).
pub fn median_interval(samples: &[f64], confidence: f64) -> Result<Interval, StatsError> {
    require_probability("confidence", confidence)?;
    Ok(median_interval_of_sorted(&sorted(samples)?, confidence))
}

/// Checks that `samples` is not empty and all finite, and returns a sorted copy.
pub(crate) fn sorted(samples: &[f64]) -> Result<Vec<f64>, StatsError> {
    require_finite(samples)?;
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    Ok(sorted)
}

/// Returns the median of a sorted sample that is not empty.
pub(crate) fn median_of_sorted(sorted: &[f64]) -> f64 {
    percentile_of_sorted(sorted, 50.0)
}

/// Returns the type 7 percentile of a sorted sample that is not empty.
fn percentile_of_sorted(sorted: &[f64], p: f64) -> f64 {
    let position = (p.clamp(0.0, 100.0) / 100.0) * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = position.ceil() as usize;
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}

/// Returns the sample standard deviation. `None` for fewer than two values.
fn standard_deviation(samples: &[f64], mean: f64) -> Option<f64> {
    let squares: f64 = samples.iter().map(|value| (value - mean).powi(2)).sum();
    (samples.len() > 1).then(|| (squares / (samples.len() - 1) as f64).sqrt())
}

/// Returns the [`median_interval`] of a sorted sample that is not empty.
fn median_interval_of_sorted(sorted: &[f64], confidence: f64) -> Interval {
    let n = sorted.len();
    let rank = order_statistic(n as u64, (1.0 - confidence) / 2.0) as usize;
    Interval {
        lo: sorted[rank],
        hi: sorted[n - 1 - rank],
        confidence: (1.0 - 2.0 * fair_coin_cdf(rank as u64, n as u64)).max(0.0),
    }
}

/// Returns the number of values to leave out at each end: the largest number whose binomial tail is
/// at most `tail`, by bisection. 0 if there is none.
fn order_statistic(n: u64, tail: f64) -> u64 {
    let (mut fits, mut too_far) = (0, n.div_ceil(2));
    while too_far - fits > 1 {
        let middle = fits + (too_far - fits) / 2;
        if fair_coin_cdf(middle, n) <= tail { fits = middle } else { too_far = middle }
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percentiles_are_type_7() {
        let samples = [15.0, 20.0, 35.0, 40.0, 50.0];
        for (p, want) in [(0.0, 15.0), (5.0, 16.0), (40.0, 29.0), (50.0, 35.0), (100.0, 50.0)] {
            assert!((percentile(&samples, p).unwrap() - want).abs() < 1e-12, "p{p}");
        }
    }

    #[test]
    fn describes_a_sample() {
        let summary = Summary::new(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).unwrap();
        assert_eq!((summary.n, summary.mean, summary.median), (8, 5.0, 4.5));
        assert!((summary.sd.unwrap() - (32.0f64 / 7.0).sqrt()).abs() < 1e-12);
        assert_eq!((summary.min, summary.max), (2.0, 9.0));
    }

    /// Published order statistics for 95 % (Conover 1999, table A3; ranks from 1) and exact
    /// coverage.
    #[test]
    fn median_interval_uses_the_published_order_statistics() {
        for (n, lo, hi, confidence) in [
            (6, 1.0, 6.0, 0.968_75),
            (8, 1.0, 8.0, 0.992_187_5),
            (9, 2.0, 8.0, 0.960_937_5),
            (10, 2.0, 9.0, 0.978_515_6),
            (15, 4.0, 12.0, 0.964_843_75),
            (20, 6.0, 15.0, 0.958_610_5),
            (25, 8.0, 18.0, 0.956_714_8),
            (100, 40.0, 61.0, 0.964_799_8),
        ] {
            let samples: Vec<f64> = (1..=n).map(f64::from).collect();
            let got = median_interval(&samples, 0.95).unwrap();
            assert_eq!((got.lo, got.hi), (lo, hi), "n = {n}");
            assert!((got.confidence - confidence).abs() < 1e-6, "n = {n}: {}", got.confidence);
        }
    }

    #[test]
    fn too_few_values_give_the_range_at_a_lower_confidence() {
        for (n, confidence) in [(1, 0.0), (2, 0.5), (3, 0.75), (5, 0.9375)] {
            let samples: Vec<f64> = (1..=n).map(f64::from).collect();
            let got = median_interval(&samples, 0.95).unwrap();
            assert_eq!((got.lo, got.hi), (1.0, f64::from(n)));
            assert!((got.confidence - confidence).abs() < 1e-12, "n = {n}");
        }
    }

    #[test]
    fn rejects_empty_and_non_finite_samples() {
        assert_eq!(Summary::new(&[]), Err(StatsError::Empty));
        assert!(matches!(
            Summary::new(&[1.0, f64::NAN]),
            Err(StatsError::NotFinite { index: 1, .. })
        ));
        assert!(median_interval(&[1.0], 95.0).is_err());
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_the_median_is_within(
            mut samples in prop::collection::vec(-1e6f64..1e6, 1..60),
        ) {
            let forward = Summary::new(&samples).unwrap();
            samples.reverse();
            prop_assert_eq!(&Summary::new(&samples).unwrap(), &forward);
            prop_assert!(forward.median_interval.contains(forward.median));
            prop_assert!(forward.p5 <= forward.p25 && forward.p95 <= forward.p99);
        }
    }
}
