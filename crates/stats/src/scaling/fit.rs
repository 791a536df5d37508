//! All laws fitted, ranked by AICc, and one chosen, or several left standing.

use std::fmt;

use serde::Serialize;

use super::dispersion::{Dispersion, effective_samples};
use super::exponent::{Exponent, ExponentKind, net, slope};
use super::law::{Law, Term};
use super::minimise::{Fitted, least_squares};
use super::points::{Point, Points};
use crate::error::StatsError;
use crate::interval::Interval;

/// The fewest sizes that a law may be read from.
pub const SIZES_NEEDED: usize = 5;
/// The least ratio of the largest size to the smallest that a law may be read from.
pub const SPAN_NEEDED: f64 = 16.0;

/// Laws within this much AICc of the best cannot be told apart (Burnham and Anderson 2002, section
/// 2.6).
const INDISTINGUISHABLE: f64 = 2.0;
/// AICc that a growing law must gain on the constant before growth is claimed: from 10 on the loser
/// has "essentially no support" (Burnham and Anderson 2002), while by 2 the best of seven laws
/// beats a true constant too often.
const GROWTH_GAIN: f64 = 10.0;
/// Or the confidence at which the log-log slope must differ from 0: with few samples AICc cannot
/// gain so much.
const GROWTH_CONFIDENCE: f64 = 0.999;
/// A change of the fitted cost over the whole range below this factor is no growth, however surely
/// measured.
const GROWTH_LEAST: f64 = 1.03;
/// Relative scatter that no law is asked to explain; keeps exact counts from deciding on rounding.
const RESOLUTION: f64 = 1e-3;
/// Confidence of the intervals reported.
const CONFIDENCE: f64 = 0.95;

/// One law at its best.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ModelFit {
    /// The law with its numbers, in the unit of the costs.
    pub law: Law,
    /// Corrected Akaike criterion on the effective number of samples; infinite where they are too
    /// few for the law.
    pub aicc: f64,
    /// AICc above the best law's, at least 0.
    pub delta: f64,
    /// Akaike weight, 0 to 1; they sum to 1 over all laws.
    pub weight: f64,
}

/// Whether the sizes suffice for reading a law.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Adequacy {
    /// At least [`SIZES_NEEDED`] sizes over at least [`SPAN_NEEDED`].
    Adequate,
    /// Too few sizes.
    TooFewSizes {
        /// Sizes given.
        have: usize,
        /// Sizes needed.
        need: usize,
    },
    /// Sizes too close together.
    TooNarrow {
        /// Largest over smallest size given.
        have: f64,
        /// Ratio needed.
        need: f64,
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
        }
    }
}

/// What the measurements say about growth. The costs are modelled as law times noise.
#[derive(Debug, Clone, Serialize)]
pub struct ScalingFit {
    /// The headline exponent: `net` where an additive constant is shown, else `slope`.
    ///
    /// A constant is shown if the cost is taken to grow, the best law with a constant beats the
    /// best without (every form with its constant held at 0) by more than 2 AICc, and the data
    /// bound `net` on both sides. `exponent_kind` says which it is.
    pub exponent: f64,
    /// 95 % interval of the headline exponent; absent below three sizes.
    pub exponent_interval: Option<Interval>,
    /// Which of the two the headline is.
    pub exponent_kind: ExponentKind,
    /// Slope of log cost on log size: the average local power over the range measured.
    pub slope: Exponent,
    /// The exponent b of c + a n^b with c at least 0: the power that is left once a constant
    /// overhead is taken out. Without a constant it estimates the same as `slope`, less surely; for
    /// a cost that does not grow it means nothing.
    pub net: Exponent,
    /// Every law, best AICc first.
    pub models: Vec<ModelFit>,
    /// Index into `models` of the law to report: the best that grows if it gains 10 AICc on the
    /// constant or the log-log slope differs from 0 at 99.9 %, and it changes the cost by 3 % over
    /// the range; else the constant.
    pub chosen: usize,
    /// Indices into `models` of the laws within 2 AICc of the best, and of the chosen one: if these
    /// are several, the data cannot tell them apart.
    pub indistinguishable: Vec<usize>,
    /// Distinct sizes.
    pub n_points: usize,
    /// Costs over all sizes.
    pub n_samples: usize,
    /// Independent samples that the repeats are worth, from `n_points` to `n_samples`.
    pub n_effective: f64,
    /// Largest size over smallest.
    pub range_ratio: f64,
    /// Relative standard deviation of a single cost about the best law.
    pub noise: f64,
    /// Whether the sizes suffice. If not, the rest is for orientation and must not be reported as a
    /// law.
    pub adequacy: Adequacy,
    #[serde(skip)]
    pub(super) points: Points,
    #[serde(skip)]
    pub(super) dispersion: Dispersion,
}

impl ScalingFit {
    /// The law to report.
    pub fn chosen_law(&self) -> &Law {
        &self.models[self.chosen].law
    }

    /// Whether more than one form is left standing.
    pub fn is_ambiguous(&self) -> bool {
        self.indistinguishable.len() > 1
    }
}

/// Fits every law to the costs measured. Sizes may come in any order; equal ones are joined.
///
/// # Errors
/// Fewer than three distinct sizes, a size without costs, or a number that is not finite and above
/// zero.
pub fn fit(points: &[Point]) -> Result<ScalingFit, StatsError> {
    let points = Points::new(points)?;
    if points.sizes() < 3 {
        return Err(StatsError::TooFew { what: "sizes", have: points.sizes(), need: 3 });
    }
    Ok(conclude(points))
}

/// Fits, ranks and chooses on points of at least three sizes.
fn conclude(points: Points) -> ScalingFit {
    let fits = fit_all(&points);
    let lacks = fits.iter().map(|fit| fit.lack);
    let least = lacks.fold(f64::INFINITY, f64::min);
    let (sizes, samples) = (points.sizes(), points.samples());
    let dispersion = effective_samples(sizes, samples, least, sizes - 3, points.within);
    let models = rank(&points, &fits, dispersion.effective);
    let slope = slope(&points, CONFIDENCE);
    let chosen = choose(&models, &points);
    let flexible = fits.iter().find(|fit| fit.law.term == Term::OffsetPower);
    let flexible = flexible.expect("c + a n^b is allowed at every size");
    let net = net(&points, flexible, &dispersion, floor(samples), CONFIDENCE);
    let grows = models[chosen].law.term != Term::Constant;
    let shown = grows && constant_shown(&points, &fits, dispersion.effective);
    let (exponent_kind, exponent) = if shown && net.interval.is_some() {
        (ExponentKind::NetOfConstant, net)
    } else {
        (ExponentKind::LogLogSlope, slope)
    };
    ScalingFit {
        exponent: exponent.value,
        exponent_interval: exponent.interval,
        exponent_kind,
        slope,
        net,
        indistinguishable: standing(&models, chosen),
        models,
        chosen,
        n_points: sizes,
        n_samples: samples as usize,
        n_effective: dispersion.effective,
        range_ratio: points.span(),
        noise: ((points.within + least) / (samples - 3.0).max(1.0)).sqrt(),
        adequacy: adequacy(sizes, points.span()),
        points,
        dispersion,
    }
}

/// Every law that the sizes allow, at its best.
fn fit_all(points: &Points) -> Vec<Fitted> {
    let allowed = |term: &Term| term.allows(points.x[0]);
    let terms = Term::ALL.into_iter().filter(allowed);
    terms.map(|term| least_squares(points, term)).collect()
}

/// For every scaling law at its best: the number of its parameters and the weighted squares of the
/// size means about it.
pub(crate) fn smooth_fits(points: &Points) -> impl Iterator<Item = (usize, f64)> {
    let fits = fit_all(points).into_iter();
    fits.map(|fit| (fit.law.term.parameters(), fit.lack))
}

/// Corrected Akaike criterion of a Gaussian fit with `k` parameters, the noise's included (Hurvich
/// and Tsai 1989). `effective` samples carry the information of `samples`, whose squares sum to
/// `squares`.
pub(crate) fn aicc(effective: f64, samples: f64, squares: f64, k: usize) -> f64 {
    let k = k as f64;
    let spare = effective - k - 1.0;
    if spare <= 0.0 {
        return f64::INFINITY;
    }
    let variance = squares.max(floor(samples)) / samples;
    effective * variance.ln() + 2.0 * k + 2.0 * k * (k + 1.0) / spare
}

/// The sum of squares granted to any fit of `samples`.
fn floor(samples: f64) -> f64 {
    samples * RESOLUTION * RESOLUTION
}

/// The fits with their criteria, best first; the stable sort keeps simpler forms ahead at a tie.
fn rank(points: &Points, fits: &[Fitted], effective: f64) -> Vec<ModelFit> {
    let judge = |fit: &Fitted| {
        let squares = points.within + fit.lack;
        let aicc = aicc(effective, points.samples(), squares, fit.law.term.parameters());
        ModelFit { law: fit.law, aicc, delta: 0.0, weight: 0.0 }
    };
    let mut models: Vec<ModelFit> = fits.iter().map(judge).collect();
    models.sort_by(|a, b| a.aicc.total_cmp(&b.aicc));
    let best = models[0].aicc;
    for model in &mut models {
        // Where the samples are too few for any law, none is better than another.
        model.delta = if best.is_finite() { model.aicc - best } else { 0.0 };
        model.weight = (-model.delta / 2.0).exp();
    }
    let total: f64 = models.iter().map(|model| model.weight).sum();
    models.iter_mut().for_each(|model| model.weight /= total);
    models
}

/// The index of the law to report.
fn choose(models: &[ModelFit], points: &Points) -> usize {
    let at = |constant: bool| {
        let found = models.iter().position(|model| (model.law.term == Term::Constant) == constant);
        found.expect("the constant and a n^b are allowed at every size")
    };
    let (constant, growing) = (at(true), at(false));
    let law = models[growing].law;
    let change = (law.at(points.largest()) / law.at(points.x[0])).ln().abs();
    let gain = models[constant].aicc - models[growing].aicc;
    let surely =
        slope(points, GROWTH_CONFIDENCE).interval.is_some_and(|slope| !slope.contains(0.0));
    if change >= GROWTH_LEAST.ln() && (gain >= GROWTH_GAIN || surely) { growing } else { constant }
}

/// The indices of the laws that cannot be told from the best, and of the chosen one.
fn standing(models: &[ModelFit], chosen: usize) -> Vec<usize> {
    (0..models.len()).filter(|&i| models[i].delta <= INDISTINGUISHABLE || i == chosen).collect()
}

/// Whether a constant beside what grows is needed, whatever the form of the growth: see
/// [`ScalingFit::exponent`].
fn constant_shown(points: &Points, fits: &[Fitted], effective: f64) -> bool {
    let criterion =
        |lack: f64, k: usize| aicc(effective, points.samples(), points.within + lack, k);
    let (mut with, mut without) = (f64::INFINITY, f64::INFINITY);
    for fit in fits {
        let k = fit.law.term.parameters();
        if fit.law.term.has_offset() {
            with = with.min(criterion(fit.lack, k));
        } else {
            without = without.min(criterion(fit.lack, k));
        }
        if let (Some(bare), true) = (fit.bare_lack, fit.law.term != Term::OffsetPower) {
            without = without.min(criterion(bare, k - 1));
        }
    }
    with < without - INDISTINGUISHABLE
}

/// Whether so many sizes over such a span suffice.
fn adequacy(sizes: usize, span: f64) -> Adequacy {
    if sizes < SIZES_NEEDED {
        Adequacy::TooFewSizes { have: sizes, need: SIZES_NEEDED }
    } else if span < SPAN_NEEDED * (1.0 - 1e-9) {
        Adequacy::TooNarrow { have: span, need: SPAN_NEEDED }
    } else {
        Adequacy::Adequate
    }
}
