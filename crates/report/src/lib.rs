//! Findings drawn from a run, and the files that show them.
//!
//! [`analysis`] turns profiles, steps and timelines into figures; [`export`], [`annotate`] and
//! [`chart`] turn them into files; [`summary`] and [`document`] are what the phases keep and tell;
//! [`calls`] and [`stacks`] are what profiles say that others
//! recorded;
//! [`mod@format`] and [`markdown`] write figures and text for people. All of it is pure: nothing here
//! reads the machine, the clock or a file.

pub mod analysis;
pub mod annotate;
pub mod calls;
pub mod chart;
mod columns;
pub mod document;
mod error;
pub mod export;
pub mod format;
pub mod markdown;
pub mod stacks;
pub mod summary;
#[cfg(test)]
mod testing;

pub use error::ReportError;
