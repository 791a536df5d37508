//! Cliffs: a size from which the cost grows faster than any smooth law allows.

use serde::Serialize;

use crate::dist::t_quantile;
use crate::error::StatsError;
use crate::interval::Interval;
use crate::scaling::{Point, Points, aicc, effective_samples, smooth_fits};

/// AICc that two segments must gain on the best smooth law.
pub const CLIFF_AICC_GAIN: f64 = 6.0;
/// Least change of the log-log slope at the break.
pub const CLIFF_SLOPE_JUMP: f64 = 0.3;
/// Fewest sizes: the two segments and their break take four numbers.
const SIZES_NEEDED: usize = 6;
/// Positions tried for the break, evenly in log size.
const POSITIONS: usize = 200;
const CONFIDENCE: f64 = 0.95;

/// What the growth does at the break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BendKind {
    /// Growth is faster beyond the break: a cliff.
    Cliff,
    /// Growth is slower beyond the break: a cost that levels off.
    Easing,
    /// No break is shown: a smooth law does as well, or the slopes hardly differ.
    None,
}

/// The best break of the growth, shown or not.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bend {
    /// What is shown.
    pub kind: BendKind,
    /// Size at the break.
    pub at: f64,
    /// 95 % interval of that size: where to measure next. Its ends are within the second and the
    /// last but one size.
    pub at_interval: Interval,
    /// Log-log slope below the break.
    pub slope_below: f64,
    /// Log-log slope above the break.
    pub slope_above: f64,
    /// AICc gained on the best smooth law; negative if a smooth law does better.
    pub gain: f64,
    /// Distinct sizes.
    pub n_points: usize,
    /// Costs over all sizes.
    pub n_samples: usize,
}

/// Looks for a break: two straight segments in log cost against log size that meet (Hudson 1966;
/// Muggeo 2003), against the best smooth law.
///
/// The break is accepted if it gains [`CLIFF_AICC_GAIN`] and changes the slope by
/// [`CLIFF_SLOPE_JUMP`]. The rival is the best of all the scaling laws and not the straight line
/// alone, which would take the bend of any c + a n^2 for a cliff. Repeats count by the scatter
/// about the two segments, as in the fit of laws.
///
/// # Errors
/// Fewer than six distinct sizes, a size without costs, or a number that is not finite and above
/// zero.
pub fn find_bend(points: &[Point]) -> Result<Bend, StatsError> {
    let points = Points::new(points)?;
    let sizes = points.sizes();
    if sizes < SIZES_NEEDED {
        return Err(StatsError::TooFew { what: "sizes", have: sizes, need: SIZES_NEEDED });
    }
    let tried = segments_by_break(&points);
    let best = tried.iter().copied().min_by(|a, b| a.lack.total_cmp(&b.lack));
    let best = best.expect("at least one position is tried");
    let samples = points.samples();
    let effective =
        effective_samples(sizes, samples, best.lack, sizes - 4, points.within).effective;
    let criterion = |lack: f64, k: usize| aicc(effective, samples, points.within + lack, k);
    let smooth = smooth_fits(&points).map(|(k, lack)| criterion(lack, k));
    // Two slopes, a level, the break and the noise.
    let gain = smooth.fold(f64::INFINITY, f64::min) - criterion(best.lack, 5);
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

/// Two segments that meet at one position.
#[derive(Debug, Clone, Copy)]
struct Segments {
    /// Log size at the break.
    at: f64,
    below: f64,
    above: f64,
    /// Weighted squares that remain.
    lack: f64,
}

/// What a gain and a change of slope amount to.
fn judge(gain: f64, jump: f64) -> BendKind {
    if gain.is_nan() || gain < CLIFF_AICC_GAIN || jump.abs() < CLIFF_SLOPE_JUMP {
        BendKind::None
    } else if jump > 0.0 {
        BendKind::Cliff
    } else {
        BendKind::Easing
    }
}

/// The best segments for each position of the break from the second size to the last but one.
fn segments_by_break(points: &Points) -> Vec<Segments> {
    let (from, to) = (points.x[1].ln(), points.x[points.sizes() - 2].ln());
    let position = |i: usize| from + (to - from) * i as f64 / POSITIONS as f64;
    (0..=POSITIONS).map(|i| segments(points, position(i))).collect()
}

/// The least squares of segments that meet at log size `at`.
///
/// The distances below and above the break are the two regressors; their slopes follow from the
/// normal equations about the means.
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
    let (_, lack) = points.level(|i| slope_below * below(i) + slope_above * above(i));
    Segments { at, below: slope_below, above: slope_above, lack }
}

/// The positions that raise the squares by no more than F(1, effective - 4) allows: the profile
/// likelihood.
fn interval(points: &Points, tried: &[Segments], best: Segments, effective: f64) -> Interval {
    let spare = (effective - 4.0).max(1.0);
    let t = t_quantile((1.0 + CONFIDENCE) / 2.0, spare);
    let allowed = (points.within + best.lack) * (1.0 + t * t / spare);
    let fits = |segments: &&Segments| points.within + segments.lack <= allowed;
    let first = tried.iter().find(fits).unwrap_or(&best);
    let last = tried.iter().rev().find(fits).unwrap_or(&best);
    Interval { lo: first.at.exp(), hi: last.at.exp(), confidence: CONFIDENCE }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;

    /// Three costs at each of eight sizes over 128x, with noise.
    fn measure(cost: impl Fn(f64) -> f64, noise: f64, seed: u64) -> Vec<Point> {
        let mut rng = SplitMix64::new(seed);
        let mut point = |i: i32| {
            let x = 50.0 * 2f64.powi(i);
            Point { x, y: (0..3).map(|_| cost(x) * (noise * rng.normal()).exp()).collect() }
        };
        (0..8).map(&mut point).collect()
    }

    /// Linear up to 800, then with the power 2: the cache overflows.
    fn cliff(x: f64) -> f64 {
        if x < 800.0 { x } else { 800.0 * (x / 800.0).powi(2) }
    }

    #[test]
    fn a_planted_cliff_is_found_and_bracketed() {
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
    fn a_levelling_cost_is_no_cliff() {
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
    fn a_small_kink_is_not_worth_the_name() {
        let kink = |x: f64| {
            if x < 800.0 { x } else { 800.0 * (x / 800.0).powf(1.2) }
        };
        let bend = find_bend(&measure(kink, 0.002, 1)).unwrap();
        assert_eq!(bend.kind, BendKind::None);
        assert!(find_bend(&measure(cliff, 0.05, 1)[..5]).is_err());
    }
}
