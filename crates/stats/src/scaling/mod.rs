//! Scaling laws: how a cost grows with a parameter, which forms fit the data, and how far they can
//! be extrapolated.
//!
//! Laws are fitted to the logarithms of the costs. The noise of a run is assumed to be a factor:
//! the same relative error for short and long runs. In logarithms all sizes then have the same
//! variance, and least squares with equal weights is the maximum-likelihood estimate. With the raw
//! costs, the largest size would almost alone determine the fit.
//!
//! ```
//! use simprof_stats::scaling::{Point, fit};
//!
//! let points: Vec<Point> = [50.0, 100.0, 200.0, 400.0, 800.0]
//!     .iter()
//!     .map(|&x| Point { x, y: vec![x * x * 0.98, x * x, x * x * 1.03] })
//!     .collect();
//! let law = fit(&points)?;
//! assert!((law.exponent - 2.0).abs() < 0.05);
//! assert!(law.predict(3200.0, 1, 42).is_ok());
//! assert!(law.predict(4000.0, 1, 42).is_err());
//! # Ok::<(), simprof_stats::StatsError>(())
//! ```

mod dispersion;
mod exponent;
mod fit;
mod law;
mod minimise;
mod mixed;
mod points;
mod predict;
mod refit;
#[cfg(test)]
mod tests;

pub(crate) use dispersion::effective_samples;
pub use exponent::{Exponent, ExponentKind};
pub use fit::{Adequacy, ModelFit, SIZES_NEEDED, SPAN_NEEDED, ScalingFit, fit, fit_rounded};
pub(crate) use fit::{aicc, smooth_fits};
pub use law::{Law, Term};
pub use points::Point;
pub(crate) use points::Points;
pub use predict::{Capacity, EXTRAPOLATION_LIMIT, Prediction, Refusal};
