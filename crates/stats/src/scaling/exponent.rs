//! The exponent of growth, with and without a constant overhead, each with its interval.

use serde::Serialize;

use super::dispersion::Dispersion;
use super::minimise::{EXPONENT_BOUNDS, Fitted, at_exponent, log_log_slope};
use super::points::Points;
use crate::dist::t_quantile;
use crate::interval::Interval;

/// Which of the two exponents a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExponentKind {
    /// The slope of log cost on log size over the range measured: the average local power,
    /// overheads included.
    LogLogSlope,
    /// The b of c + a n^b: the power of what grows, a constant overhead taken out.
    NetOfConstant,
}

/// An exponent and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Exponent {
    /// The estimate.
    pub value: f64,
    /// Its 95 % interval; absent where the data cannot bound it on both sides.
    pub interval: Option<Interval>,
}

/// The log-log slope with Student's t interval over the size means: sizes less two degrees of
/// freedom.
///
/// The size is the unit, not the run: an effect that all repeats at a size share, and the curvature
/// of a law that is no pure power, both widen the interval as they should, however many repeats
/// there are. At five sizes this costs a factor of 3.18 against 2.07.
pub(super) fn slope(points: &Points, confidence: f64) -> Exponent {
    let (value, squares) = log_log_slope(points);
    let spare = points.sizes() as f64 - 2.0;
    let (_, lack) = points.level(|i| value * points.x[i].ln());
    let interval = (spare > 0.0).then(|| {
        let reach = t_quantile((1.0 + confidence) / 2.0, spare) * (lack / spare / squares).sqrt();
        Interval { lo: value - reach, hi: value + reach, confidence }
    });
    Exponent { value, interval }
}

/// The exponent of `best`, the fit of c + a n^b, with its profile-likelihood interval: every
/// exponent that, with c and a at their best for it, raises the squares by no more than F allows on
/// one and the noise's degrees of freedom (Bates and Watts 1988, section 6.1), samples counted by
/// what they are worth. `noise_floor` is the sum of squares that is granted to any fit.
pub(super) fn net(
    points: &Points,
    best: &Fitted,
    dispersion: &Dispersion,
    noise_floor: f64,
    confidence: f64,
) -> Exponent {
    let value = best.law.b.expect("the law with a free exponent has one");
    let spare = dispersion.effective - 3.0;
    let interval = (spare > 0.0).then(|| {
        let t = t_quantile((1.0 + confidence) / 2.0, dispersion.freedom(3));
        let allowed = (points.within + best.lack).max(noise_floor) * (1.0 + t * t / spare);
        let (sign, size) = (value.signum(), value.abs());
        let fits = |b: f64| points.within + at_exponent(points, sign * b).lack <= allowed;
        let near = crossing(&fits, size, EXPONENT_BOUNDS.0)?;
        let far = crossing(&fits, size, EXPONENT_BOUNDS.1)?;
        let (lo, hi) = if sign > 0.0 { (near, far) } else { (-far, -near) };
        Some(Interval { lo, hi, confidence })
    });
    Exponent { value, interval: interval.flatten() }
}

/// Where `fits` turns false on the way from `inside` to `bound`, to 0.0005; none if it still holds
/// at the bound.
fn crossing(fits: &impl Fn(f64) -> bool, mut inside: f64, bound: f64) -> Option<f64> {
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
