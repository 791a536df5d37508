//! Charts as self-contained SVG files, without scripts and without external styles or fonts.

mod axis;
mod heap_timeline;
mod part_bands;
mod scale;
mod scaling;
mod svg;
mod timeline;

pub use heap_timeline::memory_chart;
pub use scale::Unit;
pub use scaling::{LawCurve, ScalingChart, ScalingSeries, scaling_chart};
pub(crate) use svg::escaped;
pub use timeline::timeline_chart;
