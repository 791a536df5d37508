//! Cliffs: sizes beyond which the cost grows faster than any smooth law allows.

use serde::Serialize;

use crate::dist::t_quantile;
use crate::error::StatsError;
use crate::interval::Interval;
use crate::scaling::{Point, Points, aicc, effective_samples, smooth_fits};

/// The AICc of two segments must be at least this much below that of the best smooth law.
///
/// Burnham and Anderson 2002, section 2.6: a model that is 4 to 7 worse has "considerably less"
/// support. Together with [`CLIFF_SLOPE_JUMP`], 6 keeps false breaks at or below 3 % in this module's
/// tests of smooth laws.
pub const CLIFF_AICC_GAIN: f64 = 6.0;
/// Smallest change of the log-log slope that counts as a break.
///
/// A rule of thumb of this project. For comparison: the slope of the smooth n log n changes by 0.14
/// between n = 50 and n = 6400.
pub const CLIFF_SLOPE_JUMP: f64 = 0.3;
/// Fewest distinct sizes. The segments and their break have four parameters, and two sizes are left
/// over to estimate the noise.
const SIZES_NEEDED: usize = 6;
/// Number of steps of the grid of break positions, equal in log size. If the largest size is 128
/// times the smallest, a step is at most 2.5 % of the size.
const POSITIONS: usize = 200;
/// Confidence of the interval of the break.
const CONFIDENCE: f64 = 0.95;

/// How the growth changes at the break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BendKind {
    /// Growth is faster above the break: a cliff.
    Cliff,
    /// Growth is slower above the break: the cost levels off.
    Easing,
    /// No significant break: a smooth law fits as well, or the slopes hardly differ.
    None,
}

/// The best-fitting break of the growth, whether it is significant or not.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bend {
    /// The kind of break. [`BendKind::None`] if it is not significant.
    pub kind: BendKind,
    /// Size at the break.
    pub at: f64,
    /// 95 % interval of that size: the range to measure more closely. It never extends beyond the
    /// second-smallest and second-largest size.
    pub at_interval: Interval,
    /// Log-log slope below the break.
    pub slope_below: f64,
    /// Log-log slope above the break.
    pub slope_above: f64,
    /// AICc of the best smooth law minus AICc of the two segments; negative if a smooth law fits
    /// better.
    pub gain: f64,
    /// Distinct sizes.
    pub n_points: usize,
    /// Number of costs over all sizes.
    pub n_samples: usize,
}

/// Fits two straight segments that meet at a break, in log cost against log size (Hudson 1966;
/// Muggeo 2003), and compares them with the best smooth law by AICc.
///
/// The break is significant if it gains at least [`CLIFF_AICC_GAIN`] and changes the slope by at
/// least [`CLIFF_SLOPE_JUMP`]. The smooth alternative is the best of all scaling laws. If it were
/// only a straight line, the bend of any c + a n^2 would count as a cliff. AICc uses the effective
/// number of samples, as in [`crate::scaling::fit`], computed from the scatter about the two
/// segments.
///
/// # Errors
/// Returns an error if there are fewer than six distinct sizes, if a size has no costs, or if a
/// number is not finite or not above zero.
pub fn find_bend(points: &[Point]) -> Result<Bend, StatsError> {
    let points = Points::new(points)?;
    let sizes = points.sizes();
    if sizes < SIZES_NEEDED {
        return Err(StatsError::TooFew { what: "sizes", have: sizes, need: SIZES_NEEDED });
    }
    let tried = segments_by_break(&points);
    let best = tried.iter().copied().min_by(|a, b| a.lack_of_fit.total_cmp(&b.lack_of_fit));
    let best = best.expect("the grid of break positions is not empty");
    let samples = points.samples();
    let effective =
        effective_samples(sizes, samples, best.lack_of_fit, sizes - 4, points.within).effective;
    let criterion = |lack_of_fit: f64, k: usize| aicc(&points, effective, lack_of_fit, k);
    let smooth = smooth_fits(&points).map(|(k, lack_of_fit)| criterion(lack_of_fit, k));
    // Five parameters: two slopes, a level, the break and the noise.
    let gain = smooth.fold(f64::INFINITY, f64::min) - criterion(best.lack_of_fit, 5);
    Ok(Bend {
        kind: judge(gain, best.above - best.below),
        at: best.at.exp(),
        at_interval: interval(&points, &tried, best, effective),
        slope_below: best.below,
        slope_above: best.above,
        gain,
        n_points: sizes,
        n_samples: samples as usize,
    })
}

/// Least-squares segments that meet at one position.
#[derive(Debug, Clone, Copy)]
struct Segments {
    /// Log size at the break.
    at: f64,
    /// Slope below the break.
    below: f64,
    /// Slope above the break.
    above: f64,
    /// Lack-of-fit sum of squares.
    lack_of_fit: f64,
}

/// Classifies a break by its AICc gain and its change of slope.
fn judge(gain: f64, jump: f64) -> BendKind {
    if gain.is_nan() || gain < CLIFF_AICC_GAIN || jump.abs() < CLIFF_SLOPE_JUMP {
        BendKind::None
    } else if jump > 0.0 {
        BendKind::Cliff
    } else {
        BendKind::Easing
    }
}

/// Returns the best segments for each break position, from the second size to the last but one.
fn segments_by_break(points: &Points) -> Vec<Segments> {
    let (from, to) = (points.x[1].ln(), points.x[points.sizes() - 2].ln());
    let position = |i: usize| from + (to - from) * i as f64 / POSITIONS as f64;
    (0..=POSITIONS).map(|i| segments(points, position(i))).collect()
}

/// Fits segments that meet at log size `at` by least squares.
///
/// The two regressors are the distances below and above the break. Their slopes are the solution of
/// the normal equations about the means.
fn segments(points: &Points, at: f64) -> Segments {
    let distance = |i: usize| points.x[i].ln() - at;
    let below = |i: usize| distance(i).min(0.0);
    let above = |i: usize| distance(i).max(0.0);
    let total = points.samples();
    let sum = |term: &dyn Fn(usize) -> f64| -> f64 {
        (0..points.sizes()).map(|i| points.count[i] * term(i)).sum()
    };
    let (mean_y, mean_b, mean_a) =
        (sum(&|i| points.mean[i]) / total, sum(&below) / total, sum(&above) / total);
    let bb = sum(&|i| (below(i) - mean_b).powi(2));
    let aa = sum(&|i| (above(i) - mean_a).powi(2));
    let ab = sum(&|i| (above(i) - mean_a) * (below(i) - mean_b));
    let yb = sum(&|i| (points.mean[i] - mean_y) * (below(i) - mean_b));
    let ya = sum(&|i| (points.mean[i] - mean_y) * (above(i) - mean_a));
    let determinant = aa * bb - ab * ab;
    let slope_below = (yb * aa - ya * ab) / determinant;
    let slope_above = (ya * bb - yb * ab) / determinant;
    let (_, lack_of_fit) = points.level(|i| slope_below * below(i) + slope_above * above(i));
    Segments { at, below: slope_below, above: slope_above, lack_of_fit }
}

/// Returns the profile-likelihood interval of the break (Bates and Watts 1988, section 6.1): all
/// positions that raise the sum of squares by no more than the quantile of F(1, effective - 4)
/// allows.
fn interval(points: &Points, tried: &[Segments], best: Segments, effective: f64) -> Interval {
    let spare = (effective - 4.0).max(1.0);
    let t = t_quantile((1.0 + CONFIDENCE) / 2.0, spare);
    let allowed = (points.within + best.lack_of_fit) * (1.0 + t * t / spare);
    let fits = |segments: &&Segments| points.within + segments.lack_of_fit <= allowed;
    let first = tried.iter().find(fits).unwrap_or(&best);
    let last = tried.iter().rev().find(fits).unwrap_or(&best);
    Interval { lo: first.at.exp(), hi: last.at.exp(), confidence: CONFIDENCE }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;

    /// Three noisy costs at each of eight sizes; the largest is 128 times the smallest.
    fn measure(cost: impl Fn(f64) -> f64, noise: f64, seed: u64) -> Vec<Point> {
        let mut rng = SplitMix64::new(seed);
        let mut point = |i: i32| {
            let x = 50.0 * 2f64.powi(i);
            Point { x, y: (0..3).map(|_| cost(x) * (noise * rng.normal()).exp()).collect() }
        };
        (0..8).map(&mut point).collect()
    }

    /// Linear up to 800, then quadratic, like a cache that overflows.
    fn cliff(x: f64) -> f64 {
        if x < 800.0 { x } else { 800.0 * (x / 800.0).powi(2) }
    }

    #[test]
    fn planted_cliff_is_found_and_its_interval_covers_it() {
        let (mut found, mut held) = (0, 0);
        for seed in 0..200 {
            let bend = find_bend(&measure(cliff, 0.05, seed)).unwrap();
            found += usize::from(bend.kind == BendKind::Cliff);
            held += usize::from(bend.at_interval.contains(800.0));
            assert!((bend.slope_below - 1.0).abs() < 0.3 && (bend.slope_above - 2.0).abs() < 0.4);
        }
        assert!(found >= 190 && held >= 180, "found {found}, held {held} of 200");
    }

    #[test]
    fn cost_that_levels_off_is_not_a_cliff() {
        let levels = |x: f64| x.min(800.0);
        let eased = (0..100).filter(|&seed| {
            find_bend(&measure(levels, 0.05, seed)).unwrap().kind == BendKind::Easing
        });
        assert!(eased.count() >= 90);
    }

    #[test]
    fn smooth_laws_have_no_cliff() {
        let laws: [fn(f64) -> f64; 5] =
            [|_| 3.0, |x| x, |x| x * x.ln(), |x| 1e4 + x * x, |x| 500.0 + x];
        for (i, law) in laws.iter().enumerate() {
            let found = (0..200).filter(|&seed| {
                find_bend(&measure(law, 0.05, seed)).unwrap().kind != BendKind::None
            });
            let found = found.count();
            assert!(found <= 6, "law {i}: {found} of 200");
        }
    }

    #[test]
    fn small_change_of_slope_is_not_reported() {
        let kink = |x: f64| {
            if x < 800.0 { x } else { 800.0 * (x / 800.0).powf(1.2) }
        };
        let bend = find_bend(&measure(kink, 0.002, 1)).unwrap();
        assert_eq!(bend.kind, BendKind::None);
        assert!(find_bend(&measure(cliff, 0.05, 1)[..5]).is_err());
    }
}
