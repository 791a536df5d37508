//! Lines with many short-lived allocations (churn), and the CPU time that these take in the allocator.

use std::collections::BTreeMap;

use simprof_model::{HeapAmount, HeapAmounts, HeapProfile, Profile};

use super::allocators::{AllocatorRole, allocator_roles};
use super::intervals::count_interval;
use super::lines::{HeapLine, heap_lines};
use crate::analysis::{Origin, by_stack, origins};

/// Share of a line's allocations that must be short-lived.
const SHORT_SHARE: f64 = 0.5;
/// Share of all allocations of the program that the line's short-lived ones must have.
const NOTABLE_SHARE: f64 = 0.01;
/// Minimum number of short-lived allocations.
const COUNT_MIN: u64 = 1000;

/// Minimum CPU time of one allocation and its release, ns.
const ALLOCATION_NS_MIN: f64 = 10.0;
/// If at least this many allocator samples are expected, it is not chance that there are none.
const EXPECTED_SAMPLES: f64 = 5.0;

/// A line with many short-lived allocations.
#[derive(Debug, Clone, PartialEq)]
pub struct Churn {
    /// The line.
    pub line: HeapLine,
    /// Its short-lived allocations: freed in the step that allocated them, or within a millisecond if there are no
    /// steps.
    pub short: HeapAmount,
    /// Their number as a fraction of all allocations of the program, 0 to 1.
    pub share_of_all: f64,
    /// Share of CPU time spent in the allocator beneath this line, and in the line's function to free the line's blocks.
    /// `None` without a CPU profile, or if the profile does not show an allocator that so many allocations must have kept
    /// busy.
    pub cpu_share: Option<f64>,
}

impl Churn {
    /// Returns the speed-up of the whole program without that share (Amdahl 1967). It is not an upper bound: the share
    /// omits blocks that other functions free, and the effects on caches.
    pub fn speed_up(&self) -> Option<f64> {
        self.cpu_share.map(|share| 1.0 / (1.0 - share.min(0.999)))
    }
}

/// Returns the lines with many short-lived allocations, by decreasing CPU share and number.
pub fn churn(profile: &HeapProfile, cpu: Option<&Profile>) -> Vec<Churn> {
    let whole = profile.total(|site| site.amounts.allocated).count;
    let lines = heap_lines(profile);
    let times = cpu.map(AllocatorTime::from_profile);
    let by_function = short_by_function(&lines, profile.steps > 0);
    let mut found: Vec<Churn> = lines
        .into_iter()
        .filter_map(|line| {
            let short = short_lived(&line, profile.steps > 0);
            let share_of_all = short.count as f64 / whole.max(1) as f64;
            let of_line = (short.count as f64 / blocks(&line)).min(1.0);
            let is_sure = count_interval(short, profile.provenance.interval_bytes)[0] > 0.0;
            let churns = is_sure
                && short.count >= COUNT_MIN
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

/// Returns the number of blocks that a line allocated, without reallocations: a reallocation ends one block and begins
/// another, and only the last is freed.
fn blocks(line: &HeapLine) -> f64 {
    let HeapAmounts { allocated, reallocations, .. } = &line.amounts;
    allocated.count.saturating_sub(*reallocations).max(1) as f64
}

/// Returns the number of short-lived allocations of each function.
fn short_by_function(lines: &[HeapLine], has_steps: bool) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in lines {
        *counts.entry(line.function.clone()).or_default() += short_lived(line, has_steps).count;
    }
    counts
}

/// CPU time in the allocator, by the author's line that called it.
#[derive(Debug, Default)]
struct AllocatorTime {
    whole: u64,
    /// Mean weight of a sample.
    sample: f64,
    /// Whether any sample has a known allocator function.
    is_known: bool,
    /// Time to allocate, by function, file and line.
    lines: BTreeMap<(String, Option<String>, Option<u32>), u64>,
    /// Time to free, by function.
    freeing: BTreeMap<String, u64>,
}

impl AllocatorTime {
    fn from_profile(cpu: &Profile) -> Self {
        let origins = origins(cpu);
        let roles = allocator_roles(cpu);
        let mut times = Self { whole: cpu.total_weight(), ..Self::default() };
        times.sample = times.whole as f64 / cpu.samples.len().max(1) as f64;
        for entry in by_stack(cpu) {
            let mut found = None;
            for id in cpu.frames_from_leaf(entry.stack) {
                let frame = cpu.frame(id);
                let role = roles[frame.function.index()];
                found = role.or(found);
                times.is_known |= role.is_some();
                if role.is_some() || origins[frame.function.index()] != Origin::Own {
                    continue;
                }
                let function = cpu.function_name(frame.function).to_owned();
                let file = frame.file.or(cpu.function(frame.function).file);
                let file = file.map(|file| cpu.string(file).to_owned());
                match found {
                    Some(AllocatorRole::Allocates) => {
                        *times.lines.entry((function, file, frame.line)).or_default() +=
                            entry.weight;
                    }
                    Some(AllocatorRole::Frees) => {
                        *times.freeing.entry(function).or_default() += entry.weight
                    }
                    None => {}
                }
                break;
            }
        }
        times
    }

    /// Returns the share of all time that a line's short-lived allocations cost: the fraction `of_line` of its time to
    /// allocate, plus the fraction `of_function` of its function's time to free. `None` if the profile shows
    /// no such time, although `short` allocations are enough to be seen: then the allocator has unknown names, or is inlined.
    fn share(&self, line: &HeapLine, short: u64, of_line: f64, of_function: f64) -> Option<f64> {
        let is_seen = self.freeing.contains_key(&line.function)
            || self.lines.keys().any(|(function, ..)| *function == line.function);
        let must_show = short as f64 * ALLOCATION_NS_MIN >= EXPECTED_SAMPLES * self.sample;
        if !self.is_known || (!is_seen && must_show) {
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
    fn churning_lines_have_their_cpu_share_and_speed_up() {
        let cpu = profile(&[
            ("main@1 > s::f@10 > malloc > _int_malloc", 8),
            ("main@1 > s::f@20 > malloc", 2),
            ("main@1 > s::f@21 > free > _int_free", 20),
            ("main@1 > s::f@10", 50),
            ("main@1 > s::g@30 > malloc", 20),
        ]);
        let found = churn(&churning(), Some(&cpu));
        let lines: Vec<_> = found.iter().map(|churn| churn.line.line).collect();
        assert_eq!(lines, [Some(10), Some(20)], "the third line keeps its blocks");
        // 8 to allocate, plus three quarters of 20 to free.
        let share = found[0].cpu_share.expect("there is a CPU profile");
        assert!((share - 0.23).abs() < 1e-9, "{share}");
        assert!((found[0].speed_up().expect("likewise") - 1.0 / 0.77).abs() < 1e-9);
        assert!((found[0].share_of_all - 9.0 / 21.0).abs() < 1e-9);
    }

    #[test]
    fn a_container_that_grows_and_is_freed_churns() {
        let cpu_of = profile;
        let mut profile = churning();
        // Each of 2,000 blocks is reallocated three times; the other line keeps most of its blocks.
        profile.sites[1].amounts.allocated.count = 8000;
        (profile.sites[1].amounts.reallocations, profile.sites[1].amounts.temporary.count) =
            (6000, 2000);
        profile.sites[2].amounts.temporary.count = 2000;
        // All allocator time beneath line 20 is for short-lived allocations.
        let cpu = cpu_of(&[("main@1 > s::f@20 > realloc", 40), ("main@1 > s::f@10 > malloc", 60)]);
        let found = churn(&profile, Some(&cpu));
        let grown = found.iter().find(|churn| churn.line.line == Some(20)).expect("it churns");
        assert_eq!(found.len(), 2, "{found:?}");
        assert!((grown.cpu_share.expect("there is a CPU profile") - 0.4).abs() < 1e-9);
    }

    #[test]
    fn an_allocator_without_samples_has_no_cpu_share_if_samples_are_expected() {
        let share = |samples: &[(&str, u64)]| {
            let found = churn(&churning(), Some(&profile(samples)));
            found.iter().find(|churn| churn.line.line == Some(10)).expect("it churns").cpu_share
        };
        let (work, elsewhere) = (("main@1 > s::f@10", 500), ("main@1 > s::g@30 > malloc", 500));
        assert_eq!(share(&[work]), None, "no allocator is recognised");
        assert_eq!(share(&[work, elsewhere]), None, "9,000 allocations take more than a sample");
        let beside = ("main@1 > s::f@21 > malloc", 500);
        assert_eq!(share(&[work, beside]), Some(0.0), "it would be seen");
        let rare = [("main@1 > s::f@10", 1_000_000), ("main@1 > s::g@30 > malloc", 1_000_000)];
        assert_eq!(share(&rare), Some(0.0), "a sample is as long as all of them");
    }

    #[test]
    fn without_a_cpu_profile_there_is_no_cpu_share() {
        let found = churn(&churning(), None);
        assert_eq!((found.len(), found[0].cpu_share, found[0].speed_up()), (2, None, None));
        assert_eq!(found[0].line.line, Some(10), "the most numerous first");
    }
}
