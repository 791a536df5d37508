//! What a traced run counted, from the files that its processes wrote.

use simprof_model::CallProfile;
use simprof_record::import::{Imported, import};

use super::Told;

/// Calls of all processes of a run.
#[derive(Debug, Default)]
pub struct Counted {
    /// All of them together.
    pub profile: CallProfile,
    /// Processes that told their counts.
    pub processes: usize,
    /// Processes that ended before they could, or whose counts cannot be read.
    pub lost: usize,
    /// Whether the times are worth nothing: a process had several threads, whose calls its tracer took for those of one.
    pub untimed: bool,
}

/// Reads what the text wrote.
pub fn counted(told: &Told) -> Counted {
    let mut counted = Counted::default();
    let mut profiles = Vec::new();
    for (name, content) in told.files("calls-") {
        match import(&content) {
            Ok((_, Imported::Calls(profile))) if !name.ends_with(".owed") => {
                counted.untimed |= name.ends_with(".mixed");
                profiles.push(profile);
            }
            _ => counted.lost += 1,
        }
    }
    counted.processes = profiles.len();
    counted.profile = CallProfile::sum(&profiles);
    counted
}
