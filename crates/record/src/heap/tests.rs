//! Literal sequences of events, and a naive replay beside the sums.

use std::collections::BTreeMap;

use proptest::prelude::*;
use simprof_model::{HeapAmount, HeapSite, SHORT_LIVED_NS};
use simprof_preload::heap::format::{Kind, Origin, flag};

use super::lanes::Event;
use super::tally::{Tallied, Tally};

fn event(kind: Kind, time_ns: u64, stack: u64, size: u64, made_ns: u64) -> Event {
    let (place, origin) = (0, Origin::Malloc);
    Event { time_ns, made_ns, size, stack, place, kind, origin, flags: 0 }
}

fn alloc(time_ns: u64, stack: u64, size: u64) -> Event {
    event(Kind::Alloc, time_ns, stack, size, time_ns)
}

fn free(time_ns: u64, stack: u64, size: u64, made_ns: u64) -> Event {
    event(Kind::Free, time_ns, stack, size, made_ns)
}

fn in_image(place: u32, event: Event) -> Event {
    Event { place, ..event }
}

fn exact(bytes: u64, count: u64) -> HeapAmount {
    HeapAmount { bytes, count, bytes_error: 0, count_error: 0 }
}

fn tally() -> Tally {
    Tally::new(1, 0)
}

fn site(tallied: &Tallied, stack: u64) -> &HeapSite {
    &tallied.sites.iter().find(|(nodes, _)| *nodes == stack).expect("it allocated").1
}

#[test]
fn bytes_are_counted_where_they_were_allocated() {
    let mut tally = tally();
    let events = [alloc(1, 1, 100), alloc(2, 2, 10), free(3, 1, 100, 1), alloc(4, 1, 30)];
    events.iter().for_each(|event| tally.event(event));
    let tallied = tally.finish();
    let first = site(&tallied, 1);
    assert_eq!((first.amounts.allocated, first.amounts.live), (exact(130, 2), exact(30, 1)));
    assert_eq!((first.amounts.largest_bytes, first.amounts.records), (100, 2));
    assert_eq!(site(&tallied, 2).amounts.live, exact(10, 1));
    assert_eq!(tallied.sites[0].0, 1, "by falling bytes");
    let classes: Vec<_> = tallied.sizes.iter().map(|c| (c.from_bytes, c.count, c.bytes)).collect();
    assert_eq!(classes, [(8, 1, 10), (16, 1, 30), (64, 1, 100)]);
}

#[test]
fn the_peak_has_what_was_alive_at_its_moment() {
    let mut tally = tally();
    tally.step_begins(1, 7);
    for event in [alloc(2, 1, 50), alloc(3, 2, 50), free(4, 1, 50, 2), alloc(5, 3, 60)] {
        tally.event(&event);
    }
    tally.step_ends(6, None);
    tally.step_begins(7, 8);
    // Beneath the peak: what comes and goes after it is none of it.
    for event in [free(8, 2, 50, 3), alloc(9, 1, 20), alloc(10, 4, 25)] {
        tally.event(&event);
    }
    let tallied = tally.finish();
    let peak = |stack| site(&tallied, stack).amounts.peak.bytes;
    assert_eq!([peak(1), peak(2), peak(3), peak(4)], [0, 50, 60, 0]);
    assert_eq!((tallied.peak_ns, tallied.peak_step), (5, Some(7)));
}

#[test]
fn the_last_of_equal_peaks_is_the_first() {
    let mut tally = tally();
    for event in [alloc(1, 1, 50), free(2, 1, 50, 1), alloc(3, 2, 50)] {
        tally.event(&event);
    }
    let tallied = tally.finish();
    assert_eq!(
        (site(&tallied, 1).amounts.peak.bytes, site(&tallied, 2).amounts.peak.bytes),
        (50, 0)
    );
}

#[test]
fn temporary_is_what_its_own_step_frees() {
    let mut tally = tally();
    tally.event(&alloc(1, 1, 1));
    tally.event(&free(2, 1, 1, 1));
    for step in 0..3 {
        let at = 10 + 10 * step;
        tally.step_begins(at, step);
        tally.event(&alloc(at + 1, 2, 100));
        tally.event(&free(at + 2, 2, 100, at + 1));
        tally.event(&alloc(at + 3, 3, 8));
        if step > 0 {
            tally.event(&free(at + 4, 3, 8, at - 7));
        }
        tally.step_ends(at + 5, Some(step));
        tally.event(&alloc(at + 6, 4, 5));
        tally.event(&free(at + 7, 4, 5, at + 6));
    }
    let tallied = tally.finish();
    let temporary = |stack| site(&tallied, stack).amounts.temporary;
    assert_eq!(temporary(2), exact(300, 3));
    for (stack, why) in [(1, "before the steps"), (3, "freed a step later"), (4, "between steps")] {
        assert_eq!(temporary(stack), exact(0, 0), "{why}");
    }
    assert_eq!(tallied.steps, 3);
    let ticks: Vec<_> =
        tallied.ticks.iter().map(|t| (t.temporary_bytes, t.live_bytes, t.population)).collect();
    assert_eq!(ticks, [(100, 8, Some(0)), (100, 8, Some(1)), (100, 8, Some(2))]);
    assert_eq!(site(&tallied, 3).amounts.live_at_ticks, [8, 8, 8]);
}

#[test]
fn courses_are_kept_of_the_stacks_of_which_most_was_alive() {
    let mut tally = tally();
    // In two processes, so that what is greatest together is not what is greatest in one.
    for place in 0..2 {
        for stack in 1..=300 {
            tally.event(&in_image(place, alloc(1, stack, 1000 + stack)));
        }
        tally.event(&in_image(place, alloc(1, 400 + u64::from(place), 2500)));
    }
    tally.step_begins(2, 0);
    tally.step_ends(3, None);
    let tallied = tally.finish();
    let with: Vec<u64> = tallied
        .sites
        .iter()
        .filter(|(_, s)| !s.amounts.live_at_ticks.is_empty())
        .map(|(stack, _)| *stack)
        .collect();
    assert_eq!(with.len(), 200);
    assert!(with.iter().all(|stack| *stack > 102), "{with:?}");
    assert_eq!(site(&tallied, 300).amounts.live_at_ticks, [2600]);
    assert_eq!(site(&tallied, 400).amounts.live_at_ticks, [2500]);
}

#[test]
fn what_is_reallocated_is_not_temporary() {
    let mut tally = tally();
    let again = |event: Event| Event { flags: flag::REALLOC as u16, ..event };
    tally.step_begins(0, 0);
    let events =
        [alloc(1, 1, 10), again(free(2, 1, 10, 1)), again(alloc(2, 1, 20)), free(3, 1, 20, 2)];
    events.iter().for_each(|event| tally.event(event));
    tally.step_ends(4, None);
    let tallied = tally.finish();
    let site = site(&tallied, 1);
    assert_eq!((site.amounts.allocated, site.amounts.reallocations), (exact(30, 2), 1));
    assert_eq!((site.amounts.temporary, site.amounts.short_lived), (exact(20, 1), exact(20, 1)));
    assert_eq!(site.amounts.peak.bytes, 20, "old and new are never counted together");
}

#[test]
fn what_is_left_of_a_mapping_is_not_allocated_anew() {
    let mut tally = tally();
    let flagged = |flags: u64, event: Event| Event { flags: flags as u16, ..event };
    let rest = |time_ns, size| Event { made_ns: 1, ..alloc(time_ns, 1, size) };
    tally.step_begins(0, 0);
    let events = [
        alloc(1, 1, 100),
        flagged(flag::REALLOC, free(2, 1, 100, 1)),
        flagged(flag::REALLOC | flag::REMAINDER, rest(2, 30)),
        flagged(flag::REMAINDER, rest(2, 50)),
        free(3, 1, 30, 1),
    ];
    events.iter().for_each(|event| tally.event(event));
    tally.step_ends(4, None);
    let tallied = tally.finish();
    let site = &site(&tallied, 1).amounts;
    assert_eq!((site.allocated, site.records, site.reallocations), (exact(100, 1), 1, 0));
    assert_eq!((site.live, site.peak), (exact(50, 1), exact(100, 1)));
    assert_eq!(site.temporary, exact(30, 1));
    assert_eq!(tallied.ticks[0].allocated_bytes, 100);
    assert_eq!(tallied.sizes.iter().map(|class| class.bytes).sum::<u64>(), 100);
}

#[test]
fn short_lives_are_counted_by_time() {
    let mut tally = tally();
    tally.event(&alloc(5, 1, 3));
    tally.event(&free(4 + SHORT_LIVED_NS, 1, 3, 5));
    tally.event(&alloc(5 + SHORT_LIVED_NS, 1, 3));
    tally.event(&free(5 + 2 * SHORT_LIVED_NS, 1, 3, 5 + SHORT_LIVED_NS));
    assert_eq!(site(&tally.finish(), 1).amounts.short_lived, exact(3, 1));
}

#[test]
fn images_end_with_what_they_have() {
    let mut tally = tally();
    // A child allocates beside its parent and ends without freeing; then the parent goes higher than before.
    tally.event(&in_image(0, alloc(1, 1, 100)));
    tally.event(&in_image(1, alloc(2, 1, 40)));
    tally.image_ends(1, 3);
    tally.event(&in_image(0, alloc(4, 2, 30)));
    let before = tally.finish();
    assert_eq!(
        site(&before, 1).amounts.live,
        exact(140, 2),
        "what the child had, and what the parent has"
    );
    assert_eq!(
        (site(&before, 1).amounts.peak.bytes, site(&before, 2).amounts.peak.bytes),
        (140, 0)
    );

    let mut tally = self::tally();
    tally.event(&in_image(0, alloc(1, 1, 100)));
    tally.event(&in_image(1, alloc(2, 1, 40)));
    tally.image_ends(1, 3);
    tally.event(&in_image(0, alloc(4, 2, 50)));
    let after = tally.finish();
    assert_eq!((site(&after, 1).amounts.peak.bytes, site(&after, 2).amounts.peak.bytes), (100, 50));
    assert_eq!(after.peak_ns, 4);
}

#[test]
fn inherited_memory_that_a_child_frees_changes_nothing_below_zero() {
    let mut tally = tally();
    tally.event(&in_image(1, free(1, 1, 100, 0)));
    let tallied = tally.finish();
    assert_eq!(site(&tallied, 1).amounts.live, exact(0, 0));
    assert_eq!(tallied.peak_ns, 0);
}

#[test]
fn estimates_carry_their_errors() {
    let mut tally = Tally::new(512 << 10, 0);
    tally.event(&alloc(1, 1, 64));
    tally.event(&alloc(2, 2, 1 << 30));
    let tallied = tally.finish();
    let (small, large) = (site(&tallied, 1), site(&tallied, 2));
    assert_eq!(
        (small.amounts.allocated.count, small.amounts.records),
        (8193, 1),
        "it stands for many"
    );
    assert!(
        small.amounts.allocated.count_error > 8000 && small.amounts.allocated.bytes_error > 500_000
    );
    assert_eq!(large.amounts.allocated, exact(1 << 30, 1), "what is large is surely seen");
}

/// What a stack has to answer for.
#[derive(Debug, Default, Clone, PartialEq)]
struct Naive {
    allocated: u64,
    count: u64,
    live: u64,
    peak: u64,
    temporary: u64,
}

/// Replays events with a map of what is alive, and looks at everything after each of them.
fn replay(actions: &[(bool, u64, u64, usize)]) -> (Vec<Event>, BTreeMap<u64, Naive>) {
    let mut alive: Vec<(u64, u64, u64)> = Vec::new();
    let mut sums: BTreeMap<u64, Naive> = BTreeMap::new();
    let (mut events, mut most) = (Vec::new(), 0);
    for (at, &(allocates, stack, size, which)) in actions.iter().enumerate() {
        let time_ns = 10 * at as u64 + 5;
        if allocates || alive.is_empty() {
            events.push(alloc(time_ns, stack, size));
            alive.push((stack, size, time_ns));
            let sum = sums.entry(stack).or_default();
            (sum.allocated, sum.count) = (sum.allocated + size, sum.count + 1);
        } else {
            let (stack, size, made_ns) = alive.remove(which % alive.len());
            events.push(free(time_ns, stack, size, made_ns));
            // Steps are 100 long, and there is always one.
            let sum = sums.entry(stack).or_default();
            sum.temporary += if made_ns / 100 == time_ns / 100 { size } else { 0 };
        }
        let live = |stack: u64| {
            alive.iter().filter(|held| held.0 == stack).map(|held| held.1).sum::<u64>()
        };
        let whole: u64 = alive.iter().map(|held| held.1).sum();
        for (&stack, sum) in &mut sums {
            sum.live = live(stack);
            if whole > most {
                sum.peak = sum.live;
            }
        }
        most = most.max(whole);
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
                    tally.step_ends(event.time_ns / 100 * 100, None);
                }
                tally.step_begins(event.time_ns / 100 * 100, event.time_ns / 100);
            }
            tally.event(event);
        }
        let tallied = tally.finish();
        let found: BTreeMap<u64, Naive> = tallied.sites.iter().map(|(stack, site)| {
            let (allocated, count) = (site.amounts.allocated.bytes, site.amounts.allocated.count);
            let (live, peak, temporary) = (site.amounts.live.bytes, site.amounts.peak.bytes, site.amounts.temporary.bytes);
            (*stack, Naive { allocated, count, live, peak, temporary })
        }).collect();
        prop_assert_eq!(found, expected);
    }
}
