//! Flame graphs of memory: of what was allocated, of what was alive at the peak, of what was left at the end.

use std::io::Write;

use simprof_model::{HeapAmount, HeapProfile, HeapSite, Profile, StackSample, Thread, ThreadId};

use super::flamegraph;
use crate::ReportError;
use crate::format;

/// What of a heap profile is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeapView {
    /// All that was allocated.
    Allocated,
    /// What was alive when most was.
    Peak,
    /// What was alive at the end.
    Live,
    /// What was freed in its own step.
    Temporary,
}

impl HeapView {
    /// All views.
    pub const ALL: [HeapView; 4] =
        [HeapView::Allocated, HeapView::Peak, HeapView::Live, HeapView::Temporary];

    /// The name of its flame graph's file.
    pub fn file_name(self) -> &'static str {
        match self {
            HeapView::Allocated => "memory_allocated.svg",
            HeapView::Peak => "memory_peak.svg",
            HeapView::Live => "memory_leaked.svg",
            HeapView::Temporary => "memory_temporary.svg",
        }
    }

    /// What it shows, after an amount.
    pub fn describe(self) -> &'static str {
        match self {
            HeapView::Allocated => "allocated",
            HeapView::Peak => "alive at the peak",
            HeapView::Live => "never freed",
            HeapView::Temporary => "freed in the step that allocated it",
        }
    }

    /// That amount of a site.
    pub fn of(self, site: &HeapSite) -> HeapAmount {
        match self {
            HeapView::Allocated => site.amounts.allocated,
            HeapView::Peak => site.amounts.peak,
            HeapView::Live => site.amounts.live,
            HeapView::Temporary => site.amounts.temporary,
        }
    }
}

/// One view of a heap profile as a profile of bytes, with a sample for each stack.
pub fn heap_view(profile: &HeapProfile, view: HeapView) -> Profile {
    let sample = |site: &HeapSite| StackSample {
        time_ns: 0,
        thread: ThreadId(0),
        stack: site.stack,
        weight: view.of(site).bytes,
    };
    let samples = profile.sites.iter().map(sample).filter(|sample| sample.weight > 0).collect();
    let threads = vec![Thread { pid: 0, tid: 0, name: "all threads".to_owned() }];
    Profile { samples, threads, ..profile.tables.clone() }
}

/// Writes a flame graph of one view.
///
/// # Errors
/// [`ReportError::NoSamples`] where there is nothing to show, [`ReportError::Write`] where `out` refuses.
pub fn heap_flamegraph(
    profile: &HeapProfile,
    view: HeapView,
    out: &mut dyn Write,
) -> Result<(), ReportError> {
    let shown = heap_view(profile, view);
    if shown.samples.is_empty() {
        return Err(ReportError::NoSamples);
    }
    let title = format!("{} {}", format::bytes(shown.total_weight() as f64), view.describe());
    let how = match profile.provenance.interval_bytes {
        0 | 1 => "every allocation".to_owned(),
        bytes => format!("sampled every {} on average", format::bytes(bytes as f64)),
    };
    let subtitle =
        format!("{how}, {} stacks ({})", shown.samples.len(), flamegraph::colors(&shown));
    flamegraph::write_titled(&shown, title, subtitle, out)
        .map_err(|source| ReportError::Write { export: "flamegraph", source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::heap;

    #[test]
    fn each_view_has_its_own_amounts() {
        let mut profile = heap(&[("main@1 > s::f@2 > malloc", 3 << 20), ("main@1 > malloc", 5)]);
        profile.sites[1].amounts.live = HeapAmount::default();
        let mut svg = Vec::new();
        heap_flamegraph(&profile, HeapView::Live, &mut svg).expect("memory does not refuse");
        let svg = String::from_utf8(svg).expect("text");
        assert!(
            svg.contains("3 MiB never freed") && svg.contains("every allocation, 1 stacks"),
            "{svg}"
        );
        let error = heap_flamegraph(&profile, HeapView::Temporary, &mut Vec::new());
        assert!(matches!(error, Err(ReportError::NoSamples)));
        assert_eq!(heap_view(&profile, HeapView::Allocated).total_weight(), (3 << 20) + 5);
    }
}
