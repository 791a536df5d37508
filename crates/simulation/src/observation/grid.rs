//! The memory-mapped grid: the resources in each cell, updated as they change.

use memmap2::MmapMut;

use super::spread::{Share, Spread, value};
use super::window::{Cell, CellGrid, Window};
use crate::error::Error;
use crate::geometry::{Area, Point};
use crate::kinds::kinds;
use crate::resource::Resources;

kinds! {
    /// Where observations read resources from.
    ResourceSource, "resource source" {
        /// Query the spatial index.
        Spatial = "spatial",
        /// Copy a window of a memory-mapped grid.
        MemoryMap = "memmap",
    }
}

/// The sum of resource shares in each cell, in a memory-mapped file without a name.
///
/// The grid extends one cell beyond the world on each side, because resources spread over the border.
#[derive(Debug)]
pub struct ResourceGrid {
    map: MmapMut,
    grid: CellGrid,
    columns: usize,
    spread: Spread,
    amount_max: f32,
}

impl ResourceGrid {
    /// Maps a grid for a world and adds its resources.
    ///
    /// # Errors
    ///
    /// Returns [`Error::File`] if the file cannot be created or mapped.
    pub fn new(world: Area, spread: Spread, resources: &Resources) -> Result<Self, Error> {
        let grid = CellGrid::for_world(world);
        let columns = grid.columns as usize + 2;
        let bytes = columns * (grid.rows as usize + 2) * size_of::<Share>();
        let mut made =
            Self { map: map(bytes)?, grid, columns, spread, amount_max: resources.amount_max };
        for (&at, &amount) in resources.positions.iter().zip(&resources.amounts) {
            made.change(at, 0.0, amount);
        }
        Ok(made)
    }

    /// Updates the cells of a resource whose amount changed from `before` to `after`.
    pub fn change(&mut self, at: Point, before: f32, after: f32) {
        let old = self.spread.shares(self.grid, at, before / self.amount_max);
        let new = self.spread.shares(self.grid, at, after / self.amount_max);
        for (old, new) in old.into_iter().zip(new) {
            let index = self.cell_index(new.0);
            self.cells_mut()[index] += new.1 - old.1;
        }
    }

    /// Writes the visible cells of the window around `centre` into a plane of zeros.
    pub fn read(&self, window: &Window, centre: Cell, plane: &mut [f32]) {
        let cells = self.cells();
        for span in window.disk() {
            let row = (span.start / window.side) as i32 - window.radius + centre.y;
            if !(-1..=self.grid.rows).contains(&row) {
                continue;
            }
            let first = (span.start % window.side) as i32 - window.radius + centre.x;
            let skipped = (-1 - first).max(0) as usize;
            let ending = (first + span.len() as i32 - self.grid.columns - 1).max(0) as usize;
            let target = span.start + skipped..span.end - ending;
            let x = first + skipped as i32;
            let source = &cells[self.cell_index(Cell { x, y: row })..][..target.len()];
            for (cell, &sum) in plane[target].iter_mut().zip(source) {
                *cell = value(sum);
            }
        }
    }

    fn cell_index(&self, cell: Cell) -> usize {
        (cell.y + 1) as usize * self.columns + (cell.x + 1) as usize
    }

    fn cells(&self) -> &[Share] {
        let bytes: &[u8] = &self.map;
        // SAFETY: every bit pattern is a valid i64.
        let (before, cells, after) = unsafe { bytes.align_to::<Share>() };
        // The map starts at a page boundary, which is aligned for i64, and its length is a multiple of 8.
        debug_assert!(before.is_empty() && after.is_empty());
        cells
    }

    fn cells_mut(&mut self) -> &mut [Share] {
        let bytes: &mut [u8] = &mut self.map;
        // SAFETY: every bit pattern is a valid i64, and every i64 is valid as bytes.
        let (before, cells, after) = unsafe { bytes.align_to_mut::<Share>() };
        debug_assert!(before.is_empty() && after.is_empty());
        cells
    }
}

/// Maps a new temporary file without a name. All `bytes` bytes are 0.
fn map(bytes: usize) -> Result<MmapMut, Error> {
    let fail =
        |operation| move |source| Error::File { path: std::env::temp_dir(), operation, source };
    let file = tempfile::tempfile().map_err(fail("create a temporary file in it"))?;
    file.set_len(bytes as u64).map_err(fail("reserve space in it"))?;
    // SAFETY: the file has no name, so no other process can open it. It is therefore not changed or truncated while it is mapped.
    unsafe { MmapMut::map_mut(&file) }.map_err(fail("map a temporary file in it"))
}
