//! Findings from a run, and the files that present them.
//!
//! - [`analysis`] computes costs and findings from profiles, steps and heap profiles.
//! - [`summary`] has the JSON summaries of the phases, [`document`] their Markdown reports.
//! - [`export`], [`annotate`] and [`chart`] write the other files of a run.
//! - [`calls`] and [`stacks`] analyse profiles that other programs recorded.
//! - [`mod@format`] and [`markdown`] format numbers and text for people.
//!
//! All functions are pure: this crate reads no clock, no file and no machine.

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
