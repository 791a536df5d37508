//! The four phases: each measures, summarises and reports, and leaves evidence for the next.

mod calls;
mod component;
mod csv;
mod line;
mod macro_;
mod memory;
mod readiness;
mod record;
mod system;
mod timeline;

use anyhow::Result;
use simprof_model::Phase;

pub use record::{add_urgent_notices, ending, file_stem};

use crate::session::Session;

/// Runs one phase to its end.
///
/// # Errors
/// Where results cannot be written; that the target fails is no error but a result.
pub fn run(session: &mut Session<'_>, phase: Phase) -> Result<()> {
    match phase {
        Phase::Macro => macro_::run(session),
        Phase::Component => component::run(session),
        Phase::Line => line::run(session),
        Phase::System => system::run(session),
    }
}
