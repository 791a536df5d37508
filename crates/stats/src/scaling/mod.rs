//! Scaling laws: how a cost grows with a parameter, which forms the data allow, and how far ahead
//! they can be trusted.
//!
//! Costs are fitted in logarithms: a run's noise is a factor, the same share of a short run as of a
//! long one, so equal weights in logarithms are the likelihood's, and the smallest size counts as
//! much as the largest (least squares on the raw costs would fit the largest alone).

mod dispersion;
mod exponent;
mod fit;
mod law;
mod minimise;
mod points;
mod predict;
mod refit;
#[cfg(test)]
mod tests;

pub(crate) use dispersion::effective_samples;
pub use exponent::{Exponent, ExponentKind};
pub use fit::{Adequacy, ModelFit, SIZES_NEEDED, SPAN_NEEDED, ScalingFit, fit};
pub(crate) use fit::{aicc, smooth_fits};
pub use law::{Law, Term};
pub use points::Point;
pub(crate) use points::Points;
pub use predict::{Capacity, EXTRAPOLATION_LIMIT, Prediction, Refusal};
