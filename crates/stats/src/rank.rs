//! Shift estimates with exact intervals, from the null distributions of the signed-rank statistic
//! (Wilcoxon 1945) and the Mann-Whitney statistic (Mann and Whitney 1947).
//!
//! Both estimates are the median of a list of differences (Hodges and Lehmann 1963). The interval
//! is what remains of the sorted list after cutting the same number of entries from each end
//! (Hollander, Wolfe and Chicken 2014, sections 3.3 and 4.3).

use crate::dist::{normal_quantile, normal_upper_tail};
use crate::interval::Interval;
use crate::summary::median_of_sorted;

/// Up to this many pairs the signed-rank distribution is computed exactly. Beyond, the normal
/// approximation differs by at most a few ranks.
const EXACT_PAIRS: usize = 50;
/// Up to this product of the two sample sizes the Mann-Whitney distribution is computed exactly.
/// Beyond, the normal approximation differs by at most a few ranks.
const EXACT_PRODUCT: usize = 900;

/// A location estimate with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shift {
    /// The Hodges-Lehmann estimate.
    pub estimate: f64,
    /// `None` if even the whole range of the list has less than the requested confidence.
    pub interval: Option<Interval>,
}

/// The part of the sorted list that is cut from each end to get the interval.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cut {
    /// Number of entries cut from each end.
    entries: usize,
    /// Probability that the true value lies beyond the interval at one end.
    tail: f64,
}

/// Returns the centre of symmetry of `differences` (not empty): the median of the Walsh averages,
/// with the interval of the signed-rank test. Time and memory grow with the square of the length.
pub(crate) fn one_sample_shift(differences: &[f64], confidence: f64) -> Shift {
    let mut walsh = Vec::with_capacity(differences.len() * (differences.len() + 1) / 2);
    for (i, a) in differences.iter().enumerate() {
        walsh.extend(differences[i..].iter().map(|b| (a + b) / 2.0));
    }
    shift(walsh, signed_rank_cut(differences.len(), (1.0 - confidence) / 2.0))
}

/// Returns the shift from `before` to `after` (neither empty): the median of all pairwise
/// differences, with the interval of the Mann-Whitney test. Time and memory grow with the product of
/// the lengths.
pub(crate) fn two_sample_shift(before: &[f64], after: &[f64], confidence: f64) -> Shift {
    let differences = after.iter().flat_map(|a| before.iter().map(move |b| a - b)).collect();
    shift(differences, mann_whitney_cut(before.len(), after.len(), (1.0 - confidence) / 2.0))
}

/// Returns the smallest number of pairs whose signed-rank interval reaches `confidence`: 6 for 95 %.
pub fn pairs_needed(confidence: f64) -> usize {
    (1..).find(|&n| 0.5f64.powi(n) <= (1.0 - confidence) / 2.0).map_or(usize::MAX, |n| n as usize)
}

/// Returns the smallest number of values per side whose Mann-Whitney interval reaches `confidence`:
/// 4 for 95 %.
pub(crate) fn sides_needed(confidence: f64) -> usize {
    let tail = (1.0 - confidence) / 2.0;
    let mut arrangements = 1.0;
    for n in 1..usize::MAX {
        // C(2n, n) = C(2n - 2, n - 1) * (2n)(2n - 1) / n^2.
        arrangements *= 2.0 * (2 * n - 1) as f64 / n as f64;
        if 1.0 / arrangements <= tail {
            return n;
        }
    }
    usize::MAX
}

/// Sorts the list and returns its median and the range that remains after the cut.
fn shift(mut list: Vec<f64>, cut: Option<Cut>) -> Shift {
    list.sort_by(f64::total_cmp);
    let interval = cut.map(|cut| Interval {
        lo: list[cut.entries],
        hi: list[list.len() - 1 - cut.entries],
        confidence: 1.0 - 2.0 * cut.tail,
    });
    Shift { estimate: median_of_sorted(&list), interval }
}

/// Returns the cut of a signed-rank interval with a probability of at most `tail` on each side.
/// `None` if `n` is too small.
fn signed_rank_cut(n: usize, tail: f64) -> Option<Cut> {
    if n <= EXACT_PAIRS {
        return exact_cut(&signed_rank_distribution(n), tail);
    }
    let pairs = n as f64;
    let variance = pairs * (pairs + 1.0) * (2.0 * pairs + 1.0) / 24.0;
    normal_cut(pairs * (pairs + 1.0) / 4.0, variance.sqrt(), tail)
}

/// Returns the cut of a Mann-Whitney interval with a probability of at most `tail` on each side.
/// `None` if a side is too small.
fn mann_whitney_cut(m: usize, n: usize, tail: f64) -> Option<Cut> {
    if m * n <= EXACT_PRODUCT {
        return exact_cut(&mann_whitney_distribution(m, n), tail);
    }
    let product = (m * n) as f64;
    normal_cut(product / 2.0, (product * (m + n + 1) as f64 / 12.0).sqrt(), tail)
}

/// Returns the largest cut whose lower tail has a probability of at most `tail`. `probabilities`
/// are those of the values 0, 1, 2 and so on of the statistic.
fn exact_cut(probabilities: &[f64], tail: f64) -> Option<Cut> {
    // Sums of probabilities have rounding errors of a few parts in 10^16. A tail that equals the
    // limit must count as within it.
    let limit = tail * (1.0 + 1e-12);
    let mut below = 0.0;
    let mut cut = None;
    for (entries, probability) in probabilities.iter().enumerate() {
        below += probability;
        if below > limit {
            break;
        }
        cut = Some(Cut { entries, tail: below });
    }
    cut
}

/// Returns the largest cut by the normal approximation with continuity correction.
fn normal_cut(mean: f64, sd: f64, tail: f64) -> Option<Cut> {
    let entries = (mean + normal_quantile(tail) * sd - 0.5).floor();
    (entries >= 0.0).then(|| Cut {
        entries: entries as usize,
        tail: normal_upper_tail((mean - entries - 0.5) / sd),
    })
}

/// Returns the probability of each signed-rank sum 0..=n(n+1)/2. Each rank is included with
/// probability one half.
fn signed_rank_distribution(n: usize) -> Vec<f64> {
    let mut probabilities = vec![0.0; n * (n + 1) / 2 + 1];
    probabilities[0] = 1.0;
    for rank in 1..=n {
        for sum in (0..probabilities.len()).rev() {
            let with = if sum >= rank { probabilities[sum - rank] } else { 0.0 };
            probabilities[sum] = (probabilities[sum] + with) / 2.0;
        }
    }
    probabilities
}

/// Returns the probability of each Mann-Whitney U 0..=mn by the recursion of Mann and Whitney 1947.
///
/// The largest of all values is from the first or from the second sample. If it is from the first,
/// it exceeds every value of the second and adds their number to U.
fn mann_whitney_distribution(m: usize, n: usize) -> Vec<f64> {
    // One row per size of the first sample. The second sample grows by one in each round.
    let mut rows: Vec<Vec<f64>> = vec![vec![1.0]; m + 1];
    for second in 1..=n {
        for first in 1..=m {
            let share = first as f64 / (first + second) as f64;
            let mut row = vec![0.0; first * second + 1];
            for (u, p) in rows[first - 1].iter().enumerate() {
                row[u + second] += share * p;
            }
            for (u, p) in rows[first].iter().enumerate() {
                row[u] += (1.0 - share) * p;
            }
            rows[first] = row;
        }
    }
    rows.swap_remove(m)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Wilcoxon's critical values, two-sided 5 % (Siegel 1956, table G). There are none below 6.
    #[test]
    fn signed_rank_critical_values_match_the_published_table() {
        let table = [
            (6, 0),
            (7, 2),
            (8, 3),
            (9, 5),
            (10, 8),
            (11, 10),
            (12, 13),
            (13, 17),
            (14, 21),
            (15, 25),
            (16, 29),
            (17, 34),
            (18, 40),
            (19, 46),
            (20, 52),
            (25, 89),
            (30, 137),
        ];
        for (n, want) in table {
            assert_eq!(signed_rank_cut(n, 0.025).unwrap().entries, want, "n = {n}");
        }
        for n in 1..6 {
            assert_eq!(signed_rank_cut(n, 0.025), None, "n = {n}");
        }
        assert_eq!((pairs_needed(0.95), pairs_needed(0.99)), (6, 8));
    }

    /// Mann and Whitney's critical values, two-sided 5 % (Siegel 1956, table K).
    #[test]
    fn mann_whitney_critical_values_match_the_published_table() {
        for (m, n, want) in [
            (3, 5, Some(0)),
            (4, 4, Some(0)),
            (5, 5, Some(2)),
            (6, 6, Some(5)),
            (5, 10, Some(8)),
            (8, 8, Some(13)),
            (10, 10, Some(23)),
            (20, 20, Some(127)),
            (3, 3, None),
            (2, 7, None),
        ] {
            let got = mann_whitney_cut(m, n, 0.025).map(|cut| cut.entries);
            assert_eq!(got, want, "{m}, {n}");
            assert_eq!(mann_whitney_cut(n, m, 0.025).map(|cut| cut.entries), want, "{n}, {m}");
        }
        assert_eq!((sides_needed(0.95), sides_needed(0.99)), (4, 5));
    }

    #[test]
    fn distributions_equal_enumeration() {
        for n in 1..=10usize {
            let mut counts = vec![0.0; n * (n + 1) / 2 + 1];
            for signs in 0..1u32 << n {
                let sum: usize =
                    (0..n).filter(|bit| signs >> bit & 1 == 1).map(|bit| bit + 1).sum();
                counts[sum] += 0.5f64.powi(n as i32);
            }
            assert_eq!(signed_rank_distribution(n), counts);
        }
        for (m, n) in [(1, 1), (2, 5), (4, 3), (5, 5)] {
            let mut counts = vec![0.0; m * n + 1];
            let subsets: Vec<u32> =
                (0..1u32 << (m + n)).filter(|s| s.count_ones() as usize == m).collect();
            for subset in &subsets {
                let ranks: usize = (0..m + n).filter(|bit| subset >> bit & 1 == 1).sum();
                counts[ranks - m * (m - 1) / 2] += 1.0 / subsets.len() as f64;
            }
            for (got, want) in mann_whitney_distribution(m, n).iter().zip(&counts) {
                assert!((got - want).abs() < 1e-14, "{m}, {n}");
            }
        }
    }

    #[test]
    fn the_normal_approximation_agrees_at_the_limit_of_the_exact_method() {
        let n = EXACT_PAIRS;
        let exact = exact_cut(&signed_rank_distribution(n), 0.025).unwrap();
        let pairs = n as f64;
        let sd = (pairs * (pairs + 1.0) * (2.0 * pairs + 1.0) / 24.0).sqrt();
        let approximate = normal_cut(pairs * (pairs + 1.0) / 4.0, sd, 0.025).unwrap();
        assert!(exact.entries.abs_diff(approximate.entries) <= 2);
        let exact = exact_cut(&mann_whitney_distribution(30, 30), 0.025).unwrap();
        let approximate = normal_cut(450.0, (900.0f64 * 61.0 / 12.0).sqrt(), 0.025).unwrap();
        assert!(exact.entries.abs_diff(approximate.entries) <= 2);
    }

    proptest! {
        #[test]
        fn shifting_the_data_shifts_the_estimate(
            values in prop::collection::vec(-100.0f64..100.0, 6..40),
            by in -50.0f64..50.0,
        ) {
            let moved: Vec<f64> = values.iter().map(|v| v + by).collect();
            let (one, other) = (one_sample_shift(&values, 0.95), one_sample_shift(&moved, 0.95));
            prop_assert!((one.estimate + by - other.estimate).abs() < 1e-9);
            prop_assert!(one.interval.unwrap().contains(one.estimate));
            let two = two_sample_shift(&values, &moved, 0.95);
            prop_assert!((two.estimate - by).abs() < 100.0);
            prop_assert!(two.interval.unwrap().contains(by));
        }
    }
}
