//! The regions of a world, with the queued changes in each.

use crate::geometry::{Area, Point};

/// The regions of a world, with the queued changes in each.
#[derive(Debug)]
pub(super) struct Regions {
    world: Area,
    size: f32,
    columns: usize,
    rows: usize,
    /// Queue positions of changes, by the region of the entry's new point.
    pub(super) lists: Vec<Vec<u32>>,
    /// Regions whose list is not empty.
    pub(super) dirty: Vec<u32>,
}

/// Largest number of regions. If the region size would give more, it is increased.
const REGIONS_MAX: f32 = 1_048_576.0;

impl Regions {
    pub(super) fn new(world: Area, size: f32) -> Self {
        let smallest = (world.width() * world.height() / REGIONS_MAX).sqrt();
        let size = size.max(smallest);
        let count = |extent: f32| ((extent / size).ceil() as usize).max(1);
        let (columns, rows) = (count(world.width()), count(world.height()));
        Self {
            world,
            size,
            columns,
            rows,
            lists: vec![Vec::new(); columns * rows],
            dirty: Vec::new(),
        }
    }

    fn column(&self, x: f32) -> usize {
        (((x - self.world.min.x) / self.size) as usize).min(self.columns - 1)
    }

    fn row(&self, y: f32) -> usize {
        (((y - self.world.min.y) / self.size) as usize).min(self.rows - 1)
    }

    pub(super) fn region_at(&self, at: Point) -> usize {
        self.row(at.y) * self.columns + self.column(at.x)
    }

    pub(super) fn add(&mut self, at: Point, position: u32) {
        let region = self.region_at(at);
        if self.lists[region].is_empty() {
            self.dirty.push(region as u32);
        }
        self.lists[region].push(position);
    }

    pub(super) fn remove(&mut self, at: Point, position: u32) {
        let region = self.region_at(at);
        self.lists[region].retain(|&held| held != position);
        if self.lists[region].is_empty() {
            self.dirty.retain(|&dirty| dirty != region as u32);
        }
    }

    /// Calls `visit` with the queue positions of all changes in regions that overlap a box.
    pub(super) fn visit(&self, area: &Area, mut visit: impl FnMut(u32)) {
        let columns = self.column(area.min.x)..=self.column(area.max.x);
        let rows = self.row(area.min.y)..=self.row(area.max.y);
        if columns.clone().count() * rows.clone().count() > self.dirty.len() {
            for &region in &self.dirty {
                let (row, column) =
                    (region as usize / self.columns, region as usize % self.columns);
                if columns.contains(&column) && rows.contains(&row) {
                    self.lists[region as usize].iter().for_each(|&position| visit(position));
                }
            }
            return;
        }
        for row in rows {
            let line = row * self.columns;
            for list in &self.lists[line + columns.start()..=line + columns.end()] {
                list.iter().for_each(|&position| visit(position));
            }
        }
    }

    pub(super) fn clear(&mut self) {
        for &region in &self.dirty {
            self.lists[region as usize].clear();
        }
        self.dirty.clear();
    }
}
