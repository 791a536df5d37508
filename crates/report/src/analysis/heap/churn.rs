//! Lines that allocate again and again what lives but shortly, and what doing without would gain.

use std::collections::BTreeMap;

use simprof_model::{HeapAmount, HeapAmounts, HeapProfile, Profile};

use super::allocators::{Deed, deeds};
use super::draws::count_interval;
use super::lines::{HeapLine, heap_lines};
use crate::analysis::{Origin, by_stack, origins};

/// Share of a line's allocations from which they count as churn when they live shortly.
const SHORT_SHARE: f64 = 0.5;
/// Share of all allocations from which a line's churn is worth a word.
const NOTABLE_SHARE: f64 = 0.01;
/// Fewer than this are no churn, whatever their share.
const LEAST: u64 = 1000;

/// The least time that an allocation and its end take, ns of CPU time.
const LEAST_NS: f64 = 10.0;
/// Samples that are expected where it is no chance that none is seen.
const SURE_SAMPLES: f64 = 5.0;

/// A line that churns.
#[derive(Debug, Clone, PartialEq)]
pub struct Churn {
    /// The line.
    pub line: HeapLine,
    /// What of it lived shortly: freed in its own step, or within a millisecond where there are no steps.
    pub short: HeapAmount,
    /// That, of all allocations of the program, 0 to 1.
    pub share_of_all: f64,
    /// Share of CPU time spent in the allocator beneath this line, and in its function to free what the line allocated; none without
    /// a CPU profile, and where that does not show an allocator which so many allocations must have kept busy.
    pub cpu_share: Option<f64>,
}

impl Churn {
    /// How many times as fast the whole is without that share (Amdahl). No bound: blocks that other functions free are not in the share,
    /// and what better use of caches may add is not either.
    pub fn speed_up(&self) -> Option<f64> {
        self.cpu_share.map(|share| 1.0 / (1.0 - share.min(0.999)))
    }
}

/// Lines that churn, by falling CPU share and number.
pub fn churn(profile: &HeapProfile, cpu: Option<&Profile>) -> Vec<Churn> {
    let whole = profile.total(|site| site.amounts.allocated).count;
    let lines = heap_lines(profile);
    let times = cpu.map(AllocatorTime::of);
    let by_function = short_by_function(&lines, profile.steps > 0);
    let mut found: Vec<Churn> = lines
        .into_iter()
        .filter_map(|line| {
            let short = short_lived(&line, profile.steps > 0);
            let share_of_all = short.count as f64 / whole.max(1) as f64;
            let of_line = (short.count as f64 / blocks(&line)).min(1.0);
            let is_sure = count_interval(short, profile.provenance.interval_bytes)[0] > 0.0;
            let churns = is_sure
                && short.count >= LEAST
                && of_line >= SHORT_SHARE
                && share_of_all >= NOTABLE_SHARE;
            let of_function = by_function.get(&line.function).copied().unwrap_or(0);
            let part = short.count as f64 / of_function.max(1) as f64;
            let times = times.as_ref();
            let cpu_share = times.and_then(|times| times.share(&line, short.count, of_line, part));
            churns.then_some(Churn { line, short, share_of_all, cpu_share })
        })
        .collect();
    let gain = |churn: &Churn| churn.cpu_share.unwrap_or(0.0);
    found.sort_by(|a, b| {
        gain(b).total_cmp(&gain(a)).then_with(|| b.short.count.cmp(&a.short.count))
    });
    found
}

fn short_lived(line: &HeapLine, has_steps: bool) -> HeapAmount {
    if has_steps { line.amounts.temporary } else { line.amounts.short_lived }
}

/// Blocks that a line began anew: a block that is made larger ends as another begins, and only the last of them is freed.
fn blocks(line: &HeapLine) -> f64 {
    let HeapAmounts { allocated, reallocations, .. } = &line.amounts;
    allocated.count.saturating_sub(*reallocations).max(1) as f64
}

/// Allocations that live shortly, by function.
fn short_by_function(lines: &[HeapLine], has_steps: bool) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in lines {
        *counts.entry(line.function.clone()).or_default() += short_lived(line, has_steps).count;
    }
    counts
}

/// CPU time in the allocator, by the line of one's own code that called for it.
#[derive(Debug, Default)]
struct AllocatorTime {
    whole: u64,
    /// Weight of a sample, the mean.
    sample: f64,
    /// Whether any sample is of an allocator that is known by name.
    is_known: bool,
    /// Beneath a line, by function, file and line.
    lines: BTreeMap<(String, Option<String>, Option<u32>), u64>,
    /// To free, by function.
    freeing: BTreeMap<String, u64>,
}

impl AllocatorTime {
    fn of(cpu: &Profile) -> Self {
        let origins = origins(cpu);
        let deeds = deeds(cpu);
        let mut times = Self { whole: cpu.total_weight(), ..Self::default() };
        times.sample = times.whole as f64 / cpu.samples.len().max(1) as f64;
        for entry in by_stack(cpu) {
            let mut found = None;
            for id in cpu.frames_from_leaf(entry.stack) {
                let frame = cpu.frame(id);
                let deed = deeds[frame.function.index()];
                found = deed.or(found);
                times.is_known |= deed.is_some();
                if deed.is_some() || origins[frame.function.index()] != Origin::Own {
                    continue;
                }
                let function = cpu.function_name(frame.function).to_owned();
                let file = frame.file.or(cpu.function(frame.function).file);
                let file = file.map(|file| cpu.string(file).to_owned());
                match found {
                    Some(Deed::Allocates) => {
                        *times.lines.entry((function, file, frame.line)).or_default() +=
                            entry.weight;
                    }
                    Some(Deed::Frees) => {
                        *times.freeing.entry(function).or_default() += entry.weight
                    }
                    None => {}
                }
                break;
            }
        }
        times
    }

    /// Share of all time that a line's short-lived allocations cost: `of_line` of what it spends to allocate, and `of_function` of
    /// what its function spends to free. None where none of it is seen though so many would be: then the allocator is not known by name,
    /// or is inlined.
    fn share(&self, line: &HeapLine, short: u64, of_line: f64, of_function: f64) -> Option<f64> {
        let is_seen = self.freeing.contains_key(&line.function)
            || self.lines.keys().any(|(function, ..)| *function == line.function);
        let would_be = short as f64 * LEAST_NS >= SURE_SAMPLES * self.sample;
        if !self.is_known || (!is_seen && would_be) {
            return None;
        }
        let key = (line.function.clone(), line.file.clone(), line.line);
        let allocating = self.lines.get(&key).copied().unwrap_or(0) as f64;
        let freeing = self.freeing.get(&line.function).copied().unwrap_or(0) as f64;
        Some((allocating * of_line + freeing * of_function) / self.whole.max(1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{heap, profile};

    fn churning() -> HeapProfile {
        let stacks = [
            ("main@1 > s::f@10 > malloc", 100),
            ("main@1 > s::f@20 > malloc", 100),
            ("main@1 > s::g@30 > malloc", 1),
        ];
        let mut heap = heap(&stacks);
        heap.steps = 10;
        for (site, (all, short)) in
            heap.sites.iter_mut().zip([(9000, 9000), (3000, 3000), (9000, 10)])
        {
            site.amounts.allocated.count = all;
            site.amounts.temporary.count = short;
        }
        heap
    }

    #[test]
    fn lines_that_churn_are_named_with_what_they_cost() {
        let cpu = profile(&[
            ("main@1 > s::f@10 > malloc > _int_malloc", 8),
            ("main@1 > s::f@20 > malloc", 2),
            ("main@1 > s::f@21 > free > _int_free", 20),
            ("main@1 > s::f@10", 50),
            ("main@1 > s::g@30 > malloc", 20),
        ]);
        let found = churn(&churning(), Some(&cpu));
        let lines: Vec<_> = found.iter().map(|churn| churn.line.line).collect();
        assert_eq!(lines, [Some(10), Some(20)], "what is kept is no churn");
        // 8 to allocate, and three quarters of 20 to free.
        let share = found[0].cpu_share.expect("there is a CPU profile");
        assert!((share - 0.23).abs() < 1e-9, "{share}");
        assert!((found[0].speed_up().expect("likewise") - 1.0 / 0.77).abs() < 1e-9);
        assert!((found[0].share_of_all - 9.0 / 21.0).abs() < 1e-9);
    }

    #[test]
    fn a_container_that_grows_and_is_freed_churns() {
        let cpu_of = profile;
        let mut profile = churning();
        // Each of 2,000 blocks is made larger three times; of those of the other line most are kept.
        profile.sites[1].amounts.allocated.count = 8000;
        (profile.sites[1].amounts.reallocations, profile.sites[1].amounts.temporary.count) =
            (6000, 2000);
        profile.sites[2].amounts.temporary.count = 2000;
        // All time of the allocator beneath line 20 is for what lives but shortly.
        let cpu = cpu_of(&[("main@1 > s::f@20 > realloc", 40), ("main@1 > s::f@10 > malloc", 60)]);
        let found = churn(&profile, Some(&cpu));
        let grown = found.iter().find(|churn| churn.line.line == Some(20)).expect("it churns");
        assert_eq!(found.len(), 2, "{found:?}");
        assert!((grown.cpu_share.expect("there is a CPU profile") - 0.4).abs() < 1e-9);
    }

    #[test]
    fn an_allocator_that_is_not_seen_is_not_said_to_take_no_time() {
        let share = |samples: &[(&str, u64)]| {
            let found = churn(&churning(), Some(&profile(samples)));
            found.iter().find(|churn| churn.line.line == Some(10)).expect("it churns").cpu_share
        };
        let (work, elsewhere) = (("main@1 > s::f@10", 500), ("main@1 > s::g@30 > malloc", 500));
        assert_eq!(share(&[work]), None, "no allocator is known");
        assert_eq!(share(&[work, elsewhere]), None, "9,000 allocations take more than a sample");
        let beside = ("main@1 > s::f@21 > malloc", 500);
        assert_eq!(share(&[work, beside]), Some(0.0), "it would be seen");
        let rare = [("main@1 > s::f@10", 1_000_000), ("main@1 > s::g@30 > malloc", 1_000_000)];
        assert_eq!(share(&rare), Some(0.0), "a sample is as long as all of them");
    }

    #[test]
    fn without_a_cpu_profile_no_gain_is_told() {
        let found = churn(&churning(), None);
        assert_eq!((found.len(), found[0].cpu_share, found[0].speed_up()), (2, None, None));
        assert_eq!(found[0].line.line, Some(10), "the most numerous first");
    }
}
