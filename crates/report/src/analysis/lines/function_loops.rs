//! The tight loops in the functions whose lines are examined.

use std::collections::HashSet;

use simprof_model::{FrameId, FunctionId, Profile, StringId};

use super::LineKey;
use super::loop_rows::{LoopIndex, LoopRow, LoopRows, Position, is_part_of, lines_of};
use crate::analysis::select::FunctionSet;

/// A loop, a function in it, and a source file.
pub(super) type LoopKey = (usize, StringId, StringId);

/// The tight loops in the functions of a set.
#[derive(Debug, Default)]
pub(super) struct FunctionLoops {
    pub index: LoopIndex,
    /// For each loop the functions of the set in it. A closure of such a function is not one of them.
    functions: Vec<Vec<StringId>>,
    pub rows: LoopRows<LoopKey>,
}

impl FunctionLoops {
    pub fn new(profile: &Profile, set: &FunctionSet) -> Self {
        let functions = (0..).map(FunctionId).zip(&profile.functions);
        let of_set = functions.filter(|(id, _)| set.contains(*id));
        let named: HashSet<StringId> = of_set.map(|(_, function)| function.name).collect();
        let mut functions = Vec::with_capacity(profile.loops.len());
        let mut candidates = Vec::new();
        for (index, tight) in profile.loops.iter().enumerate() {
            let mut found: Vec<StringId> = tight.lines.iter().map(|line| line.function).collect();
            found.retain(|name| named.contains(name));
            found.sort_unstable_by_key(|&name| (profile.string(name).len(), name));
            found.dedup();
            let mut roots: Vec<StringId> = Vec::new();
            for name in found {
                if !roots.iter().any(|&root| is_part_of(profile, name, root)) {
                    roots.push(name);
                }
            }
            for &function in &roots {
                for (file, lines) in lines_of(profile, tight, function) {
                    if lines.len() > 1 {
                        let row = LoopRow { function, file, lines };
                        candidates.push(((index, function, file), row));
                    }
                }
            }
            functions.push(roots);
        }
        let rows = LoopRows::join(candidates);
        Self { index: LoopIndex::new(profile), functions, rows }
    }

    /// Returns what a frame counts for. `is_executing` is true for the function at the leaf, and those that are inlined there.
    pub fn position(
        &self,
        profile: &Profile,
        in_loop: Option<usize>,
        is_executing: bool,
        id: FrameId,
    ) -> Position {
        let frame = profile.frame(id);
        let key = LineKey::of_frame(profile, frame);
        let name = profile.function(frame.function).name;
        let key_in = |index: usize| {
            let mut roots = self.functions[index].iter();
            let root = roots.find(|&&root| is_part_of(profile, name, root))?;
            Some((index, *root, key.file?))
        };
        let of_loop = in_loop.and_then(key_in).and_then(|key| self.rows.at(&key));
        let of_line = || self.rows.at_line(profile, frame).filter(|_| is_executing);
        of_loop.or_else(of_line).map_or(Position::Line(key), Position::Loop)
    }
}
