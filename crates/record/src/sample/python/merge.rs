//! One stack of Python and native frames, from one of each.
//!
//! The native stack has a frame of the evaluation function for each *group* of Python frames that it runs; the outermost of a
//! group is marked as its entry. Groups take the places of their evaluation frames.

use super::plumbing::Role;

/// A native frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NativeFrame<F> {
    pub role: Role,
    pub frame: F,
}

/// A Python frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PythonFrame<F> {
    /// Whether it is the outermost of its group.
    pub entry: bool,
    pub frame: F,
}

/// What is known to be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// The native stack does not reach the root.
    pub native: bool,
    /// The Python stack does not.
    pub python: bool,
}

/// How well the two went together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Each group has its place.
    Whole,
    /// So has each whose native frames are there; the native stack is cut, but the Python frames reach the root.
    Completed,
    /// They contradict each other: the Python frames are there, with the native frames beneath the innermost.
    Unmerged,
}

/// Merges two stacks, both from the root to the leaf, as the result is.
pub fn merge<F: Copy>(
    native: &[NativeFrame<F>],
    python: &[PythonFrame<F>],
    missing: Missing,
) -> (Vec<F>, Fit) {
    let native = with_evaluations(native);
    if python.is_empty() {
        return (native.iter().map(|native| native.frame).collect(), Fit::Whole);
    }
    let groups = groups(python);
    let places: Vec<usize> =
        (0..native.len()).filter(|&at| native[at].role == Role::Evaluation).collect();
    let Some(fit) = align(places.len(), groups.len(), missing) else {
        let beneath = places.last().map_or(0, |&last| last + 1);
        let rest = leaf(&native[beneath..]);
        let frames = python.iter().map(|python| python.frame);
        return (frames.chain(rest.map(|native| native.frame)).collect(), Fit::Unmerged);
    };
    let frames = lay(&native, &places, &groups, &fit);
    let completed = missing.native && !missing.python;
    (frames, if completed { Fit::Completed } else { Fit::Whole })
}

/// Which evaluation frame stands for which group: the first of `places` that have one, the first of `groups` that have one,
/// and how many pairs there are from these on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Alignment {
    first_place: usize,
    first_group: usize,
    pairs: usize,
}

/// Aligns `places` evaluation frames and `groups`; none where they contradict each other.
///
/// Where both reach the root, they are aligned from there. A sample may hit when the evaluation function has been entered but
/// runs no frame yet, or does not any more, and the reverse: one more or one less at the leaf does no harm. Where one of them
/// lacks its root, they are aligned from the leaf.
fn align(places: usize, groups: usize, missing: Missing) -> Option<Alignment> {
    let from_root = |pairs| Some(Alignment { first_place: 0, first_group: 0, pairs });
    match (missing.native, missing.python) {
        (false, false) => {
            (places.abs_diff(groups) <= 1).then(|| places.min(groups)).and_then(from_root)
        }
        (true, false) if places > groups => {
            (places == groups + 1).then_some(groups).and_then(from_root)
        }
        (false, true) if groups > places + 1 => None,
        _ => {
            let pairs = places.min(groups);
            Some(Alignment { first_place: places - pairs, first_group: groups - pairs, pairs })
        }
    }
}

/// The merged frames of stacks that fit.
fn lay<F: Copy>(
    native: &[NativeFrame<F>],
    places: &[usize],
    groups: &[&[PythonFrame<F>]],
    fit: &Alignment,
) -> Vec<F> {
    let Alignment { first_place, first_group, pairs } = *fit;
    let paired = &places[first_place..first_place + pairs];
    let mut out = Vec::with_capacity(native.len() + groups.iter().map(|g| g.len()).sum::<usize>());
    let push_group = |out: &mut Vec<F>, group: usize| {
        out.extend(groups[group].iter().map(|python| python.frame));
    };
    // What is beyond the end of a native stack that is cut.
    (0..first_group).for_each(|group| push_group(&mut out, group));
    let mut at = 0;
    for (pair, &place) in paired.iter().enumerate() {
        let between = &native[at..place];
        out.extend(telling(between, pair == 0 && first_group == 0).map(|native| native.frame));
        push_group(&mut out, first_group + pair);
        at = place + 1;
    }
    let beneath = &native[at..];
    let is_only_calling = beneath.iter().all(|native| native.role != Role::Work);
    let more = first_group + pairs..groups.len();
    let about_to_run = !more.is_empty() && is_only_calling;
    more.for_each(|group| push_group(&mut out, group));
    if !about_to_run {
        out.extend(leaf(beneath).map(|native| native.frame));
    }
    out
}

/// What is beneath the innermost Python frame: calls that lead on to something tell nothing here either, and a function would
/// else have two places in the tree, one for its own samples and one for those of Python that it calls.
fn leaf<F>(frames: &[NativeFrame<F>]) -> impl Iterator<Item = &NativeFrame<F>> {
    let is_calling = |frame: &NativeFrame<F>| matches!(frame.role, Role::Plumbing);
    let end = frames.iter().rposition(|frame| !is_calling(frame)).map_or(0, |last| last + 1);
    let instructions = frames.iter().take_while(|frame| frame.role == Role::Instruction).count();
    let tells = move |(at, frame): &(usize, &NativeFrame<F>)| *at >= end || !is_calling(frame);
    frames.iter().enumerate().skip(instructions).filter(tells).map(|(_, frame)| frame)
}

/// What tells something of the native frames before a Python frame. Those before the first one are left out altogether where
/// they are nothing but the start of the program.
fn telling<F>(frames: &[NativeFrame<F>], is_start: bool) -> impl Iterator<Item = &NativeFrame<F>> {
    let tells = |frame: &NativeFrame<F>| matches!(frame.role, Role::Work | Role::Evaluation);
    let only_start = is_start && !frames.iter().any(tells);
    frames.iter().filter(move |frame| match frame.role {
        Role::Work | Role::Evaluation | Role::Probe => true,
        Role::Start => !only_start,
        Role::Instruction | Role::Plumbing => false,
    })
}

/// The parts of the evaluation function count as the function itself where it has left the stack by a tail call.
fn with_evaluations<F: Copy>(native: &[NativeFrame<F>]) -> Vec<NativeFrame<F>> {
    let mut frames: Vec<NativeFrame<F>> = Vec::with_capacity(native.len());
    for frame in native {
        let belongs = frames
            .last()
            .is_some_and(|last| matches!(last.role, Role::Evaluation | Role::Instruction));
        let alone = frame.role == Role::Instruction && !belongs;
        frames.push(if alone { NativeFrame { role: Role::Evaluation, ..*frame } } else { *frame });
    }
    frames
}

/// Splits Python frames before each entry.
fn groups<F>(python: &[PythonFrame<F>]) -> Vec<&[PythonFrame<F>]> {
    python.chunk_by(|_, next| !next.entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Missing = Missing { native: false, python: false };
    const NATIVE: Missing = Missing { native: true, python: false };
    const PYTHON: Missing = Missing { native: false, python: true };

    /// Native frames by their names: `E` evaluation, `i…` its parts, lower-case `p…` plumbing, `_…` start, else work.
    fn native(text: &'static str) -> Vec<NativeFrame<&'static str>> {
        let role = |name: &str| match name.as_bytes()[0] {
            b'E' => Role::Evaluation,
            b'i' => Role::Instruction,
            b'p' => Role::Plumbing,
            b'_' => Role::Start,
            _ => Role::Work,
        };
        text.split_whitespace().map(|frame| NativeFrame { role: role(frame), frame }).collect()
    }

    /// Python frames by their names; `*` marks an entry.
    fn python(text: &'static str) -> Vec<PythonFrame<&'static str>> {
        let parse = |word: &'static str| match word.strip_prefix('*') {
            Some(frame) => PythonFrame { entry: true, frame },
            None => PythonFrame { entry: false, frame: word },
        };
        text.split_whitespace().map(parse).collect()
    }

    #[test]
    fn groups_take_the_places_of_their_evaluations() {
        use Fit::{Completed, Unmerged, Whole};
        let table = [
            // A group for an evaluation; the start and the calls between tell nothing.
            ("_s p E p E", "*a b *c", WHOLE, "a b c", Whole),
            ("_s p E p sort p E", "*a *b", WHOLE, "a sort b", Whole),
            // A program that embeds the interpreter.
            ("_s app p E", "*a", WHOLE, "_s app a", Whole),
            // What is beneath the innermost frame stays, but for the parts of the evaluation, and calls that lead on.
            ("_s E p sum p add p1 p2", "*a", WHOLE, "a sum add p1 p2", Whole),
            ("_s E p1 p2", "*a", WHOLE, "a p1 p2", Whole),
            ("_s E i1 i2 work", "*a", WHOLE, "a work", Whole),
            ("_s E i1 p E i2", "*a *b", WHOLE, "a b", Whole),
            // The evaluation left the stack by a tail call.
            ("_s p i1 p i2 work", "*a *b", WHOLE, "a b work", Whole),
            // Entered but not begun; begun or about to begin, but not entered.
            ("_s E p E", "*a", WHOLE, "a E", Whole),
            ("_s E sort p E", "*a", WHOLE, "a sort E", Whole),
            ("_s E p", "*a *b", WHOLE, "a b", Whole),
            ("_s E sum", "*a *b", WHOLE, "a b sum", Whole),
            ("_s p", "*a", WHOLE, "a", Whole),
            // No Python: nothing is touched.
            ("_s p E sum", "", WHOLE, "_s p E sum", Whole),
            // The native stack is cut: aligned from the leaf, completed to the root.
            ("p E p E sum", "*a b *c *d *e", NATIVE, "a b c d e sum", Completed),
            ("sort p E", "*a *b", NATIVE, "a sort b", Completed),
            ("sum add", "*a *b", NATIVE, "a b sum add", Completed),
            ("", "*a *b", NATIVE, "a b", Completed),
            ("p E p E", "*a *b", NATIVE, "a b", Completed),
            ("E p E", "*a", NATIVE, "a E", Completed),
            // The Python stack is.
            ("_s E p E p E sum", "c *d", PYTHON, "_s E c d sum", Whole),
            ("_s E sum", "b", PYTHON, "b sum", Whole),
            // Both are.
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
    fn no_python_frame_is_ever_lost_or_moved() {
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
