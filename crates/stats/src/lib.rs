//! Statistics for performance measurements: intervals, comparison, scaling laws, drift, cliffs.
//!
//! Every function is pure and deterministic. None does I/O or reads a clock, and each function that
//! uses random numbers takes a seed. If the data do not support a conclusion, the type of the result
//! shows it: a missing interval, a typed refusal or an inconclusive verdict. Nothing is guessed.
//!
//! ```
//! use simprof_stats::{Verdict, compare_paired};
//!
//! let before = [10.1, 10.0, 10.3, 9.9, 10.2, 10.0];
//! let after = [8.1, 8.0, 8.3, 7.8, 8.2, 8.1];
//! let comparison = compare_paired(&before, &after, 0.95, 0.03)?;
//! assert_eq!(comparison.verdict, Verdict::Faster);
//!
//! // Five pairs are too few for 95 % confidence, so there is no interval.
//! let five = compare_paired(&before[..5], &after[..5], 0.95, 0.03)?;
//! assert_eq!((five.interval, five.n, five.n_needed), (None, 5, 6));
//! # Ok::<(), simprof_stats::StatsError>(())
//! ```

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
pub use interval::{Interval, binomial_interval, poisson_interval};
pub use rank::pairs_needed;
pub use rng::SplitMix64;
pub use summary::{Summary, median, median_interval, percentile};
pub use trend::{Trend, trend};
