//! Analyses the call profile of a traced program: costs of functions and components, advice, and the tracer's overhead.
//!
//! A tracer counts calls exactly and distorts times; a sampler measures times well and does not count calls. [`join`]
//! combines both.

mod advice;
mod analysis;
mod as_profile;
mod charge;
mod facts;
mod join;
mod modules;
mod notices;
mod text;
mod tracing;

pub use advice::{Advice, AdviceKind};
pub use analysis::{CALLS_SCHEMA, CallAnalysis, CallComponent, CallCost, analyse};
pub use join::{Joined, join};
pub use modules::Modules;
pub use text::describe;
pub use tracing::Tracing;
