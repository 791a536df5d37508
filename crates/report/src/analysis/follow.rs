//! From a function that only wraps a call to the one that does the work.

use std::collections::BTreeMap;

use serde::Serialize;
use simprof_model::{FunctionId, Profile};

use super::origin::{Origin, origin};
use super::select::FunctionSet;
use super::weights::{Groups, Once, StackWeight, by_stack_within, share};

/// Own share of its total below which a function may be a wrapper.
const WRAPPER_SELF: f64 = 0.05;
/// Share of its total from which one callee is what a wrapper wraps.
const WRAPPED_SHARE: f64 = 0.9;
/// Steps after which following ends.
const MAX_STEPS: usize = 64;

/// One function on the way from a wrapper to the work.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FollowStep {
    /// Demangled name.
    pub name: String,
    /// Source file of its definition.
    pub file: Option<String>,
    /// First line of its definition, where known.
    pub line: Option<u32>,
    /// Whose code it is.
    pub origin: Origin,
    /// Share of all weight of the profile with it on the stack, 0 to 1.
    pub total_share: f64,
    /// Share of its own total in which it was executing itself, 0 to 1.
    pub self_of_total: f64,
    /// Share of the total of the function before it in the chain, 0 to 1; 1 for the first.
    pub of_caller: f64,
    /// Entries of the profile's table that make it up.
    #[serde(skip)]
    pub ids: Vec<FunctionId>,
}

/// The chain from a function to where its time is spent, the function itself first.
///
/// A function that is executing in less than 5 % of its total, and of whose total one callee
/// (inlined or called, not itself) takes 90 % or more, is followed to that callee, and so on. The last
/// step does work of its own, or spreads it. Empty where the profile has no sample of `function`; of
/// several functions of the set, the one with the largest total is followed. Samples without the function
/// do not count: a callee that others call too is judged by the calls that come from here. What the
/// kernel does is not followed into, and a chain that ends in a language's own library ends before it.
pub fn follow_wrappers(profile: &Profile, function: &FunctionSet) -> Vec<FollowStep> {
    let groups = Groups::new(profile);
    let stacks = by_stack_within(profile, function);
    let whole = profile.total_weight();
    let mut next = heaviest(profile, &groups, &stacks, function);
    let mut visited = Vec::new();
    let mut chain = Vec::new();
    let mut of_caller = 1.0;
    while let Some((group, links)) = next.take() {
        visited.push(group);
        chain.push(step(profile, &groups, group, &links, of_caller, whole));
        let in_kernel = |callee: usize| origin(profile, groups.first(callee)) == Origin::Kernel;
        let wrapped = links
            .wrapped(&visited)
            .filter(|&(callee, _)| chain.len() < MAX_STEPS && !in_kernel(callee));
        if let Some((callee, share)) = wrapped {
            of_caller = share;
            next = Some((callee, Links::of(profile, &groups, &stacks, callee)));
        }
    }
    while chain.len() > 1 && chain.last().is_some_and(|step| step.origin == Origin::Runtime) {
        chain.pop();
    }
    chain
}

/// What the samples of one function say about it.
#[derive(Debug, Default)]
struct Links {
    total: u64,
    executing: u64,
    /// Weight of samples in which it calls another, each sample once per callee.
    callees: BTreeMap<usize, u64>,
}

impl Links {
    fn of(profile: &Profile, groups: &Groups, stacks: &[StackWeight], group: usize) -> Links {
        let mut links = Links::default();
        let mut once = Once::new(groups.len());
        for entry in stacks {
            once.next_round();
            let mut callee = None;
            let mut is_on_stack = false;
            for (depth, frame_group) in groups.of_stack(profile, entry.stack).enumerate() {
                if frame_group == group {
                    is_on_stack = true;
                    links.executing += if depth == 0 { entry.weight } else { 0 };
                    if let Some(callee) =
                        callee.filter(|&callee| callee != group && once.first(callee))
                    {
                        *links.callees.entry(callee).or_default() += entry.weight;
                    }
                }
                callee = Some(frame_group);
            }
            links.total += if is_on_stack { entry.weight } else { 0 };
        }
        links
    }

    /// The callee that this function only wraps, with its share of the total; none of those visited.
    fn wrapped(&self, visited: &[usize]) -> Option<(usize, f64)> {
        let new = self.callees.iter().filter(|(callee, _)| !visited.contains(callee));
        let (&callee, &weight) = new.max_by_key(|&(_, weight)| weight)?;
        let of_total = share(weight, self.total);
        let is_wrapper = share(self.executing, self.total) < WRAPPER_SELF;
        (is_wrapper && of_total >= WRAPPED_SHARE).then_some((callee, of_total))
    }
}

fn heaviest(
    profile: &Profile,
    groups: &Groups,
    stacks: &[StackWeight],
    functions: &FunctionSet,
) -> Option<(usize, Links)> {
    let mut candidates: Vec<usize> = functions.ids().map(|id| groups.of(id)).collect();
    candidates.sort_unstable();
    candidates.dedup();
    candidates
        .into_iter()
        .map(|group| (group, Links::of(profile, groups, stacks, group)))
        .max_by_key(|(_, links)| links.total)
        .filter(|(_, links)| links.total > 0)
}

fn step(
    profile: &Profile,
    groups: &Groups,
    group: usize,
    links: &Links,
    of_caller: f64,
    whole: u64,
) -> FollowStep {
    let id = groups.first(group);
    let ids = groups.members(group).to_vec();
    FollowStep {
        name: profile.function_name(id).to_owned(),
        file: profile.function_file(id).map(str::to_owned),
        line: ids.iter().filter_map(|&id| profile.function(id).line).min(),
        origin: origin(profile, id),
        total_share: share(links.total, whole),
        self_of_total: share(links.executing, links.total),
        of_caller,
        ids,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::profile;

    fn chain(samples: &[(&str, u64)], from: &str) -> Vec<String> {
        let profile = profile(samples);
        let set = FunctionSet::matching(&profile, from).expect("valid");
        follow_wrappers(&profile, &set).into_iter().map(|step| step.name).collect()
    }

    #[test]
    fn chains_end_where_work_is_done_or_spread() {
        for (case, samples, expected) in [
            ("no wrapper", vec![("main > f", 9), ("main > f > g", 1)], vec!["f"]),
            ("to the worker", vec![("main > f > g > h", 9), ("main > f", 0)], vec!["f", "g", "h"]),
            ("inlined counts", vec![("main > f > +g@3", 19), ("main > f > k", 1)], vec!["f", "g"]),
            ("five percent is work", vec![("f > g", 95), ("f", 5)], vec!["f"]),
            ("less is not", vec![("f > g", 96), ("f", 4)], vec!["f", "g"]),
            ("spread", vec![("f > g", 80), ("f > h", 20)], vec!["f"]),
            ("recursion", vec![("f > f > f > g", 10)], vec!["f", "g"]),
            ("mutual recursion", vec![("f > g > f > g > f > g > h", 10)], vec!["f", "g", "h"]),
            ("absent", vec![("main", 1)], vec![]),
        ] {
            assert_eq!(chain(&samples, "f"), expected, "{case}");
        }
    }

    #[test]
    fn shares_are_of_the_caller_and_of_all() {
        let profile = profile(&[("main > f > g", 45), ("main > f", 2), ("main", 53)]);
        let set = FunctionSet::matching(&profile, "f").expect("valid");
        let steps = follow_wrappers(&profile, &set);
        assert_eq!(steps.len(), 2);
        assert_eq!((steps[0].total_share, steps[0].of_caller), (0.47, 1.0));
        assert!((steps[1].of_caller - 45.0 / 47.0).abs() < 1e-12);
        assert_eq!((steps[1].total_share, steps[1].self_of_total), (0.45, 1.0));
    }
}
