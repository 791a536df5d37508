//! `simprof doctor`: what this machine and this target allow, each lack with its consequence and its mend.

use std::io::Write as _;

use anyhow::Result;
use simprof_record::{Capability, CapabilityState};

use crate::cli::DoctorArgs;
use crate::exit::Ended;

/// Prints what is allowed.
///
/// # Errors
/// Where standard output cannot be written.
pub fn run(arguments: &DoctorArgs) -> Result<Ended> {
    let target = match arguments.command.first() {
        Some(program) => program.clone(),
        None => std::env::current_exe()?.to_string_lossy().into_owned(),
    };
    let found = simprof_record::capabilities(Some(&target));
    let text = if arguments.json { serde_json::to_string_pretty(&found)? + "\n" } else { describe(&found) };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    let missing = found.iter().any(|capability| capability.state == CapabilityState::Missing && capability.required);
    Ok(if missing { Ended::WithFailures } else { Ended::Well })
}

fn describe(found: &[Capability]) -> String {
    let mut text = String::new();
    for capability in found {
        let mark = match capability.state {
            CapabilityState::Available => "ok      ",
            CapabilityState::Degraded => "degraded",
            CapabilityState::Missing => "missing ",
        };
        text.push_str(&format!("{mark}  {}: {}\n", capability.name, capability.detail));
        if capability.state != CapabilityState::Available {
            text.push_str(&format!("            so:   {}\n", capability.consequence));
            text.push_str(&format!("            mend: {}\n", capability.mend));
        }
    }
    text
}
