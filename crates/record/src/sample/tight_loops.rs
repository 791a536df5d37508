//! Finds the tight loops that samples fell into, and the source lines of their instructions.
//!
//! Samples do not distinguish the lines of a short loop. A processor that is interrupted finishes some instructions and drops others, so
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
        if length > MAX_FUNCTION || decoded + length > MAX_DECODED {
            continue;
        }
        decoded += length;
        let code = image.code_at(function.start);
        let code = &code[..code.len().min(usize::try_from(length).unwrap_or(0))];
        for found in code_loops::innermost(code, function.start) {
            let (samples, found) = executed(found, leaves);
            if samples > 0 && found.instructions.len() <= MAX_UNROLLED {
                loops.push((samples, found));
            }
        }
    }
    loops
}

/// Returns the number of samples in a loop, and the loop without the parts that have none. Compilers move rarely executed code away from
/// the rest of the loop, and its lines may be those of other code.
fn executed(mut found: CodeLoop, leaves: &BTreeMap<u64, u64>) -> (u64, CodeLoop) {
    found.code.retain(|range| leaves.range(range.clone()).next().is_some());
    let code = found.code.clone();
    found.instructions.retain(|address| code.iter().any(|range| range.contains(address)));
    let samples =
        code.into_iter().flat_map(|range| leaves.range(range)).map(|(_, samples)| samples);
    (samples.sum(), found)
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
    use std::process::Command;

    use simprof_testkit::{TestFolder, run};

    use super::*;
    use crate::sample::dwarf::FunctionInfo;
    use crate::sample::symbolise::{addresses, module_with};

    /// Two loops, and a nested one: lines 4 to 5, 7 to 8, and 11 to 12.
    const SOURCE: &str = "double a[4096];
__attribute__((noinline)) double work(long n) {
    double total = 0;
    for (long i = 0; i < n; i++) {
        total += a[i & 4095] * 1.5;
    }
    for (long i = 0; i < n; i++) {
        a[i] = a[i] * 2 + 1;
    }
    for (long i = 0; i < n; i++) {
        for (long j = 0; j < i; j++) {
            total += a[j & 4095];
        }
        total /= 3;
    }
    return total;
}
int main(int c, char **v) { (void)v; return work(c) > 1e9; }
";

    fn only(range: Range<u64>) -> Vec<Range<u64>> {
        std::iter::once(range).collect()
    }

    /// Returns the tight loops of a function, if all its instructions were sampled.
    fn loops_of(program: &str, function: &str) -> Vec<TightCode> {
        let (module, wanted) = module_with(program, function);
        let leaves = wanted.iter().map(|&address| (address, 1)).collect();
        addresses(&module, &[], &leaves).loops
    }

    /// Returns the lines of a function in each loop, each set once.
    fn lines_of(loops: &[TightCode], function: &str) -> BTreeSet<Vec<u32>> {
        let of_loop = |found: &TightCode| {
            let own = found.lines.iter().filter(|line| line.function.ends_with(function));
            let lines: BTreeSet<u32> = own.map(|line| line.line).collect();
            lines.into_iter().collect()
        };
        loops.iter().map(of_loop).collect()
    }

    #[test]
    fn loops_of_c_have_their_lines() {
        let folder = TestFolder::new();
        for options in [
            &["-O0"][..],
            &["-O1"],
            &["-O2"],
            &["-O2", "-funroll-loops"],
            &["-O3", "-ffast-math"],
            &["-O3", "-ffast-math", "-funroll-loops", "-mavx2"],
        ] {
            let program = folder.compile_c("loops", SOURCE, &[options, &["-g"]].concat());
            let found = loops_of(&program, "work");
            let lines = lines_of(&found, "work");
            for expected in [[4, 5], [7, 8], [11, 12]] {
                assert!(lines.contains(expected.as_slice()), "{options:?}: {lines:?}");
            }
            // Compilers may leave the counting of a loop to another line.
            let within = |lines: &Vec<u32>| {
                [4..=5, 7..=8, 11..=12]
                    .iter()
                    .any(|part| lines.iter().all(|line| part.contains(line)))
            };
            assert!(lines.iter().all(within), "{options:?}: {lines:?}");
            assert!(found.iter().all(|found| found.functions == ["work"]), "{found:?}");
        }
    }

    #[test]
    fn parts_that_were_not_executed_are_left_out() {
        let found = CodeLoop {
            code: vec![0x10..0x18, 0x30..0x38],
            instructions: vec![0x10, 0x14, 0x30],
            latch: 0x14,
        };
        let samples =
            |leaves: &[(u64, u64)]| executed(found.clone(), &leaves.iter().copied().collect());
        let (number, hot) = samples(&[(0x08, 9), (0x10, 2), (0x14, 3), (0x20, 5)]);
        assert_eq!((number, hot.code, hot.instructions), (5, only(0x10..0x18), vec![0x10, 0x14]));
        assert_eq!(samples(&[(0x10, 2), (0x37, 1)]), (3, found.clone()));
        assert_eq!(samples(&[(0x18, 2)]).0, 0);
    }

    #[test]
    fn a_long_body_is_no_tight_loop() {
        let body: String = (0..200).map(|n| format!("a[{n}] = a[{n}] * {n} + i;\n")).collect();
        let source = format!(
            "double a[4096];\n__attribute__((noinline)) void work(long n) {{\n\
             for (long i = 0; i < n; i++) {{\n{body}}}\n}}\nint main(void) {{ work(3); return 0; }}\n"
        );
        let folder = TestFolder::new();
        for option in ["-O0", "-O2", "-O3"] {
            let program = folder.compile_c("long", &source, &[option, "-g"]);
            assert_eq!(loops_of(&program, "work"), [], "{option}");
        }
    }

    #[test]
    fn a_loop_belongs_to_the_function_that_it_is_written_in() {
        let source = "use std::hint::black_box;
#[inline(always)]
fn square(x: f64) -> f64 {
    x * x
}
#[inline(always)]
fn sum_of_squares(values: &[f64]) -> f64 {
    let mut sum = 0.0;
    for value in values {
        sum += square(*value);
    }
    sum
}
#[inline(never)]
fn work(values: &[f64]) -> f64 {
    sum_of_squares(values) + 1.0
}
#[inline(never)]
fn chain(values: &[f64]) -> f64 {
    values
        .iter()
        .map(|value| {
            value + 3.0
        })
        .sum()
}
fn main() {
    let values = black_box(vec![1.5; 100]);
    println!(\"{} {}\", work(&values), chain(&values));
}
";
        let folder = TestFolder::new();
        let file = folder.write("program.rs", source);
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let mut command = Command::new(rustc);
        run(command.current_dir(folder.root()).args(["-O", "-g", &file]));
        let program = folder.text_path("program");
        let found = loops_of(&program, "work");
        assert!(!found.is_empty());
        for found in &found {
            assert!(found.functions[0].ends_with("sum_of_squares"), "{found:?}");
            assert!(found.functions[1].ends_with("work"), "{found:?}");
        }
        assert!(lines_of(&found, "sum_of_squares").contains(&vec![9, 10]), "{found:?}");
        assert!(lines_of(&found, "square").contains(&vec![4]), "{found:?}");
        // The loop is in the standard library, with a closure and the call of `sum` around it.
        let found = loops_of(&program, "chain");
        assert!(lines_of(&found, "chain").contains(&vec![25]), "{found:?}");
        assert!(lines_of(&found, "chain::{{closure}}").contains(&vec![23]), "{found:?}");
    }

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
            let code = CodeLoop { code: only(0..9), instructions, latch: 0 };
            tight(&code, &mut |address| chain(&format!("f@{}", 1 + address % lines))).is_some()
        };
        assert!(is_tight(64, 60));
        assert!(!is_tight(65, 60));
        assert!(is_tight(512, FEW_LINES as u64));
        assert!(!is_tight(512, 1 + FEW_LINES as u64));
    }
}
