//! The quadtree: areas that split into quadrants when they have more than four entries.

use super::{Change, IndexKind, Neighbour, SpatialIndex, keep_best};
use crate::geometry::{Area, Entry, Point};

/// Largest number of entries of a leaf above the maximum depth.
const CAPACITY: usize = 4;

/// Maximum depth. It ends the splitting of entries at the same position.
const DEPTH_MAX: u8 = 16;

/// Marks a node without children.
const NONE: u32 = u32::MAX;

/// A node: a leaf with entries, or an inner node with four children.
#[derive(Debug, Clone)]
struct Node {
    /// Index of the first of four adjacent children. `NONE` for a leaf.
    children: u32,
    /// Number of entries in the subtree.
    count: u32,
    /// Entries of a leaf. Empty for an inner node.
    entries: Vec<Entry>,
}

impl Node {
    fn leaf() -> Self {
        Self { children: NONE, count: 0, entries: Vec::new() }
    }
}

/// A quadtree with at most four entries per leaf.
#[derive(Debug, Clone)]
pub struct Quadtree {
    world: Area,
    nodes: Vec<Node>,
    /// Blocks of four nodes that merges have freed.
    free: Vec<u32>,
}

/// Returns the quadrant of a point relative to a centre. Bit 0: right, bit 1: upper.
fn quadrant(centre: Point, at: Point) -> usize {
    usize::from(at.x >= centre.x) | usize::from(at.y >= centre.y) << 1
}

fn centre_of(area: &Area) -> Point {
    Point::new((area.min.x + area.max.x) * 0.5, (area.min.y + area.max.y) * 0.5)
}

/// Returns one quadrant of an area.
fn quarter(area: &Area, which: usize) -> Area {
    let centre = centre_of(area);
    let (min_x, max_x) =
        if which & 1 == 0 { (area.min.x, centre.x) } else { (centre.x, area.max.x) };
    let (min_y, max_y) =
        if which & 2 == 0 { (area.min.y, centre.y) } else { (centre.y, area.max.y) };
    Area { min: Point::new(min_x, min_y), max: Point::new(max_x, max_y) }
}

impl Quadtree {
    /// Creates an empty tree for a world.
    #[must_use]
    pub fn new(world: Area) -> Self {
        Self { world, nodes: vec![Node::leaf()], free: Vec::new() }
    }

    fn insert(&mut self, entry: Entry) {
        let (mut node, mut area, mut depth) = (0usize, self.world, 0u8);
        loop {
            self.nodes[node].count += 1;
            if self.nodes[node].children == NONE {
                self.nodes[node].entries.push(entry);
                if self.nodes[node].entries.len() > CAPACITY && depth < DEPTH_MAX {
                    self.split(node, &area, depth);
                }
                return;
            }
            let which = quadrant(centre_of(&area), entry.at);
            node = self.nodes[node].children as usize + which;
            area = quarter(&area, which);
            depth += 1;
        }
    }

    /// Converts a leaf to an inner node. Children that are still too full are split too.
    fn split(&mut self, node: usize, area: &Area, depth: u8) {
        let children = self.take_block();
        let mut entries = std::mem::take(&mut self.nodes[node].entries);
        let centre = centre_of(area);
        for &entry in &entries {
            let child = &mut self.nodes[children as usize + quadrant(centre, entry.at)];
            child.entries.push(entry);
            child.count += 1;
        }
        // The list keeps its allocation, in case the node becomes a leaf again.
        entries.clear();
        self.nodes[node].entries = entries;
        self.nodes[node].children = children;
        for which in 0..4 {
            let child = children as usize + which;
            if self.nodes[child].entries.len() > CAPACITY && depth + 1 < DEPTH_MAX {
                self.split(child, &quarter(area, which), depth + 1);
            }
        }
    }

    fn take_block(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            let first = self.nodes.len() as u32;
            self.nodes.extend((0..4).map(|_| Node::leaf()));
            first
        })
    }

    fn remove(&mut self, id: u32, at: Point) {
        let (mut node, mut area) = (0usize, self.world);
        let mut mergeable = None;
        loop {
            self.nodes[node].count -= 1;
            if self.nodes[node].children == NONE {
                break;
            }
            if mergeable.is_none() && self.nodes[node].count as usize <= CAPACITY {
                mergeable = Some(node);
            }
            let which = quadrant(centre_of(&area), at);
            node = self.nodes[node].children as usize + which;
            area = quarter(&area, which);
        }
        let entries = &mut self.nodes[node].entries;
        let index = entries.iter().position(|entry| entry.id == id);
        entries
            .swap_remove(index.expect("a change contains the position of the entry in the tree"));
        if let Some(node) = mergeable {
            self.merge(node);
        }
    }

    /// Converts an inner node to a leaf with all entries of its subtree.
    fn merge(&mut self, node: usize) {
        let mut entries = std::mem::take(&mut self.nodes[node].entries);
        self.drain_children(node, &mut entries);
        self.nodes[node].entries = entries;
    }

    fn drain_children(&mut self, node: usize, out: &mut Vec<Entry>) {
        let children = std::mem::replace(&mut self.nodes[node].children, NONE);
        if children == NONE {
            return;
        }
        for child in children as usize..children as usize + 4 {
            out.append(&mut self.nodes[child].entries);
            self.nodes[child].count = 0;
            self.drain_children(child, out);
        }
        self.free.push(children);
    }

    fn collect_nearby(&self, node: usize, area: &Area, query: &Disk, out: &mut Vec<Entry>) {
        let parent = &self.nodes[node];
        if parent.children == NONE {
            let inside = |e: &&Entry| e.at.squared_distance(query.centre) <= query.squared;
            out.extend(parent.entries.iter().filter(inside));
            return;
        }
        for which in 0..4 {
            let child = parent.children as usize + which;
            let quarter = quarter(area, which);
            let distance = quarter.squared_distance(query.centre);
            if self.nodes[child].count > 0 && distance <= query.squared {
                self.collect_nearby(child, &quarter, query, out);
            }
        }
    }

    fn collect_range(&self, node: usize, area: &Area, query: &Area, out: &mut Vec<Entry>) {
        let parent = &self.nodes[node];
        if parent.children == NONE {
            out.extend(parent.entries.iter().filter(|e| query.contains(e.at)));
            return;
        }
        for which in 0..4 {
            let child = parent.children as usize + which;
            let quarter = quarter(area, which);
            if self.nodes[child].count > 0 && quarter.overlaps(query) {
                self.collect_range(child, &quarter, query, out);
            }
        }
    }

    fn find_nearest(&self, node: usize, area: &Area, search: &mut Search<'_>) {
        let parent = &self.nodes[node];
        if parent.children == NONE {
            parent.entries.iter().for_each(|&entry| search.offer(entry));
            return;
        }
        let near = quadrant(centre_of(area), search.disk.centre);
        // Nearest quadrant first, the diagonal one last.
        for which in [near, near ^ 1, near ^ 2, near ^ 3] {
            let child = parent.children as usize + which;
            let quarter = quarter(area, which);
            let distance = quarter.squared_distance(search.disk.centre);
            if self.nodes[child].count > 0 && distance <= search.reach() {
                self.find_nearest(child, &quarter, search);
            }
        }
    }
}

/// The disk of a query.
struct Disk {
    centre: Point,
    /// Squared radius.
    squared: f32,
}

/// The state of a nearest query.
struct Search<'a> {
    disk: Disk,
    accept: &'a mut dyn FnMut(u32) -> bool,
    best: Option<Neighbour>,
}

impl Search<'_> {
    /// Returns the squared distance beyond which no entry can win.
    fn reach(&self) -> f32 {
        self.best.map_or(self.disk.squared, |best| best.squared_distance)
    }

    fn offer(&mut self, entry: Entry) {
        let candidate = Neighbour::new(entry, self.disk.centre);
        let wins = candidate.squared_distance <= self.disk.squared
            && self.best.as_ref().is_none_or(|best| candidate.beats(best));
        if wins && (self.accept)(entry.id) {
            keep_best(&mut self.best, candidate);
        }
    }
}

impl SpatialIndex for Quadtree {
    fn kind(&self) -> IndexKind {
        IndexKind::Quadtree
    }

    fn len(&self) -> usize {
        self.nodes[0].count as usize
    }

    fn rebuild(&mut self, entries: &[Entry]) {
        self.nodes.clear();
        self.free.clear();
        self.nodes.push(Node::leaf());
        entries.iter().for_each(|&entry| self.insert(entry));
    }

    fn apply(&mut self, changes: &[Change]) -> bool {
        for change in changes {
            if let Some(from) = change.from {
                self.remove(change.id, from);
            }
            if let Some(at) = change.to {
                self.insert(Entry { id: change.id, at });
            }
        }
        false
    }

    fn nearby(&self, centre: Point, radius: f32, out: &mut Vec<Entry>) {
        let squared = radius * radius;
        self.collect_nearby(0, &self.world, &Disk { centre, squared }, out);
    }

    fn range(&self, area: &Area, out: &mut Vec<Entry>) {
        self.collect_range(0, &self.world, area, out);
    }

    fn nearest(
        &self,
        centre: Point,
        radius: f32,
        accept: &mut dyn FnMut(u32) -> bool,
    ) -> Option<Neighbour> {
        let squared = radius * radius;
        let mut search = Search { disk: Disk { centre, squared }, accept, best: None };
        self.find_nearest(0, &self.world, &mut search);
        search.best
    }

    fn bytes(&self) -> usize {
        let held: usize = self.nodes.iter().map(|node| node.entries.capacity()).sum();
        self.nodes.capacity() * size_of::<Node>()
            + held * size_of::<Entry>()
            + self.free.capacity() * size_of::<u32>()
    }
}
