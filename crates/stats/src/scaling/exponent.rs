//! Exponents of growth with their intervals: the log-log slope, and the exponent net of a constant.

use serde::Serialize;

use super::dispersion::Dispersion;
use super::minimise::{EXPONENT_BOUNDS, Fitted, at_exponent, log_log_slope};
use super::points::Points;
use crate::dist::t_quantile;
use crate::interval::Interval;

/// The kind of an exponent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExponentKind {
    /// The slope of log cost on log size over the measured range: the average local exponent,
    /// including constant overheads.
    LogLogSlope,
    /// The b of c + a n^b: the exponent of the growing part, without the constant overhead.
    NetOfConstant,
    /// The b of c + d n + a n^b: the exponent of the part that grows fastest.
    Leading,
}

/// An exponent with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Exponent {
    /// The estimate.
    pub value: f64,
    /// 95 % interval. `None` if the data do not bound the exponent on both sides.
    pub interval: Option<Interval>,
}

impl Exponent {
    /// Returns the exponent with an interval that reaches at least `half_width` to each side.
    pub(super) fn at_least(self, half_width: f64) -> Exponent {
        let interval = self.interval.map(|interval| Interval {
            lo: interval.lo.min(self.value - half_width),
            hi: interval.hi.max(self.value + half_width),
            ..interval
        });
        Exponent { interval, ..self }
    }
}

/// Returns the log-log slope, by linear regression, with Student's t interval over the size means.
/// The degrees of freedom are the number of sizes minus two.
///
/// The unit is the size, not the run. Two things thus widen the interval, however many repeats
/// there are: an effect shared by all repeats at a size, and the curvature of a law that is not a
/// pure power. The price at five sizes with five repeats is a t quantile of 3.18 instead of 2.07.
pub(super) fn slope(points: &Points, confidence: f64) -> Exponent {
    let (value, squares) = log_log_slope(points);
    let spare = points.sizes() as f64 - 2.0;
    let (_, lack_of_fit) = points.level(|i| value * points.x[i].ln());
    let lack_of_fit = lack_of_fit.max(points.floor());
    let interval = (spare > 0.0).then(|| {
        let reach =
            t_quantile((1.0 + confidence) / 2.0, spare) * (lack_of_fit / spare / squares).sqrt();
        Interval { lo: value - reach, hi: value + reach, confidence }
    });
    Exponent { value, interval }
}

/// Returns the exponent of `best`, the fit of c + a n^b, with its profile-likelihood interval (Bates
/// and Watts 1988, section 6.1).
///
/// For each exponent, c and a are fitted. The interval contains every exponent whose sum of squares
/// is larger than the smallest by no more than the F distribution allows. F has one degree of
/// freedom in the numerator and those of the noise in the denominator, based on the effective
/// number of samples.
pub(super) fn net(
    points: &Points,
    best: &Fitted,
    dispersion: &Dispersion,
    confidence: f64,
) -> Exponent {
    let value = best.law.b.expect("the law with a free exponent has one");
    let spare = dispersion.effective - 3.0;
    let interval = (spare > 0.0).then(|| {
        let t = t_quantile((1.0 + confidence) / 2.0, dispersion.freedom(3));
        let allowed =
            (points.within + best.lack_of_fit).max(points.floor()) * (1.0 + t * t / spare);
        let (sign, size) = (value.signum(), value.abs());
        let fits = |b: f64| points.within + at_exponent(points, sign * b).lack_of_fit <= allowed;
        let near = crossing(&fits, size, EXPONENT_BOUNDS.0)?;
        let far = crossing(&fits, size, EXPONENT_BOUNDS.1)?;
        let (lo, hi) = if sign > 0.0 { (near, far) } else { (-far, -near) };
        Some(Interval { lo, hi, confidence })
    });
    Exponent { value, interval: interval.flatten() }
}

/// Returns the exponent between `inside` and `bound` from which `fits` is false, by bisection to
/// 0.0005. `None` if `fits` still holds at the bound.
pub(super) fn crossing(fits: &impl Fn(f64) -> bool, mut inside: f64, bound: f64) -> Option<f64> {
    let mut outside = bound;
    if fits(outside) {
        return None;
    }
    while (outside - inside).abs() > 5e-4 {
        let middle = (inside + outside) / 2.0;
        if fits(middle) { inside = middle } else { outside = middle }
    }
    Some(outside)
}
