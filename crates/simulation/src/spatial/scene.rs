//! A world of uniformly placed points and the queries and moves to put to its index: input for benchmarks and tests.

use super::{BatchedIndex, FlushPolicy, IndexKind, Priority, spatial_update};
use crate::digest::Digest;
use crate::geometry::{Area, Entry, Point};
use crate::random::{Domain, Random};

/// What a series of queries found: how much, and a digest that is equal for every kind of index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Entries returned in total.
    pub hits: u64,
    /// Digest of which entries each query returned.
    pub digest: u64,
}

/// `count` entries placed uniformly over a world, numbered from 0; the same for every machine.
#[must_use]
pub fn uniform_entries(count: u32, world: Area, seed: u64) -> Vec<Entry> {
    (0..count)
        .map(|id| Entry { id, at: uniform_point(world, seed, Domain::Placement, u64::from(id)) })
        .collect()
}

/// A uniform point of a world for one subject of a domain.
#[must_use]
pub fn uniform_point(world: Area, seed: u64, domain: Domain, subject: u64) -> Point {
    let mut random = Random::keyed(seed, domain, subject, 0);
    let x = world.min.x + random.unit() * world.width();
    let y = world.min.y + random.unit() * world.height();
    Point::new(x.min(world.max.x), y.min(world.max.y))
}

/// An index over agents and resources of a world, with seeded queries and moves.
#[derive(Debug)]
pub struct SpatialScene {
    world: Area,
    seed: u64,
    entries: Vec<Entry>,
    index: BatchedIndex,
    scratch: Vec<Entry>,
}

impl SpatialScene {
    /// Places `agents` agents and half as many resources uniformly over a world and builds an index of them.
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

    /// The index, for its counters and bytes.
    #[must_use]
    pub fn index(&self) -> &BatchedIndex {
        &self.index
    }

    /// The entries as they are now.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Builds the index anew from the entries.
    pub fn rebuild(&mut self) {
        self.index.rebuild(&self.entries);
    }

    /// Where query number `query` is asked.
    #[must_use]
    pub fn query_point(&self, query: u64) -> Point {
        uniform_point(self.world, self.seed, Domain::Benchmark, query)
    }

    /// Asks for everything within `radius` of query point number `query`.
    pub fn nearby(&mut self, query: u64, radius: f32) -> Found {
        let centre = self.query_point(query);
        self.scratch.clear();
        self.index.nearby(centre, radius, &mut self.scratch);
        found(&self.scratch)
    }

    /// Asks for everything in the square that reaches `reach` to each side of query point number `query`.
    pub fn range(&mut self, query: u64, reach: f32) -> Found {
        let area = Area::around(self.query_point(query), reach);
        self.scratch.clear();
        self.index.range(&area, &mut self.scratch);
        found(&self.scratch)
    }

    /// Asks for the entry nearest to query point number `query`.
    pub fn nearest(&mut self, query: u64) -> Found {
        let nearest = self.index.nearest(self.query_point(query), f32::INFINITY, |_| true);
        let mut digest = Digest::default();
        if let Some(nearest) = nearest {
            digest.word(u64::from(nearest.entry.id));
        }
        Found { hits: u64::from(nearest.is_some()), digest: digest.finish() }
    }

    /// Moves the first `count` entries each to a place up to `distance` away on both axes and queues the moves; `round`
    /// tells one series from the next.
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

    /// Applies every move that waits; returns how many.
    pub fn flush(&mut self) -> usize {
        spatial_update(&mut self.index)
    }
}

/// Counts and digests entries, whatever their order.
fn found(entries: &[Entry]) -> Found {
    // A sum of mixed numbers does not depend on order, and costs little beside the query.
    let digest = entries
        .iter()
        .fold(0u64, |sum, entry| sum.wrapping_add(crate::random::mix(u64::from(entry.id) + 1)));
    Found { hits: entries.len() as u64, digest }
}
