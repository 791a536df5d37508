//! Comparison of costs before and after a change: their ratio, its interval, and a verdict against
//! a margin.

use serde::Serialize;

use crate::error::{StatsError, require_positive, require_probability, require_same_length};
use crate::interval::Interval;
use crate::rank::{Shift, one_sample_shift, pairs_needed, sides_needed, two_sample_shift};

/// The smallest margin, as a relative change.
///
/// Code layout, alignment and the size of the environment alone can change the speed of a program
/// by a few percent (Mytkowicz, Diwan, Hauswirth and Sweeney 2009). The figure of 3 % is this
/// project's rule of thumb.
pub const MARGIN_FLOOR: f64 = 0.03;

/// A change must exceed the margin by this many half-widths of its 95 % interval to be detected with
/// a power of 80 %. The value is 1 + z(0.80) / z(0.975), the usual power calculation for a normal
/// estimate (Cohen 1988).
const HALF_WIDTHS_FOR_POWER_80: f64 = 1.429;

/// The conclusion of a comparison. The margin is a range of ratios around 1: see
/// [`compare_blocks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The whole interval lies below the margin: the cost fell.
    Faster,
    /// The whole interval lies above the margin: the cost rose.
    Slower,
    /// The whole interval lies within the margin: any difference is too small to matter.
    Same,
    /// The interval crosses the margin, or there are too few replicates for an interval.
    Inconclusive,
}

/// The costs of one block: runs that share a seed and are close in time. A side may have several
/// runs, for example two in the order ABBA, or one at each size.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Costs before the change, above zero.
    pub before: Vec<f64>,
    /// Costs after the change, above zero, in the same unit.
    pub after: Vec<f64>,
}

/// The result of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Cost after over cost before: the exponential of the Hodges-Lehmann shift of the logarithms.
    pub ratio: f64,
    /// Interval of the ratio, with the confidence achieved. `None` if `n` is below `n_needed`.
    pub interval: Option<Interval>,
    /// Number of independent replicates: blocks if paired, else the size of the smaller side.
    pub n: usize,
    /// The smallest number of replicates that allows an interval of the requested confidence.
    pub n_needed: usize,
    /// The margin of the verdict, as a relative change, for instance 0.03.
    pub margin: f64,
    /// The verdict against the margin.
    pub verdict: Verdict,
    /// The smallest relative increase of the cost that would be detected with a probability of
    /// about 80 %, given this noise and `n`. `None` without an interval.
    pub smallest_visible: Option<f64>,
}

impl Comparison {
    /// Returns whether the interval excludes 1. If both sides are the same program, this is a sign
    /// of bias in the experiment.
    pub fn excludes_one(&self) -> bool {
        self.interval.is_some_and(|interval| !interval.contains(1.0))
    }
}

/// Compares paired runs: `before[i]` and `after[i]` form pair `i`. See [`compare_blocks`] for the
/// method.
///
/// # Errors
/// Returns the errors of [`compare_blocks`], or an error if the lengths differ.
pub fn compare_paired(
    before: &[f64],
    after: &[f64],
    confidence: f64,
    margin: f64,
) -> Result<Comparison, StatsError> {
    require_same_length(before, after)?;
    let block = |(&b, &a): (&f64, &f64)| Block { before: vec![b], after: vec![a] };
    let blocks: Vec<Block> = before.iter().zip(after).map(block).collect();
    compare_blocks(&blocks, confidence, margin)
}

/// Compares blocks of runs.
///
/// Each block contributes one value: the log-ratio of its geometric means. The estimate is the
/// Hodges-Lehmann estimate over the blocks, with its exact signed-rank interval (Hodges and Lehmann
/// 1963; Hollander, Wolfe and Chicken 2014, section 3.3). Above 50 blocks the interval uses the
/// normal approximation.
///
/// The block is the unit of replication because its runs share a seed and are close in time. If the
/// runs of a block are in the order ABBA, a linear drift of the machine cancels exactly. The
/// interval assumes that the log-ratios are independent and symmetrically distributed. `margin` is
/// a relative change of at least 0. It is applied symmetrically in logarithms, from
/// 1 / (1 + margin) to 1 + margin.
///
/// # Errors
/// Returns an error if there are no blocks, if a side of a block is empty, if a cost is not finite
/// or not above zero, or if `confidence` is outside (0, 1).
pub fn compare_blocks(
    blocks: &[Block],
    confidence: f64,
    margin: f64,
) -> Result<Comparison, StatsError> {
    require_probability("confidence", confidence)?;
    if blocks.is_empty() {
        return Err(StatsError::Empty);
    }
    let log_ratio = |block: &Block| Ok(mean_log(&block.after)? - mean_log(&block.before)?);
    let differences = blocks.iter().map(log_ratio).collect::<Result<Vec<f64>, StatsError>>()?;
    let shift = one_sample_shift(&differences, confidence);
    Ok(conclude(shift, blocks.len(), pairs_needed(confidence), margin))
}

/// Compares two sets of unpaired runs.
///
/// The estimate is the Hodges-Lehmann shift of the logarithms, with the interval of the
/// Mann-Whitney test (Hollander, Wolfe and Chicken 2014, section 4.3). The interval is exact if the
/// product of the two sizes is at most 900, and uses the normal approximation above. It assumes that
/// the distributions of the two sides differ by a constant factor only.
///
/// # Errors
/// Returns the errors of [`compare_blocks`].
pub fn compare_unpaired(
    before: &[f64],
    after: &[f64],
    confidence: f64,
    margin: f64,
) -> Result<Comparison, StatsError> {
    require_probability("confidence", confidence)?;
    let shift = two_sample_shift(&logs(before)?, &logs(after)?, confidence);
    Ok(conclude(shift, before.len().min(after.len()), sides_needed(confidence), margin))
}

/// Returns the margin, as a relative change, that follows from an A/A control: a comparison of the
/// baseline with itself. It is the larger of [`MARGIN_FLOOR`] and twice the half-width of the
/// control's interval.
///
/// The factor of two is a rule of thumb of this project.
///
/// # Errors
/// Returns an error if the control has too few replicates for an interval.
pub fn margin_from_control(control: &Comparison) -> Result<f64, StatsError> {
    let too_few =
        StatsError::TooFew { what: "control replicates", have: control.n, need: control.n_needed };
    let half_width = log_half_width(control.interval.ok_or(too_few)?);
    Ok(MARGIN_FLOOR.max(2.0 * half_width.exp_m1()))
}

/// Converts a shift of logarithms to a ratio with its verdict.
fn conclude(shift: Shift, n: usize, n_needed: usize, margin: f64) -> Comparison {
    let interval = shift.interval.map(|interval| interval.map(f64::exp));
    let visible =
        |interval| (margin.ln_1p() + HALF_WIDTHS_FOR_POWER_80 * log_half_width(interval)).exp_m1();
    Comparison {
        ratio: shift.estimate.exp(),
        interval,
        n,
        n_needed,
        margin,
        verdict: interval.map_or(Verdict::Inconclusive, |interval| judge(interval, margin)),
        smallest_visible: interval.map(visible),
    }
}

/// Returns the verdict on an interval of ratios.
fn judge(interval: Interval, margin: f64) -> Verdict {
    let (low, high) = (1.0 / (1.0 + margin), 1.0 + margin);
    if interval.hi < low {
        Verdict::Faster
    } else if interval.lo > high {
        Verdict::Slower
    } else if interval.lo >= low && interval.hi <= high {
        Verdict::Same
    } else {
        Verdict::Inconclusive
    }
}

/// Returns half the width of an interval of ratios, in natural logarithms.
fn log_half_width(interval: Interval) -> f64 {
    interval.map(f64::ln).half_width()
}

/// Returns the logarithm of the geometric mean.
fn mean_log(costs: &[f64]) -> Result<f64, StatsError> {
    Ok(logs(costs)?.iter().sum::<f64>() / costs.len() as f64)
}

/// Checks that all costs are above zero and returns their logarithms.
fn logs(costs: &[f64]) -> Result<Vec<f64>, StatsError> {
    require_positive(costs)?;
    Ok(costs.iter().map(|cost| cost.ln()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;
    use proptest::prelude::*;

    /// `n` pairs with a true ratio, a seed effect shared by both sides, and noise of `sd` on each.
    fn pairs(rng: &mut SplitMix64, n: usize, ratio: f64, sd: f64) -> (Vec<f64>, Vec<f64>) {
        let mut run = |scale: f64, shared: f64| scale * (shared + sd * rng.normal()).exp();
        (0..n)
            .map(|pair| (run(10.0, pair as f64 / 5.0), run(10.0 * ratio, pair as f64 / 5.0)))
            .unzip()
    }

    #[test]
    fn verdicts_follow_the_interval() {
        for (lo, hi, want) in [
            (0.5, 0.6, Verdict::Faster),
            (1.1, 1.2, Verdict::Slower),
            (0.99, 1.02, Verdict::Same),
            (0.95, 0.98, Verdict::Inconclusive),
            (0.9, 1.2, Verdict::Inconclusive),
        ] {
            assert_eq!(judge(Interval { lo, hi, confidence: 0.95 }, 0.03), want, "{lo} {hi}");
        }
    }

    #[test]
    fn an_interval_needs_six_pairs() {
        let before = [10.0, 10.1, 9.9, 10.2, 10.0, 9.8];
        let after = before.map(|b| b * 0.5);
        let five = compare_paired(&before[..5], &after[..5], 0.95, 0.03).unwrap();
        assert_eq!((five.interval, five.verdict, five.n_needed), (None, Verdict::Inconclusive, 6));
        assert!((five.ratio - 0.5).abs() < 1e-12 && five.smallest_visible.is_none());
        assert!(margin_from_control(&five).is_err());
        let six = compare_paired(&before, &after, 0.95, 0.03).unwrap();
        assert_eq!((six.verdict, six.interval.unwrap().confidence), (Verdict::Faster, 0.968_75));
    }

    #[test]
    fn abba_blocks_cancel_a_linear_drift() {
        let drift = |time: usize| (0.01 * time as f64).exp();
        let block = |first: usize| Block {
            before: vec![10.0 * drift(first), 10.0 * drift(first + 3)],
            after: vec![12.0 * drift(first + 1), 12.0 * drift(first + 2)],
        };
        let blocks: Vec<Block> = (0..6).map(|i| block(4 * i)).collect();
        let got = compare_blocks(&blocks, 0.95, 0.03).unwrap();
        assert!((got.ratio - 1.2).abs() < 1e-12 && got.interval.unwrap().half_width() < 1e-12);
        assert_eq!((got.verdict, got.n), (Verdict::Slower, 6));
    }

    #[test]
    fn a_noisy_control_widens_the_margin() {
        let mut rng = SplitMix64::new(3);
        let (a, b) = pairs(&mut rng, 10, 1.0, 0.001);
        assert_eq!(margin_from_control(&compare_paired(&a, &b, 0.95, 0.03).unwrap()), Ok(0.03));
        let (a, b) = pairs(&mut rng, 10, 1.0, 0.2);
        let noisy = compare_paired(&a, &b, 0.95, 0.03).unwrap();
        let wide = noisy.interval.unwrap().map(f64::ln).half_width();
        assert!((margin_from_control(&noisy).unwrap() - 2.0 * wide.exp_m1()).abs() < 1e-12);
    }

    #[test]
    fn intervals_cover_the_true_ratio() {
        for (n, paired) in [(6, true), (12, true), (60, true), (5, false), (12, false), (40, false)]
        {
            let mut rng = SplitMix64::new(n as u64);
            let covered = (0..500).filter(|_| {
                let (before, after) = pairs(&mut rng, n, 1.3, 0.1);
                let got = if paired {
                    compare_paired(&before, &after, 0.95, 0.03)
                } else {
                    let without_seed_effect = |v: Vec<f64>| -> Vec<f64> {
                        v.iter().enumerate().map(|(i, x)| x / (i as f64 / 5.0).exp()).collect()
                    };
                    compare_unpaired(
                        &without_seed_effect(before),
                        &without_seed_effect(after),
                        0.95,
                        0.03,
                    )
                };
                got.unwrap().interval.unwrap().contains(1.3)
            });
            let covered = covered.count();
            assert!(covered >= 462, "{covered} of 500 with n = {n}, paired: {paired}");
        }
    }

    #[test]
    fn smallest_visible_change_is_detected_in_80_percent_of_trials() {
        let mut rng = SplitMix64::new(11);
        let mut visible: Vec<f64> = Vec::new();
        for _ in 0..200 {
            let (a, b) = pairs(&mut rng, 15, 1.0, 0.05);
            visible.extend(compare_paired(&a, &b, 0.95, 0.03).unwrap().smallest_visible);
        }
        let size = 1.0 + visible.iter().sum::<f64>() / 200.0;
        let detected = (0..300).filter(|_| {
            let (a, b) = pairs(&mut rng, 15, size, 0.05);
            compare_paired(&a, &b, 0.95, 0.03).unwrap().verdict == Verdict::Slower
        });
        let detected = detected.count();
        assert!((210..=285).contains(&detected), "{detected} of 300 at {size}");
    }

    #[test]
    fn rejects_costs_without_a_logarithm_and_mismatched_inputs() {
        assert!(matches!(
            compare_paired(&[1.0, 0.0], &[1.0, 1.0], 0.95, 0.03),
            Err(StatsError::NotPositive { .. })
        ));
        assert!(compare_paired(&[1.0], &[1.0, 1.0], 0.95, 0.03).is_err());
        assert!(compare_unpaired(&[], &[1.0], 0.95, 0.03).is_err());
        assert!(compare_blocks(&[], 0.95, 0.03).is_err());
    }

    proptest! {
        #[test]
        fn swapping_the_sides_inverts_the_ratio(
            costs in prop::collection::vec((0.1f64..10.0, 0.1f64..10.0), 6..30),
        ) {
            let (before, after): (Vec<f64>, Vec<f64>) = costs.into_iter().unzip();
            for compare in [compare_paired, compare_unpaired] {
                let forward = compare(&before, &after, 0.95, 0.03).unwrap();
                let reverse = compare(&after, &before, 0.95, 0.03).unwrap();
                prop_assert!((forward.ratio * reverse.ratio - 1.0).abs() < 1e-9);
                let ends = forward.interval.unwrap().lo * reverse.interval.unwrap().hi;
                prop_assert!((ends - 1.0).abs() < 1e-9);
            }
        }
    }
}
