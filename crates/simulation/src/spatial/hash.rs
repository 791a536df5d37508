//! The spatial hash: a grid of cells, each with a list of its entries.

use super::{Change, IndexKind, Neighbour, SpatialIndex};
use crate::geometry::{Area, Entry, Point};

/// Largest number of cells. If the cell size would give more, it is increased.
const CELLS_MAX: f32 = 4_194_304.0;

/// A grid index. The cost of a move is a linear search in one cell.
#[derive(Debug, Clone)]
pub struct SpatialHash {
    world: Area,
    cell_size: f32,
    columns: usize,
    rows: usize,
    cells: Vec<Vec<Entry>>,
    len: usize,
}

/// A rectangle of cells, both ends included.
struct CellRange {
    columns: (usize, usize),
    rows: (usize, usize),
}

impl SpatialHash {
    /// Creates an empty grid with cells of `cell_size` world units.
    #[must_use]
    pub fn new(world: Area, cell_size: f32) -> Self {
        let smallest = (world.width() * world.height() / CELLS_MAX).sqrt();
        let cell_size = cell_size.max(smallest).max(f32::MIN_POSITIVE);
        let count = |extent: f32| ((extent / cell_size).ceil() as usize).max(1);
        let (columns, rows) = (count(world.width()), count(world.height()));
        Self { world, cell_size, columns, rows, cells: vec![Vec::new(); columns * rows], len: 0 }
    }

    fn column(&self, x: f32) -> usize {
        (((x - self.world.min.x) / self.cell_size) as usize).min(self.columns - 1)
    }

    fn row(&self, y: f32) -> usize {
        (((y - self.world.min.y) / self.cell_size) as usize).min(self.rows - 1)
    }

    fn cell_of(&self, at: Point) -> usize {
        self.row(at.y) * self.columns + self.column(at.x)
    }

    fn cells_over(&self, area: &Area) -> CellRange {
        CellRange {
            columns: (self.column(area.min.x), self.column(area.max.x)),
            rows: (self.row(area.min.y), self.row(area.max.y)),
        }
    }

    fn insert(&mut self, entry: Entry) {
        let cell = self.cell_of(entry.at);
        self.cells[cell].push(entry);
        self.len += 1;
    }

    fn remove(&mut self, id: u32, at: Point) {
        let cell = self.cell_of(at);
        let cell = &mut self.cells[cell];
        if let Some(index) = cell.iter().position(|entry| entry.id == id) {
            cell.swap_remove(index);
            self.len -= 1;
        }
    }

    /// Calls `visit` with every cell of the ring at distance `ring` from a cell.
    fn visit_ring(&self, column: usize, row: usize, ring: usize, mut visit: impl FnMut(&[Entry])) {
        let (left, right) = (column as isize - ring as isize, column + ring);
        let (bottom, top) = (row as isize - ring as isize, row + ring);
        let rows = bottom.max(0) as usize..=top.min(self.rows - 1);
        for y in rows {
            let line = &self.cells[y * self.columns..(y + 1) * self.columns];
            if y as isize == bottom || y == top {
                let across = left.max(0) as usize..=right.min(self.columns - 1);
                line[across].iter().for_each(|cell| visit(cell));
            } else {
                if left >= 0 {
                    visit(&line[left as usize]);
                }
                if right < self.columns {
                    visit(&line[right]);
                }
            }
        }
    }

    /// Returns a lower bound of the squared distance from a point to the cells of all rings beyond `ring`.
    fn beyond(&self, centre: Point, column: usize, row: usize, ring: usize) -> f32 {
        let edge = |at: f32, cell: usize| {
            let low = at - (cell as f32 - ring as f32) * self.cell_size;
            let high = (cell as f32 + ring as f32 + 1.0) * self.cell_size - at;
            low.min(high)
        };
        let gap = edge(centre.x - self.world.min.x, column)
            .min(edge(centre.y - self.world.min.y, row))
            .max(0.0);
        // The factor allows for the rounding of cell borders.
        gap * gap * 0.9999
    }
}

impl SpatialIndex for SpatialHash {
    fn kind(&self) -> IndexKind {
        IndexKind::Hash
    }

    fn len(&self) -> usize {
        self.len
    }

    fn rebuild(&mut self, entries: &[Entry]) {
        self.cells.iter_mut().for_each(Vec::clear);
        self.len = 0;
        entries.iter().for_each(|&entry| self.insert(entry));
    }

    fn apply(&mut self, changes: &[Change]) -> bool {
        for change in changes {
            if let (Some(from), Some(to)) = (change.from, change.to) {
                let cell = self.cell_of(from);
                if cell == self.cell_of(to) {
                    if let Some(entry) = self.cells[cell].iter_mut().find(|e| e.id == change.id) {
                        entry.at = to;
                    }
                    continue;
                }
            }
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
        let over = self.cells_over(&Area::around(centre, radius));
        for row in over.rows.0..=over.rows.1 {
            let line = row * self.columns;
            for cell in &self.cells[line + over.columns.0..=line + over.columns.1] {
                let inside = |entry: &&Entry| entry.at.squared_distance(centre) <= squared;
                out.extend(cell.iter().filter(inside));
            }
        }
    }

    fn range(&self, area: &Area, out: &mut Vec<Entry>) {
        let over = self.cells_over(area);
        for row in over.rows.0..=over.rows.1 {
            let line = row * self.columns;
            for cell in &self.cells[line + over.columns.0..=line + over.columns.1] {
                out.extend(cell.iter().filter(|entry| area.contains(entry.at)));
            }
        }
    }

    fn nearest(
        &self,
        centre: Point,
        radius: f32,
        accept: &mut dyn FnMut(u32) -> bool,
    ) -> Option<Neighbour> {
        let (column, row) = (self.column(centre.x), self.row(centre.y));
        let limit = radius * radius;
        let mut best: Option<Neighbour> = None;
        for ring in 0..self.columns.max(self.rows) {
            self.visit_ring(column, row, ring, |cell| {
                for &entry in cell {
                    let candidate = Neighbour::new(entry, centre);
                    let wins = candidate.squared_distance <= limit
                        && best.as_ref().is_none_or(|best| candidate.beats(best));
                    if wins && accept(entry.id) {
                        best = Some(candidate);
                    }
                }
            });
            let reached = best.map_or(limit, |best| best.squared_distance);
            if self.beyond(centre, column, row, ring) > reached {
                break;
            }
        }
        best
    }

    fn bytes(&self) -> usize {
        let held: usize = self.cells.iter().map(Vec::capacity).sum();
        self.cells.capacity() * size_of::<Vec<Entry>>() + held * size_of::<Entry>()
    }
}
