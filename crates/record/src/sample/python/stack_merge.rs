//! Merges a native and a Python stack into one.
//!
//! In the native stack, the interpreter has one frame of its evaluation function for each *group* of Python frames that it runs.
//! The outermost Python frame of a group is marked as its entry. In the merged stack, each group replaces its evaluation frame.

use super::role::Role;

/// A native frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NativeFrame<F> {
    pub role: Role,
    pub frame: F,
}

/// A Python frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PythonFrame<F> {
    /// Whether it is the outermost frame of its group.
    pub entry: bool,
    pub frame: F,
}

/// Which stacks are known to be incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// The native stack does not reach the root.
    pub native: bool,
    /// The Python stack does not reach the root.
    pub python: bool,
}

/// How well the two stacks fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Each group replaced an evaluation frame.
    Whole,
    /// The native stack is truncated, but the Python stack completes it up to the root.
    Completed,
    /// The stacks contradict each other. The result has all Python frames, followed by the native frames that the innermost one
    /// called.
    Unmerged,
}

/// Merges two stacks. Arguments and result are in order from the root to the leaf.
pub fn merge<F: Copy>(
    native: &[NativeFrame<F>],
    python: &[PythonFrame<F>],
    missing: Missing,
) -> (Vec<F>, Fit) {
    let native = with_tail_calls(native);
    if python.is_empty() {
        return (native.iter().map(|native| native.frame).collect(), Fit::Whole);
    }
    let groups = groups(python);
    let evaluations: Vec<usize> =
        (0..native.len()).filter(|&index| native[index].role == Role::Evaluation).collect();
    let Some(alignment) = align(evaluations.len(), groups.len(), missing) else {
        let below = evaluations.last().map_or(0, |&last| last + 1);
        let rest = leaf_frames(&native[below..]);
        let frames = python.iter().map(|python| python.frame);
        return (frames.chain(rest.map(|native| native.frame)).collect(), Fit::Unmerged);
    };
    let frames = interleave(&native, &evaluations, &groups, &alignment);
    let completed = missing.native && !missing.python;
    (frames, if completed { Fit::Completed } else { Fit::Whole })
}

/// Pairs of an evaluation frame and the group that it runs: `pairs` consecutive ones, starting at these positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Alignment {
    first_evaluation: usize,
    first_group: usize,
    pairs: usize,
}

/// Aligns evaluation frames and groups, given their numbers. Returns `None` if they contradict each other.
///
/// If both stacks reach the root, they are aligned from there. The numbers may differ by one at the leaf: at the time of the
/// sample, the evaluation function may have been entered but not have started its frame, or a frame may have been set up whose
/// evaluation function was not entered yet.
///
/// If a stack does not reach the root, they are aligned from the leaf. The exception is a truncated native stack that has one
/// evaluation more than there are groups: then the innermost evaluation has not started its frame.
fn align(evaluations: usize, groups: usize, missing: Missing) -> Option<Alignment> {
    let from_root = |pairs| Some(Alignment { first_evaluation: 0, first_group: 0, pairs });
    let pairs = evaluations.min(groups);
    match (missing.native, missing.python) {
        (false, false) if evaluations.abs_diff(groups) > 1 => None,
        (false, false) => from_root(pairs),
        (true, false) if evaluations > groups + 1 => None,
        (true, false) if evaluations > groups => from_root(pairs),
        (false, true) if groups > evaluations + 1 => None,
        _ => Some(Alignment {
            first_evaluation: evaluations - pairs,
            first_group: groups - pairs,
            pairs,
        }),
    }
}

/// Merges aligned stacks.
fn interleave<F: Copy>(
    native: &[NativeFrame<F>],
    evaluations: &[usize],
    groups: &[&[PythonFrame<F>]],
    alignment: &Alignment,
) -> Vec<F> {
    let Alignment { first_evaluation, first_group, pairs } = *alignment;
    let paired = &evaluations[first_evaluation..first_evaluation + pairs];
    let mut out = Vec::with_capacity(native.len() + groups.iter().map(|g| g.len()).sum::<usize>());
    let push_group = |out: &mut Vec<F>, group: usize| {
        out.extend(groups[group].iter().map(|python| python.frame));
    };
    // Groups whose native frames are missing because that stack is truncated.
    (0..first_group).for_each(|group| push_group(&mut out, group));
    let mut next = 0;
    for (pair, &evaluation) in paired.iter().enumerate() {
        let between = &native[next..evaluation];
        let is_start = pair == 0 && first_group == 0;
        out.extend(calling_frames(between, is_start).map(|native| native.frame));
        push_group(&mut out, first_group + pair);
        next = evaluation + 1;
    }
    let below = &native[next..];
    let has_work = below.iter().any(|native| native.role == Role::Work);
    let more_groups = first_group + pairs..groups.len();
    let is_about_to_run = !more_groups.is_empty() && !has_work;
    more_groups.for_each(|group| push_group(&mut out, group));
    if !is_about_to_run {
        out.extend(leaf_frames(below).map(|native| native.frame));
    }
    out
}

/// Returns the native frames to keep that the innermost Python frame called.
///
/// Internal functions of the interpreter are kept only at the leaf. Between Python frames they are removed too; otherwise a
/// function that calls Python would have two positions in the tree, one for its own samples and one for those of its callees.
fn leaf_frames<F>(frames: &[NativeFrame<F>]) -> impl Iterator<Item = &NativeFrame<F>> {
    let is_internal = |frame: &NativeFrame<F>| matches!(frame.role, Role::Internal);
    let end = frames.iter().rposition(|frame| !is_internal(frame)).map_or(0, |last| last + 1);
    let instructions = frames.iter().take_while(|frame| frame.role == Role::Instruction).count();
    let is_kept =
        move |(index, frame): &(usize, &NativeFrame<F>)| *index >= end || !is_internal(frame);
    frames.iter().enumerate().skip(instructions).filter(is_kept).map(|(_, frame)| frame)
}

/// Returns the native frames to keep before a group. The start of the program is removed if nothing else is before the first
/// group.
fn calling_frames<F>(
    frames: &[NativeFrame<F>],
    is_start: bool,
) -> impl Iterator<Item = &NativeFrame<F>> {
    let is_call = |frame: &NativeFrame<F>| matches!(frame.role, Role::Work | Role::Evaluation);
    let is_only_start = is_start && !frames.iter().any(is_call);
    frames.iter().filter(move |frame| match frame.role {
        Role::Work | Role::Evaluation | Role::Preload => true,
        Role::Start => !is_only_start,
        Role::Instruction | Role::Internal => false,
    })
}

/// Changes the role of parts of the evaluation function that it reached by a tail call. Such a part replaced the evaluation
/// function on the stack, so it gets the role [`Role::Evaluation`].
fn with_tail_calls<F: Copy>(native: &[NativeFrame<F>]) -> Vec<NativeFrame<F>> {
    let mut frames: Vec<NativeFrame<F>> = Vec::with_capacity(native.len());
    for frame in native {
        let is_in_evaluation = frames
            .last()
            .is_some_and(|last| matches!(last.role, Role::Evaluation | Role::Instruction));
        let replaces = frame.role == Role::Instruction && !is_in_evaluation;
        let role = if replaces { Role::Evaluation } else { frame.role };
        frames.push(NativeFrame { role, ..*frame });
    }
    frames
}

/// Splits Python frames into groups. Each group begins with an entry.
fn groups<F>(python: &[PythonFrame<F>]) -> Vec<&[PythonFrame<F>]> {
    python.chunk_by(|_, next| !next.entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Missing = Missing { native: false, python: false };
    const NATIVE: Missing = Missing { native: true, python: false };
    const PYTHON: Missing = Missing { native: false, python: true };

    /// Parses native frames: `E` is the evaluation function, `i…` a part of it, `p…` internal, `_…` start, all others work.
    fn native(text: &'static str) -> Vec<NativeFrame<&'static str>> {
        let role = |name: &str| match name.as_bytes()[0] {
            b'E' => Role::Evaluation,
            b'i' => Role::Instruction,
            b'p' => Role::Internal,
            b'_' => Role::Start,
            _ => Role::Work,
        };
        text.split_whitespace().map(|frame| NativeFrame { role: role(frame), frame }).collect()
    }

    /// Parses Python frames. `*` marks an entry.
    fn python(text: &'static str) -> Vec<PythonFrame<&'static str>> {
        let parse = |word: &'static str| match word.strip_prefix('*') {
            Some(frame) => PythonFrame { entry: true, frame },
            None => PythonFrame { entry: false, frame: word },
        };
        text.split_whitespace().map(parse).collect()
    }

    #[test]
    fn groups_replace_their_evaluation_frames() {
        use Fit::{Completed, Unmerged, Whole};
        let table = [
            // One group per evaluation. Start and internal functions are removed.
            ("_s p E p E", "*a b *c", WHOLE, "a b c", Whole),
            ("_s p E p sort p E", "*a *b", WHOLE, "a sort b", Whole),
            // A program that embeds the interpreter.
            ("_s app p E", "*a", WHOLE, "_s app a", Whole),
            // Frames below the innermost Python frame stay, except parts of the evaluation and internal functions before others.
            ("_s E p sum p add p1 p2", "*a", WHOLE, "a sum add p1 p2", Whole),
            ("_s E p1 p2", "*a", WHOLE, "a p1 p2", Whole),
            ("_s E i1 i2 work", "*a", WHOLE, "a work", Whole),
            ("_s E i1 p E i2", "*a *b", WHOLE, "a b", Whole),
            // The evaluation function was replaced on the stack by a tail call.
            ("_s p i1 p i2 work", "*a *b", WHOLE, "a b work", Whole),
            // Entered without running a frame; a frame set up, but not entered.
            ("_s E p E", "*a", WHOLE, "a E", Whole),
            ("_s E sort p E", "*a", WHOLE, "a sort E", Whole),
            ("_s E p", "*a *b", WHOLE, "a b", Whole),
            ("_s E sum", "*a *b", WHOLE, "a b sum", Whole),
            ("_s p", "*a", WHOLE, "a", Whole),
            // Without Python frames nothing changes.
            ("_s p E sum", "", WHOLE, "_s p E sum", Whole),
            // The native stack is truncated: aligned from the leaf, completed up to the root.
            ("p E p E sum", "*a b *c *d *e", NATIVE, "a b c d e sum", Completed),
            ("sort p E", "*a *b", NATIVE, "a sort b", Completed),
            ("sum add", "*a *b", NATIVE, "a b sum add", Completed),
            ("", "*a *b", NATIVE, "a b", Completed),
            ("p E p E", "*a *b", NATIVE, "a b", Completed),
            ("E p E", "*a", NATIVE, "a E", Completed),
            // The Python stack is truncated.
            ("_s E p E p E sum", "c *d", PYTHON, "_s E c d sum", Whole),
            ("_s E sum", "b", PYTHON, "b sum", Whole),
            // Both are truncated.
            ("E p E sum", "b *c *d", Missing { native: true, python: true }, "b c d sum", Whole),
            // They contradict each other.
            ("_s E p E p E sum", "*a", WHOLE, "a sum", Unmerged),
            ("_s E sum", "*a *b *c", WHOLE, "a b c sum", Unmerged),
            ("_s sum", "*a *b *c", WHOLE, "a b c _s sum", Unmerged),
            ("E E E i sum", "*a", NATIVE, "a sum", Unmerged),
            ("_s E sum", "b *c *d", PYTHON, "b c d sum", Unmerged),
        ];
        for (natives, pythons, missing, expected, fit) in table {
            let (frames, found) = merge(&native(natives), &python(pythons), missing);
            assert_eq!(frames.join(" "), expected, "{natives} and {pythons}, {missing:?}");
            assert_eq!(found, fit, "{natives} and {pythons}, {missing:?}");
        }
    }

    #[test]
    fn all_python_frames_are_kept_in_order() {
        let natives = ["", "E", "_s E p E", "p E sum", "E E E E E", "i i p i", "sum"];
        let pythons = ["*a", "a", "*a b *c", "a *b *c *d", "*a *b *c *d *e *f *g"];
        for (natives, pythons) in natives.iter().flat_map(|n| pythons.map(|p| (*n, p))) {
            for missing in [WHOLE, NATIVE, PYTHON, Missing { native: true, python: true }] {
                let (frames, _) = merge(&native(natives), &python(pythons), missing);
                let kept = frames.into_iter().filter(|frame| pythons.contains(frame));
                let expected: Vec<_> = python(pythons).iter().map(|python| python.frame).collect();
                assert_eq!(kept.collect::<Vec<_>>(), expected, "{natives} and {pythons}");
            }
        }
    }
}
