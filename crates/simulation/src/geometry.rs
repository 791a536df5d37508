//! Points, boxes and the entries that indexes hold.

/// A position in the world, in world units.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Point {
    /// Across, from 0 to the world's width.
    pub x: f32,
    /// Up, from 0 to the world's height.
    pub y: f32,
}

impl Point {
    /// A point from its coordinates.
    #[must_use]
    pub const fn new(x: f32, y: f32) -> Self {
        Self { x, y }
    }

    /// The squared distance to another point.
    #[must_use]
    pub fn squared_distance(self, other: Self) -> f32 {
        let (dx, dy) = (self.x - other.x, self.y - other.y);
        dx * dx + dy * dy
    }
}

/// An axis-parallel box; its borders belong to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Area {
    /// The corner with the smallest coordinates.
    pub min: Point,
    /// The corner with the largest coordinates.
    pub max: Point,
}

impl Area {
    /// The box from the origin to (width, height).
    #[must_use]
    pub const fn world(width: f32, height: f32) -> Self {
        Self { min: Point::new(0.0, 0.0), max: Point::new(width, height) }
    }

    /// The square around a point that reaches `reach` to each side.
    #[must_use]
    pub fn around(centre: Point, reach: f32) -> Self {
        Self {
            min: Point::new(centre.x - reach, centre.y - reach),
            max: Point::new(centre.x + reach, centre.y + reach),
        }
    }

    /// Whether the point is inside or on the border.
    #[must_use]
    pub fn contains(&self, at: Point) -> bool {
        at.x >= self.min.x && at.x <= self.max.x && at.y >= self.min.y && at.y <= self.max.y
    }

    /// Extent across.
    #[must_use]
    pub fn width(&self) -> f32 {
        self.max.x - self.min.x
    }

    /// Extent up.
    #[must_use]
    pub fn height(&self) -> f32 {
        self.max.y - self.min.y
    }

    /// The squared distance from a point to the nearest point of the box; 0 inside.
    #[must_use]
    pub fn squared_distance(&self, at: Point) -> f32 {
        let dx = (self.min.x - at.x).max(at.x - self.max.x).max(0.0);
        let dy = (self.min.y - at.y).max(at.y - self.max.y).max(0.0);
        dx * dx + dy * dy
    }

    /// Whether the two boxes share a point.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.min.x <= other.max.x
            && other.min.x <= self.max.x
            && self.min.y <= other.max.y
            && other.min.y <= self.max.y
    }
}

/// Something with a position: an agent's or a resource's number and where it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry {
    /// The number by which ties are broken, dense from 0.
    pub id: u32,
    /// Its position.
    pub at: Point,
}
