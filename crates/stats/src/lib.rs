//! Pure statistics of performance: intervals, comparison, scaling laws, drift, cliffs.
//!
//! Every function here is pure and deterministic: no input or output, no clock, and whatever draws
//! random numbers takes its seed. What a sample cannot support is said in the result's type (an
//! absent interval, a typed refusal, an inconclusive verdict) and never filled in with a guess.

mod cliff;
mod compare;
mod dist;
mod drift;
mod error;
mod interval;
mod rank;
mod rng;
pub mod scaling;
mod summary;
mod trend;

pub use cliff::{Bend, BendKind, CLIFF_AICC_GAIN, CLIFF_SLOPE_JUMP, find_bend};
pub use compare::{
    Block, Comparison, MARGIN_FLOOR, Verdict, compare_blocks, compare_paired, compare_unpaired,
    margin_from_control,
};
pub use drift::{
    Drift, DriftRule, DriftVerdict, LEAK_FLOOR_BYTES, PopulationFit, assess_drift, assess_leak,
};
pub use error::StatsError;
pub use interval::{Interval, binomial_interval};
pub use rng::SplitMix64;
pub use summary::{Summary, median, median_interval, percentile};
pub use trend::{Trend, trend};
