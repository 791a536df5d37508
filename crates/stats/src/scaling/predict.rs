//! Predictions for sizes that were not measured, with intervals, or a typed refusal.

use serde::Serialize;
use thiserror::Error;

use super::fit::{Adequacy, ScalingFit};
use super::law::Law;
use super::refit::refit;
use crate::interval::Interval;
use crate::rng::SplitMix64;

/// How far beyond the largest measured size a law may be extrapolated, as a factor. The same factor
/// applies below the smallest size.
///
/// A rule of thumb of this project. `examples/coverage.rs` measures the coverage of predictions at
/// this limit.
pub const EXTRAPOLATION_LIMIT: f64 = 4.0;
/// If the predictions of indistinguishable laws differ by this factor or more, no prediction is
/// made. A rule of thumb of this project.
const DISAGREEMENT_LIMIT: f64 = 1.5;
/// Number of bootstrap resamples. One less than a multiple of 40, so that the 2.5 % and 97.5 %
/// percentiles are order statistics (Davison and Hinkley 1997, section 2.4).
const RESAMPLES: usize = 999;
/// Confidence of the intervals.
const CONFIDENCE: f64 = 0.95;

/// A predicted cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Prediction {
    /// The size that the prediction is for.
    pub x: f64,
    /// The expected cost in the unit of the fitted costs: the median over the bootstrap resamples,
    /// in which laws occur in proportion to their Akaike weights.
    pub value: f64,
    /// 95 % prediction interval of the geometric mean of the requested number of runs.
    pub interval: Interval,
    /// Ratio of the largest to the smallest prediction of the indistinguishable laws, at least 1.
    pub disagreement: f64,
}

/// The size at which a cost reaches a limit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Capacity {
    /// The largest size whose expected cost stays within the limit: the median over the bootstrap
    /// resamples, in which laws occur in proportion to their Akaike weights.
    pub x: f64,
    /// 95 % interval of that size.
    pub interval: Interval,
    /// Whether the upper end of the interval is four times the largest measured size, the limit of
    /// extrapolation. If so, the true end may be larger.
    pub open_above: bool,
}

/// The reason why no prediction is made.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Error)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Refusal {
    /// The measured sizes do not support a law.
    #[error("{adequacy}")]
    Inadequate {
        /// The missing condition.
        adequacy: Adequacy,
    },
    /// The size is too far from the measured ones.
    #[error("{} is outside {} to {}, the range that the measured sizes can predict", short(*.x), short(*.lowest), short(*.highest))]
    TooFar {
        /// The size asked for.
        x: f64,
        /// The smallest size that can be predicted.
        lowest: f64,
        /// The largest size that can be predicted.
        highest: f64,
    },
    /// Laws that the data do not distinguish predict different costs.
    #[error("laws that fit the data equally well differ by a factor of {} at {}", short(*.ratio), short(*.x))]
    LawsDisagree {
        /// The size asked for, or the size at which the cost would reach its limit.
        x: f64,
        /// Ratio of the largest to the smallest prediction.
        ratio: f64,
    },
    /// The cost stays within the limit at all sizes that can be predicted.
    #[error("the limit is not reached up to {}", short(*.highest))]
    LimitNotReached {
        /// The largest size that can be predicted.
        highest: f64,
    },
    /// The cost exceeds the limit at all sizes that can be predicted.
    #[error("the limit is exceeded from {} on", short(*.lowest))]
    LimitAlreadyExceeded {
        /// The smallest size that can be predicted.
        lowest: f64,
    },
}

/// Returns a number with three significant digits, or all digits before the point if there are more.
fn short(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let decimals = (2 - value.abs().log10().floor() as i32).max(0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

impl ScalingFit {
    /// Predicts the geometric mean cost of `runs` (at least 1) new runs at size `x`.
    ///
    /// The interval is from a model-averaged parametric bootstrap (Buckland, Burnham and Augustin
    /// 1997; Efron and Tibshirani 1993, chapter 6) with 999 resamples. Each resample does the
    /// following:
    ///
    /// 1. choose a law at random by its Akaike weight,
    /// 2. sample the variance of the noise from its own uncertainty,
    /// 3. generate new size means from law and noise, and refit the law to them,
    /// 4. add the noise of the predicted runs.
    ///
    /// The interval thus includes the uncertainty about the law, its coefficients and the noise. It
    /// does not include the possibility of a cliff beyond the measured sizes. The computation takes a
    /// few milliseconds.
    ///
    /// # Errors
    /// Returns a refusal if the sizes do not support a law, if `x` is above 4 times the largest size or
    /// below a quarter of the smallest, or if the predictions of indistinguishable laws differ by a
    /// factor of 1.5 or more.
    pub fn predict(&self, x: f64, runs: usize, seed: u64) -> Result<Prediction, Refusal> {
        self.require_adequate()?;
        let (lowest, highest) = self.reach();
        if !(lowest..=highest).contains(&x) {
            return Err(Refusal::TooFar { x, lowest, highest });
        }
        let disagreement = self.require_agreement(x)?;
        let (mut expected, mut observed): (Vec<f64>, Vec<f64>) = self
            .resamples(seed)
            .iter()
            .map(|resample| (resample.law.at(x), resample.observe(x, runs.max(1) as f64)))
            .unzip();
        Ok(Prediction {
            x,
            value: median_and_interval(&mut expected).0,
            interval: median_and_interval(&mut observed).1,
            disagreement,
        })
    }

    /// Returns the size at which the expected cost reaches `limit`, by the same bootstrap as
    /// [`Self::predict`] without the noise of new runs.
    ///
    /// # Errors
    /// Returns the refusals of [`Self::predict`], or a refusal if the cost stays below the limit or
    /// above it at all sizes that can be predicted. A cost that falls with size always gives a
    /// refusal.
    pub fn capacity(&self, limit: f64, seed: u64) -> Result<Capacity, Refusal> {
        self.require_adequate()?;
        let (lowest, highest) = self.reach();
        let mut sizes: Vec<f64> = self
            .resamples(seed)
            .iter()
            .map(|resample| size_at(&resample.law, limit, lowest, highest))
            .collect();
        let (x, interval) = median_and_interval(&mut sizes);
        if x >= highest {
            return Err(Refusal::LimitNotReached { highest });
        }
        if x <= lowest {
            return Err(Refusal::LimitAlreadyExceeded { lowest });
        }
        self.require_agreement(x)?;
        Ok(Capacity { x, interval, open_above: interval.hi >= highest })
    }

    /// Returns the smallest and largest size that can be predicted.
    pub fn reach(&self) -> (f64, f64) {
        (self.points.x[0] / EXTRAPOLATION_LIMIT, self.points.largest() * EXTRAPOLATION_LIMIT)
    }

    fn require_adequate(&self) -> Result<(), Refusal> {
        match self.adequacy {
            Adequacy::Adequate => Ok(()),
            adequacy => Err(Refusal::Inadequate { adequacy }),
        }
    }

    /// Returns the ratio of the largest to the smallest prediction at `x` of the indistinguishable
    /// laws, or a refusal if it reaches [`DISAGREEMENT_LIMIT`].
    fn require_agreement(&self, x: f64) -> Result<f64, Refusal> {
        let costs = self.indistinguishable.iter().map(|&i| self.models[i].law.at(x));
        let (least, most) =
            costs.fold((f64::INFINITY, 0.0f64), |(lo, hi), cost| (lo.min(cost), hi.max(cost)));
        let ratio = most / least;
        // A law that is undefined at x gives NaN, for which this comparison is false.
        if ratio < DISAGREEMENT_LIMIT { Ok(ratio) } else { Err(Refusal::LawsDisagree { x, ratio }) }
    }

    /// Returns [`RESAMPLES`] bootstrap resamples.
    fn resamples(&self, seed: u64) -> Vec<Resample> {
        let mut rng = SplitMix64::new(seed);
        (0..RESAMPLES).map(|_| self.resample(&mut rng)).collect()
    }

    /// Chooses a law, generates data from it, and refits the law to them.
    fn resample(&self, rng: &mut SplitMix64) -> Resample {
        let (law, variance) = self.choose_law(rng);
        let shared = variance * self.dispersion.shared;
        let own = variance - shared;
        let mut points = self.points.clone();
        for i in 0..points.sizes() {
            let noise = (shared + own / points.count[i]).sqrt() * rng.normal();
            points.mean[i] = law.at(points.x[i]).ln() + noise;
        }
        let law = refit(&points, &law);
        Resample { law, shared, own, noise: rng.normal() }
    }

    /// Chooses a law at random by its Akaike weight, and samples the variance of its noise from the
    /// scaled inverse chi-square distribution that follows from its sum of squares.
    fn choose_law(&self, rng: &mut SplitMix64) -> (Law, f64) {
        let mut remaining = rng.uniform();
        let chosen = self.models.iter().find(|model| {
            remaining -= model.weight;
            remaining < 0.0
        });
        let law = chosen.unwrap_or(&self.models[0]).law;
        let parameters = law.term.parameters() - 1;
        let (_, lack_of_fit) = self.points.level(|i| law.at(self.points.x[i]).ln());
        let spare = self.dispersion.freedom(parameters).floor().max(1.0);
        let squares = (self.points.within + lack_of_fit) * spare
            / (self.points.samples() - parameters as f64).max(1.0);
        (law, squares / rng.chi_square(spare as usize))
    }
}

/// A refitted law with its noise.
struct Resample {
    law: Law,
    /// Variance of the logarithm that all runs at one size share.
    shared: f64,
    /// Additional variance of the logarithm of a single run.
    own: f64,
    /// A standard normal number for the predicted runs.
    noise: f64,
}

impl Resample {
    /// Returns the geometric mean of `runs` runs at `x`.
    fn observe(&self, x: f64, runs: f64) -> f64 {
        self.law.at(x) * ((self.shared + self.own / runs).sqrt() * self.noise).exp()
    }
}

/// Returns the size between `lowest` and `highest` at which `law` reaches `limit`, by bisection in
/// logarithms. If the law is below the limit everywhere it returns `highest`, if above it returns
/// `lowest`.
fn size_at(law: &Law, limit: f64, lowest: f64, highest: f64) -> f64 {
    let (mut within, mut beyond) = (lowest.ln(), highest.ln());
    if law.at(highest) <= limit {
        return highest;
    }
    if law.at(lowest) > limit {
        return lowest;
    }
    for _ in 0..40 {
        let middle = (within + beyond) / 2.0;
        if law.at(middle.exp()) <= limit { within = middle } else { beyond = middle }
    }
    within.exp()
}

/// Sorts `values` and returns their median and the percentile interval.
fn median_and_interval(values: &mut [f64]) -> (f64, Interval) {
    values.sort_by(f64::total_cmp);
    let at = |p: f64| values[(p * (values.len() - 1) as f64).round() as usize];
    let tail = (1.0 - CONFIDENCE) / 2.0;
    (at(0.5), Interval { lo: at(tail), hi: at(1.0 - tail), confidence: CONFIDENCE })
}
