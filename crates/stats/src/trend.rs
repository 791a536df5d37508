//! Monotonic trends: the slope of a series and its significance, corrected for autocorrelation.

use serde::Serialize;

use crate::dist::{normal_quantile, normal_upper_tail};
use crate::error::{StatsError, require_finite, require_same_length};
use crate::interval::Interval;
use crate::summary::median_of_sorted;

/// Residuals are rounded to multiples of the largest value divided by this number. The rounding
/// errors of a series without noise thus become ties.
const RESOLUTION: f64 = 1e9;
/// Fewest readings. From about ten on, the normal approximation of Kendall's S is good (Kendall 1955).
const READINGS_NEEDED: usize = 10;
/// Confidence of the interval of the slope.
const CONFIDENCE: f64 = 0.95;

/// The trend of a series.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Trend {
    /// Theil-Sen slope: the median of the slopes between all pairs of readings, in units of value
    /// per unit of time.
    pub slope: f64,
    /// 95 % interval of the slope, widened for autocorrelation.
    pub interval: Interval,
    /// Two-sided p of the Mann-Kendall test, corrected for autocorrelation.
    pub p: f64,
    /// Number of readings.
    pub n: usize,
    /// Effective number of independent readings.
    pub n_effective: f64,
}

/// Computes the trend of `values` read at `times`, in any order.
///
/// Slope and interval are those of Theil 1950 and Sen 1968. The test is that of Mann 1945 and
/// Kendall 1955 with ties. Its variance is multiplied by a factor of at least 1 that accounts for
/// the autocorrelation of the ranks of the detrended values (Hamed and Rao 1998). Detrending a
/// short series biases the autocorrelations; they are corrected for it (Marriott and Pope 1954).
///
/// Time and memory grow with the square of the length, so thin out long series first.
///
/// # Errors
/// Returns an error if the lengths differ, if there are fewer than ten readings, if all readings have
/// the same time, or if a number is not finite.
pub fn trend(times: &[f64], values: &[f64]) -> Result<Trend, StatsError> {
    require_same_length(times, values)?;
    require_finite(times)?;
    require_finite(values)?;
    if times.len() < READINGS_NEEDED {
        let have = times.len();
        return Err(StatsError::TooFew { what: "readings", have, need: READINGS_NEEDED });
    }
    let mut series: Vec<(f64, f64)> = times.iter().copied().zip(values.iter().copied()).collect();
    series.sort_by(|a, b| a.0.total_cmp(&b.0));
    let slopes = sorted_slopes(&series);
    if slopes.is_empty() {
        return Err(StatsError::TooFew { what: "distinct times", have: 1, need: 2 });
    }
    let slope = median_of_sorted(&slopes);
    let inflation = inflation(&series, slope);
    let sd = (kendall_variance(&series) * inflation).sqrt();
    Ok(Trend {
        slope,
        interval: slope_interval(&slopes, sd),
        p: kendall_p(kendall_score(&series), sd),
        n: series.len(),
        n_effective: series.len() as f64 / inflation,
    })
}

/// Returns the slopes between all pairs of readings at different times, in ascending order.
fn sorted_slopes(series: &[(f64, f64)]) -> Vec<f64> {
    let mut slopes = Vec::with_capacity(series.len() * (series.len() - 1) / 2);
    for (i, (t, y)) in series.iter().enumerate() {
        let later = series[i + 1..].iter().filter(|(other, _)| other > t);
        slopes.extend(later.map(|(other, value)| (value - y) / (other - t)));
    }
    slopes.sort_by(f64::total_cmp);
    slopes
}

/// Returns the interval of the slope (Sen 1968): the range of the sorted slopes after cutting the
/// same number of entries from each end. That number follows from `sd`, the standard deviation of
/// Kendall's S.
fn slope_interval(slopes: &[f64], sd: f64) -> Interval {
    let reach = normal_quantile((1.0 + CONFIDENCE) / 2.0) * sd;
    let last = slopes.len() - 1;
    let cut = ((slopes.len() as f64 - reach) / 2.0).floor().max(1.0) as usize - 1;
    let cut = cut.min(last / 2);
    Interval { lo: slopes[cut], hi: slopes[last - cut], confidence: CONFIDENCE }
}

/// Returns Kendall's S: the number of pairs that rise with time minus the number that fall.
fn kendall_score(series: &[(f64, f64)]) -> f64 {
    let mut score = 0i64;
    for (i, (t, y)) in series.iter().enumerate() {
        for (other, value) in &series[i + 1..] {
            if other > t {
                score += i64::from(value > y) - i64::from(value < y);
            }
        }
    }
    score as f64
}

/// Returns the variance of S for independent readings, corrected for tied values (Kendall 1955).
fn kendall_variance(series: &[(f64, f64)]) -> f64 {
    let part = |n: f64| n * (n - 1.0) * (2.0 * n + 5.0);
    let mut values: Vec<f64> = series.iter().map(|(_, y)| *y).collect();
    values.sort_by(f64::total_cmp);
    let tied: f64 = values.chunk_by(|a, b| a == b).map(|ties| part(ties.len() as f64)).sum();
    (part(series.len() as f64) - tied) / 18.0
}

/// Returns the two-sided p of a score, with continuity correction.
fn kendall_p(score: f64, sd: f64) -> f64 {
    if sd == 0.0 {
        return 1.0;
    }
    (2.0 * normal_upper_tail((score.abs() - 1.0).max(0.0) / sd)).min(1.0)
}

/// Returns the factor by which autocorrelation inflates the variance of S, at least 1 (Hamed and Rao
/// 1998).
fn inflation(series: &[(f64, f64)], slope: f64) -> f64 {
    // The residuals of a series without noise are rounding errors. Those are autocorrelated and would
    // hide any trend, so residuals are rounded first.
    let largest = series.iter().map(|(_, y)| y.abs()).fold(f64::MIN_POSITIVE, f64::max);
    let rounded = |residual: f64| (residual / largest * RESOLUTION).round();
    let residuals: Vec<f64> = series.iter().map(|(t, y)| rounded(y - slope * t)).collect();
    let ranks = ranks(&residuals);
    let n = ranks.len() as f64;
    let bound = normal_quantile(0.95) / n.sqrt();
    let weight = |lag: f64| (n - lag) * (n - lag - 1.0) * (n - lag - 2.0);
    let mut sum = 0.0;
    // Stop at the first lag that is not significant: longer lags add only noise.
    for lag in 1..series.len() / 3 {
        let raw = autocorrelation(&ranks, lag);
        if raw < bound {
            break;
        }
        sum += weight(lag as f64) * unbiased(raw, n);
    }
    let counted = 1.0 + 2.0 * sum / (n * (n - 1.0) * (n - 2.0));
    counted.max(first_order(unbiased(autocorrelation(&ranks, 1), n), n))
}

/// Returns the inflation of a first-order autoregressive series, at least 1 and at most `n` (Bayley
/// and Hammersley 1946).
///
/// The inflation that the caller computes as a sum over lags is noisy. If it is too small by
/// chance, noise looks like a trend. The caller therefore uses the larger of the two.
fn first_order(correlation: f64, n: f64) -> f64 {
    let correlation = correlation.clamp(0.0, 1.0 - 1.0 / n);
    ((1.0 + correlation) / (1.0 - correlation)).min(n)
}

/// Corrects an autocorrelation for the bias of a detrended series of length `n`, to first order
/// (Marriott and Pope 1954).
fn unbiased(raw: f64, n: f64) -> f64 {
    ((raw + 2.0 / n) / (1.0 - 4.0 / n)).min(1.0)
}

/// Returns the autocorrelation of `values` at `lag`, or 0 if they do not vary.
fn autocorrelation(values: &[f64], lag: usize) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    let products: f64 =
        values.iter().zip(&values[lag..]).map(|(a, b)| (a - mean) * (b - mean)).sum();
    if squares == 0.0 { 0.0 } else { products / squares }
}

/// Returns the ranks, from 1. Ties get their mean rank.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for ties in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let shared = before as f64 + (ties.len() + 1) as f64 / 2.0;
        ties.iter().for_each(|&i| ranks[i] = shared);
        before += ties.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;
    use proptest::prelude::*;

    /// A line plus a first-order autoregressive series with coefficient `rho`.
    fn series(n: usize, slope: f64, rho: f64, rng: &mut SplitMix64) -> (Vec<f64>, Vec<f64>) {
        let mut state = rng.normal() / (1.0 - rho * rho).sqrt();
        (0..n)
            .map(|i| {
                state = rho * state + rng.normal();
                (i as f64, slope * i as f64 + state)
            })
            .unzip()
    }

    /// The slope is from scipy `theilslopes`. S = 41 of 45 pairs and variance 125 are computed by hand.
    #[test]
    fn agrees_with_reference_values() {
        let times: Vec<f64> = (0..10).map(f64::from).collect();
        let values = [1.0, 2.1, 1.9, 3.5, 4.2, 4.0, 5.6, 6.1, 7.3, 7.9];
        let got = trend(&times, &values).unwrap();
        assert_eq!(kendall_score(&times.iter().copied().zip(values).collect::<Vec<_>>()), 41.0);
        let sd = 125f64.sqrt();
        assert!((got.p - 2.0 * normal_upper_tail(40.0 / sd)).abs() < 1e-12, "{}", got.p);
        assert!((got.slope - 26.0 / 35.0).abs() < 1e-9, "{}", got.slope);
        // (45 slopes - 1.96 * sqrt(125)) / 2, rounded down, gives the 11th from each end. scipy
        // rounds to the nearest and takes the 12th: 0.7 and 6/7.
        assert!((got.interval.lo - 2.0 / 3.0).abs() < 1e-9, "{:?}", got.interval);
        assert!((got.interval.hi - 0.9).abs() < 1e-9, "{:?}", got.interval);
    }

    #[test]
    fn ties_reduce_the_variance() {
        let tied: Vec<(f64, f64)> = (0..10).map(|i| (f64::from(i), f64::from(i / 2))).collect();
        // Five tied pairs subtract 5 * 2 * 1 * 9 = 90 from 2250; the divisor is 18.
        assert!((kendall_variance(&tied) - 120.0).abs() < 1e-12);
        let flat = trend(&[0., 1., 2., 3., 4., 5., 6., 7., 8., 9.], &[3.0; 10]).unwrap();
        assert_eq!((flat.slope, flat.p), (0.0, 1.0));
    }

    #[test]
    fn autocorrelated_noise_is_not_reported_as_a_trend() {
        for (rho, n, most) in [(0.0, 40, 10), (0.5, 60, 14), (0.8, 120, 18)] {
            let mut rng = SplitMix64::new(n as u64);
            let found = (0..400).filter(|_| {
                let (times, values) = series(n, 0.0, rho, &mut rng);
                trend(&times, &values).unwrap().p < 0.01
            });
            let found = found.count();
            assert!(found <= most, "rho {rho}, n = {n}: {found} of 400");
        }
    }

    #[test]
    fn intervals_cover_the_slope() {
        for (rho, least) in [(0.0, 368), (0.5, 360), (0.8, 350)] {
            let mut rng = SplitMix64::new(77);
            let covered = (0..400).filter(|_| {
                let (times, values) = series(80, 0.05, rho, &mut rng);
                trend(&times, &values).unwrap().interval.contains(0.05)
            });
            let covered = covered.count();
            assert!(covered >= least, "rho {rho}: {covered} of 400");
        }
    }

    #[test]
    fn rejects_series_without_a_trend_to_estimate() {
        assert!(trend(&[1.0; 9], &[1.0; 9]).is_err());
        assert!(trend(&[1.0; 12], &[1.0; 12]).is_err());
        assert!(trend(&[1.0; 12], &[1.0; 11]).is_err());
    }

    proptest! {
        #[test]
        fn the_order_of_readings_does_not_matter(
            values in prop::collection::vec(-10.0f64..10.0, 10..40), seed in any::<u64>(),
        ) {
            let mut order: Vec<usize> = (0..values.len()).collect();
            let times: Vec<f64> = order.iter().map(|&i| i as f64).collect();
            let sorted = trend(&times, &values).unwrap();
            SplitMix64::new(seed).shuffle(&mut order);
            let at = |list: &[f64]| -> Vec<f64> { order.iter().map(|&i| list[i]).collect() };
            prop_assert_eq!(trend(&at(&times), &at(&values)).unwrap(), sorted);
            prop_assert!(sorted.interval.contains(sorted.slope));
        }
    }
}
