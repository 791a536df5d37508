//! Flame graphs of memory: allocated, live at the peak, live at the end, and temporary.

use std::io::Write;

use simprof_model::{HeapAmount, HeapProfile, HeapSite, Profile, StackSample, Thread, ThreadId};

use super::flamegraph::{self, Texts};
use crate::ReportError;
use crate::format;

/// An amount of a heap profile that a flame graph shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeapView {
    /// All memory that was allocated.
    Allocated,
    /// Memory that was live at the peak.
    Peak,
    /// Memory that was live at the end.
    Live,
    /// Memory that was freed in the step that allocated it.
    Temporary,
}

impl HeapView {
    /// All views.
    pub const ALL: [HeapView; 4] =
        [HeapView::Allocated, HeapView::Peak, HeapView::Live, HeapView::Temporary];

    /// Returns the name of its flame graph's file.
    pub fn file_name(self) -> &'static str {
        match self {
            HeapView::Allocated => "memory_allocated.svg",
            HeapView::Peak => "memory_peak.svg",
            HeapView::Live => "memory_leaked.svg",
            HeapView::Temporary => "memory_temporary.svg",
        }
    }

    /// Returns its description, to follow an amount: `3 MiB never freed`.
    pub fn describe(self) -> &'static str {
        match self {
            HeapView::Allocated => "allocated",
            HeapView::Peak => "live at the peak",
            HeapView::Live => "never freed",
            HeapView::Temporary => "freed in the step that allocated it",
        }
    }

    /// Returns the amount of a site that it shows.
    pub fn amount(self, site: &HeapSite) -> HeapAmount {
        match self {
            HeapView::Allocated => site.amounts.allocated,
            HeapView::Peak => site.amounts.peak,
            HeapView::Live => site.amounts.live,
            HeapView::Temporary => site.amounts.temporary,
        }
    }
}

/// Returns one view of a heap profile as a profile of bytes, with one sample per stack.
pub(crate) fn heap_view(profile: &HeapProfile, view: HeapView) -> Profile {
    let sample = |site: &HeapSite| StackSample {
        time_ns: 0,
        thread: ThreadId(0),
        stack: site.stack,
        weight: view.amount(site).bytes,
    };
    let samples = profile.sites.iter().map(sample).filter(|sample| sample.weight > 0).collect();
    let threads = vec![Thread { pid: 0, tid: 0, name: "all threads".to_owned() }];
    Profile { samples, threads, ..profile.tables.clone() }
}

/// Writes a flame graph of one view. `target` is the name of the program.
///
/// # Errors
/// Returns [`ReportError::NoSamples`] if the view has no memory, and [`ReportError::Write`] if `out` cannot be written.
pub fn heap_flamegraph(
    profile: &HeapProfile,
    view: HeapView,
    target: &str,
    out: &mut dyn Write,
) -> Result<(), ReportError> {
    let shown = heap_view(profile, view);
    if shown.samples.is_empty() {
        return Err(ReportError::NoSamples);
    }
    let how = match profile.provenance.interval_bytes {
        0 | 1 => "every allocation recorded".to_owned(),
        bytes => format!("one byte in {} sampled", format::bytes(bytes as f64)),
    };
    let end = if shown.samples.len() == 1 { "" } else { "s" };
    let whole = format::bytes(shown.total_weight() as f64);
    let texts = Texts {
        title: format!("{target}: memory {}", view.describe()),
        subtitle: format!(
            "{whole} allocated by {} stack{end}, {how}",
            format::count(shown.samples.len() as f64)
        ),
        root: format!("whole run: {whole} {}", view.describe()),
    };
    flamegraph::write_texts(&shown, &texts, out)
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
        heap_flamegraph(&profile, HeapView::Live, "sim", &mut svg)
            .expect("writing to memory cannot fail");
        let svg = String::from_utf8(svg).expect("text");
        for text in [
            ">sim: memory never freed</text>",
            ">whole run: 3 MiB never freed</text>",
            "3 MiB allocated by 1 stack, every allocation recorded",
        ] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        let error = heap_flamegraph(&profile, HeapView::Temporary, "sim", &mut Vec::new());
        assert!(matches!(error, Err(ReportError::NoSamples)));
        assert_eq!(heap_view(&profile, HeapView::Allocated).total_weight(), (3 << 20) + 5);
    }
}
