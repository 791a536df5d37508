//! The components that the time charged to a function counts for.

use std::collections::{BTreeMap, HashMap};

use simprof_model::{FunctionId, Profile};

use super::components::{ComponentRules, Labels};
use super::functions::{Charging, FunctionCost};
use super::weights::by_stack;

/// The components of the time that is charged to each function.
///
/// A function may count for several: a library that two components call, or a helper that no rule matches.
#[derive(Debug, Clone, Default)]
pub struct ChargedComponents {
    /// By the first entry of the function in the profile's table, the largest component first. `None` is time without a stack.
    weights: HashMap<Option<FunctionId>, Vec<(String, u64)>>,
}

impl ChargedComponents {
    /// Sums the samples of a profile by charged function and component, as [`super::functions`] and [`super::components`] do.
    pub fn new(profile: &Profile, rules: &ComponentRules) -> Self {
        let (charging, labels) = (Charging::new(profile), Labels::new(profile, rules));
        let mut sums: HashMap<Option<FunctionId>, BTreeMap<&str, u64>> = HashMap::new();
        for entry in by_stack(profile) {
            let function = charging.function(profile, entry.stack);
            let component = labels.component(profile, entry.stack);
            *sums.entry(function).or_default().entry(component).or_default() += entry.weight;
        }
        let sorted = |sums: BTreeMap<&str, u64>| {
            let mut weights: Vec<(String, u64)> =
                sums.into_iter().map(|(name, weight)| (name.to_owned(), weight)).collect();
            // The names are in order, and the sort is stable.
            weights.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
            weights
        };
        Self { weights: sums.into_iter().map(|(id, sums)| (id, sorted(sums))).collect() }
    }

    /// Returns the components with the weight that a function is charged with, the largest first.
    pub fn of(&self, cost: &FunctionCost) -> &[(String, u64)] {
        self.weights.get(&cost.ids.first().copied()).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::functions;
    use crate::testing::profile;

    #[test]
    fn a_library_counts_for_the_components_that_call_it() {
        let lib = "/home/me/.cargo/registry/src/kd-1/lib.rs";
        let called = |by: &str| format!("main > {by} > util::sort > kd::nearest%{lib}");
        let (near, step) = (called("sim::near"), called("sim::step"));
        let profile =
            profile(&[(&near, 6), (&step, 3), ("main > sim::near", 4), ("main", 2), ("", 1)]);
        let rules = [("neighbours", ["sim::near"]), ("movement", ["sim::step"])];
        let rules = ComponentRules::new(rules).expect("valid");
        let charged = ChargedComponents::new(&profile, &rules);
        let costs = functions(&profile);
        let of = |name: &str| -> Vec<(&str, u64)> {
            let cost = costs.iter().find(|cost| cost.name == name).expect(name);
            charged.of(cost).iter().map(|(name, weight)| (name.as_str(), *weight)).collect()
        };
        assert_eq!(of("util::sort"), [("neighbours", 6), ("movement", 3)]);
        assert_eq!(of("sim::near"), [("neighbours", 4)]);
        assert_eq!(of("main"), [("other", 2)]);
        assert_eq!(of("[unknown]"), [("other", 1)]);
        for cost in &costs {
            let sum: u64 = charged.of(cost).iter().map(|(_, weight)| weight).sum();
            assert_eq!(sum, cost.charged_weight, "{}", cost.name);
        }
    }
}
