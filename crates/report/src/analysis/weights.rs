//! Weights summed by stack, and functions that are one to a reader, for all analyses to stand on.

use super::select::FunctionSet;
use std::collections::{BTreeMap, HashMap};

use simprof_model::{FunctionId, Profile, StackId};

/// All samples of one stack, summed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StackWeight {
    /// None for samples without a stack.
    pub(crate) stack: Option<StackId>,
    pub(crate) weight: u64,
    pub(crate) samples: u64,
}

/// The samples of a profile, summed by stack.
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

/// As [`by_stack`], of the stacks with a function of `within` on them.
pub(crate) fn by_stack_within(profile: &Profile, within: &FunctionSet) -> Vec<StackWeight> {
    by_stack(profile).into_iter().filter(|entry| is_within(profile, entry.stack, within)).collect()
}

/// True where a function of `within` is on the stack.
pub(crate) fn is_within(profile: &Profile, stack: Option<StackId>, within: &FunctionSet) -> bool {
    let mut frames = profile.frames_from_leaf(stack);
    frames.any(|frame| within.contains(profile.frame(frame).function))
}

/// `part` of `whole`, 0 to 1; 0 of nothing.
pub(crate) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Functions by name, module and file: entries that differ in no more than their line are one.
#[derive(Debug)]
pub(crate) struct Groups {
    /// Group of each function, by position in the profile's table.
    of: Vec<usize>,
    /// Functions of each group.
    members: Vec<Vec<FunctionId>>,
}

impl Groups {
    pub(crate) fn new(profile: &Profile) -> Self {
        let mut known = HashMap::new();
        let mut groups = Self { of: Vec::new(), members: Vec::new() };
        for index in 0..profile.functions.len() {
            let id = FunctionId(u32::try_from(index).expect("ids of functions have 32 bits"));
            let key =
                (profile.function_name(id), profile.function_module(id), profile.function_file(id));
            let group = *known.entry(key).or_insert_with(|| {
                groups.members.push(Vec::new());
                groups.members.len() - 1
            });
            groups.of.push(group);
            groups.members[group].push(id);
        }
        groups
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn of(&self, id: FunctionId) -> usize {
        self.of[id.index()]
    }

    pub(crate) fn members(&self, group: usize) -> &[FunctionId] {
        &self.members[group]
    }

    /// One function to name the group by.
    pub(crate) fn first(&self, group: usize) -> FunctionId {
        self.members[group][0]
    }

    /// Groups of a stack's frames from leaf to root, repeated under recursion.
    pub(crate) fn of_stack<'a>(
        &'a self,
        profile: &'a Profile,
        stack: Option<StackId>,
    ) -> impl Iterator<Item = usize> + 'a {
        profile.frames_from_leaf(stack).map(|frame| self.of(profile.frame(frame).function))
    }
}

/// Tells what was met before in the same round, such as a function that a stack holds twice.
#[derive(Debug)]
pub(crate) struct Once {
    round_met: Vec<usize>,
    round: usize,
}

impl Once {
    /// For values below `len`.
    pub(crate) fn new(len: usize) -> Self {
        Self { round_met: vec![0; len], round: 0 }
    }

    pub(crate) fn next_round(&mut self) {
        self.round += 1;
    }

    /// True for the first time in this round.
    pub(crate) fn first(&mut self, value: usize) -> bool {
        std::mem::replace(&mut self.round_met[value], self.round) != self.round
    }
}
