//! Storage of remembered planes between steps: dense, or only the cells that are not 0.

use crate::kinds::kinds;

kinds! {
    /// Storage of remembered planes.
    StorageKind, "storage" {
        /// All cells of all planes.
        Dense = "dense",
        /// Only cells that are not 0.
        Sparse = "sparse",
        /// The plane of known-empty cells dense, the others sparse.
        Hybrid = "hybrid",
    }
}

/// Smaller values are set to 0.
pub(crate) const SMALLEST: f32 = 1e-6;

/// The movement of the window since the plane was stored, and the decay of its values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shift {
    /// Columns to the right.
    pub dx: i32,
    /// Rows up.
    pub dy: i32,
    /// Factor of the values.
    pub decay: f32,
    /// Cells per side of the plane.
    pub side: usize,
}

impl Shift {
    fn is_identity(&self) -> bool {
        self.dx == 0 && self.dy == 0 && self.decay == 1.0
    }
}

/// One remembered plane.
#[derive(Debug, Clone, PartialEq)]
pub enum Plane {
    /// All cells.
    Dense {
        /// The cells. They are allocated when the first value is stored.
        cells: Vec<f32>,
        /// Whether all cells count as 0, whatever `cells` contains.
        empty: bool,
    },
    /// Indices and values of the cells that are not 0, by ascending index.
    Sparse(Vec<(u16, f32)>),
}

impl Plane {
    /// Creates an empty plane.
    #[must_use]
    pub fn new(dense: bool) -> Self {
        if dense {
            let cells = Vec::new();
            Self::Dense { cells, empty: true }
        } else {
            Self::Sparse(Vec::new())
        }
    }

    /// Returns whether all cells are 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Dense { empty, .. } => *empty,
            Self::Sparse(cells) => cells.is_empty(),
        }
    }

    /// Sets all values to 0. The capacity stays allocated.
    pub fn clear(&mut self) {
        match self {
            Self::Dense { empty, .. } => *empty = true,
            Self::Sparse(cells) => cells.clear(),
        }
    }

    /// Shifts the values against the movement of the window and decays them, in place.
    pub fn shift_and_decay(&mut self, shift: Shift) {
        match self {
            Self::Dense { empty: true, .. } => {}
            Self::Dense { .. } if shift.is_identity() => {}
            Self::Dense { cells, empty } => {
                shift_cells(cells, shift);
                *empty = !decay(cells, shift.decay);
            }
            Self::Sparse(cells) => shift_and_decay_sparse(cells, shift),
        }
    }

    /// Writes the values into a plane of zeros.
    pub fn write(&self, plane: &mut [f32]) {
        match self {
            Self::Dense { empty: true, .. } => {}
            Self::Dense { cells, .. } => plane.copy_from_slice(cells),
            Self::Sparse(cells) => {
                for &(index, value) in cells {
                    plane[usize::from(index)] = value;
                }
            }
        }
    }

    /// Stores the values of a plane.
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
                cells.extend(held.map(|(index, &value)| (index as u16, value)));
            }
        }
    }

    /// Returns the heap size in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Dense { cells, .. } => cells.capacity() * size_of::<f32>(),
            Self::Sparse(cells) => cells.capacity() * size_of::<(u16, f32)>(),
        }
    }
}

fn shift_and_decay_sparse(cells: &mut Vec<(u16, f32)>, shift: Shift) {
    let side = shift.side as i32;
    cells.retain_mut(|(index, value)| {
        *value *= shift.decay;
        if shift.dx != 0 || shift.dy != 0 {
            let column = i32::from(*index) % side - shift.dx;
            let row = i32::from(*index) / side - shift.dy;
            if !(0..side).contains(&column) || !(0..side).contains(&row) {
                return false;
            }
            *index = (row * side + column) as u16;
        }
        *value >= SMALLEST
    });
}

/// Decays all cells and sets small ones to 0. Returns whether any is not 0.
fn decay(cells: &mut [f32], factor: f32) -> bool {
    // The bits are combined with OR because, unlike a maximum of floats, that vectorises.
    let mut bits = 0u32;
    for value in cells {
        let decayed = *value * factor;
        *value = if decayed < SMALLEST { 0.0 } else { decayed };
        bits |= value.to_bits();
    }
    bits != 0
}

/// Moves cells by (-dx, -dy). Cells that enter the window get 0.
fn shift_cells(cells: &mut [f32], shift: Shift) {
    let (dx, dy, side) = (shift.dx, shift.dy, shift.side);
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
    // The copy has wrapped cells from one row to the next: clear them.
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

    /// Shifts and decays by the definition, as the oracle.
    fn naive(cells: &[f32], shift: Shift) -> Vec<f32> {
        let side = shift.side as i32;
        let at = |x: i32, y: i32| {
            let inside = (0..side).contains(&x) && (0..side).contains(&y);
            let value = if inside { cells[(y * side + x) as usize] * shift.decay } else { 0.0 };
            if value < SMALLEST { 0.0 } else { value }
        };
        (0..side * side).map(|index| at(index % side + shift.dx, index / side + shift.dy)).collect()
    }

    fn cell_value() -> impl Strategy<Value = f32> {
        prop_oneof![3 => Just(0.0f32), 2 => 0.0f32..2.0, 1 => 1e-6f32..1.2e-6]
    }

    proptest! {
        #[test]
        fn dense_and_sparse_planes_shift_and_decay_alike(
            cells in prop::collection::vec(cell_value(), 49),
            shifts in prop::collection::vec((-8i32..=8, -8i32..=8, prop_oneof![Just(1.0f32), Just(0.85)]), 1..6),
        ) {
            // A stored plane has no values below the smallest.
            let mut expected: Vec<f32> = cells.iter().map(|&v| if v < SMALLEST { 0.0 } else { v }).collect();
            let mut planes = [Plane::new(true), Plane::new(false)];
            planes.iter_mut().for_each(|stored| stored.store(&expected));
            for (dx, dy, decay) in shifts {
                let shift = Shift { dx, dy, decay, side: 7 };
                expected = naive(&expected, shift);
                for stored in &mut planes {
                    stored.shift_and_decay(shift);
                    let mut plane = vec![0.0; 49];
                    stored.write(&mut plane);
                    prop_assert_eq!(&plane, &expected);
                    prop_assert_eq!(stored.is_empty(), expected.iter().all(|&v| v == 0.0));
                }
            }
        }
    }
}
