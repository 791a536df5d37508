//! Beyond the sizes measured: predictions with intervals, and typed refusals.

use serde::Serialize;
use thiserror::Error;

use super::fit::{Adequacy, ScalingFit};
use super::law::Law;
use super::refit::refit;
use crate::interval::Interval;
use crate::rng::SplitMix64;

/// How far beyond the largest size measured a law is trusted, as a factor; the same below the
/// smallest.
pub const EXTRAPOLATION_LIMIT: f64 = 4.0;
/// Laws left standing may differ by this factor in what they predict.
const DISAGREEMENT_LIMIT: f64 = 1.5;
/// Refits behind an interval.
const DRAWS: usize = 999;
const CONFIDENCE: f64 = 0.95;

/// A cost foretold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Prediction {
    /// The size asked about.
    pub x: f64,
    /// The cost expected: the median over laws, by their weight, in the unit of the costs fitted.
    pub value: f64,
    /// 95 % prediction interval of the geometric mean of the runs asked about.
    pub interval: Interval,
    /// Largest over smallest prediction of the laws that cannot be told apart, at least 1.
    pub disagreement: f64,
}

/// The size at which a cost reaches a limit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Capacity {
    /// The largest size whose expected cost stays within the limit: the median over laws, by their
    /// weight.
    pub x: f64,
    /// 95 % interval of that size.
    pub interval: Interval,
    /// Whether the upper end was cut at four times the largest size measured: read it as "at
    /// least".
    pub open_above: bool,
}

/// Why nothing is foretold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Error)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Refusal {
    /// The sizes measured do not support a law.
    #[error("{adequacy}")]
    Inadequate {
        /// What they lack.
        adequacy: Adequacy,
    },
    /// The size asked about lies too far from those measured.
    #[error("{x} lies outside {lowest} to {highest}, as far as the sizes measured reach")]
    TooFar {
        /// The size asked about.
        x: f64,
        /// The smallest size that can be foretold.
        lowest: f64,
        /// The largest size that can be foretold.
        highest: f64,
    },
    /// Laws that the data cannot tell apart foretell different costs.
    #[error("laws that cannot be told apart differ by a factor of {ratio:.2} at {x}")]
    LawsDisagree {
        /// The size asked about, or where the cost would reach its limit.
        x: f64,
        /// Largest over smallest prediction.
        ratio: f64,
    },
    /// The cost stays within the limit as far as can be foretold.
    #[error("the limit is not reached up to {highest}")]
    LimitNotReached {
        /// The largest size that can be foretold.
        highest: f64,
    },
    /// The cost exceeds the limit at every size that can be foretold.
    #[error("the limit is exceeded from {lowest} on")]
    LimitAlreadyExceeded {
        /// The smallest size that can be foretold.
        lowest: f64,
    },
}

impl ScalingFit {
    /// Foretells the geometric mean cost of `runs` (at least 1) fresh runs at size `x`.
    ///
    /// The interval is from a model-averaged parametric bootstrap (Buckland, Burnham and Augustin
    /// 1997; Efron and Tibshirani 1993, chapter 6): each of 999 draws takes a law by its Akaike
    /// weight, makes new size means from it with noise whose variance is itself drawn from its own
    /// uncertainty, fits that law again, and adds the noise of the runs foretold. It holds the
    /// doubt about law, numbers and noise; not that of a cliff beyond what was measured. It takes a
    /// few milliseconds.
    ///
    /// # Errors
    /// Sizes that support no law; `x` beyond 4 times the largest size or below a quarter of the
    /// smallest; laws left standing that differ by 1.5.
    pub fn predict(&self, x: f64, runs: usize, seed: u64) -> Result<Prediction, Refusal> {
        self.require_adequate()?;
        let (lowest, highest) = self.reach();
        if !(lowest..=highest).contains(&x) {
            return Err(Refusal::TooFar { x, lowest, highest });
        }
        let disagreement = self.require_agreement(x)?;
        let (mut expected, mut observed): (Vec<f64>, Vec<f64>) = self
            .draws(seed)
            .iter()
            .map(|draw| (draw.law.at(x), draw.observe(x, runs.max(1) as f64)))
            .unzip();
        Ok(Prediction {
            x,
            value: middle(&mut expected).0,
            interval: middle(&mut observed).1,
            disagreement,
        })
    }

    /// The size at which the expected cost reaches `limit`, by the same bootstrap as
    /// [`Self::predict`] without the noise of new runs.
    ///
    /// # Errors
    /// As for [`Self::predict`], or a limit that is reached nowhere or everywhere within reach. A
    /// cost that falls with size reaches no limit.
    pub fn capacity(&self, limit: f64, seed: u64) -> Result<Capacity, Refusal> {
        self.require_adequate()?;
        let (lowest, highest) = self.reach();
        let mut sizes: Vec<f64> = self
            .draws(seed)
            .iter()
            .map(|draw| size_at(&draw.law, limit, lowest, highest))
            .collect();
        let (x, interval) = middle(&mut sizes);
        if x >= highest {
            return Err(Refusal::LimitNotReached { highest });
        }
        if x <= lowest {
            return Err(Refusal::LimitAlreadyExceeded { lowest });
        }
        self.require_agreement(x)?;
        Ok(Capacity { x, interval, open_above: interval.hi >= highest })
    }

    /// The sizes between which something can be foretold.
    pub fn reach(&self) -> (f64, f64) {
        (self.points.x[0] / EXTRAPOLATION_LIMIT, self.points.largest() * EXTRAPOLATION_LIMIT)
    }

    fn require_adequate(&self) -> Result<(), Refusal> {
        match self.adequacy {
            Adequacy::Adequate => Ok(()),
            adequacy => Err(Refusal::Inadequate { adequacy }),
        }
    }

    /// Largest over smallest prediction at `x` of the laws left standing, if that is tolerable.
    fn require_agreement(&self, x: f64) -> Result<f64, Refusal> {
        let costs = self.indistinguishable.iter().map(|&i| self.models[i].law.at(x));
        let (least, most) =
            costs.fold((f64::INFINITY, 0.0f64), |(lo, hi), cost| (lo.min(cost), hi.max(cost)));
        let ratio = most / least;
        // Written so that a law undefined at x, which gives NaN, is refused too.
        if ratio < DISAGREEMENT_LIMIT { Ok(ratio) } else { Err(Refusal::LawsDisagree { x, ratio }) }
    }

    /// Laws refitted to data that might as well have been measured.
    fn draws(&self, seed: u64) -> Vec<Draw> {
        let mut rng = SplitMix64::new(seed);
        (0..DRAWS).map(|_| self.draw(&mut rng)).collect()
    }

    /// One law, one set of data made from it, one refit.
    fn draw(&self, rng: &mut SplitMix64) -> Draw {
        let (law, variance) = self.pick(rng);
        let shared = variance * self.dispersion.shared;
        let own = variance - shared;
        let mut points = self.points.clone();
        for i in 0..points.sizes() {
            let noise = (shared + own / points.count[i]).sqrt() * rng.normal();
            points.mean[i] = law.at(points.x[i]).ln() + noise;
        }
        let law = refit(&points, &law);
        Draw { law, shared, own, noise: rng.normal() }
    }

    /// A law by its Akaike weight, and a variance of its noise from the scaled inverse chi-square
    /// that its squares imply.
    fn pick(&self, rng: &mut SplitMix64) -> (Law, f64) {
        let mut left = rng.uniform();
        let picked = self.models.iter().find(|model| {
            left -= model.weight;
            left < 0.0
        });
        let law = picked.unwrap_or(&self.models[0]).law;
        let parameters = law.term.parameters() - 1;
        let (_, lack) = self.points.level(|i| law.at(self.points.x[i]).ln());
        let spare = self.dispersion.freedom(parameters).floor().max(1.0);
        let squares = (self.points.within + lack) * spare
            / (self.points.samples() - parameters as f64).max(1.0);
        (law, squares / rng.chi_square(spare as usize))
    }
}

/// A refitted law with the noise to expect about it.
struct Draw {
    law: Law,
    /// Variance of the logarithm that runs at one size share.
    shared: f64,
    /// Variance of the logarithm of a single run about that.
    own: f64,
    /// A standard normal number for the runs foretold.
    noise: f64,
}

impl Draw {
    /// The geometric mean of `runs` runs at `x`.
    fn observe(&self, x: f64, runs: f64) -> f64 {
        self.law.at(x) * ((self.shared + self.own / runs).sqrt() * self.noise).exp()
    }
}

/// The size between `lowest` and `highest` at which `law` reaches `limit`, by bisection in
/// logarithms; an end if it does not.
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

/// The median of draws and the interval between their tails.
fn middle(draws: &mut [f64]) -> (f64, Interval) {
    draws.sort_by(f64::total_cmp);
    let at = |p: f64| draws[(p * (draws.len() - 1) as f64).round() as usize];
    let tail = (1.0 - CONFIDENCE) / 2.0;
    (at(0.5), Interval { lo: at(tail), hi: at(1.0 - tail), confidence: CONFIDENCE })
}
