//! Exports: profiles as files that other programs read. Each format is a file of this folder.

mod flamegraph;
mod folded;
mod heap;
mod pprof;
mod speedscope;

use std::io::{self, Write};

use simprof_model::{Profile, WeightKind};

use crate::ReportError;

#[cfg(test)]
pub(crate) use heap::heap_view;
pub use heap::{HeapView, heap_flamegraph};
pub use pprof::heap_pprof;

/// One format that a profile can be written in.
pub struct Export {
    /// Name, as in error messages.
    pub name: &'static str,
    /// File name in a run's folder.
    pub file_name: &'static str,
    /// Whether the file has the times of samples, which show the parts of a run.
    pub has_times: bool,
    write: fn(&Profile, &mut dyn Write) -> io::Result<()>,
}

/// All exports. To add one, add a file and a row here.
pub const EXPORTS: [Export; 3] = [
    Export {
        name: "flamegraph",
        file_name: "flamegraph.svg",
        has_times: false,
        write: flamegraph::write,
    },
    Export { name: "folded", file_name: "profile.folded", has_times: false, write: folded::write },
    Export {
        name: "speedscope",
        file_name: "profile.speedscope.json",
        has_times: true,
        write: speedscope::write,
    },
];

impl Export {
    /// Returns the contents of the file.
    ///
    /// # Errors
    /// Returns [`ReportError::NoSamples`] if the profile has no weight, and [`ReportError::Write`] if the format cannot be
    /// written.
    pub fn to_bytes(&self, profile: &Profile) -> Result<Vec<u8>, ReportError> {
        if profile.total_weight() == 0 {
            return Err(ReportError::NoSamples);
        }
        let mut bytes = Vec::new();
        (self.write)(profile, &mut bytes)
            .map_err(|source| ReportError::Write { export: self.name, source })?;
        Ok(bytes)
    }
}

/// Returns the name of the weights of a profile.
fn weight_name(kind: WeightKind) -> &'static str {
    match kind {
        WeightKind::CpuNs => "CPU time",
        WeightKind::WallNs => "wall-clock time",
        WeightKind::Bytes => "bytes allocated",
        WeightKind::Allocations => "allocations",
        WeightKind::Calls => "calls",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::profile;

    #[test]
    fn names_and_files_are_unique() {
        for (at, export) in EXPORTS.iter().enumerate() {
            for other in &EXPORTS[at + 1..] {
                assert!(export.name != other.name && export.file_name != other.file_name);
            }
        }
    }

    #[test]
    fn an_empty_profile_is_an_error() {
        for export in &EXPORTS {
            let error = export.to_bytes(&profile(&[])).expect_err("it has no samples");
            assert!(matches!(error, ReportError::NoSamples), "{}: {error}", export.name);
        }
    }
}
