//! The static channels: terrain and the borders of the world.

use super::window::{Cell, CellGrid, Window};
use crate::geometry::Area;
use crate::random::{Domain, Random};

/// Distance of the lattice points of the terrain, in cells.
const SPACING: usize = 8;

/// The terrain cost of each cell of a world, 0 to 1: value noise on a lattice with a spacing of eight cells.
#[derive(Debug, Clone)]
pub struct Terrain {
    grid: CellGrid,
    costs: Vec<f32>,
}

impl Terrain {
    /// Creates the terrain of a world. It depends only on the world and the seed.
    #[must_use]
    pub fn new(world: Area, seed: u64) -> Self {
        let grid = CellGrid::for_world(world);
        let (columns, rows) = (grid.columns as usize, grid.rows as usize);
        let across = columns / SPACING + 2;
        let lattice: Vec<f32> = (0..across * (rows / SPACING + 2))
            .map(|index| Random::keyed(seed, Domain::Terrain, index as u64, 0).unit())
            .collect();
        let cost = |x: usize, y: usize| {
            let corner = y / SPACING * across + x / SPACING;
            let right = (x % SPACING) as f32 / SPACING as f32;
            let up = (y % SPACING) as f32 / SPACING as f32;
            let low = lattice[corner] * (1.0 - right) + lattice[corner + 1] * right;
            let high =
                lattice[corner + across] * (1.0 - right) + lattice[corner + across + 1] * right;
            low * (1.0 - up) + high * up
        };
        Self {
            grid,
            costs: (0..rows)
                .flat_map(|y| (0..columns).map(move |x| (x, y)))
                .map(|(x, y)| cost(x, y))
                .collect(),
        }
    }

    /// Writes the costs of the window around `centre` into a plane. Cells outside the world get 0.
    pub fn read(&self, window: &Window, centre: Cell, plane: &mut [f32]) {
        for (row, line) in plane.chunks_exact_mut(window.side).enumerate() {
            let y = centre.y - window.radius + row as i32;
            let (inside, x) = inside_columns(self.grid, window, centre);
            if !(0..self.grid.rows).contains(&y) || inside.is_empty() {
                line.fill(0.0);
                continue;
            }
            let source = y as usize * self.grid.columns as usize + x;
            line[..inside.start].fill(0.0);
            line[inside.clone()].copy_from_slice(&self.costs[source..source + inside.len()]);
            line[inside.end..].fill(0.0);
        }
    }
}

/// Returns the columns of the window that are inside the world, and the world column of the first of them.
fn inside_columns(
    grid: CellGrid,
    window: &Window,
    centre: Cell,
) -> (std::ops::Range<usize>, usize) {
    let first = centre.x - window.radius;
    let start = (-first).clamp(0, window.side as i32);
    let end = (grid.columns - first).clamp(start, window.side as i32);
    (start as usize..end as usize, (first + start) as usize)
}

/// Returns whether the window around `centre` extends beyond the world.
#[must_use]
pub(crate) fn at_edge(grid: CellGrid, window: &Window, centre: Cell) -> bool {
    centre.x < window.radius
        || centre.y < window.radius
        || centre.x + window.radius >= grid.columns
        || centre.y + window.radius >= grid.rows
}

/// Writes 1 into the cells of the window that are outside the world, and 0 into the others.
pub(crate) fn read_obstacles(grid: CellGrid, window: &Window, centre: Cell, plane: &mut [f32]) {
    let (inside, _) = inside_columns(grid, window, centre);
    for (row, line) in plane.chunks_exact_mut(window.side).enumerate() {
        let y = centre.y - window.radius + row as i32;
        line.fill(1.0);
        if (0..grid.rows).contains(&y) {
            line[inside.clone()].fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_outside_the_world_are_obstacles_without_terrain() {
        let grid = CellGrid::for_world(Area::world(10.0, 20.0));
        let window = Window::new(6, 6);
        let terrain = Terrain::new(Area::world(10.0, 20.0), 1);
        for centre in [Cell { x: 0, y: 0 }, Cell { x: 5, y: 10 }, Cell { x: 9, y: 19 }] {
            let mut plane = vec![0.5; window.len()];
            let mut costs = vec![0.5; window.len()];
            read_obstacles(grid, &window, centre, &mut plane);
            terrain.read(&window, centre, &mut costs);
            assert!(at_edge(grid, &window, centre));
            for dy in -6..=6 {
                for dx in -6..=6 {
                    let cell = Cell { x: centre.x + dx, y: centre.y + dy };
                    let index = window.index(dx, dy);
                    let expected = if grid.contains(cell) { 0.0 } else { 1.0 };
                    assert_eq!(plane[index], expected, "{cell:?}");
                    let cost = if grid.contains(cell) {
                        terrain.costs[(cell.y * 10 + cell.x) as usize]
                    } else {
                        0.0
                    };
                    assert_eq!(costs[index], cost, "{cell:?}");
                }
            }
        }
    }

    #[test]
    fn costs_vary_between_0_and_1() {
        let terrain = Terrain::new(Area::world(50.0, 50.0), 3);
        assert!(terrain.costs.iter().all(|cost| (0.0..=1.0).contains(cost)));
        assert!(terrain.costs.iter().any(|&cost| cost < 0.3));
        assert!(terrain.costs.iter().any(|&cost| cost > 0.7));
    }
}
