//! The square window of cells around an agent, and the visibility disk in it.

use std::ops::Range;

use crate::geometry::{Area, Point};

/// A cell of one by one world units. Cells may be outside the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cell {
    /// Column, `floor(x)`.
    pub x: i32,
    /// Row, `floor(y)`.
    pub y: i32,
}

/// The extent of the world in cells. The last row and column include the points on the far border.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellGrid {
    /// Number of columns.
    pub columns: i32,
    /// Number of rows.
    pub rows: i32,
}

impl CellGrid {
    /// Returns the cell grid of a world.
    #[must_use]
    pub fn for_world(world: Area) -> Self {
        Self {
            columns: (world.width().ceil() as i32).max(1),
            rows: (world.height().ceil() as i32).max(1),
        }
    }

    /// Returns the cell that contains a point of the world.
    #[must_use]
    pub fn cell(&self, at: Point) -> Cell {
        Cell { x: (at.x as i32).min(self.columns - 1), y: (at.y as i32).min(self.rows - 1) }
    }

    /// Returns whether the cell is inside the world.
    #[cfg(test)]
    #[must_use]
    pub fn contains(&self, cell: Cell) -> bool {
        (0..self.columns).contains(&cell.x) && (0..self.rows).contains(&cell.y)
    }
}

/// A square window of `2 * radius + 1` cells per side. Index 0 is the lower left cell; cells are in row-major order.
#[derive(Debug, Clone)]
pub struct Window {
    /// Radius in cells.
    pub radius: i32,
    /// Cells per side.
    pub side: usize,
    /// Radius of the visibility disk in cells, at most `radius`.
    pub view: i32,
    /// The columns inside the visibility disk, by row.
    spans: Vec<Range<usize>>,
}

impl Window {
    /// Creates a window. The visibility disk is at most as large as the window.
    #[must_use]
    pub fn new(radius: u32, field_of_view: u32) -> Self {
        let (radius, view) = (radius as i32, field_of_view.min(radius) as i32);
        let span = |dy: i32| {
            let half = (0..=view).rev().find(|dx| dx * dx + dy * dy <= view * view);
            half.map_or(0..0, |half| (radius - half) as usize..(radius + half + 1) as usize)
        };
        Self {
            radius,
            side: 2 * radius as usize + 1,
            view,
            spans: (-radius..=radius).map(span).collect(),
        }
    }

    /// Returns the number of cells.
    #[must_use]
    pub fn len(&self) -> usize {
        self.side * self.side
    }

    /// Returns `false`: a window has at least nine cells.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Returns the index of the centre.
    #[must_use]
    pub fn centre(&self) -> usize {
        self.len() / 2
    }

    /// Returns the index of a cell in the window around `centre`. `None` if the cell is outside the visibility disk.
    #[must_use]
    pub fn visible(&self, centre: Cell, cell: Cell) -> Option<usize> {
        let (dx, dy) = (cell.x - centre.x, cell.y - centre.y);
        let inside = dx.abs() <= self.view
            && dy.abs() <= self.view
            && dx * dx + dy * dy <= self.view * self.view;
        inside.then(|| self.index(dx, dy))
    }

    /// Returns the index at an offset from the centre. The offset must be inside the window.
    #[must_use]
    pub fn index(&self, dx: i32, dy: i32) -> usize {
        (dy + self.radius) as usize * self.side + (dx + self.radius) as usize
    }

    /// Returns the visibility disk as ranges of indices, one per row.
    pub fn disk(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.spans
            .iter()
            .enumerate()
            .filter(|(_, span)| !span.is_empty())
            .map(|(row, span)| row * self.side + span.start..row * self.side + span.end)
    }

    /// Returns the square of the world that contains the visibility disk around a cell, extended by `margin` cells to each side.
    #[must_use]
    pub fn square(&self, centre: Cell, margin: f32) -> Area {
        let (x, y, view) = (centre.x as f32, centre.y as f32, self.view as f32);
        Area {
            min: Point::new(x - view - margin, y - view - margin),
            max: Point::new(x + view + 1.0 + margin, y + view + 1.0 + margin),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_contains_exactly_the_visible_cells() {
        for (radius, view) in [(6, 6), (6, 3), (3, 9), (1, 0)] {
            let window = Window::new(radius, view);
            let centre = Cell { x: 10, y: 20 };
            let mut listed = vec![false; window.len()];
            window.disk().for_each(|span| listed[span].iter_mut().for_each(|cell| *cell = true));
            for dy in -window.radius..=window.radius {
                for dx in -window.radius..=window.radius {
                    let cell = Cell { x: 10 + dx, y: 20 + dy };
                    let index = window.index(dx, dy);
                    assert_eq!(window.visible(centre, cell).is_some(), listed[index]);
                }
            }
            assert!(listed[window.centre()]);
        }
    }
}
