//! How a remembered plane is kept between steps: every cell, or only those that are not 0.

use crate::kinds::kinds;

kinds! {
    /// How remembered planes are kept.
    StorageKind, "storage" {
        /// Every cell of every plane.
        Dense = "dense",
        /// Only cells that are not 0.
        Sparse = "sparse",
        /// Known-empty cells dense, the rest sparse.
        Hybrid = "hybrid",
    }
}

/// Values below this are dropped.
pub(crate) const SMALLEST: f32 = 1e-6;

/// How far the window moved since the plane was stored, in cells, and the factor by which values shrink.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Passage {
    /// Columns to the right.
    pub dx: i32,
    /// Rows up.
    pub dy: i32,
    /// The factor; 1 leaves values as they are.
    pub decay: f32,
    /// Cells to a side of the plane.
    pub side: usize,
}

impl Passage {
    fn stays(&self) -> bool {
        self.dx == 0 && self.dy == 0 && self.decay == 1.0
    }
}

/// One remembered plane.
#[derive(Debug, Clone, PartialEq)]
pub enum Plane {
    /// Every cell; nothing while all are 0.
    Dense {
        /// The cells; allocated when the first value comes.
        cells: Vec<f32>,
        /// Whether all cells are 0.
        empty: bool,
    },
    /// Places and values of the cells that are not 0, by rising place.
    Sparse(Vec<(u16, f32)>),
}

impl Plane {
    /// An empty plane, dense or sparse.
    #[must_use]
    pub fn new(dense: bool) -> Self {
        if dense {
            let cells = Vec::new();
            Self::Dense { cells, empty: true }
        } else {
            Self::Sparse(Vec::new())
        }
    }

    /// Whether all cells are 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Dense { empty, .. } => *empty,
            Self::Sparse(cells) => cells.is_empty(),
        }
    }

    /// Forgets all values but keeps the memory.
    pub fn clear(&mut self) {
        match self {
            Self::Dense { empty, .. } => *empty = true,
            Self::Sparse(cells) => cells.clear(),
        }
    }

    /// Shifts against the window's movement and decays, in place.
    pub fn pass(&mut self, passage: Passage) {
        match self {
            Self::Dense { empty: true, .. } => {}
            // A window that stays and does not forget holds what it held.
            Self::Dense { .. } if passage.stays() => {}
            Self::Dense { cells, empty } => {
                shift(cells, passage);
                *empty = !decay(cells, passage.decay);
            }
            Self::Sparse(cells) => pass_sparse(cells, passage),
        }
    }

    /// Writes the values into a plane of zeros.
    pub fn write(&self, plane: &mut [f32]) {
        match self {
            Self::Dense { empty: true, .. } => {}
            Self::Dense { cells, .. } => plane.copy_from_slice(cells),
            Self::Sparse(cells) => {
                for &(place, value) in cells {
                    plane[usize::from(place)] = value;
                }
            }
        }
    }

    /// Takes over the values of a plane.
    pub fn store(&mut self, plane: &[f32]) {
        match self {
            Self::Dense { cells, empty } => {
                cells.resize(plane.len(), 0.0);
                cells.copy_from_slice(plane);
                *empty = false;
            }
            Self::Sparse(cells) => {
                cells.clear();
                let held = plane.iter().enumerate().filter(|cell| *cell.1 != 0.0);
                cells.extend(held.map(|(place, &value)| (place as u16, value)));
            }
        }
    }

    /// Bytes of heap memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Dense { cells, .. } => cells.capacity() * size_of::<f32>(),
            Self::Sparse(cells) => cells.capacity() * size_of::<(u16, f32)>(),
        }
    }
}

fn pass_sparse(cells: &mut Vec<(u16, f32)>, passage: Passage) {
    let side = passage.side as i32;
    cells.retain_mut(|(place, value)| {
        *value *= passage.decay;
        if passage.dx != 0 || passage.dy != 0 {
            let column = i32::from(*place) % side - passage.dx;
            let row = i32::from(*place) / side - passage.dy;
            if !(0..side).contains(&column) || !(0..side).contains(&row) {
                return false;
            }
            *place = (row * side + column) as u16;
        }
        *value >= SMALLEST
    });
}

/// Shrinks all cells and drops small ones; returns whether any may be left.
fn decay(cells: &mut [f32], factor: f32) -> bool {
    // Collected as bits: unlike a maximum of floats, that may be done for many cells at once.
    let mut left = 0u32;
    for value in cells {
        let shrunk = *value * factor;
        *value = if shrunk < SMALLEST { 0.0 } else { shrunk };
        left |= value.to_bits();
    }
    left != 0
}

/// Moves cells by (-dx, -dy) and fills what comes into the window with 0.
fn shift(cells: &mut [f32], passage: Passage) {
    let (dx, dy, side) = (passage.dx, passage.dy, passage.side);
    if dx == 0 && dy == 0 {
        return;
    }
    if dx.unsigned_abs() as usize >= side || dy.unsigned_abs() as usize >= side {
        cells.fill(0.0);
        return;
    }
    let offset = dy as isize * side as isize + dx as isize;
    let len = cells.len();
    if offset >= 0 {
        cells.copy_within(offset as usize.., 0);
        cells[len - offset as usize..].fill(0.0);
    } else {
        let offset = offset.unsigned_abs();
        cells.copy_within(..len - offset, offset);
        cells[..offset].fill(0.0);
    }
    // The copy wrapped around the ends of rows.
    for line in cells.chunks_exact_mut(side) {
        if dx > 0 {
            line[side - dx as usize..].fill(0.0);
        } else {
            line[..dx.unsigned_abs() as usize].fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Shift and decay by the definition.
    fn naive(cells: &[f32], passage: Passage) -> Vec<f32> {
        let side = passage.side as i32;
        let at = |x: i32, y: i32| {
            let inside = (0..side).contains(&x) && (0..side).contains(&y);
            let value = if inside { cells[(y * side + x) as usize] * passage.decay } else { 0.0 };
            if value < SMALLEST { 0.0 } else { value }
        };
        (0..side * side)
            .map(|place| at(place % side + passage.dx, place / side + passage.dy))
            .collect()
    }

    fn cell_value() -> impl Strategy<Value = f32> {
        prop_oneof![3 => Just(0.0f32), 2 => 0.0f32..2.0, 1 => 1e-6f32..1.2e-6]
    }

    proptest! {
        #[test]
        fn both_stores_shift_and_decay_by_the_definition(
            cells in prop::collection::vec(cell_value(), 49),
            passes in prop::collection::vec((-8i32..=8, -8i32..=8, prop_oneof![Just(1.0f32), Just(0.85)]), 1..6),
        ) {
            // Stores hold no values that a pass would drop unchanged.
            let mut expected: Vec<f32> = cells.iter().map(|&v| if v < SMALLEST { 0.0 } else { v }).collect();
            let mut stores = [Plane::new(true), Plane::new(false)];
            stores.iter_mut().for_each(|store| store.store(&expected));
            for (dx, dy, decay) in passes {
                let passage = Passage { dx, dy, decay, side: 7 };
                expected = naive(&expected, passage);
                for store in &mut stores {
                    store.pass(passage);
                    let mut plane = vec![0.0; 49];
                    store.write(&mut plane);
                    prop_assert_eq!(&plane, &expected);
                    prop_assert_eq!(store.is_empty(), expected.iter().all(|&v| v == 0.0));
                }
            }
        }
    }
}
