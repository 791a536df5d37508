//! The basis of all analyses: weights summed by stack, and table entries grouped into functions.

use std::collections::{BTreeMap, HashMap};

use simprof_model::{FunctionId, Profile, StackId};

use super::select::FunctionSet;

/// All samples of one stack, summed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StackWeight {
    /// `None` for samples without a stack.
    pub(crate) stack: Option<StackId>,
    pub(crate) weight: u64,
    pub(crate) samples: u64,
}

/// Returns the samples of a profile, summed by stack.
pub(crate) fn by_stack(profile: &Profile) -> Vec<StackWeight> {
    let mut sums: BTreeMap<Option<StackId>, (u64, u64)> = BTreeMap::new();
    for sample in &profile.samples {
        let (weight, samples) = sums.entry(sample.stack).or_default();
        *weight += sample.weight;
        *samples += 1;
    }
    sums.into_iter()
        .map(|(stack, (weight, samples))| StackWeight { stack, weight, samples })
        .collect()
}

/// Like [`by_stack`], for the stacks with a function of `within` on them.
pub(crate) fn by_stack_within(profile: &Profile, within: &FunctionSet) -> Vec<StackWeight> {
    by_stack(profile).into_iter().filter(|entry| is_within(profile, entry.stack, within)).collect()
}

/// Whether a function of `within` is on the stack.
pub(crate) fn is_within(profile: &Profile, stack: Option<StackId>, within: &FunctionSet) -> bool {
    let mut frames = profile.frames_from_leaf(stack);
    frames.any(|frame| within.contains(profile.frame(frame).function))
}

/// Returns `part / whole`, or 0 if `whole` is 0.
pub(crate) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Groups of table entries with the same name, module and file, which reports show as one function. Entries of a group
/// differ only in their line.
#[derive(Debug)]
pub(crate) struct Groups {
    /// Group of each function, indexed as the profile's table.
    group_of: Vec<usize>,
    /// Functions of each group.
    members: Vec<Vec<FunctionId>>,
}

impl Groups {
    pub(crate) fn new(profile: &Profile) -> Self {
        let mut known = HashMap::new();
        let mut groups = Self { group_of: Vec::new(), members: Vec::new() };
        for index in 0..profile.functions.len() {
            let id = FunctionId(u32::try_from(index).expect("ids of functions have 32 bits"));
            let key =
                (profile.function_name(id), profile.function_module(id), profile.function_file(id));
            let group = *known.entry(key).or_insert_with(|| {
                groups.members.push(Vec::new());
                groups.members.len() - 1
            });
            groups.group_of.push(group);
            groups.members[group].push(id);
        }
        groups
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn group_of(&self, id: FunctionId) -> usize {
        self.group_of[id.index()]
    }

    pub(crate) fn members(&self, group: usize) -> &[FunctionId] {
        &self.members[group]
    }

    /// Returns the function that names the group.
    pub(crate) fn first(&self, group: usize) -> FunctionId {
        self.members[group][0]
    }

    /// Iterates over the groups of a stack's frames from leaf to root. Recursive functions are repeated.
    pub(crate) fn on_stack<'a>(
        &'a self,
        profile: &'a Profile,
        stack: Option<StackId>,
    ) -> impl Iterator<Item = usize> + 'a {
        profile.frames_from_leaf(stack).map(|frame| self.group_of(profile.frame(frame).function))
    }
}

/// Detects values that occur twice in a round, such as a recursive function on one stack.
#[derive(Debug)]
pub(crate) struct Once {
    last_round: Vec<usize>,
    round: usize,
}

impl Once {
    /// Creates a set for values below `len`.
    pub(crate) fn new(len: usize) -> Self {
        Self { last_round: vec![0; len], round: 0 }
    }

    pub(crate) fn next_round(&mut self) {
        self.round += 1;
    }

    /// Whether `value` is seen for the first time in this round.
    pub(crate) fn first(&mut self, value: usize) -> bool {
        std::mem::replace(&mut self.last_round[value], self.round) != self.round
    }
}
