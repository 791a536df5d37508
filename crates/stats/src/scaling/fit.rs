//! Fits all laws, ranks them by AICc, and chooses the one to report.

use std::fmt;

use serde::Serialize;

use super::dispersion::{Dispersion, effective_samples};
use super::exponent::{Exponent, ExponentKind, net, slope};
use super::law::{Law, Term};
use super::minimise::{Fitted, least_squares};
use super::mixed::mixed;
use super::points::{Point, Points};
use crate::error::StatsError;
use crate::interval::Interval;

/// Smallest number of distinct sizes for which a law is reported.
///
/// The largest form has three coefficients, so five sizes leave two degrees of freedom.
pub const SIZES_NEEDED: usize = 5;
/// Smallest number of distinct sizes that [`fit`] accepts.
const SIZES_LEAST: usize = 3;
/// Smallest ratio of the largest size to the smallest for which a law is reported.
///
/// Four doublings. A rule of thumb of this project: over a smaller range, the forms n, n log n and
/// c + a n are hardly distinguishable.
pub const SPAN_NEEDED: f64 = 16.0;

/// Laws whose AICc is within this distance of the best are indistinguishable from it (Burnham and
/// Anderson 2002, section 2.6).
const INDISTINGUISHABLE: f64 = 2.0;
/// The AICc of a growing law must be at least this much below that of the constant before growth is
/// reported.
///
/// From 10 on, the worse model has "essentially no support" (Burnham and Anderson 2002, section
/// 2.6). If the limit were 2, the best of seven growing laws would too often win over a constant
/// that is true.
const GROWTH_GAIN: f64 = 10.0;
/// Growth is also reported if the log-log slope differs from 0 with this confidence. This second
/// criterion is needed because with few samples AICc cannot differ by [`GROWTH_GAIN`]. A rule of
/// thumb of this project: it keeps false growth at 1 % or less in the tests of constants.
const GROWTH_CONFIDENCE: f64 = 0.999;
/// The fitted cost must change by at least this factor over the whole range to count as growth. It
/// is the same 3 % as [`crate::MARGIN_FLOOR`].
const GROWTH_LEAST: f64 = 1.0 + crate::MARGIN_FLOOR;
/// Relative deviation of the size means from the best law, beyond noise, from which no law is
/// reported: 15 %.
///
/// A rule of thumb of this project. Data that just exceed a cache, and machines that drift, shift
/// single sizes by 5 to 10 %; the intervals allow for that. A cost that jumps, or one that is cut
/// off at a smallest value, deviates by more.
const MISFIT_LIMIT: f64 = 0.15;
/// The same limit if no size has repeats: noise and deviation are then indistinguishable.
const MISFIT_LIMIT_WITHOUT_REPEATS: f64 = 0.3;
/// The mean square of the size means about the best law must exceed that of the repeats by this
/// factor to count as deviation. It is the 99 % quantile of F with 2 and 20 degrees of freedom, the
/// fewest that six processes at each of five sizes give.
const MISFIT_F: f64 = 5.85;
/// Smallest half-width of the interval of an exponent.
///
/// Real costs have small further parts that no form has, such as the n in n^2 + n. They shift the
/// exponent by this order without being visible in the fit (`examples/exponents.rs`).
const EXPONENT_RESOLUTION: f64 = 0.02;
/// Confidence of the reported intervals.
const CONFIDENCE: f64 = 0.95;

/// The best fit of one form.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ModelFit {
    /// The law with its coefficients, in the unit of the costs.
    pub law: Law,
    /// Corrected Akaike information criterion with the effective number of samples. Infinite if there
    /// are too few samples for the law.
    pub aicc: f64,
    /// AICc minus that of the best law, at least 0.
    pub delta: f64,
    /// Akaike weight, 0 to 1. The weights of all laws sum to 1.
    pub weight: f64,
}

/// Whether the measured sizes are enough to report a law.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Adequacy {
    /// There are at least [`SIZES_NEEDED`] sizes over a ratio of at least [`SPAN_NEEDED`].
    Adequate,
    /// There are too few sizes.
    TooFewSizes {
        /// Number of distinct sizes given.
        have: usize,
        /// Number of distinct sizes needed.
        need: usize,
    },
    /// The sizes are too close together.
    TooNarrow {
        /// Ratio of the largest size given to the smallest.
        have: f64,
        /// Ratio needed.
        need: f64,
    },
    /// No form describes the costs: they deviate from the best one by much more than noise.
    NoForm {
        /// Relative deviation of the size means from the best law, beyond noise.
        deviation: f64,
    },
}

impl fmt::Display for Adequacy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Adequacy::Adequate => f.write_str("the sizes suffice for a law"),
            Adequacy::TooFewSizes { have, need } => {
                write!(f, "{have} sizes were measured; a law needs {need}")
            }
            Adequacy::TooNarrow { have, need } => {
                write!(f, "sizes span {}x; a law needs {need}x", (have * 10.0).round() / 10.0)
            }
            Adequacy::NoForm { deviation } => {
                write!(f, "no form describes the costs; they deviate from the best by ")?;
                if *deviation < 1.0 {
                    write!(f, "about {:.0} %", deviation * 100.0)
                } else {
                    write!(f, "a factor of about {:.1}", deviation.exp())
                }
            }
        }
    }
}

/// The growth of a cost, with all fitted laws. A cost is modelled as the law times a noise factor.
#[derive(Debug, Clone, Serialize)]
pub struct ScalingFit {
    /// The exponent to report, that of the part that grows: `net` if the fit shows an additive
    /// constant, else `slope`.
    ///
    /// The fit shows a constant if the chosen law grows, and the AICc of the best law with a constant
    /// is more than 2 below that of the best law without. Forms whose constant is held at 0 count as
    /// laws without.
    pub exponent: f64,
    /// 95 % interval of `exponent`.
    ///
    /// If the fit shows no constant, there may still be one that is too small to see, so the interval
    /// covers the intervals of both `slope` and `net`. For a cost that does not grow it is that of
    /// `slope`. `None` if the cost grows, but the data do not bound the exponent on both sides, or if
    /// the growth is neither shown nor excluded.
    pub exponent_interval: Option<Interval>,
    /// Whether `exponent` is `slope` or `net`.
    pub exponent_kind: ExponentKind,
    /// Slope of log cost on log size: the average local exponent over the measured range.
    pub slope: Exponent,
    /// The exponent b of c + a n^b with c at least 0: the growth without a constant overhead. If there
    /// is no constant, it estimates the same as `slope` with less precision. It is meaningless for a
    /// cost that does not grow.
    pub net: Exponent,
    /// All laws, best AICc first.
    pub models: Vec<ModelFit>,
    /// Index into `models` of the law to report.
    ///
    /// It is the best growing law if that law changes the cost by at least 3 % over the range, and
    /// one of two conditions holds: its AICc is at least 10 below that of the constant, or the
    /// log-log slope differs from 0 with 99.9 % confidence. Otherwise it is the constant.
    pub chosen: usize,
    /// Indices into `models` of the laws within 2 AICc of the best, and of the chosen law. If there is
    /// more than one, the data do not distinguish between them.
    pub indistinguishable: Vec<usize>,
    /// Number of distinct sizes.
    pub n_points: usize,
    /// Number of costs over all sizes.
    pub n_samples: usize,
    /// Effective number of independent samples, between `n_points` and `n_samples`.
    pub n_effective: f64,
    /// Ratio of the largest size to the smallest.
    pub range_ratio: f64,
    /// Relative standard deviation of a single cost about the best law.
    pub noise: f64,
    /// Whether the sizes are enough. If not, the other fields are a rough guide and must not be
    /// reported as a law.
    pub adequacy: Adequacy,
    #[serde(skip)]
    pub(super) points: Points,
    #[serde(skip)]
    pub(super) dispersion: Dispersion,
}

impl ScalingFit {
    /// Returns the law to report.
    pub fn chosen_law(&self) -> &Law {
        &self.models[self.chosen].law
    }
}

/// Fits all laws to the measured costs and ranks them by AICc (Akaike 1973; Hurvich and Tsai 1989).
/// Sizes may be in any order. Entries of equal size are merged.
///
/// # Errors
/// Returns an error if there are fewer than three distinct sizes, if a size has no costs, or if a
/// number is not finite or not above zero.
pub fn fit(points: &[Point]) -> Result<ScalingFit, StatsError> {
    fit_rounded(points, 0.0)
}

/// Like [`fit`], for costs that are multiples of `granule`, such as memory in pages. Intervals then
/// allow for the rounding, which repeats do not show.
///
/// # Errors
/// Returns the errors of [`fit`].
pub fn fit_rounded(points: &[Point], granule: f64) -> Result<ScalingFit, StatsError> {
    let points = Points::new(points)?.rounded_to(granule);
    if points.sizes() < SIZES_LEAST {
        return Err(StatsError::TooFew { what: "sizes", have: points.sizes(), need: SIZES_LEAST });
    }
    Ok(conclude(points))
}

/// Fits and ranks all laws and chooses one, for at least three sizes.
fn conclude(points: Points) -> ScalingFit {
    let fits = fit_all(&points);
    let lacks_of_fit = fits.iter().map(|fit| fit.lack_of_fit);
    let least = lacks_of_fit.fold(f64::INFINITY, f64::min);
    let (sizes, samples) = (points.sizes(), points.samples());
    let dispersion = effective_samples(sizes, samples, least, sizes - 3, points.within);
    let models = rank(&points, &fits, dispersion.effective);
    let slope = slope(&points, CONFIDENCE);
    let chosen = choose(&models, &points);
    let flexible = fits.iter().find(|fit| fit.law.term == Term::OffsetPower);
    let flexible = flexible.expect("c + a n^b is allowed at every size");
    let net = net(&points, flexible, &dispersion, CONFIDENCE);
    let grows = models[chosen].law.term != Term::Constant;
    let shown = grows && constant_shown(&points, &fits, dispersion.effective);
    let leading = leading(&points, least).filter(|_| grows);
    let (exponent_kind, exponent) = leading.map_or_else(
        || headline(slope, net, grows, shown),
        |leading| (ExponentKind::Leading, leading),
    );
    let exponent = exponent.at_least(EXPONENT_RESOLUTION);
    ScalingFit {
        exponent: exponent.value,
        exponent_interval: exponent.interval,
        exponent_kind,
        slope,
        net,
        indistinguishable: indistinguishable(&models, chosen),
        models,
        chosen,
        n_points: sizes,
        n_samples: samples as usize,
        n_effective: dispersion.effective,
        range_ratio: points.span(),
        noise: ((points.within + least) / (samples - 3.0).max(1.0)).sqrt(),
        adequacy: adequacy(&points, least),
        points,
        dispersion,
    }
}

/// Fits every form that is defined for these sizes.
fn fit_all(points: &Points) -> Vec<Fitted> {
    let allowed = |term: &Term| term.allows(points.x[0]);
    let terms = Term::ALL.into_iter().filter(allowed);
    terms.map(|term| least_squares(points, term)).collect()
}

/// Fits every form and returns the number of its parameters and its lack-of-fit sum of squares.
pub(crate) fn smooth_fits(points: &Points) -> impl Iterator<Item = (usize, f64)> {
    let fits = fit_all(points).into_iter();
    fits.map(|fit| (fit.law.term.parameters(), fit.lack_of_fit))
}

/// Returns the corrected Akaike information criterion of a Gaussian fit with `k` parameters including
/// the noise (Akaike 1973; Hurvich and Tsai 1989).
///
/// `effective` is the number of independent samples. The result is infinite if it is too small.
pub(crate) fn aicc(points: &Points, effective: f64, lack_of_fit: f64, k: usize) -> f64 {
    let k = k as f64;
    let spare = effective - k - 1.0;
    if spare <= 0.0 {
        return f64::INFINITY;
    }
    let variance = (points.within + lack_of_fit).max(points.floor()) / points.samples();
    effective * variance.ln() + 2.0 * k + 2.0 * k * (k + 1.0) / spare
}

/// Returns the fits with AICc and Akaike weights, best first. The sort is stable, so simpler forms
/// come first at a tie.
fn rank(points: &Points, fits: &[Fitted], effective: f64) -> Vec<ModelFit> {
    let with_aicc = |fit: &Fitted| {
        let aicc = aicc(points, effective, fit.lack_of_fit, fit.law.term.parameters());
        ModelFit { law: fit.law, aicc, delta: 0.0, weight: 0.0 }
    };
    let mut models: Vec<ModelFit> = fits.iter().map(with_aicc).collect();
    models.sort_by(|a, b| a.aicc.total_cmp(&b.aicc));
    let best = models[0].aicc;
    for model in &mut models {
        // If there are too few samples for any law, all are equal.
        model.delta = if best.is_finite() { model.aicc - best } else { 0.0 };
        model.weight = (-model.delta / 2.0).exp();
    }
    let total: f64 = models.iter().map(|model| model.weight).sum();
    models.iter_mut().for_each(|model| model.weight /= total);
    models
}

/// Returns the index of the law to report: see [`ScalingFit::chosen`].
fn choose(models: &[ModelFit], points: &Points) -> usize {
    let best = |constant: bool| {
        let index = models.iter().position(|model| (model.law.term == Term::Constant) == constant);
        index.expect("the constant and a n^b are allowed at every size")
    };
    let (constant, growing) = (best(true), best(false));
    let law = models[growing].law;
    let change = (law.at(points.largest()) / law.at(points.x[0])).ln().abs();
    let gain = models[constant].aicc - models[growing].aicc;
    let significant =
        slope(points, GROWTH_CONFIDENCE).interval.is_some_and(|slope| !slope.contains(0.0));
    let grows = change >= GROWTH_LEAST.ln() && (gain >= GROWTH_GAIN || significant);
    if grows { growing } else { constant }
}

/// Returns the indices of the laws that are indistinguishable from the best, and of the chosen law.
fn indistinguishable(models: &[ModelFit], chosen: usize) -> Vec<usize> {
    (0..models.len()).filter(|&i| models[i].delta <= INDISTINGUISHABLE || i == chosen).collect()
}

/// Returns whether the best law with a constant is significantly better than the best law without:
/// see [`ScalingFit::exponent`].
fn constant_shown(points: &Points, fits: &[Fitted], effective: f64) -> bool {
    let criterion = |lack_of_fit: f64, k: usize| aicc(points, effective, lack_of_fit, k);
    let (mut with, mut without) = (f64::INFINITY, f64::INFINITY);
    for fit in fits {
        let k = fit.law.term.parameters();
        if fit.law.term.has_offset() {
            with = with.min(criterion(fit.lack_of_fit, k));
        } else {
            without = without.min(criterion(fit.lack_of_fit, k));
        }
        if let (Some(bare), true) =
            (fit.lack_of_fit_without_constant, fit.law.term != Term::OffsetPower)
        {
            without = without.min(criterion(bare, k - 1));
        }
    }
    with < without - INDISTINGUISHABLE
}

/// Returns the exponent of the part that grows: see [`ScalingFit::exponent`].
fn headline(
    slope: Exponent,
    net: Exponent,
    grows: bool,
    constant_shown: bool,
) -> (ExponentKind, Exponent) {
    if !grows {
        let slope = slope.at_least(EXPONENT_RESOLUTION);
        let interval = slope.interval.filter(|slope| slope.contains(0.0));
        return (ExponentKind::LogLogSlope, Exponent { interval, ..slope });
    }
    if constant_shown {
        return (ExponentKind::NetOfConstant, net);
    }
    let both = slope.interval.zip(net.interval);
    let interval = both.map(|(slope, net)| Interval {
        lo: slope.lo.min(net.lo),
        hi: slope.hi.max(net.hi),
        ..slope
    });
    (ExponentKind::LogLogSlope, Exponent { interval, ..slope })
}

/// Returns the leading exponent of a cost with two growing parts, if the data show that there are
/// two: the best form, with the sum of squares `lack_of_fit`, is significantly worse.
fn leading(points: &Points, lack_of_fit: f64) -> Option<Exponent> {
    let mixed = mixed(points, CONFIDENCE)?;
    let form = (points.within + lack_of_fit).max(points.floor());
    (form > mixed.indistinguishable).then_some(mixed.exponent)
}

/// Returns whether the sizes are enough, and whether the best law, with the sum of squares
/// `lack_of_fit`, describes the costs.
fn adequacy(points: &Points, lack_of_fit: f64) -> Adequacy {
    let (sizes, span) = (points.sizes(), points.span());
    if sizes < SIZES_NEEDED {
        return Adequacy::TooFewSizes { have: sizes, need: SIZES_NEEDED };
    }
    if span < SPAN_NEEDED * (1.0 - 1e-9) {
        return Adequacy::TooNarrow { have: span, need: SPAN_NEEDED };
    }
    let deviation = misfit(points, lack_of_fit);
    deviation.map_or(Adequacy::Adequate, |deviation| Adequacy::NoForm { deviation })
}

/// Returns the relative deviation of the size means from the best law, with the sum of squares
/// `lack_of_fit`, if it is beyond noise and beyond the limit.
fn misfit(points: &Points, lack_of_fit: f64) -> Option<f64> {
    let (sizes, samples) = (points.sizes() as f64, points.samples());
    let mean_square = lack_of_fit / (sizes - 3.0).max(1.0);
    let spare_repeats = samples - sizes;
    if spare_repeats <= 0.0 {
        return Some(mean_square.sqrt()).filter(|&it| it > MISFIT_LIMIT_WITHOUT_REPEATS);
    }
    let pure = points.within / spare_repeats;
    let deviation = ((mean_square - pure).max(0.0) / (samples / sizes)).sqrt();
    (mean_square > MISFIT_F * pure && deviation > MISFIT_LIMIT).then_some(deviation)
}
