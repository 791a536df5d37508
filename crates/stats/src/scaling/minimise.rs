//! Least-squares fit of one law to reduced points: the level in closed form, the other parameters by
//! bounded search.
//!
//! The logarithm of every law with an offset is written as level + log(e^balance + g(n) /
//! g(reference)), where g is the growing part. The balance is the logarithm of the ratio of the
//! constant to the growing part at the reference size. The level is linear, so it is computed
//! directly (variable projection, Golub and Pereyra 1973). The search is over one bounded
//! parameter, or over two if the exponent is free. It needs no starting values and cannot diverge.

use super::law::{Law, Term};
use super::points::Points;

/// Largest magnitude of the balance. Beyond it, one part is less than a millionth of the other.
pub(super) const BALANCE_BOUND: f64 = 14.0;
/// Step of the grid search over the balance.
const BALANCE_STEP: f64 = 2.0;
/// Rounds of golden-section search for the balance: to about 0.001.
const BALANCE_ROUNDS: usize = 18;
/// Smallest and largest magnitude of a free exponent in a law with an offset.
pub(super) const EXPONENT_BOUNDS: (f64, f64) = (0.05, 6.0);
/// Step of the grid search over a free exponent.
const EXPONENT_STEP: f64 = 0.35;
/// Rounds of golden-section search for a free exponent: to about 0.0001.
const EXPONENT_ROUNDS: usize = 18;

/// A law fitted by least squares.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fitted {
    /// The law in the unit of the costs.
    pub law: Law,
    /// Lack-of-fit sum of squares: the weighted squares of the size means about the law, in logarithms.
    pub lack_of_fit: f64,
    /// The same with the constant held at 0. `None` if the law has no constant. For c + a n^b the
    /// exponent is not refitted.
    pub lack_of_fit_without_constant: Option<f64>,
}

/// Fits the form `term` by least squares.
pub(super) fn least_squares(points: &Points, term: Term) -> Fitted {
    match term {
        Term::Constant => {
            let (level, lack_of_fit) = points.level(|_| 0.0);
            Fitted {
                law: Law { term, a: level.exp(), b: None, c: 0.0 },
                lack_of_fit,
                lack_of_fit_without_constant: None,
            }
        }
        Term::Power => power(points),
        Term::OffsetPower => free_exponent(points),
        _ => with_offset(points, term, 1.0),
    }
}

/// Fits c + a n^b with the exponent held at `b`.
pub(super) fn at_exponent(points: &Points, b: f64) -> Fitted {
    with_offset(points, Term::OffsetPower, b)
}

/// Returns the regression slope of log cost on log n, and the weighted squares of log n about their
/// mean.
pub(super) fn log_log_slope(points: &Points) -> (f64, f64) {
    let log_x: Vec<f64> = points.x.iter().map(|x| x.ln()).collect();
    let weighted = |values: &dyn Fn(usize) -> f64| -> f64 {
        (0..log_x.len()).map(|i| points.count[i] * values(i)).sum()
    };
    let centre = weighted(&|i| log_x[i]) / points.samples();
    let squares = weighted(&|i| (log_x[i] - centre).powi(2));
    (weighted(&|i| (log_x[i] - centre) * points.mean[i]) / squares, squares)
}

/// Fits a n^b, which is linear in logarithms.
fn power(points: &Points) -> Fitted {
    let (b, _) = log_log_slope(points);
    let reference = points.reference().ln();
    let (level, lack_of_fit) = points.level(|i| b * (points.x[i].ln() - reference));
    let a = (level - b * reference).exp();
    let law = Law { term: Term::Power, a, b: Some(b), c: 0.0 };
    Fitted { law, lack_of_fit, lack_of_fit_without_constant: None }
}

/// Fits c + a n^b with a free exponent, which takes the sign of the log-log slope.
fn free_exponent(points: &Points) -> Fitted {
    let sign = if log_log_slope(points).0 < 0.0 { -1.0 } else { 1.0 };
    let (low, high) = EXPONENT_BOUNDS;
    let lack_of_fit = |b: f64| at_exponent(points, sign * b).lack_of_fit;
    at_exponent(points, sign * search(&lack_of_fit, low, high, EXPONENT_STEP, EXPONENT_ROUNDS))
}

/// Fits the offset and the factor of a growing part whose exponent is fixed.
fn with_offset(points: &Points, term: Term, b: f64) -> Fitted {
    let scale = term.growth(points.reference(), b);
    let growth: Vec<f64> = points.x.iter().map(|&x| term.growth(x, b) / scale).collect();
    let level = |balance: f64| points.level(|i| (balance.exp() + growth[i]).ln());
    let balance = search(
        &|balance| level(balance).1,
        -BALANCE_BOUND,
        BALANCE_BOUND,
        BALANCE_STEP,
        BALANCE_ROUNDS,
    );
    let (bare, lack_of_fit_without_constant) = level(f64::NEG_INFINITY);
    // The growing part may be 0 at the smallest size, as log n at 1. Without a constant, the law then
    // does not fit at all, and its sum of squares is not a number.
    let lack_of_fit_without_constant = if lack_of_fit_without_constant.is_nan() {
        f64::INFINITY
    } else {
        lack_of_fit_without_constant
    };
    let (offset, offset_lack_of_fit) = level(balance);
    let b = (term == Term::OffsetPower).then_some(b);
    let (law, lack_of_fit) = if lack_of_fit_without_constant <= offset_lack_of_fit {
        (Law { term, a: bare.exp() / scale, b, c: 0.0 }, lack_of_fit_without_constant)
    } else {
        let c = (offset + balance).exp();
        (Law { term, a: offset.exp() / scale, b, c }, offset_lack_of_fit)
    };
    Fitted { law, lack_of_fit, lack_of_fit_without_constant: Some(lack_of_fit_without_constant) }
}

/// Returns the position of the minimum of `f` between `from` and `to`: the best point of a grid,
/// refined between its neighbours.
pub(super) fn search(f: &impl Fn(f64) -> f64, from: f64, to: f64, step: f64, rounds: usize) -> f64 {
    let cells = ((to - from) / step).ceil();
    let (mut best, mut least) = (from, f64::INFINITY);
    for cell in 0..=cells as usize {
        let at = from + (to - from) * cell as f64 / cells;
        let value = f(at);
        if value < least {
            (best, least) = (at, value);
        }
    }
    let step = (to - from) / cells;
    golden_section(f, (best - step).max(from), (best + step).min(to), rounds)
}

/// Returns the position of the minimum of `f` by golden-section search (Kiefer 1953). `f` must have
/// one minimum between `from` and `to`.
fn golden_section(f: &impl Fn(f64) -> f64, mut from: f64, mut to: f64, rounds: usize) -> f64 {
    const GOLDEN: f64 = 0.618_033_988_749_894_8;
    let (mut left, mut right) = (to - GOLDEN * (to - from), from + GOLDEN * (to - from));
    let (mut at_left, mut at_right) = (f(left), f(right));
    for _ in 0..rounds {
        if at_left <= at_right {
            (to, right, at_right) = (right, left, at_left);
            left = to - GOLDEN * (to - from);
            at_left = f(left);
        } else {
            (from, left, at_left) = (left, right, at_right);
            right = from + GOLDEN * (to - from);
            at_right = f(right);
        }
    }
    if at_left <= at_right { left } else { right }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::Point;
    use proptest::prelude::*;

    /// Two costs of `law` at each of seven sizes, without noise. The largest is 64 times the smallest.
    fn exact(law: Law) -> Points {
        let point = |i: i32| {
            let x = 50.0 * 2f64.powi(i);
            Point { x, y: vec![law.at(x); 2] }
        };
        Points::new(&(0..7).map(point).collect::<Vec<_>>()).unwrap()
    }

    proptest! {
        #[test]
        fn noiseless_laws_are_recovered(
            term in prop::sample::select(Term::ALL.to_vec()),
            a in 0.01f64..100.0,
            balance in -2.0f64..2.0,
            b in 0.4f64..3.5,
        ) {
            let scale = term.growth(400.0, b);
            let c = if term.has_offset() { a * balance.exp() } else { 0.0 };
            let law = Law { term, a: a / scale, b: Some(b), c };
            let found = least_squares(&exact(law), term).law;
            for x in [50.0, 400.0, 3200.0, 12_800.0] {
                prop_assert!((found.at(x) / law.at(x)).ln().abs() < 0.02, "{law:?} {found:?} at {x}");
            }
        }
    }

    #[test]
    fn falling_costs_get_a_negative_exponent() {
        let law = Law { term: Term::OffsetPower, a: 1000.0, b: Some(-1.0), c: 2.0 };
        let found = least_squares(&exact(law), Term::OffsetPower).law;
        assert!((found.b.unwrap() + 1.0).abs() < 0.01 && (found.c - 2.0).abs() < 0.02, "{found:?}");
    }
}
