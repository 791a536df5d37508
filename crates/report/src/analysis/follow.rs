//! Follows wrapper functions to the function that does the work.

use std::collections::BTreeMap;

use serde::Serialize;
use simprof_model::{FunctionId, FunctionKind, Profile};

use super::origin::{Origin, origin};
use super::select::FunctionSet;
use super::weights::{Groups, Once, StackWeight, by_stack_within, share};

/// Self time over total time below which a function may be a wrapper.
const WRAPPER_SELF: f64 = 0.05;
/// Share of a wrapper's total from which one callee is the wrapped function.
const WRAPPED_SHARE: f64 = 0.9;
/// Maximum length of a chain.
const MAX_STEPS: usize = 64;

/// One function of a chain from a wrapper to the work.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FollowStep {
    /// Demangled name.
    pub name: String,
    /// Its origin.
    pub origin: Origin,
    /// Its total time as a fraction of all weight of the profile, 0 to 1.
    pub total_share: f64,
    /// Its self time as a fraction of its total time, 0 to 1.
    pub self_of_total: f64,
    /// Its part of the total time of the function before it in the chain, 0 to 1; 1 for the first.
    pub of_caller: f64,
    /// Its entries in the profile's table.
    #[serde(skip)]
    pub ids: Vec<FunctionId>,
}

/// Returns the chain from a function to where its time is spent; the function itself is the first step.
///
/// A function is a wrapper if less than 5 % of its total is self time and one callee (inlined or called, not itself)
/// takes 90 % or more of its total. The chain then goes on to that callee. The last step does the work, or spreads it over
/// several callees.
///
/// - Only samples with `function` on the stack count. A callee that other functions call too is judged by the calls from
///   here only. If the set has several functions, the one with the largest total is followed.
/// - From a Python function only Python functions are followed, across native frames between them. Native code counts as
///   self time of the Python function that runs it.
/// - The chain does not enter the kernel, and does not end in the language's own library.
///
/// The chain is empty if no sample has `function`.
pub fn follow_wrappers(profile: &Profile, function: &FunctionSet) -> Vec<FollowStep> {
    let groups = Groups::new(profile);
    let stacks = by_stack_within(profile, function);
    let stacks = Stacks::new(profile, &groups, stacks, function);
    let whole = profile.total_weight();
    let mut next = heaviest(&groups, &stacks, function);
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
            next = Some((callee, Links::of_group(&stacks, groups.len(), callee)));
        }
    }
    while chain.len() > 1 && chain.last().is_some_and(|step| step.origin == Origin::Runtime) {
        chain.pop();
    }
    chain
}

/// Groups of the frames of each stack from leaf to root, with its weight.
struct Stacks(Vec<(Vec<usize>, u64)>);

impl Stacks {
    /// Takes all frames, or only the Python frames if all functions of `from` are Python's.
    fn new(
        profile: &Profile,
        groups: &Groups,
        stacks: Vec<StackWeight>,
        from: &FunctionSet,
    ) -> Stacks {
        let is_python = |id: FunctionId| profile.function(id).kind == FunctionKind::Python;
        let python_alone = from.ids().all(is_python);
        let is_kept = |id: &FunctionId| !python_alone || is_python(*id);
        let frames = |entry: StackWeight| {
            let functions =
                profile.frames_from_leaf(entry.stack).map(|id| profile.frame(id).function);
            (functions.filter(is_kept).map(|id| groups.group_of(id)).collect(), entry.weight)
        };
        Stacks(stacks.into_iter().map(frames).collect())
    }
}

/// Weights of one function, and of its calls.
#[derive(Debug, Default)]
struct Links {
    total: u64,
    executing: u64,
    /// Weight of samples in which it calls another function, each sample once per callee.
    callees: BTreeMap<usize, u64>,
}

impl Links {
    fn of_group(stacks: &Stacks, groups: usize, group: usize) -> Links {
        let mut links = Links::default();
        let mut once = Once::new(groups);
        for (stack, weight) in &stacks.0 {
            once.next_round();
            let mut callee = None;
            let mut is_on_stack = false;
            for (depth, &frame_group) in stack.iter().enumerate() {
                if frame_group == group {
                    is_on_stack = true;
                    links.executing += if depth == 0 { *weight } else { 0 };
                    if let Some(callee) =
                        callee.filter(|&callee| callee != group && once.first(callee))
                    {
                        *links.callees.entry(callee).or_default() += weight;
                    }
                }
                callee = Some(frame_group);
            }
            links.total += if is_on_stack { *weight } else { 0 };
        }
        links
    }

    /// Returns the callee that this function wraps, with its share of the total, unless it was visited already.
    fn wrapped(&self, visited: &[usize]) -> Option<(usize, f64)> {
        let new = self.callees.iter().filter(|(callee, _)| !visited.contains(callee));
        let (&callee, &weight) = new.max_by_key(|&(_, weight)| weight)?;
        let of_total = share(weight, self.total);
        let is_wrapper = share(self.executing, self.total) < WRAPPER_SELF;
        (is_wrapper && of_total >= WRAPPED_SHARE).then_some((callee, of_total))
    }
}

fn heaviest(groups: &Groups, stacks: &Stacks, functions: &FunctionSet) -> Option<(usize, Links)> {
    let mut candidates: Vec<usize> = functions.ids().map(|id| groups.group_of(id)).collect();
    candidates.sort_unstable();
    candidates.dedup();
    candidates
        .into_iter()
        .map(|group| (group, Links::of_group(stacks, groups.len(), group)))
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
    fn python_wrappers_are_followed_across_native_frames() {
        let call = "_PyObject_Call~/opt/lib/libpython3.9.so";
        let wrapper = "p:util.timed.<locals>.wrapper%/w/util.py";
        let step =
            format!("p:mesa.Model._wrapped_step > {call} > {wrapper} > {call} > p:sim.Model.step");
        let samples = [
            (format!("main > {step} > {call} > p:sim.move"), 50),
            (format!("main > {step} > sort~/opt/lib/libpython3.9.so"), 46),
            (format!("main > p:mesa.Model._wrapped_step > {call} > {wrapper}"), 4),
        ];
        let samples: Vec<(&str, u64)> = samples.iter().map(|(s, w)| (s.as_str(), *w)).collect();
        assert_eq!(
            chain(&samples, "_wrapped_step"),
            ["mesa.Model._wrapped_step", "util.timed.<locals>.wrapper", "sim.Model.step"]
        );
        let native = [("p:sim.step > dot~/opt/np.so > gemm~/opt/blas.so", 1)];
        assert_eq!(chain(&native, "sim.step"), ["sim.step"]);
    }

    #[test]
    fn shares_are_relative_to_the_caller_and_to_all_weight() {
        let profile = profile(&[("main > f > g", 45), ("main > f", 2), ("main", 53)]);
        let set = FunctionSet::matching(&profile, "f").expect("valid");
        let steps = follow_wrappers(&profile, &set);
        assert_eq!(steps.len(), 2);
        assert_eq!((steps[0].total_share, steps[0].of_caller), (0.47, 1.0));
        assert!((steps[1].of_caller - 45.0 / 47.0).abs() < 1e-12);
        assert_eq!((steps[1].total_share, steps[1].self_of_total), (0.45, 1.0));
    }
}
