//! Limits the size of heap profiles: merges the stacks with the least memory into their callers.

use std::borrow::Cow;
use std::collections::BTreeMap;

use simprof_model::{
    HeapAmount, HeapAmounts, HeapOrigin, HeapProfile, HeapProvenance, HeapSite, Profile,
    ProfileBuilder, StackId,
};

/// Profiles with at most this many sites are kept unchanged.
const SITES_UNCHANGED: usize = 20_000;
/// Nodes of the stack tree to keep of larger profiles.
const NODES: usize = 30_000;

/// Returns the profile. If it has very many stacks, those with the least memory are merged into their callers: each is
/// charged to its innermost frame that is kept. Sums do not change.
pub fn without_small_stacks(profile: &HeapProfile) -> Cow<'_, HeapProfile> {
    if profile.sites.len() <= SITES_UNCHANGED {
        Cow::Borrowed(profile)
    } else {
        Cow::Owned(joined(profile, NODES))
    }
}

fn joined(profile: &HeapProfile, nodes: usize) -> HeapProfile {
    let weights = weights(profile);
    let least = {
        let mut ordered = weights.clone();
        ordered.sort_unstable_by(|a, b| b.total_cmp(a));
        ordered.get(nodes).copied().unwrap_or(0.0)
    };
    // A caller weighs no less than its callees, so that the kept nodes are a tree.
    let is_kept = |id: StackId| weights[id.index()] > least;
    let mut builder = ProfileBuilder::new(profile.tables.weight);
    let kept = builder.absorb_stacks(&profile.tables, is_kept);
    *builder.provenance() = profile.tables.provenance.clone();
    let parent = |id: &StackId| profile.tables.stacks[id.index()].parent;
    let mut sites: BTreeMap<(Option<StackId>, HeapOrigin), HeapAmounts> = BTreeMap::new();
    for site in &profile.sites {
        let stack = std::iter::successors(site.stack, parent).find_map(|id| kept[id.index()]);
        sites.entry((stack, site.origin)).or_default().add(&site.amounts);
    }
    let site = |((stack, origin), amounts)| HeapSite { stack, origin, amounts };
    let mut sites: Vec<HeapSite> = sites.into_iter().map(site).collect();
    sites.sort_by_key(|site| (std::cmp::Reverse(site.amounts.allocated.bytes), site.stack));
    let stacks_joined = (profile.sites.len() - sites.len()) as u64;
    let provenance = HeapProvenance { stacks_joined, ..profile.provenance.clone() };
    HeapProfile {
        ticks: profile.ticks.clone(),
        steps: profile.steps,
        series: profile.series.clone(),
        sizes: profile.sizes.clone(),
        peak_ns: profile.peak_ns,
        peak_step: profile.peak_step,
        ..HeapProfile::of_sites(builder.finish(), sites, provenance)
    }
}

/// Returns the weight of each stack, its callees included: the sum over sites of a site's largest share in any of the
/// amounts.
fn weights(profile: &HeapProfile) -> Vec<f64> {
    let amounts: [fn(&HeapAmounts) -> HeapAmount; 5] =
        [|a| a.allocated, |a| a.peak, |a| a.live, |a| a.temporary, |a| a.short_lived];
    let totals = amounts.map(|amount_of| profile.total(|site| amount_of(&site.amounts)));
    let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
    let mut weights = vec![0.0; profile.tables.stacks.len()];
    for site in &profile.sites {
        let shares = amounts.iter().zip(&totals).map(|(amount_of, total)| {
            let amount = amount_of(&site.amounts);
            share(amount.bytes, total.bytes).max(share(amount.count, total.count))
        });
        if let Some(stack) = site.stack {
            weights[stack.index()] += shares.fold(0.0, f64::max);
        }
    }
    add_to_callers(&profile.tables, &mut weights);
    weights
}

/// Adds the weight of each stack to its callers. Callers precede their callees in the table.
fn add_to_callers(tables: &Profile, weights: &mut [f64]) {
    for (at, node) in tables.stacks.iter().enumerate().rev() {
        if let Some(parent) = node.parent {
            weights[parent.index()] += weights[at];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::heap;

    #[test]
    fn small_stacks_are_joined_to_their_callers() {
        let profile = heap(&[
            ("main@1 > s::f@10 > malloc", 1000),
            ("main@1 > s::g@20 > s::h@30 > malloc", 1),
            ("main@1 > s::g@20 > s::i@40 > malloc", 2),
            ("main@1 > s::g@20 > malloc", 300),
            ("", 5),
        ]);
        let joined = joined(&profile, 5);
        let found: Vec<_> = joined
            .sites
            .iter()
            .map(|site| {
                let frames = joined.tables.frames_from_leaf(site.stack);
                let names: Vec<_> = frames
                    .map(|id| joined.tables.function_name(joined.tables.frame(id).function))
                    .collect();
                (names.join(" < "), site.amounts.allocated.bytes, site.amounts.records)
            })
            .collect();
        let expected = [
            ("malloc < s::f < main".to_owned(), 1000, 1),
            ("malloc < s::g < main".to_owned(), 300, 1),
            (String::new(), 5, 1),
            ("s::g < main".to_owned(), 3, 2),
        ];
        assert_eq!(found, expected);
        let total = |profile: &HeapProfile| profile.total(|site| site.amounts.allocated);
        assert_eq!(total(&joined), total(&profile));
        assert_eq!(joined.provenance.stacks_joined, 1);
        assert!(joined.tables.functions.len() < profile.tables.functions.len());
        assert!(matches!(without_small_stacks(&profile), Cow::Borrowed(_)));
    }
}
