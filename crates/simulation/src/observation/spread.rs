//! How a resource spreads over the cells of the world.
//!
//! Shares are integers in units of 2^-32. Sums therefore do not depend on the order, and a grid that is updated by adding and
//! subtracting shares does not accumulate rounding errors.

use super::window::{Cell, CellGrid};
use crate::geometry::Point;
use crate::kinds::kinds;

kinds! {
    /// How a resource spreads over cells.
    Spread, "spread" {
        /// Over the four cells with the nearest centres, by bilinear interpolation.
        Bilinear = "bilinear",
        /// Into the cell that contains it.
        Nearest = "nearest",
    }
}

/// One, in units of shares.
const ONE: f64 = (1u64 << 32) as f64;

/// A share of a resource in one cell, in units of 2^-32.
pub(crate) type Share = i64;

/// Converts a sum of shares to a float.
#[must_use]
pub(crate) fn value(sum: Share) -> f32 {
    (sum as f64 / ONE) as f32
}

impl Spread {
    /// Returns the cells that a resource spreads over, each with its share. `level` is the amount of the resource divided by the largest
    /// amount.
    #[must_use]
    pub(crate) fn shares(self, grid: CellGrid, at: Point, level: f32) -> [(Cell, Share); 4] {
        match self {
            Self::Bilinear => bilinear(at, f64::from(level)),
            Self::Nearest => {
                let cell = grid.cell(at);
                let all = (f64::from(level) * ONE).round() as Share;
                [(cell, all), (cell, 0), (cell, 0), (cell, 0)]
            }
        }
    }

    /// Returns how far a resource extends beyond its own cell, in cells.
    #[must_use]
    pub(crate) fn reach(self) -> f32 {
        match self {
            Self::Bilinear => 1.0,
            Self::Nearest => 0.0,
        }
    }
}

fn bilinear(at: Point, level: f64) -> [(Cell, Share); 4] {
    let (x, y) = (f64::from(at.x) - 0.5, f64::from(at.y) - 0.5);
    let (left, low) = (x.floor(), y.floor());
    let (right_share, high_share) = (x - left, y - low);
    let share = |dx: i32, dy: i32| {
        let across = if dx == 0 { 1.0 - right_share } else { right_share };
        let up = if dy == 0 { 1.0 - high_share } else { high_share };
        let cell = Cell { x: left as i32 + dx, y: low as i32 + dy };
        (cell, (level * across * up * ONE).round() as Share)
    };
    [share(0, 0), share(1, 0), share(0, 1), share(1, 1)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Area;

    #[test]
    fn shares_sum_to_the_level() {
        let grid = CellGrid::for_world(Area::world(10.0, 10.0));
        for &spread in Spread::ALL {
            for at in [Point::new(0.0, 0.0), Point::new(3.3, 7.9), Point::new(10.0, 10.0)] {
                let sum: Share = spread.shares(grid, at, 0.75).iter().map(|s| s.1).sum();
                assert!((value(sum) - 0.75).abs() < 1e-6, "{spread} at {at:?}");
            }
        }
    }

    #[test]
    fn a_resource_at_a_cell_centre_stays_in_it() {
        let grid = CellGrid::for_world(Area::world(10.0, 10.0));
        let shares = Spread::Bilinear.shares(grid, Point::new(4.5, 6.5), 1.0);
        assert_eq!(shares[0], (Cell { x: 4, y: 6 }, 1 << 32));
        assert!(shares[1..].iter().all(|share| share.1 == 0));
    }
}
