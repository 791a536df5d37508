//! The memory-mapped grid of resources: what each cell holds, kept up to date as resources change.

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
        /// Queries to the spatial index.
        Spatial = "spatial",
        /// A window of a memory-mapped grid.
        MemoryMap = "memmap",
    }
}

/// Shares of resources by cell, in an unnamed file mapped into memory; one cell wider than the world to each side, since
/// spreading reaches over its border.
#[derive(Debug)]
pub struct ResourceGrid {
    map: MmapMut,
    grid: CellGrid,
    columns: usize,
    spread: Spread,
    amount_max: f32,
}

impl ResourceGrid {
    /// Maps a grid for a world and fills it with its resources.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if the folder for temporary files refuses the file, or the map.
    pub fn new(world: Area, spread: Spread, resources: &Resources) -> Result<Self, Error> {
        let grid = CellGrid::of(world);
        let columns = grid.columns as usize + 2;
        let bytes = columns * (grid.rows as usize + 2) * size_of::<Share>();
        let mut made =
            Self { map: map(bytes)?, grid, columns, spread, amount_max: resources.amount_max };
        for (&at, &amount) in resources.positions.iter().zip(&resources.amounts) {
            made.change(at, 0.0, amount);
        }
        Ok(made)
    }

    /// A resource at a place went from one amount to another.
    pub fn change(&mut self, at: Point, before: f32, after: f32) {
        let old = self.spread.shares(self.grid, at, before / self.amount_max);
        let new = self.spread.shares(self.grid, at, after / self.amount_max);
        for (old, new) in old.into_iter().zip(new) {
            let place = self.place(new.0);
            self.cells_mut()[place] += new.1 - old.1;
        }
    }

    /// Writes the visible cells around a centre into a plane, which must be 0.
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
            let source = &cells[self.place(Cell { x, y: row })..][..target.len()];
            for (value_of, &sum) in plane[target].iter_mut().zip(source) {
                *value_of = value(sum);
            }
        }
    }

    /// Bytes mapped.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.map.len()
    }

    fn place(&self, cell: Cell) -> usize {
        (cell.y + 1) as usize * self.columns + (cell.x + 1) as usize
    }

    fn cells(&self) -> &[Share] {
        let bytes: &[u8] = &self.map;
        // SAFETY: any bytes are a valid i64; a map starts at a page, which is aligned for i64.
        let (before, cells, after) = unsafe { bytes.align_to::<Share>() };
        debug_assert!(before.is_empty() && after.is_empty());
        cells
    }

    fn cells_mut(&mut self) -> &mut [Share] {
        let bytes: &mut [u8] = &mut self.map;
        // SAFETY: any bytes are a valid i64 and the other way round; a map starts at a page, which is aligned for i64.
        let (before, cells, after) = unsafe { bytes.align_to_mut::<Share>() };
        debug_assert!(before.is_empty() && after.is_empty());
        cells
    }
}

/// Maps an unnamed temporary file of a length, all 0.
fn map(bytes: usize) -> Result<MmapMut, Error> {
    let fail =
        |operation| move |source| Error::File { path: std::env::temp_dir(), operation, source };
    let file = tempfile::tempfile().map_err(fail("make a temporary file in it"))?;
    file.set_len(bytes as u64).map_err(fail("reserve room in it"))?;
    // SAFETY: the file has no name, so nobody else can change or shorten it while it is mapped.
    unsafe { MmapMut::map_mut(&file) }.map_err(fail("map a file of it into memory"))
}
