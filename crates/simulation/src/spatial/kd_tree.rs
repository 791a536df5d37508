//! The k-d tree: the static tree of kiddo, rebuilt for every batch of changes.

use kiddo::dist::{Chebyshev, SquaredEuclidean};
use kiddo::leaf_strategies::FlatVec;
use kiddo::{Eytzinger, kd_tree::KdTree};

use super::{Change, IndexKind, Neighbour, SpatialIndex, keep_best};
use crate::geometry::{Area, Entry, Point};

/// Entries per leaf.
const BUCKET: usize = 32;

type Tree = KdTree<f32, u32, Eytzinger, FlatVec<f32, u32, 2, BUCKET>, 2, BUCKET>;

/// Factor that enlarges the radii passed to kiddo, so that its rounding does not lose an entry on the border. The results are then
/// filtered by their exact distances.
const SLACK: f32 = 1.0 + 1e-5;

/// A k-d tree index that is rebuilt for every batch of changes.
#[derive(Debug)]
pub struct KdTreeIndex {
    world: Area,
    tree: Tree,
    /// Positions by number. `None` if there is no entry with that number.
    positions: Vec<Option<Point>>,
    /// The input of the last build. It is kept to reuse its allocation.
    source: Vec<(u32, [f32; 2])>,
}

impl KdTreeIndex {
    /// Creates an empty index for a world.
    #[must_use]
    pub fn new(world: Area) -> Self {
        Self { world, tree: Tree::default(), positions: Vec::new(), source: Vec::new() }
    }

    fn set(&mut self, id: u32, at: Option<Point>) {
        let index = id as usize;
        if index >= self.positions.len() {
            self.positions.resize(index + 1, None);
        }
        self.positions[index] = at;
    }

    fn build(&mut self) {
        self.source.clear();
        let held = self.positions.iter().enumerate();
        self.source.extend(held.filter_map(|(id, at)| at.map(|at| (id as u32, [at.x, at.y]))));
        self.tree = Tree::new_from_entries(&self.source)
            .expect("a static tree with soft leaves accepts any finite points");
    }

    fn entry(&self, id: u32) -> Entry {
        let at = self.positions[id as usize].expect("every entry of the tree has a position");
        Entry { id, at }
    }

    /// Calls `visit` with all entries within slightly more than `radius` of a point.
    fn visit(&self, centre: Point, radius: f32, mut visit: impl FnMut(Entry)) {
        let reach = (radius * radius * SLACK).max(f32::MIN_POSITIVE);
        self.tree
            .query(&[centre.x, centre.y])
            .within::<SquaredEuclidean<f32>>(reach)
            .unsorted()
            .visit(|found| visit(self.entry(found.item)));
    }

    /// Returns the first radius of a nearest query: that of a disk with eight expected entries.
    fn first_radius(&self) -> f32 {
        let area = self.world.width() * self.world.height();
        (area * 8.0 / (std::f32::consts::PI * self.len().max(1) as f32)).sqrt()
    }
}

impl SpatialIndex for KdTreeIndex {
    fn kind(&self) -> IndexKind {
        IndexKind::KdTree
    }

    fn len(&self) -> usize {
        self.source.len()
    }

    fn rebuild(&mut self, entries: &[Entry]) {
        self.positions.clear();
        for entry in entries {
            self.set(entry.id, Some(entry.at));
        }
        self.build();
    }

    fn apply(&mut self, changes: &[Change]) -> bool {
        for change in changes {
            self.set(change.id, change.to);
        }
        self.build();
        true
    }

    fn nearby(&self, centre: Point, radius: f32, out: &mut Vec<Entry>) {
        let squared = radius * radius;
        self.visit(centre, radius, |entry| {
            if entry.at.squared_distance(centre) <= squared {
                out.push(entry);
            }
        });
    }

    fn range(&self, area: &Area, out: &mut Vec<Entry>) {
        let centre = [(area.min.x + area.max.x) * 0.5, (area.min.y + area.max.y) * 0.5];
        // The square around the box. The centre is rounded, so the reach is slightly larger.
        let reach = area.width().max(area.height()) * 0.5 * SLACK
            + (centre[0].abs() + centre[1].abs()) * f32::EPSILON;
        self.tree
            .query(&centre)
            .within::<Chebyshev<f32>>(reach.max(f32::MIN_POSITIVE))
            .unsorted()
            .visit(|found| {
                let entry = self.entry(found.item);
                if area.contains(entry.at) {
                    out.push(entry);
                }
            });
    }

    fn nearest(
        &self,
        centre: Point,
        radius: f32,
        accept: &mut dyn FnMut(u32) -> bool,
    ) -> Option<Neighbour> {
        if self.is_empty() {
            return None;
        }
        let farthest = (self.world.width().powi(2) + self.world.height().powi(2)).sqrt() * SLACK;
        let mut reach = self.first_radius().min(radius);
        loop {
            let squared = reach * reach;
            let mut best: Option<Neighbour> = None;
            self.visit(centre, reach, |entry| {
                let candidate = Neighbour::new(entry, centre);
                let wins = candidate.squared_distance <= squared
                    && best.as_ref().is_none_or(|best| candidate.beats(best));
                if wins && accept(entry.id) {
                    keep_best(&mut best, candidate);
                }
            });
            if best.is_some() || reach >= radius || reach >= farthest {
                return best;
            }
            reach = (reach * 2.0).min(radius);
        }
    }

    fn bytes(&self) -> usize {
        let stems = 2usize << (self.tree.max_stem_level() + 1).max(0);
        // The memory of kiddo: per entry a point, an item and the reserved extent of a leaf, and the splits.
        let entry = size_of::<[f32; 2]>() + size_of::<u32>() + size_of::<(u32, u32)>();
        let tree = self.tree.size() * entry + stems * size_of::<f32>();
        tree + self.positions.capacity() * size_of::<Option<Point>>()
            + self.source.capacity() * size_of::<(u32, [f32; 2])>()
    }
}
