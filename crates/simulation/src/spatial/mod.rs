//! Spatial indexes: three kinds behind one trait, and a queue of changes in front of them.

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
pub use scene::{QueryResult, SpatialScene, uniform_entries};

use crate::geometry::{Area, Entry, Point};
use crate::kinds::kinds;

kinds! {
    /// The kind of a spatial index.
    IndexKind, "index kind" {
        /// A k-d tree (kiddo). Each flush rebuilds it completely.
        KdTree = "kdtree",
        /// A quadtree with at most four entries per leaf. Changes are applied in place.
        Quadtree = "quadtree",
        /// A grid of cells. Changes are applied in place.
        Hash = "hash",
    }
}

/// A change of one entry: a move, an insertion or a removal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// Number of the entry.
    pub id: u32,
    /// Position of the entry in the index. `None` for an insertion.
    pub from: Option<Point>,
    /// New position. `None` for a removal.
    pub to: Option<Point>,
}

/// The result of a nearest query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// The nearest entry.
    pub entry: Entry,
    /// Its squared distance to the query point.
    pub squared_distance: f32,
}

impl Neighbour {
    /// Computes the distance of an entry to a query point.
    #[must_use]
    pub fn new(entry: Entry, centre: Point) -> Self {
        Self { entry, squared_distance: entry.at.squared_distance(centre) }
    }

    /// Returns whether this entry is nearer than the other. At equal distance the smaller number wins.
    #[must_use]
    pub fn beats(&self, other: &Self) -> bool {
        (self.squared_distance, self.entry.id) < (other.squared_distance, other.entry.id)
    }
}

/// Replaces `best` with the candidate if that is nearer.
pub(crate) fn keep_best(best: &mut Option<Neighbour>, candidate: Neighbour) {
    if best.as_ref().is_none_or(|best| candidate.beats(best)) {
        *best = Some(candidate);
    }
}

/// A spatial index of entries with positions.
///
/// All kinds return the same results. Distances are compared as `dx * dx + dy * dy <= radius * radius` in `f32`, borders are
/// inclusive, and at equal distance the smaller number wins. The order of the entries that [`nearby`](Self::nearby) and
/// [`range`](Self::range) return is unspecified.
pub trait SpatialIndex: Send {
    /// Returns the kind of the index.
    fn kind(&self) -> IndexKind;

    /// Returns the number of entries.
    fn len(&self) -> usize;

    /// Returns whether there are no entries.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Replaces all entries. Their numbers must be distinct.
    fn rebuild(&mut self, entries: &[Entry]);

    /// Applies changes. Each number occurs at most once. Returns whether the index was rebuilt completely.
    fn apply(&mut self, changes: &[Change]) -> bool;

    /// Appends the entries within `radius` of `centre` to `out`.
    fn nearby(&self, centre: Point, radius: f32, out: &mut Vec<Entry>);

    /// Appends the entries inside a box to `out`.
    fn range(&self, area: &Area, out: &mut Vec<Entry>);

    /// Returns the nearest entry within `radius` for which `accept` returns `true`.
    fn nearest(
        &self,
        centre: Point,
        radius: f32,
        accept: &mut dyn FnMut(u32) -> bool,
    ) -> Option<Neighbour>;

    /// Returns the heap size in bytes.
    fn bytes(&self) -> usize;
}

/// Creates an empty index for a world.
///
/// Only the spatial hash uses `cell_size`. If `None`, it is chosen such that a cell holds about four of `expected` entries.
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

/// Returns the cell size for four entries per cell on average, at least 1 world unit.
#[must_use]
fn default_cell_size(world: &Area, expected: usize) -> f32 {
    let area = world.width() * world.height();
    (4.0 * area / expected.max(1) as f32).sqrt().max(1.0)
}
