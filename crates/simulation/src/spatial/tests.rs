//! Compares every kind of index, with and without queued changes, with a linear search.

use proptest::prelude::*;

use super::*;
use crate::geometry::{Area, Entry, Point};

const WORLD: Area = Area::world(100.0, 60.0);

/// A list with linear search, as the oracle.
struct Naive(Vec<Entry>);

impl Naive {
    fn ids(&self, inside: impl Fn(Point) -> bool) -> Vec<u32> {
        let mut ids: Vec<u32> =
            self.0.iter().filter(|entry| inside(entry.at)).map(|entry| entry.id).collect();
        ids.sort_unstable();
        ids
    }

    fn nearest(&self, centre: Point, radius: f32, accept: impl Fn(u32) -> bool) -> Option<u32> {
        self.0
            .iter()
            .filter(|entry| accept(entry.id))
            .map(|entry| (entry.at.squared_distance(centre), entry.id))
            .filter(|found| found.0 <= radius * radius)
            .min_by(|a, b| a.partial_cmp(b).unwrap())
            .map(|found| found.1)
    }
}

/// Points on a half-unit lattice, so that equal distances, equal positions and border cases are common.
fn lattice_point() -> impl Strategy<Value = Point> {
    (0u16..=200, 0u16..=120).prop_map(|(x, y)| Point::new(f32::from(x) * 0.5, f32::from(y) * 0.5))
}

fn random_point() -> impl Strategy<Value = Point> {
    (0.0f32..=100.0, 0.0f32..=60.0).prop_map(|(x, y)| Point::new(x, y))
}

fn any_point() -> impl Strategy<Value = Point> {
    prop_oneof![lattice_point(), random_point(), Just(Point::new(50.0, 30.0))]
}

#[derive(Debug, Clone)]
enum Step {
    Move(prop::sample::Index, Point, u8),
    Remove(prop::sample::Index),
    Insert(Point),
    Tick,
    Query(Point, f32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<prop::sample::Index>(), any_point(), 0u8..=3).prop_map(|(i, p, k)| Step::Move(i, p, k)),
        1 => any::<prop::sample::Index>().prop_map(Step::Remove),
        1 => any_point().prop_map(Step::Insert),
        1 => Just(Step::Tick),
        3 => (any_point(), prop_oneof![Just(0.0f32), Just(5.0), 0.0f32..40.0]).prop_map(|(p, r)| Step::Query(p, r)),
    ]
}

fn priority(level: u8) -> Priority {
    [Priority::Low, Priority::Normal, Priority::High, Priority::Critical][level as usize]
}

fn sorted(mut entries: Vec<Entry>) -> Vec<u32> {
    entries.sort_unstable_by_key(|entry| entry.id);
    entries.iter().map(|entry| entry.id).collect()
}

fn check(index: &BatchedIndex, naive: &Naive, centre: Point, radius: f32) {
    let mut out = Vec::new();
    index.nearby(centre, radius, &mut out);
    let within = |at: Point| at.squared_distance(centre) <= radius * radius;
    assert_eq!(sorted(out), naive.ids(within), "{} nearby", index.kind());

    let area = Area {
        min: Point::new(centre.x - radius, centre.y - radius * 0.5),
        max: Point::new(centre.x + radius * 0.25, centre.y + radius),
    };
    let mut out = Vec::new();
    index.range(&area, &mut out);
    assert_eq!(sorted(out), naive.ids(|at| area.contains(at)), "{} range", index.kind());

    for (reach, divisor) in [(f32::INFINITY, 1), (radius, 1), (f32::INFINITY, 3)] {
        let accept = |id: u32| id.is_multiple_of(divisor);
        assert_eq!(
            index.nearest(centre, reach, accept).map(|found| found.entry.id),
            naive.nearest(centre, reach, accept),
            "{} nearest within {reach}, every {divisor}",
            index.kind()
        );
    }
}

fn run(kind: IndexKind, start: &[Point], steps: &[Step], policy: FlushPolicy, cell: Option<f32>) {
    let entries = |points: &[Point]| -> Vec<Entry> {
        points.iter().enumerate().map(|(id, &at)| Entry { id: id as u32, at }).collect()
    };
    let mut naive = Naive(entries(start));
    let mut index = BatchedIndex::new(kind, WORLD, cell, policy, &naive.0);
    let mut next = start.len() as u32;
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Move(which, to, level) if !naive.0.is_empty() => {
                let chosen = which.index(naive.0.len());
                let entry = &mut naive.0[chosen];
                let from = std::mem::replace(&mut entry.at, *to);
                index.queue_move(entry.id, from, *to, priority(*level));
            }
            Step::Remove(which) if !naive.0.is_empty() => {
                let removed = naive.0.remove(which.index(naive.0.len()));
                let change = Change { id: removed.id, from: Some(removed.at), to: None };
                index.queue(change, Priority::Normal);
            }
            Step::Insert(at) => {
                naive.0.push(Entry { id: next, at: *at });
                let change = Change { id: next, from: None, to: Some(*at) };
                index.queue(change, Priority::High);
                next += 1;
            }
            Step::Tick => index.end_step(number as u64),
            Step::Query(centre, radius) => check(&index, &naive, *centre, *radius),
            Step::Move(..) | Step::Remove(_) => {}
        }
    }
    check(&index, &naive, Point::new(50.0, 30.0), 25.0);
    spatial_update(&mut index);
    assert_eq!(index.queue_len(), 0);
    check(&index, &naive, Point::new(50.0, 30.0), 25.0);
}

proptest! {
    #[test]
    fn results_equal_a_linear_search(
        start in prop::collection::vec(any_point(), 0..120),
        steps in prop::collection::vec(step(), 0..80),
        batch_size in prop_oneof![Just(1usize), Just(7), Just(1000)],
        region_size in prop_oneof![Just(3.0f32), Just(50.0)],
        cell in prop_oneof![Just(None), Just(Some(0.7f32)), Just(Some(33.0))],
    ) {
        let policy = FlushPolicy { batch_size, region_size, every_steps: 2, ..FlushPolicy::default() };
        for &kind in IndexKind::ALL {
            run(kind, &start, &steps, policy, cell);
        }
    }
}

#[test]
fn a_thousand_entries_at_one_position_are_all_found() {
    let at = Point::new(12.5, 12.5);
    let entries: Vec<Entry> = (0..1000).map(|id| Entry { id, at }).collect();
    for &kind in IndexKind::ALL {
        let index = BatchedIndex::new(kind, WORLD, None, FlushPolicy::default(), &entries);
        let mut out = Vec::new();
        index.nearby(at, 0.0, &mut out);
        assert_eq!(out.len(), 1000, "{kind}");
        assert_eq!(index.nearest(at, 1.0, |id| id >= 500).unwrap().entry.id, 500);
    }
}

#[test]
fn batch_size_determines_the_number_of_flushes_and_rebuilds() {
    for (batch_size, flushes) in [(10, 50), (50, 10), (100, 5), (500, 1)] {
        let policy = FlushPolicy { batch_size, ..FlushPolicy::default() };
        let world = Area::world(1000.0, 1000.0);
        let mut scene = SpatialScene::new(IndexKind::KdTree, 1000, world, None, policy, 1);
        scene.queue_moves(500, 5.0, 0);
        scene.flush();
        let counters = scene.index().counters();
        assert_eq!(
            (counters.flushes, counters.rebuilds, counters.applied),
            (flushes, flushes + 1, 500)
        );
    }
}

#[test]
fn larger_regions_make_queries_read_more_of_the_queue() {
    let read = |region_size| {
        let policy = FlushPolicy { batch_size: 10_000, region_size, ..FlushPolicy::default() };
        let world = Area::world(1000.0, 1000.0);
        let mut scene = SpatialScene::new(IndexKind::Hash, 1000, world, None, policy, 1);
        scene.queue_moves(500, 5.0, 0);
        let hits: u64 = (0..100).map(|query| scene.nearby(query, 20.0).hits).sum();
        scene.flush();
        let counters = scene.index().counters();
        (hits, counters.queue_reads, counters.dirty_regions)
    };
    let (small, large) = (read(25.0), read(500.0));
    assert_eq!(small.0, large.0);
    assert!(small.1 * 10 < large.1, "{small:?} {large:?}");
    assert!(small.2 > large.2 && large.2 == 4, "{small:?} {large:?}");
}

#[test]
fn stale_reads_ignore_queued_changes() {
    let policy = FlushPolicy { stale_reads: true, ..FlushPolicy::default() };
    let from = Point::new(1.0, 1.0);
    let to = Point::new(90.0, 50.0);
    for &kind in IndexKind::ALL {
        let mut index = BatchedIndex::new(kind, WORLD, None, policy, &[Entry { id: 0, at: from }]);
        index.queue_move(0, from, to, Priority::Normal);
        assert!(index.nearest(from, 1.0, |_| true).is_some(), "{kind}");
        spatial_update(&mut index);
        assert!(index.nearest(from, 1.0, |_| true).is_none(), "{kind}");
    }
}

#[test]
fn an_interval_flushes_without_a_full_batch() {
    let policy = FlushPolicy {
        batch_size: 1000,
        interval: Some(std::time::Duration::ZERO),
        ..FlushPolicy::default()
    };
    let mut scene = SpatialScene::new(IndexKind::Quadtree, 100, WORLD, None, policy, 1);
    scene.queue_moves(10, 1.0, 0);
    assert_eq!(scene.index().queue_len(), 0);
    assert_eq!(scene.index().counters().flushes, 10);
}

#[test]
fn priority_determines_when_changes_are_applied() {
    let applied = |level: u8| {
        let entries: Vec<Entry> =
            (0..40).map(|id| Entry { id, at: Point::new((id % 2) as f32 * 90.0, 10.0) }).collect();
        let policy = FlushPolicy { batch_size: 30, ..FlushPolicy::default() };
        let mut index = BatchedIndex::new(IndexKind::Hash, WORLD, None, policy, &entries);
        // Half of the entries are at each end of the world, in different regions.
        for entry in &entries[..20] {
            index.queue_move(entry.id, entry.at, entry.at, Priority::Normal);
        }
        for entry in &entries[20..] {
            index.queue_move(entry.id, entry.at, entry.at, priority(level));
        }
        (index.counters().applied, index.queue_len())
    };
    assert_eq!(applied(0), (0, 40), "low priority does not count towards the batch size");
    assert_eq!(applied(1), (30, 10), "normal priority waits for a full batch");
    assert_eq!(applied(2), (40, 0), "high priority flushes the region");
    assert_eq!(applied(3), (20, 20), "critical priority applies the change alone");
}
