//! Exports: profiles as files that other programs read. Each format is a file of this folder.

mod flamegraph;
mod folded;
mod heap;
mod pprof;
mod speedscope;

use std::io::{self, Write};

use simprof_model::{Profile, WeightKind};

use crate::ReportError;
use crate::analysis::RunSplit;

#[cfg(test)]
pub(crate) use heap::heap_view;
pub use heap::{HeapView, heap_flamegraph};
pub use pprof::heap_pprof;

/// A profile to export.
#[derive(Clone, Copy)]
pub struct ExportInput<'a> {
    /// The samples as they came.
    pub profile: &'a Profile,
    /// The parts of the runs of `profile`.
    pub split: &'a RunSplit,
    /// Name of the target.
    pub target: &'a str,
}

/// One format that a profile can be written in.
pub struct Export {
    /// Name, as in error messages.
    pub name: &'static str,
    /// File name in a run's folder.
    pub file_name: &'static str,
    write: fn(&ExportInput<'_>, &mut dyn Write) -> io::Result<()>,
}

/// All exports. To add one, add a file and a row here.
pub const EXPORTS: [Export; 3] = [
    Export { name: "flamegraph", file_name: "flamegraph.svg", write: flamegraph::write },
    Export {
        name: "folded",
        file_name: "profile.folded",
        write: |input, out| folded::write(&input.split.grouped(input.profile, false), out),
    },
    Export {
        name: "speedscope",
        file_name: "profile.speedscope.json",
        // It has the times of samples, which show the parts of the run.
        write: |input, out| speedscope::write(input.profile, out),
    },
];

impl Export {
    /// Returns the contents of the file.
    ///
    /// # Errors
    /// Returns [`ReportError::NoSamples`] if the profile has no weight, and [`ReportError::Write`] if the format cannot be
    /// written.
    pub fn to_bytes(&self, input: &ExportInput<'_>) -> Result<Vec<u8>, ReportError> {
        if input.profile.total_weight() == 0 {
            return Err(ReportError::NoSamples);
        }
        let mut bytes = Vec::new();
        (self.write)(input, &mut bytes)
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
    use crate::analysis::split_run;
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
            let profile = profile(&[]);
            let split = split_run(&profile, &[]);
            let input = ExportInput { profile: &profile, split: &split, target: "x" };
            let error = export.to_bytes(&input).expect_err("it has no samples");
            assert!(matches!(error, ReportError::NoSamples), "{}: {error}", export.name);
        }
    }
}
