//! Turns a recording of allocations into a heap profile: symbolises stacks, and adds provenance and notices.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use simprof_model::{
    HEAP_SCHEMA, HeapAmount, HeapCoverage, HeapInterval, HeapProfile, HeapProvenance, Notice,
    NoticeId, Timeline, add_notices,
};

use super::HeapSampling;
use super::drain::Drained;
use super::heap_memory::{HeapField, HeapMemory, NativeNode};
use super::images::{self, Image, LibraryMemory};
use super::injection::HeapInjection;
use crate::preload::Tree;
use crate::sample::{NativeStack, TargetStack, TargetStacks, interpreter_name, unsampled_notices};

/// The recorded allocations of one run, not symbolised yet.
#[derive(Debug)]
pub struct HeapRecording {
    drained: Drained,
    nodes: BTreeMap<u32, NativeNode>,
    tree: Tree,
    directory: PathBuf,
    touched_bytes: u64,
    provenance: HeapProvenance,
}

impl HeapRecording {
    /// Copies the nodes of all recorded stacks out of the shared memory.
    pub(super) fn new(drained: Drained, injection: &HeapInjection, sampling: HeapSampling) -> Self {
        let memory = &injection.memory;
        let stacks = drained.totals.sites.iter().map(|(stack, _)| *stack as u32);
        Self {
            nodes: stack_nodes(memory, stacks),
            tree: Tree::read(&injection.python.memory),
            directory: injection.directory.clone(),
            touched_bytes: memory.touched_bytes() + injection.python.memory.touched_bytes(),
            provenance: provenance(&drained, injection, sampling),
            drained,
        }
    }

    /// Removes all figures per step, because the steps turned out to have no times.
    pub(crate) fn forget_steps(&mut self) {
        let totals = &mut self.drained.totals;
        if totals.steps == 0 {
            return;
        }
        (totals.steps, totals.peak_step) = (0, None);
        totals.ticks.clear();
        for (_, site) in &mut totals.sites {
            site.amounts.live_at_ticks.clear();
            site.amounts.temporary = HeapAmount::default();
        }
    }

    /// Adds figures of the rest of the recording to the provenance.
    pub(crate) fn add_observed(&mut self, timeline: &Timeline, cpu_ns: u64, wall_ns: u64) {
        let own =
            OwnMemory { shared_bytes: self.touched_bytes, private: &self.drained.library_memory };
        let coverage = coverage(&self.drained.totals.timeline, timeline, own);
        let provenance = &mut self.provenance;
        provenance.coverage = coverage;
        (provenance.target_cpu_ns, provenance.target_wall_ns) = (cpu_ns, wall_ns);
    }

    /// Returns the number of records of allocations and frees.
    pub fn records(&self) -> u64 {
        self.provenance.records
    }
}

/// Symbolises the stacks of a recording.
pub fn symbolise(recording: HeapRecording) -> HeapProfile {
    let HeapRecording { drained, nodes, tree, directory, mut provenance, .. } = recording;
    let totals = drained.totals;
    let mut stacks = TargetStacks::new(drained.modules);
    let native = native_stacks(&nodes, &mut stacks);
    let wanted: Vec<TargetStack> = totals
        .sites
        .iter()
        .map(|(stack, _)| TargetStack {
            native: native.get(&(*stack as u32)).copied(),
            python: (*stack >> 32) as u32,
        })
        .collect();
    let (mut tables, symbolised) = stacks.symbolise(&wanted, tree, &directory);
    add_notices(&mut provenance.notices, std::mem::take(&mut tables.provenance.notices));
    provenance.unsymbolised = symbolised.iter().filter(|stack| !stack.named).count() as u64;
    let mut sites: Vec<_> = totals.sites.into_iter().map(|(_, site)| site).collect();
    for (site, symbolised) in sites.iter_mut().zip(&symbolised) {
        site.stack = symbolised.stack;
    }
    HeapProfile {
        schema: HEAP_SCHEMA.to_owned(),
        tables,
        sites,
        ticks: totals.ticks,
        steps: totals.steps,
        series: totals.timeline,
        sizes: totals.sizes,
        peak_ns: totals.peak_ns,
        peak_step: totals.peak_step,
        provenance,
    }
}

/// Returns the nodes of these stacks, including all callers.
fn stack_nodes(
    memory: &HeapMemory,
    leaves: impl Iterator<Item = u32>,
) -> BTreeMap<u32, NativeNode> {
    let mut nodes = BTreeMap::new();
    let count = memory.node_count();
    for leaf in leaves {
        let mut number = leaf;
        while number != 0 && number < count && !nodes.contains_key(&number) {
            let node = memory.node(number);
            nodes.insert(number, node);
            number = node.parent;
        }
    }
    nodes
}

/// Adds a native stack to `target_stacks` for each node. Callers have smaller numbers, so they come first.
fn native_stacks(
    nodes: &BTreeMap<u32, NativeNode>,
    target_stacks: &mut TargetStacks,
) -> BTreeMap<u32, NativeStack> {
    let mut stacks: BTreeMap<u32, NativeStack> = BTreeMap::new();
    for (&number, node) in nodes {
        let parent = stacks.get(&node.parent).copied();
        if let Some(stack) = target_stacks.child(parent, node.module, node.address) {
            stacks.insert(number, stack);
        }
    }
    stacks
}

/// The profiler's own memory within the target.
#[derive(Debug, Clone, Copy)]
struct OwnMemory<'a> {
    /// Shared memory, bytes.
    shared_bytes: u64,
    /// Private memory of the libraries, in order of time.
    private: &'a [LibraryMemory],
}

impl OwnMemory<'_> {
    /// Returns how many bytes of it may be in resident sets at this time.
    fn bytes_at(&self, time_ns: u64) -> u64 {
        let last =
            self.private[..self.private.partition_point(|own| own.time_ns <= time_ns)].last();
        self.shared_bytes.saturating_add(last.map_or(0, |own| own.bytes))
    }
}

/// Compares the growth of the resident set with the live bytes of the heap, at the sample with the largest growth.
///
/// The live bytes are the maximum between the sample before and the sample after that one. A wider range than the sample
/// itself is needed for two reasons: a free is recorded before the kernel takes the memory back, and to sample all processes
/// takes some time.
fn coverage(
    series: &[HeapInterval],
    timeline: &Timeline,
    own: OwnMemory<'_>,
) -> Option<HeapCoverage> {
    // The first of equal samples, since later ones may only repeat the last known usage of an ended process.
    let largest = timeline.samples.iter().rev().max_by_key(|sample| sample.rss_growth_bytes)?;
    let after = timeline.samples.iter().find(|sample| sample.time_ns > largest.time_ns);
    let until_ns = after.map_or(u64::MAX, |sample| sample.time_ns);
    let rss_growth_bytes = largest.rss_growth_bytes.saturating_sub(own.bytes_at(until_ns));
    if rss_growth_bytes < HeapCoverage::NOTABLE_GROWTH {
        return None;
    }
    // Shared memory counts as file-backed.
    let rss_file_growth_bytes =
        largest.rss_file_growth_bytes.saturating_sub(own.shared_bytes).min(rss_growth_bytes);
    let before = timeline.samples.iter().rev().find(|sample| sample.time_ns < largest.time_ns);
    let since_ns = before.map_or(0, |sample| sample.time_ns);
    let at = |time_ns| series.partition_point(|interval| interval.end_ns < time_ns);
    let last = at(until_ns).min(series.len().checked_sub(1)?);
    let around = &series[at(since_ns).min(last)..=last];
    let live_bytes = around.iter().map(|interval| interval.live_bytes_max).max()?;
    Some(HeapCoverage { rss_growth_bytes, rss_file_growth_bytes, live_bytes })
}

fn provenance(
    drained: &Drained,
    injection: &HeapInjection,
    sampling: HeapSampling,
) -> HeapProvenance {
    let versions: BTreeSet<u32> = drained.images.iter().map(|image| image.python).collect();
    let interpreters = versions.into_iter().filter(|version| *version != 0);
    HeapProvenance {
        interval_bytes: sampling.interval_bytes.max(1),
        records: drained.records,
        lost: drained.lost.saturating_add(drained.torn),
        stacks_cut: drained.totals.stacks_cut,
        unsymbolised: 0,
        stacks_joined: 0,
        processes: drained.images.len() as u64,
        unrecorded: drained.unrecorded.count,
        unrecorded_names: drained.unrecorded.names.iter().cloned().collect(),
        interpreters: interpreters.map(|version| interpreter_name(version, false)).collect(),
        recorder_cpu_ns: drained.cpu_ns,
        target_cpu_ns: 0,
        target_wall_ns: 0,
        coverage: None,
        notices: notices(drained, injection),
    }
}

/// Returns the notices about the recording.
fn notices(drained: &Drained, injection: &HeapInjection) -> Vec<Notice> {
    let mut notices = refusals(&drained.images);
    notices.extend(drained.unrecorded.notice());
    notices.extend(unseen(&drained.unseen));
    if drained.images.is_empty() {
        notices.push(Notice::new(NoticeId::HeapNothingRecorded, NOTHING_RECORDED));
    }
    if injection.memory.header(HeapField::Abandoned) != 0 {
        notices.push(Notice::new(NoticeId::HeapRecordingStopped, STOPPED));
    }
    notices.extend(losses(drained, &injection.memory));
    notices.extend(unsampled_notices(&injection.python.memory));
    notices
}

/// If at least this share of the records has an incomplete stack, the profile has a notice.
const NOTABLE_CUT: f64 = 0.01;

/// Returns a notice about libraries whose allocations are not recorded.
fn unseen(libraries: &BTreeSet<String>) -> Option<Notice> {
    let names: Vec<&str> = libraries.iter().map(String::as_str).collect();
    (!names.is_empty()).then(|| {
        let text = format!(
            "What these libraries allocate and free is not recorded: {}. They were opened by dlmopen, with an allocator of their \
             own, or with RTLD_DEEPBIND. Memory that the program allocates and such a library frees looks as if it stayed alive.",
            names.join(", ")
        );
        Notice::new(NoticeId::HeapLibrariesUnseen, text)
    })
}

const NOTHING_RECORDED: &str = "No process of the target reported its allocations: the library was not loaded. Programs that are \
    linked statically, that change their user or that clear LD_PRELOAD do not load it.";
const STOPPED: &str = "Recording stopped before the target ended, because its records were not read in time. Use a larger \
    --memory-interval.";

/// Returns a notice for each kind of loss, with its count.
fn losses(drained: &Drained, memory: &HeapMemory) -> Vec<Notice> {
    let header = |field| memory.header(field);
    let table = [
        (
            drained.lost,
            NoticeId::HeapRecordsLost,
            "records of allocations or frees were lost, because they were written faster than they were read. Allocated bytes \
             are too low; live, peak and leaked bytes are too low, or too high if frees were lost. Use a larger --memory-interval.",
        ),
        (
            drained.torn,
            NoticeId::HeapRecordsTorn,
            "records were not finished, because their threads ended or were killed: those allocations or frees are missing.",
        ),
        (
            header(HeapField::ProcessesLost).saturating_add(drained.unknown_images),
            NoticeId::HeapProcessesLost,
            "processes exceeded the number that can be recorded, or were killed as they started: their memory is missing.",
        ),
        (
            header(HeapField::LiveFull),
            NoticeId::HeapLiveTableFull,
            "allocations were not recorded, because too many were live. Use a larger --memory-interval.",
        ),
        (
            header(HeapField::Nested),
            NoticeId::HeapStacksMissing,
            "allocations have no stack, because too many threads allocated at once.",
        ),
        (
            header(HeapField::StacksLost),
            NoticeId::HeapStacksMissing,
            "allocations have no stack or part of one, because the table of distinct stacks was full.",
        ),
        (
            header(HeapField::StacksConfined),
            NoticeId::HeapStacksMissing,
            "allocations have only the innermost part of their stacks, because a seccomp filter of the target forbids to examine \
             the stack of their thread. Record it without the filter.",
        ),
        (
            drained.unnamed_modules,
            NoticeId::HeapModulesUnnamed,
            "libraries or programs have no names, because a process was killed as it reported them: their frames have no names.",
        ),
    ];
    let cut = drained.totals.stacks_cut;
    let is_notable = cut as f64 >= NOTABLE_CUT * drained.records as f64;
    let cut = is_notable.then_some((
        cut,
        NoticeId::HeapStacksMissing,
        "recorded allocations have a stack without its outer functions, or none: those functions' totals are too small.",
    ));
    let table = table.into_iter().chain(cut);
    let lost = table.filter(|(count, ..)| *count > 0);
    lost.map(|(count, id, what)| Notice::new(id, format!("{count} {what}"))).collect()
}

/// Returns a notice for each reason that processes could not be recorded.
fn refusals(images: &[Image]) -> Vec<Notice> {
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    for reason in images.iter().filter_map(images::refusal) {
        *reasons.entry(reason).or_default() += 1;
    }
    let sentence = |(reason, count): (&str, u64)| {
        let mut sentence = format!("{reason}.");
        if count > 1 {
            sentence = format!("{reason} ({count} processes).");
        }
        Notice::new(NoticeId::HeapProcessesRefused, sentence[..1].to_uppercase() + &sentence[1..])
    };
    reasons.into_iter().map(sentence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use simprof_model::ResourceSample;

    #[test]
    fn coverage_is_taken_at_the_largest_growth() {
        let sample = |time_ns, rss_growth_bytes| ResourceSample {
            time_ns,
            rss_growth_bytes,
            ..Default::default()
        };
        let timeline = |rss: &[u64]| Timeline {
            samples: (0..).zip(rss).map(|(at, rss)| sample(at * 10, rss << 20)).collect(),
            ..Timeline::default()
        };
        let interval = |end_ns, live: u64| HeapInterval {
            end_ns,
            live_bytes_max: live << 20,
            ..HeapInterval::default()
        };
        let series = [5, 8, 15, 25, 35].map(|end_ns| interval(end_ns, end_ns));
        // Memory that the library took after the peak is not in the resident set at the peak.
        let private = [(0, 3), (12, 1), (21, 50)]
            .map(|(time_ns, mib)| LibraryMemory { time_ns, bytes: mib << 20 });
        let own = OwnMemory { shared_bytes: 3 << 20, private: &private };
        let live_mib = |rss: &[u64], own| {
            let result = coverage(&series, &timeline(rss), own).expect("it grew");
            assert_eq!(result.rss_growth_bytes, 96 << 20);
            result.live_bytes >> 20
        };
        assert_eq!(
            live_mib(&[0, 100, 40, 40], own),
            25,
            "the interval of the next sample is included"
        );
        assert_eq!(live_mib(&[0, 100, 100, 100], own), 25, "the first of equal samples is used");
        let at_first = OwnMemory { private: &private[..2], ..own };
        assert_eq!(
            live_mib(&[0, 10, 10, 100], at_first),
            35,
            "intervals after the last sample are included"
        );
        let mut with_files = timeline(&[0, 130]);
        with_files.samples[1].rss_file_growth_bytes = 47 << 20;
        let result = coverage(&series, &with_files, at_first).expect("it grew");
        assert_eq!(result.rss_growth_bytes, 126 << 20);
        assert_eq!(
            result.rss_file_growth_bytes,
            44 << 20,
            "the library's shared memory is not counted"
        );
        assert_eq!(coverage(&series, &timeline(&[0, 20, 10]), own), None);
        assert_eq!(
            coverage(&series, &timeline(&[0, 10, 10, 80]), own),
            None,
            "it grew only by the profiler's memory"
        );
        assert_eq!(coverage(&[], &Timeline::default(), own), None);
    }
}
