//! Heap profiles of a size that can be kept: stacks that tell little are joined.

use std::borrow::Cow;
use std::collections::BTreeMap;

use simprof_model::{
    HeapAmount, HeapAmounts, HeapOrigin, HeapProfile, HeapProvenance, HeapSite, Profile,
    ProfileBuilder, StackId,
};

/// Sites up to which a profile is kept as it is.
const FEW: usize = 20_000;
/// Nodes of the tree of stacks that are kept of a larger one.
const NODES: usize = 30_000;

/// The profile, with the stacks whose allocations are least joined to those of their callers where there are very many: each is
/// charged to the innermost frame that is kept. All sums stay what they are.
pub fn without_small_stacks(profile: &HeapProfile) -> Cow<'_, HeapProfile> {
    if profile.sites.len() <= FEW {
        Cow::Borrowed(profile)
    } else {
        Cow::Owned(folded(profile, NODES))
    }
}

fn folded(profile: &HeapProfile, nodes: usize) -> HeapProfile {
    let weights = weights(profile);
    let least = {
        let mut ordered = weights.clone();
        ordered.sort_unstable_by(|a, b| b.total_cmp(a));
        ordered.get(nodes).copied().unwrap_or(0.0)
    };
    // A caller weighs no less than what it calls, so that the kept ones are a tree.
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
    let joined = (profile.sites.len() - sites.len()) as u64;
    let provenance = HeapProvenance { stacks_joined: joined, ..profile.provenance.clone() };
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

/// How much each stack and those that it is the caller of tell: the sum of the largest share that each site has in any figure.
fn weights(profile: &HeapProfile) -> Vec<f64> {
    let figures: [fn(&HeapAmounts) -> HeapAmount; 5] =
        [|a| a.allocated, |a| a.peak, |a| a.live, |a| a.temporary, |a| a.short_lived];
    let totals = figures.map(|figure| profile.total(|site| figure(&site.amounts)));
    let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
    let mut weights = vec![0.0; profile.tables.stacks.len()];
    for site in &profile.sites {
        let shares = figures.iter().zip(&totals).map(|(figure, total)| {
            let amount = figure(&site.amounts);
            share(amount.bytes, total.bytes).max(share(amount.count, total.count))
        });
        if let Some(stack) = site.stack {
            weights[stack.index()] += shares.fold(0.0, f64::max);
        }
    }
    add_to_callers(&profile.tables, &mut weights);
    weights
}

/// Callers stand before what they call.
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
        let folded = folded(&profile, 5);
        let found: Vec<_> = folded
            .sites
            .iter()
            .map(|site| {
                let frames = folded.tables.frames_from_leaf(site.stack);
                let names: Vec<_> = frames
                    .map(|id| folded.tables.function_name(folded.tables.frame(id).function))
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
        assert_eq!(total(&folded), total(&profile));
        assert_eq!(folded.provenance.stacks_joined, 1);
        assert!(folded.tables.functions.len() < profile.tables.functions.len());
        assert!(matches!(without_small_stacks(&profile), Cow::Borrowed(_)));
    }
}
