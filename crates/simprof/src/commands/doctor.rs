//! `simprof doctor`: checks what can be measured on this machine and of this target, and how to fix
//! the rest.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use anyhow::Result;
use simprof_record::{Capability, Inquiry, RecordError, State, capabilities, heap};

use crate::cli::DoctorArgs;
use crate::exit::Completion;

/// Prints the capabilities. A missing capability is reported, but is not a failure of this command.
///
/// # Errors
/// Returns an error if standard output cannot be written.
pub fn run(arguments: &DoctorArgs) -> Result<Completion> {
    let target = match arguments.command.first() {
        Some(program) => program.clone(),
        None => std::env::current_exe()?.to_string_lossy().into_owned(),
    };
    let inquiry =
        Inquiry { program: Some(&target), directory: None, output: Path::new("profiling_results") };
    let mut all = capabilities(&inquiry);
    all.extend(allocations(&target));
    let text = if arguments.json { json(&all)? } else { describe(&all) };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Completion::Success)
}

/// Checks whether the allocations of a program can be recorded. Returns `None` if the program cannot be found, which
/// another capability reports.
fn allocations(program: &str) -> Option<Capability> {
    let capability = |state, detail: String, consequence: &str, fix: &str| Capability {
        name: "allocations of the target".to_owned(),
        state,
        detail,
        consequence: consequence.to_owned(),
        fix: fix.to_owned(),
    };
    match heap::check(program, None, &BTreeMap::new()) {
        Ok(()) => Some(capability(State::Available, "can be recorded".to_owned(), "", "")),
        Err(RecordError::HeapRefused { path, refusal }) => {
            let detail = format!("{}: {}", path.display(), refusal.reason());
            let consequence = "phase 3 skips allocations, and --memory is an error";
            Some(capability(State::Missing, detail, consequence, refusal.fix()))
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

fn json(capabilities: &[Capability]) -> Result<String> {
    let rows: Vec<_> = capabilities
        .iter()
        .map(|capability| {
            serde_json::json!({
                "name": capability.name,
                "state": word(capability.state),
                "detail": capability.detail,
                "consequence": capability.consequence,
                "fix": capability.fix,
            })
        })
        .collect();
    Ok(serde_json::to_string_pretty(&rows)? + "\n")
}

fn describe(capabilities: &[Capability]) -> String {
    let mut text = String::new();
    for capability in capabilities {
        let Capability { name, detail, consequence, fix, .. } = capability;
        text.push_str(&format!("{:<9} {name}: {detail}\n", word(capability.state)));
        for (label, content) in [("effect", consequence), ("fix", fix)] {
            if !content.is_empty() {
                text.push_str(&format!("          {label:<7} {content}\n"));
            }
        }
    }
    text
}
