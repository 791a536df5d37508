//! Points, boxes and the entries of spatial indexes.

/// A position in the world, in world units.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Point {
    /// Horizontal coordinate, from 0 to the width of the world.
    pub x: f32,
    /// Vertical coordinate, from 0 to the height of the world.
    pub y: f32,
}

impl Point {
    /// Creates a point.
    #[must_use]
    pub const fn new(x: f32, y: f32) -> Self {
        Self { x, y }
    }

    /// Returns the squared distance to another point.
    #[must_use]
    pub fn squared_distance(self, other: Self) -> f32 {
        let (dx, dy) = (self.x - other.x, self.y - other.y);
        dx * dx + dy * dy
    }
}

/// An axis-parallel box including its borders.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Area {
    /// The corner with the smallest coordinates.
    pub min: Point,
    /// The corner with the largest coordinates.
    pub max: Point,
}

impl Area {
    /// Returns the box from the origin to (width, height).
    #[must_use]
    pub const fn world(width: f32, height: f32) -> Self {
        Self { min: Point::new(0.0, 0.0), max: Point::new(width, height) }
    }

    /// Returns the square around a point that extends `reach` to each side.
    #[must_use]
    pub fn around(centre: Point, reach: f32) -> Self {
        Self {
            min: Point::new(centre.x - reach, centre.y - reach),
            max: Point::new(centre.x + reach, centre.y + reach),
        }
    }

    /// Returns whether the point is inside or on the border.
    #[must_use]
    pub fn contains(&self, at: Point) -> bool {
        at.x >= self.min.x && at.x <= self.max.x && at.y >= self.min.y && at.y <= self.max.y
    }

    /// Returns the width.
    #[must_use]
    pub fn width(&self) -> f32 {
        self.max.x - self.min.x
    }

    /// Returns the height.
    #[must_use]
    pub fn height(&self) -> f32 {
        self.max.y - self.min.y
    }

    /// Returns the squared distance from a point to the nearest point of the box, or 0 inside it.
    #[must_use]
    pub fn squared_distance(&self, at: Point) -> f32 {
        let dx = (self.min.x - at.x).max(at.x - self.max.x).max(0.0);
        let dy = (self.min.y - at.y).max(at.y - self.max.y).max(0.0);
        dx * dx + dy * dy
    }

    /// Returns whether the two boxes share at least one point.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.min.x <= other.max.x
            && other.min.x <= self.max.x
            && self.min.y <= other.max.y
            && other.min.y <= self.max.y
    }
}

/// An entry of a spatial index: the number of an agent or a resource with its position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry {
    /// Number of the entry. Numbers are dense from 0; at equal distance the smaller number wins.
    pub id: u32,
    /// Position.
    pub at: Point,
}
