//! Spatial indexes: three kinds behind one trait, and the queue of moves in front of them.

mod batch;
mod hash;
mod kd_tree;
mod quadtree;
mod regions;
mod scene;

#[cfg(test)]
mod tests;

pub use batch::{BatchedIndex, FlushPolicy, IndexCounters, Priority, spatial_update};
pub use hash::SpatialHash;
pub use kd_tree::KdTreeIndex;
pub use quadtree::Quadtree;
pub use scene::{Found, SpatialScene, uniform_entries};

use crate::geometry::{Area, Entry, Point};
use crate::kinds::kinds;

kinds! {
    /// Which structure answers spatial queries.
    IndexKind, "index kind" {
        /// A k-d tree (kiddo), rebuilt whole by every flush.
        KdTree = "kdtree",
        /// A quadtree with four entries a leaf, changed in place.
        Quadtree = "quadtree",
        /// A grid of cells, changed in place.
        Hash = "hash",
    }
}

/// One change of an index: an entry that moved, appeared or went.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// The entry's number.
    pub id: u32,
    /// Where the index holds it; `None` if it holds it not yet.
    pub from: Option<Point>,
    /// Where it is now; `None` if it is gone.
    pub to: Option<Point>,
}

/// The answer to a nearest query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// The entry found.
    pub entry: Entry,
    /// Its squared distance to the position asked for.
    pub squared_distance: f32,
}

impl Neighbour {
    /// The entry as a neighbour of a position.
    #[must_use]
    pub fn of(entry: Entry, centre: Point) -> Self {
        Self { entry, squared_distance: entry.at.squared_distance(centre) }
    }

    /// Whether this one wins: nearer, or as near with the smaller number.
    #[must_use]
    pub fn beats(&self, other: &Self) -> bool {
        (self.squared_distance, self.entry.id) < (other.squared_distance, other.entry.id)
    }
}

/// Keeps the better of the best so far and a candidate.
pub(crate) fn keep_best(best: &mut Option<Neighbour>, candidate: Neighbour) {
    if best.as_ref().is_none_or(|best| candidate.beats(best)) {
        *best = Some(candidate);
    }
}

/// A structure that answers where things are.
///
/// All kinds give the same answers: distances are compared as `dx * dx + dy * dy <= radius * radius` in `f32`,
/// borders are inclusive and ties go to the smaller number. The order of entries pushed by [`nearby`](Self::nearby) and
/// [`range`](Self::range) is the structure's own.
pub trait SpatialIndex: Send {
    /// Which kind this is.
    fn kind(&self) -> IndexKind;

    /// How many entries it holds.
    fn len(&self) -> usize;

    /// Whether it holds none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets everything and holds these entries; numbers must differ.
    fn rebuild(&mut self, entries: &[Entry]);

    /// Applies changes; each number occurs once. Returns whether that took a whole rebuild.
    fn apply(&mut self, changes: &[Change]) -> bool;

    /// Pushes the entries within `radius` of `centre` onto `out`.
    fn nearby(&self, centre: Point, radius: f32, out: &mut Vec<Entry>);

    /// Pushes the entries inside a box onto `out`.
    fn range(&self, area: &Area, out: &mut Vec<Entry>);

    /// The nearest entry within `radius` that `accept` accepts.
    fn nearest(
        &self,
        centre: Point,
        radius: f32,
        accept: &mut dyn FnMut(u32) -> bool,
    ) -> Option<Neighbour>;

    /// Bytes of heap memory its structures occupy.
    fn bytes(&self) -> usize;
}

/// Builds an empty index of a kind for a world.
///
/// `cell_size` is used by the spatial hash; without one, it is chosen from the world's area so that a cell holds about four
/// of `expected` entries.
#[must_use]
pub fn new_index(
    kind: IndexKind,
    world: Area,
    cell_size: Option<f32>,
    expected: usize,
) -> Box<dyn SpatialIndex> {
    match kind {
        IndexKind::KdTree => Box::new(KdTreeIndex::new(world)),
        IndexKind::Quadtree => Box::new(Quadtree::new(world)),
        IndexKind::Hash => {
            let size = cell_size.unwrap_or_else(|| default_cell_size(&world, expected));
            Box::new(SpatialHash::new(world, size))
        }
    }
}

/// The cell size that gives four entries a cell on average, at least 1 world unit.
#[must_use]
pub fn default_cell_size(world: &Area, expected: usize) -> f32 {
    let area = world.width() * world.height();
    (4.0 * area / expected.max(1) as f32).sqrt().max(1.0)
}
