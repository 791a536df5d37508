//! Measures how often the intervals of scaling laws hold the planted truth, and what each fit costs.
//!
//! Run with `cargo run --release -p simprof-stats --example scaling_coverage`.

use std::time::Instant;

use simprof_stats::SplitMix64;
use simprof_stats::scaling::{ExponentKind, Law, Point, Term, fit};

/// A planted law and the design it is measured with.
struct Plan {
    name: &'static str,
    law: Law,
    sizes: i32,
    factor: f64,
    repeats: usize,
    noise: f64,
    /// Standard deviation of a factor that all repeats at one size share.
    shared: f64,
}

fn measure(plan: &Plan, rng: &mut SplitMix64) -> Vec<Point> {
    let point = |i: i32| {
        let x = 50.0 * plan.factor.powi(i);
        let shared = plan.shared * rng.normal();
        let y = (0..plan.repeats)
            .map(|_| plan.law.at(x) * (shared + plan.noise * rng.normal()).exp())
            .collect();
        Point { x, y }
    };
    (0..plan.sizes).map(point).collect()
}

fn run(plan: &Plan, trials: u64) {
    let mut count = [0usize; 9];
    let (mut seconds, mut predicting) = (0.0, 0.0);
    let mut terms = std::collections::BTreeMap::<String, usize>::new();
    let (mut width, mut netwidth) = (0.0, 0.0);
    for trial in 0..trials {
        let mut rng = SplitMix64::new(trial * 7919 + 1);
        let points = measure(plan, &mut rng);
        let start = Instant::now();
        let got = fit(&points).expect("planted costs are above zero");
        seconds += start.elapsed().as_secs_f64();
        let truth = plan.law.b.unwrap_or(f64::NAN);
        let slope = got.slope.interval.expect("five sizes");
        width += slope.half_width();
        count[0] += usize::from(slope.contains(truth));
        if let Some(net) = got.net.interval {
            count[1] += usize::from(net.contains(truth));
            count[2] += 1;
            netwidth += net.half_width();
        }
        count[3] += usize::from(got.exponent_interval.is_some_and(|i| i.contains(truth)));
        count[4] += usize::from(got.exponent_kind == ExponentKind::NetOfConstant);
        *terms.entry(got.chosen_law().term.to_string()).or_default() += 1;
        let standing = got.indistinguishable.iter();
        count[5] += usize::from(
            standing
                .into_iter()
                .any(|&i| got.models[i].law.term == plan.law.term),
        );
        let x = 4.0 * points[points.len() - 1].x;
        let start = Instant::now();
        if let Ok(prediction) = got.predict(x, 3, trial) {
            predicting += start.elapsed().as_secs_f64();
            count[6] += 1;
            let noise = plan.shared * rng.normal() + plan.noise / 3f64.sqrt() * rng.normal();
            count[7] += usize::from(prediction.interval.contains(plan.law.at(x) * noise.exp()));
        }
    }
    let share = |k: usize, n: usize| 100.0 * k as f64 / n.max(1) as f64;
    let n = trials as usize;
    println!(
        "{:34} slope {:5.1} (+-{:.3})  net {:5.1} (of {}, +-{:.3})  headline {:5.1} (net in {})  kept {:5.1}  predicted {} holding {:5.1}  fit {:.2} ms, predict {:.2} ms  {terms:?}",
        plan.name,
        share(count[0], n),
        width / n as f64,
        share(count[1], count[2]),
        count[2],
        netwidth / count[2].max(1) as f64,
        share(count[3], n),
        count[4],
        share(count[5], n),
        count[6],
        share(count[7], count[6]),
        1e3 * seconds / n as f64,
        1e3 * predicting / count[6].max(1) as f64,
    );
}

fn main() {
    let law = |term, a, b, c| Law {
        term,
        a,
        b: Some(b),
        c,
    };
    let plan = |name, law, sizes, factor, repeats, noise, shared| Plan {
        name,
        law,
        sizes,
        factor,
        repeats,
        noise,
        shared,
    };
    let n2 = law(Term::Power, 1e-3, 2.0, 0.0);
    let plans = [
        plan("n^2 5x5 5%", n2, 5, 2.0, 5, 0.05, 0.0),
        plan("n^2 5x3 5%", n2, 5, 2.0, 3, 0.05, 0.0),
        plan("n^2 5x1 5%", n2, 5, 2.0, 1, 0.05, 0.0),
        plan("n^2 7x5 5%", n2, 7, 2.0, 5, 0.05, 0.0),
        plan("n^2 7x5 5% + 5% shared", n2, 7, 2.0, 5, 0.05, 0.05),
        plan("n^2 5x5 1% + 5% shared", n2, 5, 2.0, 5, 0.01, 0.05),
        plan(
            "n 5x5 5%",
            law(Term::Linear, 1.0, 1.0, 0.0),
            5,
            2.0,
            5,
            0.05,
            0.0,
        ),
        plan(
            "n log n 5x5 5%",
            law(Term::Linearithmic, 1.0, f64::NAN, 0.0),
            5,
            2.0,
            5,
            0.05,
            0.0,
        ),
        plan(
            "n log n 7x5 2%",
            law(Term::Linearithmic, 1.0, f64::NAN, 0.0),
            7,
            2.0,
            5,
            0.02,
            0.0,
        ),
        plan(
            "constant 5x5 5%",
            law(Term::Constant, 7.0, 0.0, 0.0),
            5,
            2.0,
            5,
            0.05,
            0.0,
        ),
        plan(
            "constant 5x5 1% + 5% shared",
            law(Term::Constant, 7.0, 0.0, 0.0),
            5,
            2.0,
            5,
            0.01,
            0.05,
        ),
        plan(
            "constant 7x3 5%",
            law(Term::Constant, 7.0, 0.0, 0.0),
            7,
            2.0,
            3,
            0.05,
            0.0,
        ),
        plan(
            "c + a n^2 (c = 25 smallest) 5x5 5%",
            law(Term::Quadratic, 1e-3, 2.0, 62.5),
            5,
            2.0,
            5,
            0.05,
            0.0,
        ),
        plan(
            "c + a n^2 (c = 25 smallest) 7x5 5%",
            law(Term::Quadratic, 1e-3, 2.0, 62.5),
            7,
            2.0,
            5,
            0.05,
            0.0,
        ),
        plan(
            "c + a n^2, 7x5 5% + 5% shared",
            law(Term::Quadratic, 1e-3, 2.0, 62.5),
            7,
            2.0,
            5,
            0.05,
            0.05,
        ),
        plan(
            "c + a n (c = 5 smallest) 5x5 5%",
            law(Term::Linear, 1.0, 1.0, 250.0),
            5,
            2.0,
            5,
            0.05,
            0.0,
        ),
        plan(
            "c + a/n 7x5 5%",
            law(Term::OffsetPower, 2000.0, -1.0, 5.0),
            7,
            2.0,
            5,
            0.05,
            0.0,
        ),
    ];
    for plan in plans {
        run(&plan, 500);
    }
}
