//! Finds the innermost loops of a function from its instructions: the natural loops of its control flow graph (Aho, Lam, Sethi and
//! Ullman, "Compilers", 2006, section 9.6) that contain no other loop.
//!
//! The targets of indirect jumps are unknown. Each may lead to every block that no other instruction leads to, as the cases of a
//! `switch` are.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic};

/// Largest number of blocks of a function whose loops are found. The time of the search grows with the square of this in the
/// worst case, to about 0.1 s. Functions of programs have some thousands at most.
const MAX_BLOCKS: usize = 1 << 13;

/// An innermost loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CodeLoop {
    /// Its code in order of addresses. Compilers move rarely executed parts away from the rest.
    pub code: Vec<Range<u64>>,
    /// The addresses of its instructions.
    pub instructions: Vec<u64>,
    /// The address of the last jump back to its start.
    pub latch: u64,
}

/// Returns the innermost loops of the function whose code starts at `start`, in order of addresses. They do not overlap.
pub(super) fn innermost(code: &[u8], start: u64) -> Vec<CodeLoop> {
    let instructions = decode(code, start);
    let blocks = blocks(&instructions);
    if blocks.len() > MAX_BLOCKS {
        return Vec::new();
    }
    let graph = Graph::new(&instructions, blocks);
    let mut innermost: Vec<CodeLoop> = graph
        .innermost_loops()
        .iter()
        .map(|body| code_loop(&instructions, &graph.blocks, body))
        .collect();
    innermost.sort_by_key(|found| found.instructions[0]);
    innermost
}

#[cfg(test)]
impl CodeLoop {
    fn contains(&self, address: u64) -> bool {
        self.code.iter().any(|range| range.contains(&address))
    }
}

/// An instruction.
#[derive(Debug, Clone, Copy)]
struct Decoded {
    address: u64,
    end: u64,
    flow: Flow,
}

/// Where execution continues after an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    /// At the address or after the instruction.
    Branch(u64),
    Jump(u64),
    /// At an unknown address.
    Indirect,
    /// Not in this function.
    End,
}

impl Flow {
    fn of(instruction: &Instruction) -> Self {
        match instruction.flow_control() {
            _ if instruction.is_invalid() || instruction.mnemonic() == Mnemonic::Hlt => Self::End,
            FlowControl::ConditionalBranch => Self::Branch(instruction.near_branch_target()),
            FlowControl::UnconditionalBranch => Self::Jump(instruction.near_branch_target()),
            FlowControl::IndirectBranch => Self::Indirect,
            FlowControl::Return | FlowControl::Exception | FlowControl::Interrupt => Self::End,
            _ => Self::Next,
        }
    }

    fn target(self) -> Option<u64> {
        match self {
            Self::Branch(target) | Self::Jump(target) => Some(target),
            _ => None,
        }
    }

    fn continues(self) -> bool {
        matches!(self, Self::Next | Self::Branch(_))
    }
}

fn decode(code: &[u8], start: u64) -> Vec<Decoded> {
    let decoder = Decoder::with_ip(64, code, start, DecoderOptions::NONE);
    let decoded = decoder.into_iter().map(|instruction| Decoded {
        address: instruction.ip(),
        end: instruction.next_ip(),
        flow: Flow::of(&instruction),
    });
    decoded.collect()
}

/// A natural loop of a control flow graph.
struct LoopBody {
    blocks: BTreeSet<usize>,
    /// The last block that leads back to the header.
    latch: usize,
}

/// The control flow graph of a function. Its first block is the entry. The last one has no instructions: all indirect jumps lead
/// to it, and it leads to all their possible targets. So the number of edges stays small.
struct Graph {
    /// Positions of instructions.
    blocks: Vec<Range<usize>>,
    successors: Vec<Vec<usize>>,
}

impl Graph {
    fn new(instructions: &[Decoded], mut blocks: Vec<Range<usize>>) -> Self {
        let block_at = |target: u64| {
            blocks.binary_search_by_key(&target, |block| instructions[block.start].address).ok()
        };
        let flows: Vec<Flow> =
            blocks.iter().map(|block| instructions[block.end - 1].flow).collect();
        let mut successors: Vec<Vec<usize>> = Vec::with_capacity(blocks.len());
        for (index, flow) in flows.iter().enumerate() {
            let next = Some(index + 1).filter(|&next| flow.continues() && next < blocks.len());
            successors.push(next.into_iter().chain(flow.target().and_then(block_at)).collect());
        }
        let mut is_reached = vec![false; blocks.len()];
        successors.iter().flatten().for_each(|&block| is_reached[block] = true);
        let unreached = (1..blocks.len()).filter(|&block| !is_reached[block]).collect();
        let dispatch = blocks.len();
        for (index, _) in flows.iter().enumerate().filter(|(_, flow)| **flow == Flow::Indirect) {
            successors[index].push(dispatch);
        }
        successors.push(unreached);
        blocks.push(instructions.len()..instructions.len());
        Self { blocks, successors }
    }

    /// Returns the natural loops that contain no other loop. Loops with the same header, the block that they start with, are one.
    fn innermost_loops(&self) -> Vec<LoopBody> {
        let order = self.postorder();
        let mut predecessors = vec![Vec::new(); self.blocks.len()];
        for &block in &order {
            for &next in &self.successors[block] {
                predecessors[next].push(block);
            }
        }
        let dominators = Dominators::new(&order, &predecessors);
        let mut latches: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for &latch in &order {
            for &header in &self.successors[latch] {
                if dominators.dominates(header, latch) {
                    latches.entry(header).or_default().push(latch);
                }
            }
        }
        // Jumps from case to case through the last block are no loop of the source.
        let headers = latches.iter().filter(|(header, _)| **header + 1 < self.blocks.len());
        headers
            .filter_map(|(&header, of_header)| {
                let is_header = |block: usize| latches.contains_key(&block);
                let blocks = loop_blocks(header, of_header, &predecessors, &is_header)?;
                Some(LoopBody { blocks, latch: *of_header.iter().max()? })
            })
            .collect()
    }

    /// Returns the blocks that the entry leads to, each after those that it leads to.
    fn postorder(&self) -> Vec<usize> {
        let mut order = Vec::new();
        let mut seen = vec![false; self.blocks.len()];
        let mut open: Vec<(usize, usize)> = Vec::new();
        if let Some(entry) = seen.first_mut() {
            *entry = true;
            open.push((0, 0));
        }
        while let Some((block, followed)) = open.last_mut() {
            match self.successors[*block].get(*followed) {
                Some(&next) => {
                    *followed += 1;
                    if !std::mem::replace(&mut seen[next], true) {
                        open.push((next, 0));
                    }
                }
                None => {
                    order.push(*block);
                    open.pop();
                }
            }
        }
        order
    }
}

/// Divides a function into blocks, which are entered only at their first and left only at their last instruction.
fn blocks(instructions: &[Decoded]) -> Vec<Range<usize>> {
    let position = |target: u64| instructions.binary_search_by_key(&target, |at| at.address).ok();
    let targets = instructions.iter().filter_map(|at| position(at.flow.target()?));
    let after =
        (1..).zip(instructions).filter(|(_, at)| at.flow != Flow::Next).map(|(next, _)| next);
    let mut starts: BTreeSet<usize> = targets.chain(after).collect();
    starts.insert(0);
    starts.insert(instructions.len());
    let starts: Vec<usize> = starts.into_iter().collect();
    starts.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

/// The tree of immediate dominators.
struct Dominators {
    /// The positions at which a walk through the tree enters and leaves each block; empty for blocks that the entry does not
    /// lead to.
    visits: Vec<Range<usize>>,
}

impl Dominators {
    fn new(postorder: &[usize], predecessors: &[Vec<usize>]) -> Self {
        let immediate = immediate_dominators(postorder, predecessors);
        let mut children = vec![Vec::new(); immediate.len()];
        for (block, &above) in immediate.iter().enumerate() {
            if let Some(above) = above.filter(|&above| above != block) {
                children[above].push(block);
            }
        }
        let mut visits = vec![0..0; immediate.len()];
        let mut entered = 0;
        let mut open: Vec<(usize, usize)> =
            postorder.last().map(|&entry| (entry, 0)).into_iter().collect();
        while let Some((block, visited)) = open.last_mut() {
            if *visited == 0 {
                visits[*block].start = entered;
                entered += 1;
            }
            match children[*block].get(*visited) {
                Some(&child) => {
                    *visited += 1;
                    open.push((child, 0));
                }
                None => {
                    visits[*block].end = entered;
                    open.pop();
                }
            }
        }
        Self { visits }
    }

    /// Returns whether every way from the entry to `block` leads through `above`. A block dominates itself.
    fn dominates(&self, above: usize, block: usize) -> bool {
        !self.visits[block].is_empty() && self.visits[above].contains(&self.visits[block].start)
    }
}

/// Returns the immediate dominator of each block; `None` for blocks that the entry does not lead to. The entry dominates itself.
/// (Cooper, Harvey and Kennedy, "A Simple, Fast Dominance Algorithm", 2001.)
fn immediate_dominators(postorder: &[usize], predecessors: &[Vec<usize>]) -> Vec<Option<usize>> {
    let mut dominators = vec![None; predecessors.len()];
    let Some((&entry, others)) = postorder.split_last() else { return dominators };
    let mut rank = vec![0; predecessors.len()];
    for (at, &block) in postorder.iter().enumerate() {
        rank[block] = at;
    }
    dominators[entry] = Some(entry);
    let mut changed = true;
    while changed {
        changed = false;
        for &block in others.iter().rev() {
            let known = predecessors[block].iter().copied().filter(|&at| dominators[at].is_some());
            let found = known.reduce(|a, b| common_dominator(&dominators, &rank, a, b));
            changed |= found != dominators[block];
            dominators[block] = found;
        }
    }
    dominators
}

fn common_dominator(
    dominators: &[Option<usize>],
    rank: &[usize],
    mut a: usize,
    mut b: usize,
) -> usize {
    let above =
        |block: usize| dominators[block].expect("only blocks with a dominator are compared");
    while a != b {
        if rank[a] < rank[b] {
            a = above(a);
        } else {
            b = above(b);
        }
    }
    a
}

/// Returns the header and the blocks that lead to a latch without passing it; `None` if another header is among them.
fn loop_blocks(
    header: usize,
    latches: &[usize],
    predecessors: &[Vec<usize>],
    is_header: &impl Fn(usize) -> bool,
) -> Option<BTreeSet<usize>> {
    let mut body = BTreeSet::from([header]);
    let mut open = latches.to_vec();
    while let Some(block) = open.pop() {
        if body.insert(block) {
            if is_header(block) {
                return None;
            }
            open.extend(&predecessors[block]);
        }
    }
    Some(body)
}

fn code_loop(instructions: &[Decoded], blocks: &[Range<usize>], body: &LoopBody) -> CodeLoop {
    let inside = || body.blocks.iter().flat_map(|&block| &instructions[blocks[block].clone()]);
    let mut code: Vec<Range<u64>> = Vec::new();
    for instruction in inside() {
        match code.last_mut().filter(|last| last.end == instruction.address) {
            Some(last) => last.end = instruction.end,
            None => code.push(instruction.address..instruction.end),
        }
    }
    CodeLoop {
        code,
        instructions: inside().map(|instruction| instruction.address).collect(),
        latch: instructions[blocks[body.latch].end - 1].address,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: u64 = 0x1000;
    const NOP: u8 = 0x90;
    const RET: u8 = 0xc3;

    /// Returns the loops of this code as offsets from its start.
    fn loops(code: &[u8]) -> Vec<Vec<Range<u64>>> {
        let offset = |range: &Range<u64>| range.start - START..range.end - START;
        let found = innermost(code, START);
        found.iter().map(|found| found.code.iter().map(offset).collect()).collect()
    }

    /// Returns a short jump (`jmp`, or `jnz` if conditional) at `at` to `to`.
    fn jump(conditional: bool, at: i8, to: i8) -> [u8; 2] {
        [if conditional { 0x75 } else { 0xeb }, (to - at - 2).cast_unsigned()]
    }

    #[test]
    fn innermost_loops_are_found() {
        let back = |at, to| jump(true, at, to);
        let table: [(&str, Vec<u8>, Vec<Vec<Range<u64>>>); 11] = [
            ("no loop", [&[NOP][..], &[RET]].concat(), vec![]),
            (
                "a block that repeats itself",
                [&[NOP, NOP][..], &back(2, 1), &[RET]].concat(),
                vec![vec![1..4]],
            ),
            (
                "a loop that is entered at its test, and its test is at the end",
                [&jump(false, 0, 3)[..], &[NOP, NOP], &back(4, 2), &[RET]].concat(),
                vec![vec![2..6]],
            ),
            (
                "a loop whose test is at its start",
                [&jump(true, 0, 6)[..], &[NOP, NOP], &jump(false, 4, 0), &[RET]].concat(),
                vec![vec![0..6]],
            ),
            (
                "of nested loops only the inner one",
                [&[NOP, NOP][..], &back(2, 1), &[NOP], &back(5, 0), &[RET]].concat(),
                vec![vec![1..4]],
            ),
            (
                "two loops one after the other",
                [&[NOP][..], &back(1, 0), &[NOP], &back(4, 3), &[RET]].concat(),
                vec![vec![0..3], vec![3..6]],
            ),
            (
                "two jumps back to the same instruction",
                [&[NOP][..], &back(1, 0), &[NOP], &back(4, 0), &[RET]].concat(),
                vec![vec![0..6]],
            ),
            (
                "a part that was moved behind the return",
                [&[NOP][..], &jump(true, 1, 6), &back(3, 0), &[RET], &[NOP], &jump(false, 7, 3)]
                    .concat(),
                vec![vec![0..5, 6..9]],
            ),
            (
                "a jump into the middle: no instruction is always first",
                [&jump(true, 0, 3)[..], &[NOP, NOP], &back(4, 2), &[RET]].concat(),
                vec![],
            ),
            ("a call", [&[0xe8, 0, 0, 0, 0][..], &back(5, 0), &[RET]].concat(), vec![vec![0..7]]),
            (
                "a switch whose case jumps back: jmp rax",
                [&[NOP, 0xff, 0xe0][..], &[NOP], &jump(false, 4, 0), &[NOP, RET]].concat(),
                vec![vec![0..6]],
            ),
        ];
        for (name, code, expected) in table {
            assert_eq!(loops(&code), expected, "{name}: {code:02x?}");
        }
    }

    #[test]
    fn the_loop_of_a_large_function_is_found() {
        let hot = [&[NOP][..], &jump(true, 1, 0)].concat();
        // Each of these indirect jumps may lead to each instruction after one.
        let indirect = [&hot[..], &[0xff, 0xe0].repeat(4_000)].concat();
        let one = |code: Range<u64>| vec![vec![code]];
        assert_eq!(loops(&indirect), one(0..3));
        // Loops around the loop, each with a start of its own: `jnz` with a distance of 32 bits.
        let mut nested = [&[NOP].repeat(2_000)[..], &jump(true, 0, -1)].concat();
        for outer in 1..2_000 {
            let distance = 2_000 - 1 - outer - (nested.len() as i32 + 6);
            nested.extend([&[0x0f, 0x85][..], &distance.to_le_bytes()].concat());
        }
        assert_eq!(loops(&nested), one(1_999..2_002));
        let too_large = [0xff, 0xe0].repeat(2 * MAX_BLOCKS);
        assert_eq!(loops(&too_large), Vec::<Vec<Range<u64>>>::new());
    }

    #[test]
    fn jumps_out_of_the_function_are_no_loops() {
        assert!(loops(&[&[NOP][..], &jump(true, 1, -20), &[RET]].concat()).is_empty());
        assert!(loops(&[]).is_empty());
        // The target is in the middle of an instruction.
        assert!(loops(&[&[0x48, 0xff, 0xc9][..], &jump(true, 3, 1), &[RET]].concat()).is_empty());
    }

    /// Returns whether the instruction at `from` can be executed again after it was, within `code`.
    fn repeats(code: &[Decoded], inside: &CodeLoop, from: u64) -> bool {
        let mut open = vec![from];
        let mut seen = BTreeSet::new();
        while let Some(address) = open.pop() {
            let Ok(at) = code.binary_search_by_key(&address, |at| at.address) else { continue };
            let next = code[at].flow.continues().then_some(code[at].end);
            for next in next.into_iter().chain(code[at].flow.target()) {
                if next == from {
                    return true;
                }
                if inside.contains(next) && seen.insert(next) {
                    open.push(next);
                }
            }
        }
        false
    }

    proptest! {
        /// Random functions of one-byte instructions, jumps and branches.
        #[test]
        fn loops_are_disjoint_and_repeat(
            steps in proptest::collection::vec((0_u8..4, any::<u8>()), 1..60),
        ) {
            let mut code = Vec::new();
            for (kind, to) in &steps {
                let at = code.len() as i64;
                let to = i64::from(*to) % (steps.len() as i64 * 2);
                match kind {
                    0 | 1 => code.push(NOP),
                    _ => {
                        let distance = i8::try_from(to - at - 2).expect("the code is short");
                        code.extend([if *kind == 2 { 0x75 } else { 0xeb }, distance.cast_unsigned()]);
                    }
                }
            }
            code.push(RET);
            let decoded = decode(&code, START);
            let found = innermost(&code, START);
            for (index, one) in found.iter().enumerate() {
                for other in &found[index + 1..] {
                    prop_assert!(one.instructions.iter().all(|&at| !other.contains(at)));
                }
                prop_assert!(one.instructions.contains(&one.latch));
                for &at in &one.instructions {
                    prop_assert!(repeats(&decoded, one, at), "{at:#x} in {one:?}");
                }
            }
        }

        #[test]
        fn any_bytes_are_decoded(code in proptest::collection::vec(any::<u8>(), 0..300)) {
            for found in innermost(&code, START) {
                prop_assert!(found.code.iter().all(|range| range.end <= START + code.len() as u64));
            }
        }
    }
}
