//! Simulates measurements of many laws, without noise and with noise of several levels. Prints how
//! often the interval of the exponent covers the true one.
//!
//! The truth of a law is the exponent of its part that grows fastest, or a range: n log n grows by a
//! local exponent that depends on the size, and n^2 + n by one between 1 and 2. An interval covers a
//! range if the two overlap. A law without a truth must be inadequate. `exponent` is the share of trials that report one; the other
//! columns are of those.
//!
//! Run with `cargo run --release -p simprof-stats --example exponents [TRIALS]`.

use simprof_stats::SplitMix64;
use simprof_stats::scaling::{Adequacy, Point, ScalingFit, fit};

/// A law: its name, its cost at a size, and the range of its true exponents between two sizes.
struct Law {
    name: &'static str,
    cost: fn(f64) -> f64,
    truth: fn(f64, f64) -> Option<(f64, f64)>,
}

/// Returns a truth that is one number.
macro_rules! exactly {
    ($exponent:expr) => {
        |_, _| Some(($exponent, $exponent))
    };
}

const LAWS: [Law; 17] = [
    Law { name: "5000", cost: |_| 5000.0, truth: exactly!(0.0) },
    Law { name: "n + 1", cost: |n| n + 1.0, truth: exactly!(1.0) },
    Law { name: "29 n + 7", cost: |n| 29.0 * n + 7.0, truth: exactly!(1.0) },
    Law { name: "29 n + 700", cost: |n| 29.0 * n + 700.0, truth: exactly!(1.0) },
    Law { name: "3 n^2", cost: |n| 3.0 * n * n, truth: exactly!(2.0) },
    Law { name: "3 n^2 + 1000", cost: |n| 3.0 * n * n + 1000.0, truth: exactly!(2.0) },
    Law { name: "100 n^1.5 + 1", cost: |n| 100.0 * n.powf(1.5) + 1.0, truth: exactly!(1.5) },
    Law { name: "n^0.5", cost: f64::sqrt, truth: exactly!(0.5) },
    Law { name: "n^3 + 5000", cost: |n| n.powi(3) + 5000.0, truth: exactly!(3.0) },
    Law { name: "10 n log n + 50", cost: |n| 10.0 * n * n.ln() + 50.0, truth: n_log_n },
    Law { name: "1e6 / n", cost: |n| 1e6 / n, truth: exactly!(-1.0) },
    Law { name: "1e6 / n + 1e4", cost: |n| 1e6 / n + 1e4, truth: exactly!(-1.0) },
    Law { name: "n^2 + 30 n", cost: |n| n * n + 30.0 * n, truth: |_, _| Some((1.0, 2.0)) },
    Law { name: "n^3 + 100 n", cost: |n| n.powi(3) + 100.0 * n, truth: |_, _| Some((1.0, 3.0)) },
    Law { name: "n (n + 1) / 2", cost: |n| n * (n + 1.0) / 2.0, truth: |_, _| Some((1.0, 2.0)) },
    Law {
        name: "max(29 n - 88, 0.5)",
        cost: |n| (29.0 * n - 88.0).max(0.5),
        truth: |smallest, _| (smallest > 4.0).then_some((1.0, 1.44)),
    },
    Law {
        name: "10, from 8 on 1000",
        cost: |n| if n < 8.0 { 10.0 } else { 1e3 },
        truth: |smallest, _| (smallest >= 8.0).then_some((0.0, 0.0)),
    },
];

/// Returns the local exponents 1 + 1 / log n of n log n.
fn n_log_n(smallest: f64, largest: f64) -> Option<(f64, f64)> {
    Some((1.0 + 1.0 / largest.ln(), 1.0 + 1.0 / smallest.max(2.0).ln()))
}

/// How a law is measured.
struct Design {
    name: &'static str,
    smallest: f64,
    sizes: i32,
    repeats: usize,
}

const DESIGNS: [Design; 3] = [
    Design { name: "1 to 64, 3 repeats", smallest: 1.0, sizes: 7, repeats: 3 },
    Design { name: "1 to 16, 6 repeats", smallest: 1.0, sizes: 5, repeats: 6 },
    Design { name: "10 to 640, 10 repeats", smallest: 10.0, sizes: 7, repeats: 10 },
];

impl Design {
    fn size(&self, index: i32) -> f64 {
        self.smallest * 2f64.powi(index)
    }

    fn measure(&self, law: &Law, noise: f64, rng: &mut SplitMix64) -> Vec<Point> {
        let mut point = |index| {
            let x = self.size(index);
            let mut cost = |_| (law.cost)(x) * (noise * rng.normal()).exp();
            Point { x, y: (0..self.repeats).map(&mut cost).collect() }
        };
        (0..self.sizes).map(&mut point).collect()
    }
}

/// Sums over the trials of one law.
#[derive(Default)]
struct Tally {
    reported: usize,
    covered: usize,
    width: f64,
}

impl Tally {
    fn add(&mut self, fit: &ScalingFit, truth: Option<(f64, f64)>) {
        let interval = fit.exponent_interval.filter(|_| fit.adequacy == Adequacy::Adequate);
        let Some(interval) = interval else { return };
        self.reported += 1;
        self.width += interval.hi - interval.lo;
        let covers = truth.is_some_and(|(low, high)| interval.lo <= high && low <= interval.hi);
        self.covered += usize::from(covers);
    }
}

fn main() {
    let trials: u64 = std::env::args().nth(1).and_then(|word| word.parse().ok()).unwrap_or(500);
    println!(
        "{:22} {:24} {:>6} {:>9} {:>7} {:>11}",
        "law", "sizes", "noise", "exponent", "covers", "mean width"
    );
    for law in &LAWS {
        for design in &DESIGNS {
            let truth = (law.truth)(design.smallest, design.size(design.sizes - 1));
            for noise in [0.0, 0.01, 0.05, 0.2] {
                let mut tally = Tally::default();
                for trial in 0..if noise == 0.0 { 1 } else { trials } {
                    let points = design.measure(law, noise, &mut SplitMix64::new(trial * 7919 + 1));
                    tally.add(&fit(&points).expect("costs are above zero"), truth);
                }
                let of = if noise == 0.0 { 1 } else { trials };
                let reported = tally.reported.max(1) as f64;
                println!(
                    "{:22} {:24} {:4.0} % {:7.1} % {:5.1} % {:11.3}",
                    law.name,
                    design.name,
                    noise * 100.0,
                    100.0 * tally.reported as f64 / of as f64,
                    100.0 * tally.covered as f64 / reported,
                    tally.width / reported
                );
            }
        }
    }
}
