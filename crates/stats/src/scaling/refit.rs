//! A law fitted again to data much like those it came from: the inner loop of the bootstrap.

use super::law::{Law, Term};
use super::minimise::{EXPONENT_BOUNDS, least_squares};
use super::points::Points;

/// Rounds at most; from a start so near, four or five are the rule.
const ROUNDS: usize = 30;
/// Relative gain in squares below which the search ends.
const GAIN: f64 = 1e-5;
/// Bounds of the balance, as in the search from nothing.
const BALANCE_BOUND: f64 = 14.0;
/// Where the balance starts if the law has no constant: at 2 % of the growing part.
const BALANCE_START: f64 = -4.0;

/// The least squares of `law`'s form on `points`, from `law` as the start.
///
/// Forms without an offset are solved outright; the others by Levenberg and Marquardt (Marquardt
/// 1963) over the balance of constant and growing part and, if free, the exponent, with the level
/// projected out. The grid search that the first fit takes costs some thirty times as much.
pub(super) fn refit(points: &Points, law: &Law) -> Law {
    if !law.term.has_offset() {
        return least_squares(points, law.term).law;
    }
    let bare = State::new(points, law.term, f64::NEG_INFINITY, law.b);
    let mut best = State::new(points, law.term, start(points, law), law.b);
    let mut damping = 1e-3;
    for _ in 0..ROUNDS {
        let trial = best.step(points, damping);
        if trial.lack < best.lack {
            let gain = 1.0 - trial.lack / best.lack;
            best = trial;
            damping /= 10.0;
            if gain < GAIN {
                break;
            }
        } else {
            damping *= 10.0;
            if damping > 1e6 {
                break;
            }
        }
    }
    if bare.lack <= best.lack { bare.law(points) } else { best.law(points) }
}

/// The balance that `law` itself has.
fn start(points: &Points, law: &Law) -> f64 {
    let reference = points.reference();
    let growing = law.a * law.term.growth(reference, law.b.unwrap_or(1.0));
    let balance = (law.c / growing).ln();
    if balance.is_finite() { balance.max(BALANCE_START) } else { BALANCE_START }
}

/// One trial of the search.
struct State {
    term: Term,
    balance: f64,
    b: Option<f64>,
    level: f64,
    lack: f64,
}

impl State {
    fn new(points: &Points, term: Term, balance: f64, b: Option<f64>) -> State {
        let growth = relative_growth(points, term, b);
        let (level, lack) = points.level(|i| (balance.exp() + growth(i)).ln());
        State { term, balance, b, level, lack }
    }

    /// The state one damped Gauss-Newton step away.
    fn step(&self, points: &Points, damping: f64) -> State {
        let ([mut hh, hb, mut bb], [h, b]) = self.normal_equations(points);
        hh *= 1.0 + damping;
        bb *= 1.0 + damping;
        let determinant = hh * bb - hb * hb;
        let (by_balance, by_b) = match self.b {
            Some(_) => ((h * bb - b * hb) / determinant, (b * hh - h * hb) / determinant),
            None => (h / hh, 0.0),
        };
        let balance = (self.balance + by_balance).clamp(-BALANCE_BOUND, BALANCE_BOUND);
        State::new(points, self.term, balance, self.b.map(|b| bounded(b + by_b)))
    }

    /// Sums of products of the centred derivatives (balance with itself, with b, b with itself),
    /// and of each with the residuals.
    fn normal_equations(&self, points: &Points) -> ([f64; 3], [f64; 2]) {
        let growth = relative_growth(points, self.term, self.b);
        let (constant, reference) = (self.balance.exp(), points.reference());
        let by_balance = |i: usize| constant / (constant + growth(i));
        let by_b = |i: usize| (points.x[i] / reference).ln() * (1.0 - by_balance(i));
        // The level of mean - (mean - d) is the weighted mean of d.
        let centre = |d: &dyn Fn(usize) -> f64| points.level(|i| points.mean[i] - d(i)).0;
        let (balance_centre, b_centre) = (centre(&by_balance), centre(&by_b));
        let (mut squares, mut products) = ([0.0; 3], [0.0; 2]);
        for i in 0..points.sizes() {
            let (dh, db) = (by_balance(i) - balance_centre, by_b(i) - b_centre);
            let rest = points.mean[i] - self.level - (constant + growth(i)).ln();
            let count = points.count[i];
            squares[0] += count * dh * dh;
            squares[1] += count * dh * db;
            squares[2] += count * db * db;
            products[0] += count * dh * rest;
            products[1] += count * db * rest;
        }
        (squares, products)
    }

    /// The law in the unit of the costs.
    fn law(&self, points: &Points) -> Law {
        let scale = self.term.growth(points.reference(), self.b.unwrap_or(1.0));
        let c = (self.level + self.balance).exp();
        Law { term: self.term, a: self.level.exp() / scale, b: self.b, c }
    }
}

/// The nearest exponent of the same sign that the search from nothing would allow.
fn bounded(b: f64) -> f64 {
    b.abs().clamp(EXPONENT_BOUNDS.0, EXPONENT_BOUNDS.1).copysign(b)
}

/// The growing part at each size, relative to the reference size.
fn relative_growth(points: &Points, term: Term, b: Option<f64>) -> impl Fn(usize) -> f64 {
    let b = b.unwrap_or(1.0);
    let scale = term.growth(points.reference(), b);
    move |i| term.growth(points.x[i], b) / scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;
    use crate::scaling::Point;

    /// The search from nothing is the oracle: from a law nearby, the refit leaves squares as small
    /// to within a third of one run's variance, which no AICc notices. Exponents below 1 beside a
    /// large constant are left out: there the squares hardly depend on the numbers, and neither do
    /// predictions.
    #[test]
    fn reaches_what_the_search_from_nothing_reaches() {
        let mut rng = SplitMix64::new(5);
        for trial in 0..300 {
            let planted = Law {
                term: Term::ALL[trial % Term::ALL.len()],
                a: 1.0,
                b: Some(1.0 + 2.0 * rng.uniform()),
                c: 200.0 * rng.uniform(),
            };
            let mut points = || {
                let point = |i: i32| {
                    let x = 20.0 * 2f64.powi(i);
                    Point {
                        x,
                        y: (0..3).map(|_| planted.at(x) * (0.05 * rng.normal()).exp()).collect(),
                    }
                };
                Points::new(&(0..7).map(point).collect::<Vec<_>>()).unwrap()
            };
            let (first, second) = (points(), points());
            let near = least_squares(&first, planted.term).law;
            let (again, oracle) = (refit(&second, &near), least_squares(&second, planted.term));
            let (_, lack) = second.level(|i| again.at(second.x[i]).ln());
            let spare = second.within / 14.0;
            assert!(
                lack <= oracle.lack + 0.3 * spare,
                "{planted:?}: {lack} against {}",
                oracle.lack
            );
        }
    }
}
