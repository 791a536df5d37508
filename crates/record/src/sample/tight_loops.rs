//! Finds the tight loops that samples fell into, and the source lines of their instructions.
//!
//! Samples do not tell the lines of a short loop apart. A processor that is interrupted finishes some instructions and drops others, so
//! samples gather at few instructions, often at the branch. This was measured with the timer on a virtual x86-64 machine, in loops of n
//! equal lines (a chain of multiplications; additions in memory; floating point). The line of the `for`, which is a counter and a
//! branch, gets 16 to 100 % of the samples of a loop with one line in it, 9 to 20 % with 4 lines (16 to 25 instructions), and 3 to 5 %
//! with 16 lines (40 to 85 instructions), which is its part of the instructions. In longer loops only neighbouring lines are mixed up:
//! a line gets up to 2.8 times its part.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use super::code_loops::{self, CodeLoop};
use super::dwarf::CodeLocation;
use super::module::Image;
use super::symbol_table::SymbolTable;

/// Most instructions of a tight loop.
const MAX_INSTRUCTIONS: usize = 64;
/// Most instructions of a tight loop with at most [`FEW_LINES`] lines: compilers copy the body of a loop several times.
const MAX_UNROLLED: usize = 512;
/// Most lines of a tight loop with more than [`MAX_INSTRUCTIONS`].
const FEW_LINES: usize = 6;
/// Largest function that is searched, bytes. Larger ones are mostly generated code without tight loops.
const MAX_FUNCTION: u64 = 256 << 10;
/// Bytes of code of one module that are decoded. Functions with more samples come first.
const MAX_DECODED: u64 = 8 << 20;
/// Loops of one module whose lines are looked up. Loops with more samples come first.
const MAX_LOOPS: usize = 256;

/// A tight loop with its source lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TightCode {
    /// In order of addresses.
    pub code: Vec<Range<u64>>,
    /// Number of instructions.
    pub instructions: usize,
    /// Names of the functions that contain the whole loop, innermost first.
    pub functions: Vec<String>,
    pub lines: BTreeSet<SourceLine>,
}

/// A source line in a loop.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SourceLine {
    pub file: Rc<str>,
    pub line: u32,
    pub function: String,
}

/// Returns the tight loops that contain some of `leaves`: sampled addresses with their numbers of samples. `locations` returns the
/// functions and lines at an address, innermost first.
pub(super) fn find(
    image: &Image,
    symbols: &SymbolTable<'_>,
    leaves: &BTreeMap<u64, u64>,
    mut locations: impl FnMut(u64) -> Vec<CodeLocation>,
) -> Vec<TightCode> {
    let mut sampled = sampled_loops(image, symbols, leaves);
    sampled.sort_by_key(|(samples, found)| (std::cmp::Reverse(*samples), found.instructions[0]));
    sampled.truncate(MAX_LOOPS);
    let mut loops: Vec<TightCode> =
        sampled.iter().filter_map(|(_, found)| tight(found, &mut locations)).collect();
    loops.sort_by_key(|found| found.code[0].start);
    loops
}

/// Returns the innermost loops that may be tight, with their numbers of samples.
fn sampled_loops(
    image: &Image,
    symbols: &SymbolTable<'_>,
    leaves: &BTreeMap<u64, u64>,
) -> Vec<(u64, CodeLoop)> {
    let mut functions: Vec<(u64, Range<u64>)> = Vec::new();
    let mut covered = 0;
    for (&address, &samples) in leaves {
        if address < covered {
            functions.last_mut().expect("it covers the address").0 += samples;
        } else if let Some(function) = function_at(image, symbols, address) {
            covered = function.end;
            functions.push((samples, function));
        }
    }
    functions.sort_by_key(|(samples, function)| (std::cmp::Reverse(*samples), function.start));
    let mut decoded = 0;
    let mut loops = Vec::new();
    for (_, function) in functions {
        let length = function.end - function.start;
        decoded += length;
        if length > MAX_FUNCTION || decoded > MAX_DECODED {
            continue;
        }
        let code = image.code_at(function.start);
        let code = &code[..code.len().min(usize::try_from(length).unwrap_or(0))];
        for found in code_loops::innermost(code, function.start) {
            let ranges = found.code.iter().flat_map(|range| leaves.range(range.clone()));
            let samples: u64 = ranges.map(|(_, samples)| samples).sum();
            if samples > 0 && found.instructions.len() <= MAX_UNROLLED {
                loops.push((samples, found));
            }
        }
    }
    loops
}

fn function_at(image: &Image, symbols: &SymbolTable<'_>, address: u64) -> Option<Range<u64>> {
    let in_table = image.unwind.function_at(address).map(|found| found.start..found.end);
    in_table.or_else(|| symbols.at(address)?.range()).filter(|range| range.contains(&address))
}

/// Returns the loop with its lines; `None` if it is not tight, or if no line is known.
fn tight(
    found: &CodeLoop,
    locations: &mut impl FnMut(u64) -> Vec<CodeLocation>,
) -> Option<TightCode> {
    let chains: Vec<Vec<CodeLocation>> =
        found.instructions.iter().map(|&address| locations(address)).collect();
    let lines: BTreeSet<SourceLine> = chains.iter().flatten().filter_map(source_line).collect();
    let innermost = chains.iter().filter_map(|chain| source_line(chain.first()?));
    let is_tight = found.instructions.len() <= MAX_INSTRUCTIONS
        || innermost.collect::<BTreeSet<_>>().len() <= FEW_LINES;
    (is_tight && !lines.is_empty()).then(|| TightCode {
        code: found.code.clone(),
        instructions: found.instructions.len(),
        functions: containing(&locations(found.latch), &chains),
        lines,
    })
}

fn source_line(location: &CodeLocation) -> Option<SourceLine> {
    let line = location.line.filter(|&line| line > 0)?;
    let (file, function) = (Rc::clone(location.file.as_ref()?), location.function.name.clone());
    Some(SourceLine { file, line, function })
}

/// Returns the names of the functions that contain a whole loop, innermost first: of the functions at the jump back to its start
/// (`latch`) those that also contain the other instructions (`chains`). The function in which the loop is written comes first.
///
/// A quarter of the instructions may be elsewhere, because compilers move instructions of a function into the loops of another one.
fn containing(latch: &[CodeLocation], chains: &[Vec<CodeLocation>]) -> Vec<String> {
    let mut functions: Vec<String> = Vec::new();
    for depth in 1..=latch.len() {
        let is_inside = |chain: &&Vec<CodeLocation>| is_same_call(latch, chain, depth);
        if chains.iter().filter(is_inside).count() * 4 < chains.len() * 3 {
            break;
        }
        functions.push(latch[latch.len() - depth].function.name.clone());
    }
    functions.reverse();
    functions
}

/// Returns whether the outermost `depth` functions of two chains are the same, and called at the same lines.
fn is_same_call(a: &[CodeLocation], b: &[CodeLocation], depth: usize) -> bool {
    let outermost = |chain: &[CodeLocation]| chain.len().checked_sub(depth);
    let (Some(first_a), Some(first_b)) = (outermost(a), outermost(b)) else { return false };
    let mut pairs = (0..depth).map(|at| (&a[first_a + at], &b[first_b + at]));
    pairs.all(|(a, b)| a.function.name == b.function.name)
        && (1..depth).all(|at| {
            let (a, b) = (&a[first_a + at], &b[first_b + at]);
            (&a.file, a.line) == (&b.file, b.line)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::dwarf::FunctionInfo;

    /// Parses `outer@3 > inner@7`: functions and lines from the outermost to the innermost.
    fn chain(text: &str) -> Vec<CodeLocation> {
        let location = |text: &str| {
            let (name, line) = text.split_once('@').expect("a line");
            let function = FunctionInfo { name: name.to_owned(), ..FunctionInfo::default() };
            let line = line.parse().expect("a number");
            CodeLocation {
                function: Rc::new(function),
                file: Some("a.rs".into()),
                line: Some(line),
            }
        };
        let mut chain: Vec<_> = text.split(" > ").map(location).collect();
        chain.reverse();
        chain
    }

    #[test]
    fn the_function_of_a_loop_contains_all_of_it() {
        // The jump back comes last.
        let table: [(&[&str], &[&str]); 6] = [
            (&["f@3", "f@4"], &["f"]),
            (&["f@3 > g@7", "f@3 > g@8"], &["g", "f"]),
            // Two inlined calls in one loop.
            (&["f@3 > g@7", "f@4 > h@8"], &["f"]),
            // The same function, called on two lines.
            (&["f@3 > g@7", "f@4 > g@7"], &["f"]),
            // One instruction of the caller.
            (&["f@2", "f@3 > g@7", "f@3 > g@8", "f@3 > g@8"], &["g", "f"]),
            // Most instructions are those of an inlined function, but the loop is not in it.
            (&["f@3 > g@7", "f@3 > g@8", "f@3 > g@8", "f@2"], &["f"]),
        ];
        for (chains, expected) in table {
            let chains: Vec<_> = chains.iter().map(|text| chain(text)).collect();
            let latch = chains.last().expect("a chain");
            assert_eq!(containing(latch, &chains), expected, "{chains:?}");
        }
    }

    #[test]
    fn long_loops_are_tight_only_with_few_lines() {
        let is_tight = |instructions: u64, lines: u64| {
            let instructions = (0..instructions).collect();
            let code = CodeLoop { code: vec![0..9], instructions, latch: 0 };
            tight(&code, &mut |address| chain(&format!("f@{}", 1 + address % lines))).is_some()
        };
        assert!(is_tight(64, 60));
        assert!(!is_tight(65, 60));
        assert!(is_tight(512, FEW_LINES as u64));
        assert!(!is_tight(512, 1 + FEW_LINES as u64));
    }
}
