//! The four phases. Each measures, writes a summary and a report, and leaves results for the next
//! ones.

mod allocations;
mod budget_notice;
mod calls;
mod component;
mod csv;
mod line;
mod macro_;
mod readiness;
mod record;
mod source_text;
mod system;
mod timeline;

use anyhow::Result;
use simprof_model::Phase;

pub use record::{add_urgent_notices, ending};

use crate::session::Session;

/// Runs one phase to its end.
///
/// # Errors
/// Returns an error if results cannot be written. A failure of the target is a result, not an
/// error.
pub fn run(session: &mut Session<'_>, phase: Phase) -> Result<()> {
    match phase {
        Phase::Macro => macro_::run(session),
        Phase::Component => component::run(session),
        Phase::Line => line::run(session),
        Phase::System => system::run(session),
    }
}
