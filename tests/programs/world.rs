//! A Rust program whose time is spent in one line of a method that is inlined into a generic one.

use std::hint::black_box;

mod world {
    pub mod grid {
        use std::hint::black_box;

        pub struct Grid<T> {
            pub cells: Vec<T>,
        }

        impl<T: Copy + Into<u64>> Grid<T> {
            #[inline(never)]
            pub fn diffuse(&self, rounds: u64) -> u64 {
                let mut sum = 0;
                for round in 0..rounds {
                    for &cell in &self.cells {
                        sum = mix(sum, cell.into(), round);
                    }
                }
                sum
            }
        }

        #[inline(always)]
        fn mix(sum: u64, cell: u64, round: u64) -> u64 {
            (black_box(sum) ^ cell).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31) + (round & 1) // HOT LINE
        }
    }
}

fn main() {
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(50_000);
    let grid = world::grid::Grid { cells: vec![1_u32; 1000] };
    black_box(grid.diffuse(rounds));
}
