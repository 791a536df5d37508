//! Before and after: the ratio of two costs, its exact interval, and a verdict against a margin.

use serde::Serialize;

use crate::error::{StatsError, require_positive, require_probability, require_same_length};
use crate::interval::Interval;
use crate::rank::{Shift, one_sample_shift, pairs_needed, sides_needed, two_sample_shift};

/// The smallest margin: differences of less than 3 % are within what layout and alignment alone do
/// to a program (Mytkowicz and others 2009).
pub const MARGIN_FLOOR: f64 = 0.03;

/// Half-widths of a 95 % interval from its centre to the point that a change must reach for the
/// interval to clear the margin four times in five: 1 + z(0.80) / z(0.975).
const HALF_WIDTHS_FOR_POWER_80: f64 = 1.429;

/// What a comparison establishes at its margin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The whole interval lies below the margin: after costs less than before.
    Faster,
    /// The whole interval lies above the margin: after costs more than before.
    Slower,
    /// The whole interval lies within the margin: any difference is too small to matter.
    Same,
    /// The interval crosses the margin, or the sample is too small to have one.
    Inconclusive,
}

/// The cost of one block of runs that share a seed and lie close in time: ABBA gives two of each
/// side.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Costs before, above zero.
    pub before: Vec<f64>,
    /// Costs after, above zero, in the same unit.
    pub after: Vec<f64>,
}

/// The outcome of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Cost after over cost before: the exponential of the Hodges-Lehmann shift of the logarithms.
    pub ratio: f64,
    /// Interval of the ratio, with the confidence achieved; absent where `n` is below `n_needed`.
    pub interval: Option<Interval>,
    /// Independent replicates: blocks when paired, the size of the smaller side when not.
    pub n: usize,
    /// The fewest replicates that can give an interval of the confidence asked.
    pub n_needed: usize,
    /// The relative margin that the verdict stands on, for instance 0.03.
    pub margin: f64,
    /// The verdict against the margin.
    pub verdict: Verdict,
    /// The smallest relative change, in the direction of more cost, that this noise and `n` would
    /// have called with a probability of about 80 %; absent without an interval.
    pub smallest_visible: Option<f64>,
}

impl Comparison {
    /// Whether the interval leaves out 1. In a control, where both sides are the same program, that
    /// is a sign of bias in the set-up.
    pub fn excludes_one(&self) -> bool {
        self.interval.is_some_and(|interval| !interval.contains(1.0))
    }
}

/// Compares matched runs: `before[i]` and `after[i]` form pair `i`. See [`compare_blocks`].
///
/// # Errors
/// As for [`compare_blocks`], or lengths that differ.
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

/// Compares blocks of runs: one log-ratio of geometric means per block, then the Hodges-Lehmann
/// estimate over blocks and its exact signed-rank interval (Hodges and Lehmann 1963; Hollander,
/// Wolfe and Chicken 2014, section 3.3), by the normal approximation above 50 blocks.
///
/// The block is the replicate, as its runs share a seed and their moment. Within an ABBA block a
/// linear drift of the machine cancels exactly. The interval assumes log-ratios that are
/// independent and symmetric. `margin` is relative and at least 0; it is applied symmetrically in
/// logarithms: from 1 / (1 + margin) to 1 + margin.
///
/// # Errors
/// No blocks, a side of a block that is empty, a cost that is not finite and above zero, or a
/// confidence outside (0, 1).
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

/// Compares two sets of unmatched runs: the Hodges-Lehmann shift of the logarithms with the
/// interval of the Mann-Whitney test, exact up to 900 pairs of runs and by the normal approximation
/// above (Hollander, Wolfe and Chicken 2014, section 4.3). The interval assumes that the two sides
/// differ by a factor alone.
///
/// # Errors
/// As for [`compare_blocks`].
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

/// The margin that an A/A control calls for: the larger of [`MARGIN_FLOOR`] and twice the
/// half-width of the control's interval, as a relative change.
///
/// # Errors
/// A control too small to have an interval: it supports no margin.
pub fn margin_from_control(control: &Comparison) -> Result<f64, StatsError> {
    let too_few =
        StatsError::TooFew { what: "control replicates", have: control.n, need: control.n_needed };
    let half_width = log_half_width(control.interval.ok_or(too_few)?);
    Ok(MARGIN_FLOOR.max(2.0 * half_width.exp_m1()))
}

/// Turns a shift of logarithms into a ratio and judges it.
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

/// The verdict on an interval of ratios.
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

/// Half the width of an interval of ratios, in logarithms.
fn log_half_width(interval: Interval) -> f64 {
    interval.map(f64::ln).half_width()
}

/// The logarithm of the geometric mean.
fn mean_log(costs: &[f64]) -> Result<f64, StatsError> {
    Ok(logs(costs)?.iter().sum::<f64>() / costs.len() as f64)
}

/// Logarithms of costs that are checked to be above zero.
fn logs(costs: &[f64]) -> Result<Vec<f64>, StatsError> {
    require_positive(costs)?;
    Ok(costs.iter().map(|cost| cost.ln()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;
    use proptest::prelude::*;

    /// `n` pairs with a true ratio, a seed effect that both sides share, and noise of `sd` on each.
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
    fn five_pairs_give_no_interval_and_six_do() {
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
    fn the_margin_grows_with_a_noisy_control() {
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
                    let still = |v: Vec<f64>| -> Vec<f64> {
                        v.iter().enumerate().map(|(i, x)| x / (i as f64 / 5.0).exp()).collect()
                    };
                    compare_unpaired(&still(before), &still(after), 0.95, 0.03)
                };
                got.unwrap().interval.unwrap().contains(1.3)
            });
            let covered = covered.count();
            assert!(covered >= 462, "{covered} of 500 with n = {n}, paired: {paired}");
        }
    }

    #[test]
    fn a_change_of_the_visible_size_is_seen_four_times_in_five() {
        let mut rng = SplitMix64::new(11);
        let mut visible: Vec<f64> = Vec::new();
        for _ in 0..200 {
            let (a, b) = pairs(&mut rng, 15, 1.0, 0.05);
            visible.extend(compare_paired(&a, &b, 0.95, 0.03).unwrap().smallest_visible);
        }
        let size = 1.0 + visible.iter().sum::<f64>() / 200.0;
        let seen = (0..300).filter(|_| {
            let (a, b) = pairs(&mut rng, 15, size, 0.05);
            compare_paired(&a, &b, 0.95, 0.03).unwrap().verdict == Verdict::Slower
        });
        let seen = seen.count();
        assert!((210..=285).contains(&seen), "{seen} of 300 at {size}");
    }

    #[test]
    fn refuses_what_has_no_logarithm() {
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
                let there = compare(&before, &after, 0.95, 0.03).unwrap();
                let back = compare(&after, &before, 0.95, 0.03).unwrap();
                prop_assert!((there.ratio * back.ratio - 1.0).abs() < 1e-9);
                prop_assert!((there.interval.unwrap().lo * back.interval.unwrap().hi - 1.0).abs() < 1e-9);
            }
        }
    }
}
