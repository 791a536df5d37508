//! Files that other programs read: a table of exports, each a file of this folder.

mod flamegraph;
mod folded;
mod heap;
mod pprof;
mod speedscope;

use std::io::{self, Write};

use simprof_model::{Profile, WeightKind};

use crate::ReportError;

pub use folded::folded_name;
pub use heap::{HeapView, heap_flamegraph, heap_view};
pub use pprof::heap_pprof;

/// One kind of file that a profile can be written as.
pub struct Export {
    /// Name on the command line.
    pub name: &'static str,
    /// File name that it has in a run's folder.
    pub file_name: &'static str,
    /// What it is and who reads it, in a few words.
    pub description: &'static str,
    write: fn(&Profile, &mut dyn Write) -> io::Result<()>,
}

/// All exports. A new one is a file and a row here.
pub const EXPORTS: [Export; 3] = [
    Export {
        name: "flamegraph",
        file_name: "flamegraph.svg",
        description: "flame graph for a browser",
        write: flamegraph::write,
    },
    Export {
        name: "folded",
        file_name: "profile.folded",
        description: "folded stacks for flamegraph.pl and inferno",
        write: folded::write,
    },
    Export {
        name: "speedscope",
        file_name: "profile.speedscope.json",
        description: "for speedscope.app, one profile per thread",
        write: speedscope::write,
    },
];

impl Export {
    /// The export with this name.
    pub fn by_name(name: &str) -> Option<&'static Export> {
        const TABLE: &[Export] = &EXPORTS;
        TABLE.iter().find(|export| export.name == name)
    }

    /// Writes a profile.
    ///
    /// # Errors
    /// [`ReportError::NoSamples`] where the profile has no weight, [`ReportError::Write`] where `out`
    /// refuses.
    pub fn write(&self, profile: &Profile, out: &mut dyn Write) -> Result<(), ReportError> {
        if profile.total_weight() == 0 {
            return Err(ReportError::NoSamples);
        }
        (self.write)(profile, out)
            .map_err(|source| ReportError::Write { export: self.name, source })
    }

    /// A profile as this kind of file.
    ///
    /// # Errors
    /// [`ReportError::NoSamples`] where the profile has no weight.
    pub fn to_bytes(&self, profile: &Profile) -> Result<Vec<u8>, ReportError> {
        let mut bytes = Vec::new();
        self.write(profile, &mut bytes)?;
        Ok(bytes)
    }
}

/// What the weights of a profile are called.
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
            assert_eq!(Export::by_name(export.name).map(|e| e.file_name), Some(export.file_name));
            for other in &EXPORTS[at + 1..] {
                assert!(export.name != other.name && export.file_name != other.file_name);
            }
        }
        assert!(Export::by_name("xls").is_none());
    }

    #[test]
    fn nothing_is_no_file() {
        for export in &EXPORTS {
            let error = export.to_bytes(&profile(&[])).expect_err("nothing to show");
            assert!(matches!(error, ReportError::NoSamples), "{}: {error}", export.name);
        }
    }
}
