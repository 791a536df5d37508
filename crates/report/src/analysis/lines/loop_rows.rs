//! The rows of tight loops: the lines of one loop are one row, because samples do not distinguish them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

use simprof_model::{
    Frame, FrameId, FunctionKind, ModuleId, Profile, StackId, StringId, TightLoop,
};

use super::{LineKey, LoopCost, LoopLineCost};
use crate::analysis::weights::share;

/// What a row of a table of lines is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Position {
    Line(LineKey),
    /// Position in [`LoopRows`].
    Loop(usize),
}

/// The lines of a row: of one function in one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LoopRow {
    pub function: StringId,
    pub file: StringId,
    pub lines: BTreeSet<u32>,
}

/// Finds the tight loop of a stack.
#[derive(Debug, Default)]
pub(super) struct LoopIndex {
    /// By the start of each range of code: its end, and the position of the loop in the profile.
    code: BTreeMap<(ModuleId, u64), (u64, usize)>,
}

/// The rows of loops, each under the keys of the loops that it stands for.
#[derive(Debug)]
pub(super) struct LoopRows<K> {
    rows: Vec<LoopRow>,
    by_key: HashMap<K, usize>,
}

impl<K> Default for LoopRows<K> {
    fn default() -> Self {
        Self { rows: Vec::new(), by_key: HashMap::new() }
    }
}

impl LoopIndex {
    pub fn new(profile: &Profile) -> Self {
        let mut code = BTreeMap::new();
        for (index, tight) in profile.loops.iter().enumerate() {
            for range in &tight.code {
                code.insert((tight.module, range.start), (range.end, index));
            }
        }
        Self { code }
    }

    /// Returns the loop that a stack was executing: the one that contains its leaf, or the instruction at which the kernel interrupted
    /// the program. Callers were not executing: their time is that of the call.
    pub fn of_stack(&self, profile: &Profile, stack: Option<StackId>) -> Option<usize> {
        let leaf = profile.frame(leaf_frames(profile, stack).next()?);
        let module = profile.function(leaf.function).module?;
        let before = self.code.range(..=(module, leaf.address)).next_back()?;
        let (&(found, _), &(end, index)) = before;
        (found == module && leaf.address < end).then_some(index)
    }
}

/// Returns the frames of the function at the leaf of a stack, and of those that are inlined there, without frames of the kernel.
pub(super) fn leaf_frames(
    profile: &Profile,
    stack: Option<StackId>,
) -> impl Iterator<Item = FrameId> + '_ {
    let mut more = true;
    let outside_kernel = profile.frames_from_leaf(stack).skip_while(|&id| is_kernel(profile, id));
    outside_kernel.take_while(move |&id| {
        let is_part = more;
        more &= profile.frame(id).inlined;
        is_part
    })
}

pub(super) fn is_kernel(profile: &Profile, id: FrameId) -> bool {
    profile.function(profile.frame(id).function).kind == FunctionKind::Kernel
}

impl<K: Hash + Eq> LoopRows<K> {
    /// Joins the candidates of one function that have a line in common. Compilers make several loops of one: for most of the
    /// iterations, and for the rest.
    pub fn join(candidates: impl IntoIterator<Item = (K, LoopRow)>) -> Self {
        let mut joined: Vec<(LoopRow, Vec<K>)> = Vec::new();
        for (key, mut row) in candidates {
            let mut keys = vec![key];
            let overlaps = |other: &mut (LoopRow, Vec<K>)| {
                (other.0.function, other.0.file) == (row.function, row.file)
                    && !other.0.lines.is_disjoint(&row.lines)
            };
            let overlapping: Vec<_> = joined.extract_if(.., overlaps).collect();
            for (other, other_keys) in overlapping {
                row.lines.extend(other.lines);
                keys.extend(other_keys);
            }
            joined.push((row, keys));
        }
        let mut rows = Self::default();
        for (row, keys) in joined {
            rows.by_key.extend(keys.into_iter().map(|key| (key, rows.rows.len())));
            rows.rows.push(row);
        }
        rows
    }

    pub fn at(&self, key: &K) -> Option<usize> {
        self.by_key.get(key).copied()
    }

    pub fn row(&self, index: usize) -> &LoopRow {
        &self.rows[index]
    }

    /// Returns the row that contains the line of a frame. Compilers put the first or the last iterations of a loop outside of it.
    pub fn at_line(&self, profile: &Profile, frame: &Frame) -> Option<usize> {
        let LineKey { file, line } = LineKey::of_frame(profile, frame);
        let (file, line, function) = (file?, line?, profile.function(frame.function).name);
        self.rows.iter().position(|row| {
            (row.function, row.file) == (function, file) && row.lines.contains(&line)
        })
    }
}

/// Returns the lines by file of the function `name` in a loop, with its closures.
pub(super) fn lines_of(
    profile: &Profile,
    tight: &TightLoop,
    name: StringId,
) -> BTreeMap<StringId, BTreeSet<u32>> {
    let mut lines: BTreeMap<StringId, BTreeSet<u32>> = BTreeMap::new();
    for line in &tight.lines {
        if is_part_of(profile, line.function, name) {
            lines.entry(line.file).or_default().insert(line.line);
        }
    }
    lines
}

/// Returns whether `name` is `function` or a closure in it.
pub(super) fn is_part_of(profile: &Profile, name: StringId, function: StringId) -> bool {
    let rest = || profile.string(name).strip_prefix(profile.string(function));
    name == function || rest().is_some_and(|rest| rest.starts_with("::{"))
}

/// The weights of the lines of a loop.
#[derive(Debug, Clone, Default)]
pub(super) struct LoopWeights {
    by_line: BTreeMap<(StringId, LineKey), u64>,
}

impl LoopWeights {
    /// Adds to the line of a frame.
    pub fn add(&mut self, profile: &Profile, frame: &Frame, weight: u64) {
        let key = (profile.function(frame.function).name, LineKey::of_frame(profile, frame));
        *self.by_line.entry(key).or_default() += weight;
    }

    /// Returns the lines of the row, and then others by decreasing weight.
    pub fn cost(mut self, profile: &Profile, row: &LoopRow, whole: u64) -> LoopCost {
        let mut lines = Vec::with_capacity(row.lines.len());
        for &line in &row.lines {
            let key = LineKey { file: Some(row.file), line: Some(line) };
            let own = self.by_line.extract_if(.., |(function, at), _| {
                *at == key && is_part_of(profile, *function, row.function)
            });
            let weight = own.map(|(_, weight)| weight).sum();
            lines.push((row.function, row.file, line, weight));
        }
        let others = self
            .by_line
            .into_iter()
            .filter_map(|((function, key), weight)| Some((function, key.file?, key.line?, weight)));
        let mut others: Vec<_> = others.collect();
        others.sort_by_key(|&(function, file, line, weight)| {
            (std::cmp::Reverse(weight), file, line, function)
        });
        lines.extend(others);
        let cost = |(function, file, line, weight): (StringId, StringId, u32, u64)| LoopLineCost {
            function: profile.string(function).to_owned(),
            file: profile.string(file).to_owned(),
            line,
            weight,
            share: share(weight, whole),
        };
        LoopCost {
            first_line: row.lines.first().copied().unwrap_or(0),
            last_line: row.lines.last().copied().unwrap_or(0),
            lines: lines.into_iter().map(cost).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(function: u32, lines: &[u32]) -> LoopRow {
        let lines = lines.iter().copied().collect();
        LoopRow { function: StringId(function), file: StringId(0), lines }
    }

    #[test]
    fn loops_with_a_common_line_are_one_row() {
        let candidates =
            [row(1, &[5, 6]), row(1, &[8, 9]), row(2, &[5, 6]), row(1, &[6, 7]), row(1, &[7, 8])];
        let rows = LoopRows::join((0..).zip(candidates));
        let all = row(1, &[5, 6, 7, 8, 9]);
        for key in [0, 1, 3, 4] {
            assert_eq!(rows.row(rows.at(&key).expect("it is in a row")), &all);
        }
        assert_eq!(rows.row(rows.at(&2).expect("it is in a row")), &row(2, &[5, 6]));
        assert_eq!(rows.at(&9), None);
    }
}
