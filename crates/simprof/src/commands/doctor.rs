//! `simprof doctor`: what this machine and this target allow, each lack with its consequence and its mend.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use anyhow::Result;
use simprof_record::{Capability, Inquiry, RecordError, State, capabilities, heap};

use crate::cli::DoctorArgs;
use crate::exit::Ended;

/// Prints what is allowed. What is missing is said, and is no failure of this command.
///
/// # Errors
/// Where standard output cannot be written.
pub fn run(arguments: &DoctorArgs) -> Result<Ended> {
    let target = match arguments.command.first() {
        Some(program) => program.clone(),
        None => std::env::current_exe()?.to_string_lossy().into_owned(),
    };
    let inquiry =
        Inquiry { program: Some(&target), directory: None, output: Path::new("profiling_results") };
    let mut found = capabilities(&inquiry);
    found.extend(allocations(&target));
    let text = if arguments.json { json(&found)? } else { describe(&found) };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Ended::Well)
}

/// Whether the allocations of a program can be recorded; none where the program itself is not there, which has been told.
fn allocations(program: &str) -> Option<Capability> {
    let found = |state, detail: String, consequence: &str, mend: &str| Capability {
        name: "allocations of the target".to_owned(),
        state,
        detail,
        consequence: consequence.to_owned(),
        fix: mend.to_owned(),
    };
    match heap::check(program, None, &BTreeMap::new()) {
        Ok(()) => Some(found(State::Available, "they can be recorded".to_owned(), "", "")),
        Err(RecordError::HeapRefused { path, refusal }) => {
            let detail = format!("{}: {}", path.display(), refusal.reason());
            let consequence = "phase 3 has no memory, and --memory is refused";
            Some(found(State::Missing, detail, consequence, refusal.fix()))
        }
        Err(_) => None,
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Available => "ok",
        State::Degraded => "degraded",
        State::Missing => "missing",
    }
}

fn json(found: &[Capability]) -> Result<String> {
    let rows: Vec<_> = found
        .iter()
        .map(|capability| {
            serde_json::json!({
                "name": capability.name,
                "state": word(capability.state),
                "detail": capability.detail,
                "consequence": capability.consequence,
                "mend": capability.fix,
            })
        })
        .collect();
    Ok(serde_json::to_string_pretty(&rows)? + "\n")
}

fn describe(found: &[Capability]) -> String {
    let mut text = String::new();
    for capability in found {
        let Capability { name, detail, consequence, fix, .. } = capability;
        text.push_str(&format!("{:<9} {name}: {detail}\n", word(capability.state)));
        for (label, said) in [("so", consequence), ("mend", fix)] {
            if !said.is_empty() {
                text.push_str(&format!("          {label:<5}{said}\n"));
            }
        }
    }
    text
}
