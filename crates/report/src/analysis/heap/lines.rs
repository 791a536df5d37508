//! Memory by source line.

use std::collections::{BTreeMap, HashMap};

use simprof_model::{
    Frame, FrameId, FunctionId, HeapAmounts, HeapProfile, Profile, StackId, StringId,
};

use super::allocators::{AllocatorRole, allocator_roles};
use crate::analysis::{Groups, Origin, origins};

/// A line of the program with the memory that it and the libraries that it calls allocated.
#[derive(Debug, Clone, PartialEq)]
pub struct HeapLine {
    /// Function that the line belongs to.
    pub function: String,
    /// Source file of the line.
    pub file: Option<String>,
    /// Line, 1-based, if known.
    pub line: Option<u32>,
    /// Origin of the function.
    pub origin: Origin,
    /// The memory that it allocated.
    pub amounts: HeapAmounts,
    /// The functions that it calls to allocate, by decreasing bytes.
    pub via: Vec<String>,
}

/// A line of the source: the group of its function, file and line.
type Key = (usize, Option<StringId>, Option<u32>);

/// The key of allocations without a stack.
const NO_STACK: Key = (usize::MAX, None, None);

/// Returns every line that allocated, by decreasing bytes.
///
/// An allocation belongs to the frame nearest the allocator that the author wrote. If there is none, it belongs to the
/// nearest library frame, or else to the nearest frame outside the allocator. Each allocation counts once, and all lines
/// sum to the whole.
pub fn heap_lines(profile: &HeapProfile) -> Vec<HeapLine> {
    let tables = &profile.tables;
    let chooser = Chooser::new(profile);
    let mut lines: BTreeMap<Key, (HeapAmounts, BTreeMap<usize, u64>)> = BTreeMap::new();
    for site in &profile.sites {
        let chosen = chooser.chosen(profile, site.stack);
        let key = chosen.map_or(NO_STACK, |(frame, _)| chooser.key(profile, frame));
        let (amounts, via) = lines.entry(key).or_default();
        amounts.add(&site.amounts);
        if let Some(callee) = chosen.and_then(|(_, callee)| callee) {
            let function = tables.frame(callee).function;
            *via.entry(chooser.groups.group_of(function)).or_default() +=
                site.amounts.allocated.bytes;
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

/// Returns the memory that was allocated with a line on the stack, by file and line. Callees count for the line, and each
/// allocation counts once for a line.
pub fn heap_lines_with_callees(profile: &HeapProfile) -> BTreeMap<(String, u32), HeapAmounts> {
    let tables = &profile.tables;
    let (lines, line_of_frame) = frame_lines(tables);
    let mut sums: Vec<HeapAmounts> = vec![HeapAmounts::default(); lines.len()];
    let mut last_site = vec![None; lines.len()];
    for (number, site) in profile.sites.iter().enumerate() {
        for id in tables.frames_from_leaf(site.stack) {
            let Some(line) = line_of_frame[id.index()] else { continue };
            if last_site[line].replace(number) != Some(number) {
                sums[line].add(&site.amounts);
            }
        }
    }
    let named = lines.into_iter().zip(sums).zip(last_site).filter(|(_, last)| last.is_some());
    named.map(|(((file, line), sums), _)| ((tables.string(file).to_owned(), line), sums)).collect()
}

/// Returns the distinct lines of all frames, and for each frame the index of its line. With indices, up to a million
/// stacks are summed without comparing strings.
fn frame_lines(tables: &Profile) -> (Vec<(StringId, u32)>, Vec<Option<usize>>) {
    let mut known: HashMap<(StringId, u32), usize> = HashMap::new();
    let mut lines = Vec::new();
    let mut index_of = |frame: &Frame| {
        let line = (file_of(tables, frame)?, frame.line?);
        Some(*known.entry(line).or_insert_with(|| {
            lines.push(line);
            lines.len() - 1
        }))
    };
    let line_of_frame = tables.frames.iter().map(&mut index_of).collect();
    (lines, line_of_frame)
}

fn file_of(tables: &Profile, frame: &Frame) -> Option<StringId> {
    frame.file.or(tables.function(frame.function).file)
}

/// Chooses the frame that an allocation belongs to.
struct Chooser {
    origins: Vec<Origin>,
    /// By function: its role, if it is an allocator's.
    roles: Vec<Option<AllocatorRole>>,
    groups: Groups,
}

impl Chooser {
    fn new(profile: &HeapProfile) -> Self {
        let tables = &profile.tables;
        Self {
            origins: origins(tables),
            roles: allocator_roles(tables),
            groups: Groups::new(tables),
        }
    }

    /// Returns the frame that an allocation belongs to, and the frame that it calls.
    fn chosen(
        &self,
        profile: &HeapProfile,
        stack: Option<StackId>,
    ) -> Option<(FrameId, Option<FrameId>)> {
        let mut frames: Vec<FrameId> = profile.tables.frames_from_leaf(stack).collect();
        let function = |id: FrameId| profile.tables.frame(id).function.index();
        let role = |id: FrameId| self.roles[function(id)];
        // Functions that an allocator calls are part of the allocator, regardless of their author.
        let outermost = frames.iter().rposition(|&id| role(id) == Some(AllocatorRole::Allocates));
        frames.drain(..outermost.unwrap_or(0));
        let is = |id, wanted| self.origins[function(id)] == wanted && role(id).is_none();
        let nearest = |wanted: Origin| frames.iter().position(|&id| is(id, wanted));
        let outside = || frames.iter().position(|&id| role(id).is_none());
        let at = nearest(Origin::Own).or_else(|| nearest(Origin::Library)).or_else(outside);
        let at = at.unwrap_or(0);
        let frame = *frames.get(at)?;
        Some((frame, at.checked_sub(1).map(|callee| frames[callee])))
    }

    fn key(&self, profile: &HeapProfile, frame: FrameId) -> Key {
        let frame = profile.tables.frame(frame);
        (self.groups.group_of(frame.function), file_of(&profile.tables, frame), frame.line)
    }

    fn line(
        &self,
        profile: &HeapProfile,
        (group, file, line): Key,
        amounts: HeapAmounts,
        via: &BTreeMap<usize, u64>,
    ) -> HeapLine {
        let name = |id: FunctionId| profile.tables.function_name(id).to_owned();
        let known = (group != NO_STACK.0).then(|| self.groups.first(group));
        let mut via: Vec<(u64, String)> =
            via.iter().map(|(&group, &bytes)| (bytes, name(self.groups.first(group)))).collect();
        via.sort_by(|a, b| (b.0, &a.1).cmp(&(a.0, &b.1)));
        HeapLine {
            function: known.map_or_else(|| crate::analysis::UNKNOWN.to_owned(), name),
            file: file.map(|file| profile.tables.string(file).to_owned()),
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
    fn each_allocation_belongs_to_the_nearest_line_of_the_author() {
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
        assert_eq!(whole, profile.total(|site| site.amounts.allocated).bytes);
    }

    #[test]
    fn with_callees_each_allocation_counts_once_per_line() {
        let profile = heap(&[("s::f@1 > s::f@1 > s::f@2 > malloc", 9), ("s::f@1 > malloc", 1)]);
        let lines = heap_lines_with_callees(&profile);
        let bytes = |line| lines[&("src/sim.rs".to_owned(), line)].allocated.bytes;
        assert_eq!((bytes(1), bytes(2)), (10, 9));
    }
}
