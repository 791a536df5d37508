//! The lines of a tight loop in annotated source: a block below a heading with the cost of all of them.

use crate::analysis::{LineCost, LoopCost};
use crate::summary::{LoopLines, loop_name};

/// Lines in the hint of a heading.
const HINT: usize = 4;

/// The tight loops of a file.
#[derive(Debug, Default)]
pub(super) struct LoopBlocks<'a> {
    blocks: Vec<(&'a LineCost, &'a LoopCost)>,
}

impl<'a> LoopBlocks<'a> {
    pub fn add(&mut self, cost: &'a LineCost, found: &'a LoopCost) {
        self.blocks.push((cost, found));
    }

    /// Returns the loops that start at a line, with their headings.
    pub fn starting_at(&self, line: u32) -> impl Iterator<Item = (&'a LineCost, String)> + '_ {
        let starting = self.blocks.iter().filter(move |(_, found)| found.first_line == line);
        starting.map(|&(cost, found)| {
            let name = loop_name(found.first_line, found.last_line);
            let hint = LoopLines::new(found).hint(HINT);
            (cost, format!("┌ lines {name}; samples by line, only a hint: {hint}"))
        })
    }

    /// Returns the mark before the text of a line; empty if the file has no loops.
    pub fn mark(&self, line: u32) -> &'static str {
        let inside = |found: &LoopCost| (found.first_line..=found.last_line).contains(&line);
        match self.blocks.iter().find(|(_, found)| inside(found)) {
            _ if self.blocks.is_empty() => "",
            Some((_, found)) if found.last_line == line => "└ ",
            Some(_) => "│ ",
            None => "  ",
        }
    }

    /// Returns the weight of the costliest loop; 0 without loops.
    pub fn heaviest(&self) -> u64 {
        self.blocks.iter().map(|(cost, _)| cost.total_weight).max().unwrap_or(0)
    }
}
