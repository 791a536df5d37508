//! The square window of cells around an agent and the disk that it sees of it.

use std::ops::Range;

use crate::geometry::{Area, Point};

/// A unit cell of the world; negative or large numbers lie outside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cell {
    /// Column, `floor(x)`.
    pub x: i32,
    /// Row, `floor(y)`.
    pub y: i32,
}

/// The world's extent in cells; the last row and column also hold points on the far border.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellGrid {
    /// Columns.
    pub columns: i32,
    /// Rows.
    pub rows: i32,
}

impl CellGrid {
    /// The cells of a world.
    #[must_use]
    pub fn of(world: Area) -> Self {
        Self {
            columns: (world.width().ceil() as i32).max(1),
            rows: (world.height().ceil() as i32).max(1),
        }
    }

    /// The cell of a point of the world.
    #[must_use]
    pub fn cell(&self, at: Point) -> Cell {
        Cell { x: (at.x as i32).min(self.columns - 1), y: (at.y as i32).min(self.rows - 1) }
    }

    /// Whether the cell is inside the world.
    #[cfg(test)]
    #[must_use]
    pub fn holds(&self, cell: Cell) -> bool {
        (0..self.columns).contains(&cell.x) && (0..self.rows).contains(&cell.y)
    }
}

/// A window of `2 * radius + 1` cells square; place 0 is the lower left cell, and rows follow each other.
#[derive(Debug, Clone)]
pub struct Window {
    /// Cells to each side of the centre.
    pub radius: i32,
    /// Cells to a side.
    pub side: usize,
    /// Radius of the visibility disk, at most `radius`.
    pub view: i32,
    /// For each row, the columns inside the visibility disk.
    spans: Vec<Range<usize>>,
}

impl Window {
    /// A window and its disk; a disk larger than the window is cut to it.
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

    /// Cells in the window.
    #[must_use]
    pub fn len(&self) -> usize {
        self.side * self.side
    }

    /// Never: a window holds at least nine cells.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The place of the centre.
    #[must_use]
    pub fn centre(&self) -> usize {
        self.len() / 2
    }

    /// The place of a cell in the window around `centre`, if it is inside the visibility disk.
    #[must_use]
    pub fn visible(&self, centre: Cell, cell: Cell) -> Option<usize> {
        let (dx, dy) = (cell.x - centre.x, cell.y - centre.y);
        let inside = dx.abs() <= self.view
            && dy.abs() <= self.view
            && dx * dx + dy * dy <= self.view * self.view;
        inside.then(|| self.place(dx, dy))
    }

    /// The place at an offset from the centre, which must be inside the window.
    #[must_use]
    pub fn place(&self, dx: i32, dy: i32) -> usize {
        (dy + self.radius) as usize * self.side + (dx + self.radius) as usize
    }

    /// The visibility disk as ranges of places, one for each row that it touches.
    pub fn disk(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.spans
            .iter()
            .enumerate()
            .filter(|(_, span)| !span.is_empty())
            .map(|(row, span)| row * self.side + span.start..row * self.side + span.end)
    }

    /// The square of the world that holds the visibility disk around a cell, enlarged by `margin` to each side.
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
    fn the_disk_is_what_is_visible() {
        for (radius, view) in [(6, 6), (6, 3), (3, 9), (1, 0)] {
            let window = Window::new(radius, view);
            let centre = Cell { x: 10, y: 20 };
            let mut listed = vec![false; window.len()];
            window.disk().for_each(|span| listed[span].iter_mut().for_each(|cell| *cell = true));
            for dy in -window.radius..=window.radius {
                for dx in -window.radius..=window.radius {
                    let cell = Cell { x: 10 + dx, y: 20 + dy };
                    let place = window.place(dx, dy);
                    assert_eq!(window.visible(centre, cell).is_some(), listed[place]);
                }
            }
            assert!(listed[window.centre()]);
        }
    }
}
