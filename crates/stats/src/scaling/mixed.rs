//! The leading exponent of a cost with two growing parts: c + d n + a n^b with b above 1.
//!
//! The forms that are reported have one growing part. A cost such as n^2 + 30 n deviates from all of
//! them, and the exponent of c + a n^b is then a mixture of 1 and 2.

use super::dispersion::effective_samples;
use super::exponent::{Exponent, crossing};
use super::minimise::{EXPONENT_BOUNDS, search};
use super::points::Points;
use crate::dist::t_quantile;
use crate::interval::Interval;

/// Smallest leading exponent. Closer to 1, a n^b and d n are indistinguishable.
const LEAST: f64 = 1.1;
/// Step of the grid search over the exponent.
const STEP: f64 = 0.1;
/// Rounds of golden-section search: to about 0.0001.
const ROUNDS: usize = 16;
/// Confidence with which the data must show that there are two growing parts.
const SHOWN_CONFIDENCE: f64 = 0.999;
/// Number of coefficients: c, d, a and b.
const COEFFICIENTS: usize = 4;
/// Fewest sizes: with two to spare, the law does not fit noise by chance.
const SIZES_NEEDED: usize = COEFFICIENTS + 2;

/// The fit of c + d n + a n^b.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mixed {
    /// The leading exponent b with its profile-likelihood interval.
    pub exponent: Exponent,
    /// Largest sum of squares of a law with one coefficient less that the data do not distinguish
    /// from this law, with [`SHOWN_CONFIDENCE`].
    pub indistinguishable: f64,
}

/// Fits c + d n + a n^b by least squares on relative errors. `None` if there are too few sizes.
///
/// For a fixed b the law is linear in c, d and a, which may have either sign: n (n - 1) has a
/// negative d. The interval of b is computed as that of c + a n^b (Bates and Watts 1988, section
/// 6.1).
pub(super) fn mixed(points: &Points, confidence: f64) -> Option<Mixed> {
    let sizes = points.sizes();
    if sizes < SIZES_NEEDED {
        return None;
    }
    let squares = |b: f64| lack_of_fit(points, b);
    let b = search(&squares, LEAST, EXPONENT_BOUNDS.1, STEP, ROUNDS);
    let lack_of_fit = squares(b);
    if !lack_of_fit.is_finite() {
        return None;
    }
    let (samples, spare) = (points.samples(), sizes - COEFFICIENTS);
    let dispersion = effective_samples(sizes, samples, lack_of_fit, spare, points.within);
    let freedom = dispersion.freedom(COEFFICIENTS);
    if freedom <= 0.0 {
        return None;
    }
    let least = (points.within + lack_of_fit).max(points.floor());
    let allowed = |confidence: f64| {
        let t = t_quantile((1.0 + confidence) / 2.0, freedom);
        least * (1.0 + t * t / (dispersion.effective - COEFFICIENTS as f64))
    };
    let fits = |b: f64| points.within + squares(b) <= allowed(confidence);
    let ends = crossing(&fits, b, LEAST).zip(crossing(&fits, b, EXPONENT_BOUNDS.1));
    let interval = ends.map(|(lo, hi)| Interval { lo, hi, confidence });
    let exponent = Exponent { value: b, interval };
    Some(Mixed { exponent, indistinguishable: allowed(SHOWN_CONFIDENCE) })
}

/// Returns the weighted sum of squared relative errors of the best c + d n + a n^b; infinite if a is
/// not above zero.
fn lack_of_fit(points: &Points, b: f64) -> f64 {
    let reference = points.reference();
    // Each part relative to the cost, so that the least-squares target is 1 at every size.
    let parts = |i: usize| {
        let (size, cost) = (points.x[i] / reference, (points.mean[i] - points.mean[0]).exp());
        [1.0 / cost, size / cost, size.powf(b) / cost]
    };
    let (mut squares, mut products) = ([[0.0; 3]; 3], [0.0; 3]);
    for i in 0..points.sizes() {
        let parts = parts(i);
        for row in 0..3 {
            products[row] += points.count[i] * parts[row];
            for column in 0..3 {
                squares[row][column] += points.count[i] * parts[row] * parts[column];
            }
        }
    }
    let Some(coefficients) = solve(squares, products).filter(|found| found[2] > 0.0) else {
        return f64::INFINITY;
    };
    let residual = |i: usize| {
        1.0 - parts(i).iter().zip(coefficients).map(|(part, factor)| part * factor).sum::<f64>()
    };
    (0..points.sizes()).map(|i| points.count[i] * residual(i).powi(2)).sum()
}

/// Solves three linear equations by elimination with pivots. `None` if they are dependent.
fn solve(mut rows: [[f64; 3]; 3], mut right: [f64; 3]) -> Option<[f64; 3]> {
    for column in 0..3 {
        let pivot =
            (column..3).max_by(|&a, &b| rows[a][column].abs().total_cmp(&rows[b][column].abs()))?;
        rows.swap(column, pivot);
        right.swap(column, pivot);
        let (pivot, pivot_right) = (rows[column], right[column]);
        for (row, right) in rows.iter_mut().zip(&mut right).skip(column + 1) {
            let factor = row[column] / pivot[column];
            row.iter_mut().zip(pivot).for_each(|(value, above)| *value -= factor * above);
            *right -= factor * pivot_right;
        }
    }
    let mut solution = [0.0; 3];
    for row in (0..3).rev() {
        let known: f64 = (row + 1..3).map(|at| rows[row][at] * solution[at]).sum();
        solution[row] = (right[row] - known) / rows[row][row];
    }
    solution.iter().all(|value| value.is_finite()).then_some(solution)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::Point;

    #[test]
    fn the_leading_exponent_of_polynomials_is_found() {
        let laws: [(f64, fn(f64) -> f64); 4] = [
            (2.0, |n| n * n + 30.0 * n),
            (3.0, |n| n.powi(3) + 30.0 * n),
            (2.0, |n| n * (n - 1.0) / 2.0),
            (1.5, |n| 5.0 * n.powf(1.5) + 40.0 * n + 300.0),
        ];
        for (exponent, cost) in laws {
            let point = |i: i32| Point { x: 4.0 * 2f64.powi(i), y: vec![cost(4.0 * 2f64.powi(i))] };
            let points = Points::new(&(0..7).map(point).collect::<Vec<_>>()).unwrap();
            let got = mixed(&points, 0.95).unwrap();
            assert!((got.exponent.value - exponent).abs() < 0.02, "{exponent}: {got:?}");
            assert!(got.exponent.interval.is_some_and(|i| i.contains(exponent)), "{got:?}");
        }
    }

    #[test]
    fn five_sizes_are_too_few() {
        let point = |i: i32| Point { x: 2f64.powi(i), y: vec![4f64.powi(i)] };
        let points = Points::new(&(0..5).map(point).collect::<Vec<_>>()).unwrap();
        assert!(mixed(&points, 0.95).is_none());
    }
}
