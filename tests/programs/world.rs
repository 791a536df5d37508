//! Spends its time in one line of a function that is inlined into a generic method.

use std::hint::black_box;

mod world {
    pub mod grid {
        pub struct Grid<T> {
            pub cells: Vec<T>,
        }

        impl<T: Copy + Into<u64>> Grid<T> {
            #[inline(never)]
            pub fn diffuse(&self, rounds: u64) -> u64 {
                let mut sum = 0;
                for round in 0..rounds {
                    for &cell in &self.cells {
                        sum = mix(sum ^ cell.into() ^ round);
                    }
                }
                sum
            }
        }

        const K: u64 = 0x9e37_79b9_7f4a_7c15;

        /// A chain so long that on every processor nearly all samples of the loop fall into its line. It needs a release build, in
        /// which overflow wraps. It uses plain operators, because functions of the standard library would add inlined frames.
        #[inline(always)]
        fn mix(x: u64) -> u64 {
            (((((((((((x * K ^ 0x5851) * K ^ 0x5851) * K ^ 0x5851) * K ^ 0x5851) * K ^ 0x5851) * K ^ 0x5851) * K ^ 0x5851) * K ^ 0x5851) * K ^ 0x5851) * K ^ 0x5851) * K ^ 0x5851) * K ^ 0x5851 // HOT LINE
        }
    }
}

fn main() {
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(50_000);
    let grid = world::grid::Grid { cells: vec![1_u32; 200] };
    black_box(grid.diffuse(rounds));
}
