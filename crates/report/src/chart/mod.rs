//! Charts as SVG files that stand alone: no scripts, no styles or fonts from elsewhere.

mod axis;
mod memory;
mod scaling;
mod svg;
mod timeline;

pub use memory::memory_chart;
pub use scaling::{LawCurve, ScalingChart, ScalingSeries, scaling_chart};
pub use timeline::timeline_chart;

use crate::format;

/// What the figures of an axis are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds, shown in the unit that fits.
    DurationNs,
    /// Bytes, shown in the unit that fits.
    Bytes,
    /// A share of 0 to 1, shown in percent.
    Share,
    /// Numbers of things, or anything without a unit of its own.
    Count,
}

impl Unit {
    /// The unit of a metric, by the end of its name: `nearby_ns`, `rss_bytes`, `busy_share`.
    pub fn of_metric(name: &str) -> Unit {
        match name.rsplit('_').next() {
            Some("ns") => Unit::DurationNs,
            Some("bytes") => Unit::Bytes,
            Some("share") => Unit::Share,
            _ => Unit::Count,
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Unit::DurationNs => format::duration_ns(value),
            Unit::Bytes => format::bytes(value),
            Unit::Share => format::share(value),
            Unit::Count => format::count(value),
        }
    }
}
