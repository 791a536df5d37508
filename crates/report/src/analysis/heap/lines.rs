//! Memory by source line.

use std::collections::BTreeMap;

use simprof_model::{Frame, FrameId, FunctionId, HeapAmount, HeapProfile, HeapSite, StackId};

use super::allocators::{Deed, deeds};
use super::stacks::target_stack;
use crate::analysis::{Groups, Origin, origins};

/// What a line allocated.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LineAmounts {
    /// All that was allocated.
    pub allocated: HeapAmount,
    /// What of it was alive when most was.
    pub peak: HeapAmount,
    /// What was alive at the end.
    pub live: HeapAmount,
    /// What was freed in its own step.
    pub temporary: HeapAmount,
    /// What was freed within [`SHORT_LIVED_NS`](simprof_model::SHORT_LIVED_NS).
    pub short_lived: HeapAmount,
    /// Allocations that were made larger or smaller.
    pub reallocations: u64,
    /// Largest single allocation that was recorded, bytes.
    pub largest_bytes: u64,
    /// Allocations that were recorded.
    pub records: u64,
    /// Live bytes at each tick of the profile; empty where they stayed small.
    pub live_at_ticks: Vec<u64>,
}

/// A line of the program, and what it and the libraries that it calls allocated.
#[derive(Debug, Clone, PartialEq)]
pub struct HeapLine {
    /// Function that the line belongs to.
    pub function: String,
    /// Source file of the line.
    pub file: Option<String>,
    /// Line, 1-based, where known.
    pub line: Option<u32>,
    /// Whose code it is.
    pub origin: Origin,
    /// What it allocated.
    pub amounts: LineAmounts,
    /// What it calls to allocate, by falling bytes.
    pub via: Vec<String>,
}

impl LineAmounts {
    fn add(&mut self, site: &HeapSite) {
        self.allocated = self.allocated.plus(site.allocated);
        self.peak = self.peak.plus(site.peak);
        self.live = self.live.plus(site.live);
        self.temporary = self.temporary.plus(site.temporary);
        self.short_lived = self.short_lived.plus(site.short_lived);
        self.reallocations += site.reallocations;
        self.largest_bytes = self.largest_bytes.max(site.largest_bytes);
        self.records += site.records;
        if self.live_at_ticks.len() < site.live_at_ticks.len() {
            self.live_at_ticks.resize(site.live_at_ticks.len(), 0);
        }
        for (sum, live) in self.live_at_ticks.iter_mut().zip(&site.live_at_ticks) {
            *sum += live;
        }
    }
}

/// A place in the source: the group of its function, file and line.
type Key = (usize, Option<String>, Option<u32>);

/// Of what has no stack.
const NOWHERE: Key = (usize::MAX, None, None);

/// Every line that allocated, by falling bytes. An allocation belongs to the frame nearest to the allocator that is the author's own
/// code; without any, to the nearest that is of a library, or of anything but the allocator; so each counts once, and all together are the whole.
pub fn heap_lines(profile: &HeapProfile) -> Vec<HeapLine> {
    let tables = &profile.tables;
    let chooser = Chooser::new(profile);
    let mut lines: BTreeMap<Key, (LineAmounts, BTreeMap<usize, u64>)> = BTreeMap::new();
    for site in &profile.sites {
        let chosen = chooser.chosen(profile, target_stack(profile, site.stack));
        let key = chosen.map_or(NOWHERE, |(frame, _)| chooser.key(profile, frame));
        let (amounts, via) = lines.entry(key).or_default();
        amounts.add(site);
        if let Some(callee) = chosen.and_then(|(_, callee)| callee) {
            let function = tables.frame(callee).function;
            *via.entry(chooser.groups.of(function)).or_default() += site.allocated.bytes;
        }
    }
    let line = |(key, (amounts, via)): (Key, _)| chooser.line(profile, key, amounts, &via);
    let mut lines: Vec<HeapLine> = lines.into_iter().map(line).collect();
    lines.sort_by(|a, b| {
        let size = |line: &HeapLine| (line.amounts.allocated.bytes, line.amounts.allocated.count);
        (size(b), &a.file, a.line, &a.function).cmp(&(size(a), &b.file, b.line, &b.function))
    });
    lines
}

/// What was allocated with a line on the stack, by file and line: what it calls counts to it, each allocation once.
pub fn heap_lines_with_callees(profile: &HeapProfile) -> BTreeMap<(String, u32), LineAmounts> {
    let mut lines: BTreeMap<(String, u32), LineAmounts> = BTreeMap::new();
    let mut seen: Vec<(String, u32)> = Vec::new();
    for site in &profile.sites {
        seen.clear();
        for id in profile.tables.frames_from_leaf(target_stack(profile, site.stack)) {
            let frame = profile.tables.frame(id);
            let (Some(file), Some(line)) = (file_of(profile, frame), frame.line) else { continue };
            let key = (file, line);
            if !seen.contains(&key) {
                lines.entry(key.clone()).or_default().add(site);
                seen.push(key);
            }
        }
    }
    lines
}

fn file_of(profile: &HeapProfile, frame: &Frame) -> Option<String> {
    let file = frame.file.or(profile.tables.function(frame.function).file)?;
    Some(profile.tables.string(file).to_owned())
}

/// Chooses the frame that an allocation belongs to.
struct Chooser {
    origins: Vec<Origin>,
    /// By function: what it does, where it is the allocator's, whoever wrote that.
    deeds: Vec<Option<Deed>>,
    groups: Groups,
}

impl Chooser {
    fn new(profile: &HeapProfile) -> Self {
        let tables = &profile.tables;
        Self { origins: origins(tables), deeds: deeds(tables), groups: Groups::new(tables) }
    }

    /// The frame, and what it calls.
    fn chosen(
        &self,
        profile: &HeapProfile,
        stack: Option<StackId>,
    ) -> Option<(FrameId, Option<FrameId>)> {
        let mut frames: Vec<FrameId> = profile.tables.frames_from_leaf(stack).collect();
        let function = |id: FrameId| profile.tables.frame(id).function.index();
        let deed = |id: FrameId| self.deeds[function(id)];
        // What an allocator calls is the allocator, whoever wrote it.
        let outermost = frames.iter().rposition(|&id| deed(id) == Some(Deed::Allocates));
        frames.drain(..outermost.unwrap_or(0));
        let is = |id, wanted| self.origins[function(id)] == wanted && deed(id).is_none();
        let nearest = |wanted: Origin| frames.iter().position(|&id| is(id, wanted));
        let outside = || frames.iter().position(|&id| deed(id).is_none());
        let at = nearest(Origin::Own).or_else(|| nearest(Origin::Library)).or_else(outside);
        let at = at.unwrap_or(0);
        let frame = *frames.get(at)?;
        Some((frame, at.checked_sub(1).map(|callee| frames[callee])))
    }

    fn key(&self, profile: &HeapProfile, frame: FrameId) -> Key {
        let frame = profile.tables.frame(frame);
        (self.groups.of(frame.function), file_of(profile, frame), frame.line)
    }

    fn line(
        &self,
        profile: &HeapProfile,
        (group, file, line): Key,
        amounts: LineAmounts,
        via: &BTreeMap<usize, u64>,
    ) -> HeapLine {
        let name = |id: FunctionId| profile.tables.function_name(id).to_owned();
        let known = (group != NOWHERE.0).then(|| self.groups.first(group));
        let mut via: Vec<(u64, String)> =
            via.iter().map(|(&group, &bytes)| (bytes, name(self.groups.first(group)))).collect();
        via.sort_by(|a, b| (b.0, &a.1).cmp(&(a.0, &b.1)));
        HeapLine {
            function: known.map_or_else(|| crate::analysis::UNKNOWN.to_owned(), name),
            file,
            line,
            origin: known.map_or(Origin::Unknown, |id| self.origins[id.index()]),
            amounts,
            via: via.into_iter().map(|(_, name)| name).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::heap;

    #[test]
    fn each_allocation_belongs_to_the_nearest_line_of_ones_own() {
        let profile = heap(&[
            ("main@1 > s::f@10 > +alloc::vec::push%/rustc/x/library/alloc/vec.rs@5 > malloc", 100),
            ("main@1 > s::f@10 > s::g@20 > malloc", 30),
            ("main@1 > s::f@10 > malloc", 7),
            ("main@1 > s::h@40 > __rustc::__rust_alloc@2 > s::pool::Shim::alloc@3", 1000),
            ("", 5),
            ("_start~/lib/libc.so.6 > tls~/lib/libc.so.6 > calloc~/lib/libc.so.6", 3),
        ]);
        let lines = heap_lines(&profile);
        let found: Vec<_> = lines
            .iter()
            .map(|l| (l.function.as_str(), l.line.unwrap_or(0), l.amounts.allocated.bytes))
            .collect();
        let unknown = crate::analysis::UNKNOWN;
        let expected = [
            ("s::h", 40, 1000),
            ("s::f", 10, 107),
            ("s::g", 20, 30),
            (unknown, 0, 5),
            ("tls", 0, 3),
        ];
        assert_eq!(found, expected);
        assert_eq!(lines[1].via, ["alloc::vec::push", "malloc"]);
        let whole: u64 = lines.iter().map(|line| line.amounts.allocated.bytes).sum();
        assert_eq!(whole, profile.total(|site| site.allocated).bytes);
    }

    #[test]
    fn with_callees_counts_each_allocation_once_a_line() {
        let profile = heap(&[("s::f@1 > s::f@1 > s::f@2 > malloc", 9), ("s::f@1 > malloc", 1)]);
        let lines = heap_lines_with_callees(&profile);
        let bytes = |line| lines[&("src/sim.rs".to_owned(), line)].allocated.bytes;
        assert_eq!((bytes(1), bytes(2)), (10, 9));
    }
}
