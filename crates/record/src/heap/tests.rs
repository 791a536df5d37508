//! Tests of the sums: literal sequences of events, and a comparison with a naive replay.

use std::collections::BTreeMap;

use proptest::prelude::*;
use simprof_model::{HeapAmount, HeapSite, SHORT_LIVED_NS};
use simprof_preload::heap::format::{Kind, Origin, flag};

use super::rings::HeapEvent;
use super::tally::{Tally, Totals};

fn event(kind: Kind, time_ns: u64, stack: u64, size: u64, made_ns: u64) -> HeapEvent {
    let (slot, origin) = (0, Origin::Malloc);
    HeapEvent { time_ns, made_ns, size, stack, slot, kind, origin, flags: 0 }
}

fn alloc(time_ns: u64, stack: u64, size: u64) -> HeapEvent {
    event(Kind::Alloc, time_ns, stack, size, time_ns)
}

fn free(time_ns: u64, stack: u64, size: u64, made_ns: u64) -> HeapEvent {
    event(Kind::Free, time_ns, stack, size, made_ns)
}

fn in_image(slot: u32, event: HeapEvent) -> HeapEvent {
    HeapEvent { slot, ..event }
}

fn exact(bytes: u64, count: u64) -> HeapAmount {
    HeapAmount { bytes, count, bytes_error: 0, count_error: 0 }
}

fn tally() -> Tally {
    Tally::new(1, 0)
}

fn site(totals: &Totals, stack: u64) -> &HeapSite {
    &totals.sites.iter().find(|(nodes, _)| *nodes == stack).expect("the stack allocated").1
}

#[test]
fn bytes_are_counted_by_allocating_stack() {
    let mut tally = tally();
    let events = [alloc(1, 1, 100), alloc(2, 2, 10), free(3, 1, 100, 1), alloc(4, 1, 30)];
    events.iter().for_each(|event| tally.add(event));
    let totals = tally.finish();
    let first = site(&totals, 1);
    assert_eq!((first.amounts.allocated, first.amounts.live), (exact(130, 2), exact(30, 1)));
    assert_eq!((first.amounts.largest_bytes, first.amounts.records), (100, 2));
    assert_eq!(site(&totals, 2).amounts.live, exact(10, 1));
    assert_eq!(totals.sites[0].0, 1, "sites are sorted by bytes, largest first");
    let classes: Vec<_> = totals.sizes.iter().map(|c| (c.from_bytes, c.count, c.bytes)).collect();
    assert_eq!(classes, [(8, 1, 10), (16, 1, 30), (64, 1, 100)]);
}

#[test]
fn peak_amounts_are_those_at_the_time_of_the_peak() {
    let mut tally = tally();
    tally.begin_step(1, 7);
    for event in [alloc(2, 1, 50), alloc(3, 2, 50), free(4, 1, 50, 2), alloc(5, 3, 60)] {
        tally.add(&event);
    }
    tally.end_step(6, None);
    tally.begin_step(7, 8);
    // Below the peak: allocations after the peak do not count in it.
    for event in [free(8, 2, 50, 3), alloc(9, 1, 20), alloc(10, 4, 25)] {
        tally.add(&event);
    }
    let totals = tally.finish();
    let peak = |stack| site(&totals, stack).amounts.peak.bytes;
    assert_eq!([peak(1), peak(2), peak(3), peak(4)], [0, 50, 60, 0]);
    assert_eq!((totals.peak_ns, totals.peak_step), (5, Some(7)));
}

#[test]
fn the_first_of_equal_peaks_counts() {
    let mut tally = tally();
    for event in [alloc(1, 1, 50), free(2, 1, 50, 1), alloc(3, 2, 50)] {
        tally.add(&event);
    }
    let totals = tally.finish();
    assert_eq!((site(&totals, 1).amounts.peak.bytes, site(&totals, 2).amounts.peak.bytes), (50, 0));
}

#[test]
fn temporary_allocations_are_freed_within_their_step() {
    let mut tally = tally();
    tally.add(&alloc(1, 1, 1));
    tally.add(&free(2, 1, 1, 1));
    for step in 0..3 {
        let time_ns = 10 + 10 * step;
        tally.begin_step(time_ns, step);
        tally.add(&alloc(time_ns + 1, 2, 100));
        tally.add(&free(time_ns + 2, 2, 100, time_ns + 1));
        tally.add(&alloc(time_ns + 3, 3, 8));
        if step > 0 {
            tally.add(&free(time_ns + 4, 3, 8, time_ns - 7));
        }
        tally.end_step(time_ns + 5, Some(step));
        tally.add(&alloc(time_ns + 6, 4, 5));
        tally.add(&free(time_ns + 7, 4, 5, time_ns + 6));
    }
    let totals = tally.finish();
    let temporary = |stack| site(&totals, stack).amounts.temporary;
    assert_eq!(temporary(2), exact(300, 3));
    for (stack, why) in [(1, "before the steps"), (3, "freed a step later"), (4, "between steps")] {
        assert_eq!(temporary(stack), exact(0, 0), "{why}");
    }
    let in_steps = |stack| site(&totals, stack).amounts.in_steps;
    assert_eq!([1, 2, 3, 4].map(in_steps), [exact(0, 0), exact(300, 3), exact(24, 3), exact(0, 0)]);
    let of_ticks = totals.ticks.iter().map(|tick| (tick.in_steps_bytes, tick.in_steps_allocations));
    assert_eq!(of_ticks.collect::<Vec<_>>(), [(108, 2); 3]);
    assert_eq!(totals.steps, 3);
    let ticks: Vec<_> =
        totals.ticks.iter().map(|t| (t.temporary_bytes, t.live_bytes, t.population)).collect();
    assert_eq!(ticks, [(100, 8, Some(0)), (100, 8, Some(1)), (100, 8, Some(2))]);
    assert_eq!(site(&totals, 3).amounts.live_at_ticks, [8, 8, 8]);
}

#[test]
fn live_histories_are_kept_of_the_stacks_with_the_most_live_bytes() {
    let mut tally = tally();
    // In two processes, so that the stacks with the largest sum differ from the largest ones of each process.
    for slot in 0..2 {
        for stack in 1..=300 {
            tally.add(&in_image(slot, alloc(1, stack, 1000 + stack)));
        }
        tally.add(&in_image(slot, alloc(1, 400 + u64::from(slot), 2500)));
    }
    tally.begin_step(2, 0);
    tally.end_step(3, None);
    let totals = tally.finish();
    let with: Vec<u64> = totals
        .sites
        .iter()
        .filter(|(_, s)| !s.amounts.live_at_ticks.is_empty())
        .map(|(stack, _)| *stack)
        .collect();
    assert_eq!(with.len(), 200);
    assert!(with.iter().all(|stack| *stack > 102), "{with:?}");
    assert_eq!(site(&totals, 300).amounts.live_at_ticks, [2600]);
    assert_eq!(site(&totals, 400).amounts.live_at_ticks, [2500]);
}

#[test]
fn reallocated_allocations_are_not_temporary() {
    let mut tally = tally();
    let realloc = |event: HeapEvent| HeapEvent { flags: flag::REALLOC as u16, ..event };
    tally.begin_step(0, 0);
    let events =
        [alloc(1, 1, 10), realloc(free(2, 1, 10, 1)), realloc(alloc(2, 1, 20)), free(3, 1, 20, 2)];
    events.iter().for_each(|event| tally.add(event));
    tally.end_step(4, None);
    let totals = tally.finish();
    let site = site(&totals, 1);
    assert_eq!((site.amounts.allocated, site.amounts.reallocations), (exact(30, 2), 1));
    assert_eq!((site.amounts.temporary, site.amounts.short_lived), (exact(20, 1), exact(20, 1)));
    assert_eq!(
        site.amounts.peak.bytes, 20,
        "the old and the new allocation are not counted together"
    );
}

#[test]
fn remainders_of_mappings_are_not_new_allocations() {
    let mut tally = tally();
    let flagged = |flags: u64, event: HeapEvent| HeapEvent { flags: flags as u16, ..event };
    let remainder = |time_ns, size| HeapEvent { made_ns: 1, ..alloc(time_ns, 1, size) };
    tally.begin_step(0, 0);
    let events = [
        alloc(1, 1, 100),
        flagged(flag::REALLOC, free(2, 1, 100, 1)),
        flagged(flag::REALLOC | flag::REMAINDER, remainder(2, 30)),
        flagged(flag::REMAINDER, remainder(2, 50)),
        free(3, 1, 30, 1),
    ];
    events.iter().for_each(|event| tally.add(event));
    tally.end_step(4, None);
    let totals = tally.finish();
    let site = &site(&totals, 1).amounts;
    assert_eq!((site.allocated, site.records, site.reallocations), (exact(100, 1), 1, 0));
    assert_eq!((site.live, site.peak), (exact(50, 1), exact(100, 1)));
    assert_eq!(site.temporary, exact(30, 1));
    assert_eq!(totals.ticks[0].allocated_bytes, 100);
    assert_eq!(totals.sizes.iter().map(|class| class.bytes).sum::<u64>(), 100);
}

#[test]
fn short_lived_allocations_are_counted_by_time() {
    let mut tally = tally();
    tally.add(&alloc(5, 1, 3));
    tally.add(&free(4 + SHORT_LIVED_NS, 1, 3, 5));
    tally.add(&alloc(5 + SHORT_LIVED_NS, 1, 3));
    tally.add(&free(5 + 2 * SHORT_LIVED_NS, 1, 3, 5 + SHORT_LIVED_NS));
    assert_eq!(site(&tally.finish(), 1).amounts.short_lived, exact(3, 1));
}

#[test]
fn allocations_end_with_their_image() {
    let mut tally = tally();
    // A child allocates while its parent lives, and ends without freeing. Then the parent allocates more.
    tally.add(&in_image(0, alloc(1, 1, 100)));
    tally.add(&in_image(1, alloc(2, 1, 40)));
    tally.end_image(1, 3);
    tally.add(&in_image(0, alloc(4, 2, 30)));
    let before = tally.finish();
    assert_eq!(
        site(&before, 1).amounts.live,
        exact(140, 2),
        "the child's allocation is live at its end, the parent's at the end of the run"
    );
    assert_eq!(
        (site(&before, 1).amounts.peak.bytes, site(&before, 2).amounts.peak.bytes),
        (140, 0)
    );

    let mut tally = self::tally();
    tally.add(&in_image(0, alloc(1, 1, 100)));
    tally.add(&in_image(1, alloc(2, 1, 40)));
    tally.end_image(1, 3);
    tally.add(&in_image(0, alloc(4, 2, 50)));
    let after = tally.finish();
    assert_eq!((site(&after, 1).amounts.peak.bytes, site(&after, 2).amounts.peak.bytes), (100, 50));
    assert_eq!(after.peak_ns, 4);
}

#[test]
fn freeing_inherited_memory_does_not_make_live_bytes_negative() {
    let mut tally = tally();
    tally.add(&in_image(1, free(1, 1, 100, 0)));
    let totals = tally.finish();
    assert_eq!(site(&totals, 1).amounts.live, exact(0, 0));
    assert_eq!(totals.peak_ns, 0);
}

#[test]
fn estimates_have_errors() {
    let mut tally = Tally::new(512 << 10, 0);
    tally.add(&alloc(1, 1, 64));
    tally.add(&alloc(2, 2, 1 << 30));
    let totals = tally.finish();
    let (small, large) = (site(&totals, 1), site(&totals, 2));
    assert_eq!(
        (small.amounts.allocated.count, small.amounts.records),
        (8193, 1),
        "a small sampled allocation has a large weight"
    );
    assert!(
        small.amounts.allocated.count_error > 8000 && small.amounts.allocated.bytes_error > 500_000
    );
    assert_eq!(
        large.amounts.allocated,
        exact(1 << 30, 1),
        "an allocation much larger than the interval is always sampled"
    );
}

/// The amounts of one stack.
#[derive(Debug, Default, Clone, PartialEq)]
struct Naive {
    allocated: u64,
    count: u64,
    live: u64,
    peak: u64,
    temporary: u64,
}

/// Replays events with a list of all live allocations, and sums the list after each event.
fn replay(actions: &[(bool, u64, u64, usize)]) -> (Vec<HeapEvent>, BTreeMap<u64, Naive>) {
    let mut alive: Vec<(u64, u64, u64)> = Vec::new();
    let mut sums: BTreeMap<u64, Naive> = BTreeMap::new();
    let (mut events, mut peak) = (Vec::new(), 0);
    for (number, &(allocates, stack, size, which)) in actions.iter().enumerate() {
        let time_ns = 10 * number as u64 + 5;
        if allocates || alive.is_empty() {
            events.push(alloc(time_ns, stack, size));
            alive.push((stack, size, time_ns));
            let sum = sums.entry(stack).or_default();
            (sum.allocated, sum.count) = (sum.allocated + size, sum.count + 1);
        } else {
            let (stack, size, made_ns) = alive.remove(which % alive.len());
            events.push(free(time_ns, stack, size, made_ns));
            // Steps are 100 ns long, without gaps.
            let sum = sums.entry(stack).or_default();
            sum.temporary += if made_ns / 100 == time_ns / 100 { size } else { 0 };
        }
        let live = |stack: u64| {
            alive.iter().filter(|alive| alive.0 == stack).map(|alive| alive.1).sum::<u64>()
        };
        let total: u64 = alive.iter().map(|alive| alive.1).sum();
        for (&stack, sum) in &mut sums {
            sum.live = live(stack);
            if total > peak {
                sum.peak = sum.live;
            }
        }
        peak = peak.max(total);
    }
    (events, sums)
}

proptest! {
    #[test]
    fn sums_equal_a_naive_replay(
        actions in prop::collection::vec((any::<bool>(), 1_u64..6, 0_u64..200, any::<usize>()), 1..300)
    ) {
        let (events, expected) = replay(&actions);
        let mut tally = tally();
        for event in &events {
            if event.time_ns % 100 == 5 {
                if event.time_ns > 100 {
                    tally.end_step(event.time_ns / 100 * 100, None);
                }
                tally.begin_step(event.time_ns / 100 * 100, event.time_ns / 100);
            }
            tally.add(event);
        }
        let totals = tally.finish();
        let found: BTreeMap<u64, Naive> = totals.sites.iter().map(|(stack, site)| {
            let (allocated, count) = (site.amounts.allocated.bytes, site.amounts.allocated.count);
            let (live, peak, temporary) = (site.amounts.live.bytes, site.amounts.peak.bytes, site.amounts.temporary.bytes);
            (*stack, Naive { allocated, count, live, peak, temporary })
        }).collect();
        prop_assert_eq!(found, expected);
    }
}
