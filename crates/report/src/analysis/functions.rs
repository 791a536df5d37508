//! The cost of each function: self, total and charged.

use std::cmp::Ordering;

use serde::Serialize;
use simprof_model::{FunctionId, FunctionKind, Profile, StackId};

use super::origin::{Origin, origins};
use super::placeholders::UNKNOWN;
use super::spinning::is_marker;
use super::weights::{Groups, Once, by_stack, share};

/// The cost of one function. Weights are in the profile's unit; shares are fractions of all weight, 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FunctionCost {
    /// Demangled name, or [`UNKNOWN`].
    pub name: String,
    /// Path of its module.
    pub module: Option<String>,
    /// Source file of its definition.
    pub file: Option<String>,
    /// First line of its definition, if known.
    pub line: Option<u32>,
    /// Native, Python, kernel or unsymbolised.
    pub kind: FunctionKind,
    /// Its origin.
    pub origin: Origin,
    /// Weight of samples with it as the leaf.
    pub self_weight: u64,
    /// Weight of samples with it anywhere on the stack, each sample once.
    pub total_weight: u64,
    /// Weight of samples that are charged to it. A sample is charged to the function nearest the leaf that the author of
    /// the simulation wrote, or to the leaf if there is none: libraries, the runtime and the kernel count with their
    /// callers. Like `self_weight`, these sum to all weight.
    pub charged_weight: u64,
    /// `self_weight` as a fraction of all weight.
    pub self_share: f64,
    /// `total_weight` as a fraction of all weight.
    pub total_share: f64,
    /// `charged_weight` as a fraction of all weight.
    pub charged_share: f64,
    /// Number of samples with it as the leaf.
    pub samples_self: u64,
    /// Number of samples with it on the stack.
    pub samples_total: u64,
    /// Number of samples that are charged to it.
    pub samples_charged: u64,
    /// Exact number of calls; `None` from samples, which do not count calls.
    pub calls: Option<u64>,
    /// Whether it stands for spinning rather than for code.
    #[serde(skip)]
    pub is_marker: bool,
    /// Its entries in the profile's table; empty for [`UNKNOWN`].
    #[serde(skip)]
    pub ids: Vec<FunctionId>,
}

/// Returns the cost of every function that has samples, by decreasing total weight, then decreasing self weight, then name.
///
/// Functions with the same name, module and file are one. The self shares of a profile with weight sum to 1. The cost is
/// linear in the samples plus the frames of all distinct stacks.
pub fn functions(profile: &Profile) -> Vec<FunctionCost> {
    let charging = Charging::new(profile);
    let groups = &charging.groups;
    let origins = origins(profile);
    let origin_of = |group: usize| origins[groups.first(group).index()];
    let tallies = tally(profile, &charging);
    let total = profile.total_weight();
    let mut costs: Vec<FunctionCost> = tallies
        .into_iter()
        .enumerate()
        .filter(|(_, tally)| tally.samples_total > 0)
        .map(|(group, tally)| {
            let origin = if group < groups.len() { origin_of(group) } else { Origin::Unknown };
            tally.cost(profile, groups, group, origin, total)
        })
        .collect();
    sort_by_total(&mut costs);
    costs
}

/// Sorts by decreasing total weight, then decreasing self weight, then name.
pub fn sort_by_total(costs: &mut [FunctionCost]) {
    costs.sort_by(|a, b| {
        let by_weight = (b.total_weight, b.self_weight).cmp(&(a.total_weight, a.self_weight));
        by_weight.then_with(|| by_name(a, b))
    });
}

/// Sorts by decreasing self weight, then decreasing total weight, then name.
pub fn sort_by_self(costs: &mut [FunctionCost]) {
    costs.sort_by(|a, b| {
        let by_weight = (b.self_weight, b.total_weight).cmp(&(a.self_weight, a.total_weight));
        by_weight.then_with(|| by_name(a, b))
    });
}

/// Sorts by decreasing charged weight, then decreasing self weight, then name.
pub fn sort_by_charged(costs: &mut [FunctionCost]) {
    costs.sort_by(|a, b| {
        let by_weight = (b.charged_weight, b.self_weight).cmp(&(a.charged_weight, a.self_weight));
        by_weight.then_with(|| by_name(a, b))
    });
}

fn by_name(a: &FunctionCost, b: &FunctionCost) -> Ordering {
    (&a.name, &a.module, &a.file).cmp(&(&b.name, &b.module, &b.file))
}

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    self_weight: u64,
    total_weight: u64,
    charged_weight: u64,
    samples_self: u64,
    samples_total: u64,
    samples_charged: u64,
}

/// The functions that samples are charged to, see [`FunctionCost::charged_weight`].
pub(super) struct Charging {
    groups: Groups,
    /// By group: whether the author of the simulation wrote it.
    own: Vec<bool>,
}

impl Charging {
    pub(super) fn new(profile: &Profile) -> Self {
        let groups = Groups::new(profile);
        let origins = origins(profile);
        let is_own = |group| origins[groups.first(group).index()] == Origin::Own;
        let own = (0..groups.len()).map(is_own).collect();
        Self { groups, own }
    }

    /// Returns the entry of the profile's table that stands for the function that a stack is charged to. `None` without a stack.
    pub(super) fn function(&self, profile: &Profile, stack: Option<StackId>) -> Option<FunctionId> {
        self.group(profile, stack).map(|group| self.groups.first(group))
    }

    fn group(&self, profile: &Profile, stack: Option<StackId>) -> Option<usize> {
        let mut on_stack = self.groups.on_stack(profile, stack);
        let leaf = on_stack.next()?;
        let own = std::iter::once(leaf).chain(on_stack).find(|&group| self.own[group]);
        Some(own.unwrap_or(leaf))
    }
}

/// Returns one tally per group, and a last one for samples without a stack.
fn tally(profile: &Profile, charging: &Charging) -> Vec<Tally> {
    let groups = &charging.groups;
    let unknown = groups.len();
    let mut tallies = vec![Tally::default(); unknown + 1];
    let mut once = Once::new(unknown + 1);
    for entry in by_stack(profile) {
        once.next_round();
        let on_stack = || groups.on_stack(profile, entry.stack);
        let leaf = on_stack().next().unwrap_or(unknown);
        tallies[leaf].self_weight += entry.weight;
        tallies[leaf].samples_self += entry.samples;
        let charged = charging.group(profile, entry.stack).unwrap_or(unknown);
        tallies[charged].charged_weight += entry.weight;
        tallies[charged].samples_charged += entry.samples;
        for group in on_stack().chain([leaf]).filter(|&group| once.first(group)) {
            tallies[group].total_weight += entry.weight;
            tallies[group].samples_total += entry.samples;
        }
    }
    tallies
}

impl Tally {
    fn cost(
        self,
        profile: &Profile,
        groups: &Groups,
        group: usize,
        origin: Origin,
        total: u64,
    ) -> FunctionCost {
        let ids = if group < groups.len() { groups.members(group).to_vec() } else { Vec::new() };
        let first = ids.first().copied();
        FunctionCost {
            name: first.map_or(UNKNOWN, |id| profile.function_name(id)).to_owned(),
            module: first.and_then(|id| profile.function_module(id)).map(str::to_owned),
            file: first.and_then(|id| profile.function_file(id)).map(str::to_owned),
            line: ids.iter().filter_map(|&id| profile.function(id).line).min(),
            kind: first.map_or(FunctionKind::Unsymbolised, |id| profile.function(id).kind),
            origin,
            self_weight: self.self_weight,
            total_weight: self.total_weight,
            charged_weight: self.charged_weight,
            charged_share: share(self.charged_weight, total),
            self_share: share(self.self_weight, total),
            total_share: share(self.total_weight, total),
            samples_self: self.samples_self,
            samples_total: self.samples_total,
            samples_charged: self.samples_charged,
            calls: None,
            is_marker: first.is_some_and(|id| is_marker(profile, profile.function(id))),
            ids,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use simprof_model::Function;

    use super::*;
    use crate::testing::{Sketch, profile};

    fn summary(costs: &[FunctionCost]) -> Vec<(&str, u64, u64)> {
        costs.iter().map(|c| (c.name.as_str(), c.self_weight, c.total_weight)).collect()
    }

    #[test]
    fn costs_of_small_profiles() {
        for (case, samples, expected) in [
            ("empty", vec![], vec![]),
            ("one sample", vec![("main > work", 5)], vec![("work", 5, 5), ("main", 0, 5)]),
            (
                "recursion counts once in total",
                vec![("main > f > f > f", 2), ("main > f > g > f", 3)],
                vec![("f", 5, 5), ("main", 0, 5), ("g", 0, 3)],
            ),
            (
                "an inlined function has its own cost",
                vec![("main > f@3 > +g@9", 4), ("main > f@4", 1)],
                vec![("f", 1, 5), ("main", 0, 5), ("g", 4, 4)],
            ),
            (
                "kernel, unsymbolised and missing stacks",
                vec![("main > k:page_fault", 1), ("main > ?lib.so+0x10", 2), ("", 4)],
                vec![
                    ("[unknown]", 4, 4),
                    ("main", 0, 3),
                    ("lib.so+0x10", 2, 2),
                    ("page_fault", 1, 1),
                ],
            ),
        ] {
            assert_eq!(summary(&functions(&profile(&samples))), expected, "{case}");
        }
    }

    #[test]
    fn entries_that_differ_by_line_are_one_function() {
        let mut sketch = Sketch::new().sample("work@1", 1);
        let builder = sketch.builder();
        let (name, file) = (builder.string("work"), builder.string("src/sim.rs"));
        let module = builder.module("/opt/sim", Some("other build".into()));
        let twin = builder.function(Function {
            name,
            module: Some(module),
            file: Some(file),
            line: Some(7),
            kind: FunctionKind::Native,
        });
        let frame = builder.frame(simprof_model::Frame {
            function: twin,
            line: Some(8),
            file: Some(file),
            address: 0,
            inlined: false,
        });
        let thread = builder.thread(1, 1, "");
        let stack = builder.stack([frame]);
        builder.sample(simprof_model::StackSample { time_ns: 9, thread, stack, weight: 2 });
        let costs = functions(&sketch.finish());
        assert_eq!(summary(&costs), [("work", 3, 3)]);
        assert_eq!((costs[0].line, costs[0].ids.len(), costs[0].samples_self), (Some(7), 2, 2));
    }

    #[test]
    fn libraries_and_kernel_are_charged_to_the_authors_function_that_called_them() {
        let lib = "x%/home/me/.cargo/registry/src/x/lib.rs";
        let costs = functions(&profile(&[
            (&format!("main > f > {lib} > k:read"), 5),
            (&format!("main > f > {lib} > g > {lib}"), 3),
            (lib, 2),
            ("", 1),
        ]));
        let charged: Vec<(&str, u64, u64)> = costs
            .iter()
            .map(|c| (c.name.as_str(), c.charged_weight, c.samples_charged))
            .filter(|entry| entry.2 > 0)
            .collect();
        assert_eq!(charged, [("x", 2, 1), ("f", 5, 1), ("g", 3, 1), ("[unknown]", 1, 1)]);
    }

    #[test]
    fn functions_are_sorted_by_weight_then_name() {
        let mut costs = functions(&profile(&[("m > b", 3), ("m > a", 3), ("m > a > c", 5)]));
        assert_eq!(costs.iter().map(|c| &*c.name).collect::<String>(), "macb");
        sort_by_self(&mut costs);
        assert_eq!(costs.iter().map(|c| &*c.name).collect::<String>(), "cabm");
    }

    proptest! {
        #[test]
        fn shares_sum_to_one_and_totals_match_a_naive_count(
            samples in prop::collection::vec((prop::collection::vec(0_u8..6, 0..8), 1_u64..1000), 1..40)
        ) {
            let text: Vec<(String, u64)> = samples
                .iter()
                .map(|(stack, weight)| {
                    let names: Vec<String> = stack.iter().map(|n| format!("f{n}")).collect();
                    (names.join(" > "), *weight)
                })
                .collect();
            let samples: Vec<(&str, u64)> = text.iter().map(|(s, w)| (s.as_str(), *w)).collect();
            let costs = functions(&profile(&samples));
            let sum: f64 = costs.iter().map(|cost| cost.self_share).sum();
            prop_assert!((sum - 1.0).abs() < 1e-9, "{sum}");
            let charged: f64 = costs.iter().map(|cost| cost.charged_share).sum();
            prop_assert!((charged - 1.0).abs() < 1e-9, "{charged}");
            for cost in &costs {
                prop_assert!(cost.total_weight >= cost.self_weight);
                prop_assert!(cost.total_share <= 1.0 + 1e-12);
                let naive: u64 = samples
                    .iter()
                    .filter(|(stack, _)| stack.split(" > ").any(|name| name == cost.name))
                    .map(|(_, weight)| weight)
                    .sum();
                prop_assert!(cost.name == UNKNOWN || naive == cost.total_weight);
            }
        }
    }
}
