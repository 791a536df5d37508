//! Uniformly distributed points with an index, seeded queries and seeded moves, for benchmarks and tests.

use super::{BatchedIndex, FlushPolicy, IndexKind, Priority, spatial_update};
use crate::digest::Digest;
use crate::geometry::{Area, Entry, Point};
use crate::random::{Domain, Random};

/// The result of a query. It is the same for all kinds of index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryResult {
    /// Number of entries returned.
    pub hits: u64,
    /// Digest of the entries, regardless of their order.
    pub digest: u64,
}

/// Returns `count` uniformly distributed entries, numbered from 0. They are the same on every machine.
#[must_use]
pub fn uniform_entries(count: u32, world: Area, seed: u64) -> Vec<Entry> {
    (0..count)
        .map(|id| Entry { id, at: uniform_point(world, seed, Domain::Placement, u64::from(id)) })
        .collect()
}

/// Returns a uniformly distributed point for one subject of a domain.
#[must_use]
pub fn uniform_point(world: Area, seed: u64, domain: Domain, subject: u64) -> Point {
    let mut random = Random::keyed(seed, domain, subject, 0);
    let x = world.min.x + random.unit() * world.width();
    let y = world.min.y + random.unit() * world.height();
    Point::new(x.min(world.max.x), y.min(world.max.y))
}

/// An index of agents and resources, with seeded queries and moves.
#[derive(Debug)]
pub struct SpatialScene {
    world: Area,
    seed: u64,
    entries: Vec<Entry>,
    index: BatchedIndex,
    scratch: Vec<Entry>,
}

impl SpatialScene {
    /// Creates `agents` agents and half as many resources at uniformly distributed positions, and their index.
    #[must_use]
    pub fn new(
        kind: IndexKind,
        agents: u32,
        world: Area,
        cell_size: Option<f32>,
        policy: FlushPolicy,
        seed: u64,
    ) -> Self {
        let entries = uniform_entries(agents + agents / 2, world, seed);
        Self {
            world,
            seed,
            index: BatchedIndex::new(kind, world, cell_size, policy, &entries),
            entries,
            scratch: Vec::new(),
        }
    }

    /// Returns the index, for its counters and size.
    #[must_use]
    pub fn index(&self) -> &BatchedIndex {
        &self.index
    }

    /// Returns the entries at their current positions.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Rebuilds the index from the entries.
    pub fn rebuild(&mut self) {
        self.index.rebuild(&self.entries);
    }

    /// Returns the query point number `query`.
    #[must_use]
    fn query_point(&self, query: u64) -> Point {
        uniform_point(self.world, self.seed, Domain::Benchmark, query)
    }

    /// Queries the entries within `radius` of query point number `query`.
    pub fn nearby(&mut self, query: u64, radius: f32) -> QueryResult {
        let centre = self.query_point(query);
        self.scratch.clear();
        self.index.nearby(centre, radius, &mut self.scratch);
        query_result(&self.scratch)
    }

    /// Queries the entries in the square that extends `reach` to each side of query point number `query`.
    pub fn range(&mut self, query: u64, reach: f32) -> QueryResult {
        let area = Area::around(self.query_point(query), reach);
        self.scratch.clear();
        self.index.range(&area, &mut self.scratch);
        query_result(&self.scratch)
    }

    /// Queries the entry nearest to query point number `query`.
    pub fn nearest(&mut self, query: u64) -> QueryResult {
        let nearest = self.index.nearest(self.query_point(query), f32::INFINITY, |_| true);
        let mut digest = Digest::default();
        if let Some(nearest) = nearest {
            digest.word(u64::from(nearest.entry.id));
        }
        QueryResult { hits: u64::from(nearest.is_some()), digest: digest.finish() }
    }

    /// Moves the first `count` entries at random by up to `distance` on each axis, and queues the moves. Each `round` has other random
    /// numbers.
    pub fn queue_moves(&mut self, count: usize, distance: f32, round: u64) {
        for entry in self.entries.iter_mut().take(count) {
            let mut random =
                Random::keyed(self.seed, Domain::Benchmark, u64::from(entry.id), round + 1);
            let step = |random: &mut Random| (random.unit() * 2.0 - 1.0) * distance;
            let x = (entry.at.x + step(&mut random)).clamp(self.world.min.x, self.world.max.x);
            let y = (entry.at.y + step(&mut random)).clamp(self.world.min.y, self.world.max.y);
            let from = std::mem::replace(&mut entry.at, Point::new(x, y));
            self.index.queue_move(entry.id, from, entry.at, Priority::Normal);
        }
    }

    /// Applies all queued moves and returns their number.
    pub fn flush(&mut self) -> usize {
        spatial_update(&mut self.index)
    }
}

/// Counts entries and computes their digest, regardless of their order.
fn query_result(entries: &[Entry]) -> QueryResult {
    // A sum of mixed numbers does not depend on the order and is cheap compared with the query.
    let digest = entries
        .iter()
        .fold(0u64, |sum, entry| sum.wrapping_add(crate::random::mix(u64::from(entry.id) + 1)));
    QueryResult { hits: entries.len() as u64, digest }
}
