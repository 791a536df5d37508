//! Charts as self-contained SVG files, without scripts and without external styles or fonts.

mod axis;
mod heap_timeline;
mod scaling;
mod svg;
mod timeline;

pub use heap_timeline::memory_chart;
pub use scaling::{LawCurve, ScalingChart, ScalingSeries, scaling_chart};
pub use timeline::timeline_chart;

use crate::format;

/// The unit of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds, shown in the unit that fits.
    DurationNs,
    /// Bytes, shown in the unit that fits.
    Bytes,
    /// A fraction of 0 to 1, shown in percent.
    Share,
    /// A count, or any quantity without a unit.
    Count,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Unit::DurationNs => format::duration_ns(value),
            Unit::Bytes => format::bytes(value),
            Unit::Share => format::share(value),
            Unit::Count => format::count(value),
        }
    }
}
