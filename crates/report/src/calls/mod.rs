//! What a traced program's calls say: costs of functions and components, advice, and the tracer's own part in it.
//!
//! A tracer counts exactly and distorts times, a sampler times well and cannot count: [`join`] sets both side by side.

mod advice;
mod analysis;
mod charge;
mod join;
mod modules;
mod notices;
mod stand_in;
mod text;
mod tracing;

pub use advice::{Advice, AdviceKind};
pub use analysis::{CALLS_SCHEMA, CallAnalysis, CallComponent, CallCost, analyse};
pub use join::{Joined, join};
pub use modules::Modules;
pub use text::describe;
pub use tracing::Tracing;
