//! Simulates data with known laws, ratios and drifts. Prints how often intervals cover the true
//! values, which verdicts are returned, and how long a fit takes.
//!
//! Run with `cargo run --release -p simprof-stats --example coverage [TRIALS]`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use simprof_stats::scaling::{ExponentKind, Law, Point, Term, fit};
use simprof_stats::{DriftRule, SplitMix64, assess_drift, compare_paired, compare_unpaired};

/// A planted law and the design it is measured with.
struct Plan {
    name: &'static str,
    law: Law,
    /// The exponent that intervals should cover. `None` if the law has no single exponent.
    exponent: Option<f64>,
    sizes: i32,
    repeats: usize,
    /// Relative standard deviation of a single run.
    noise: f64,
    /// Relative standard deviation of a factor shared by all runs at one size.
    shared: f64,
}

impl Plan {
    /// Simulates the measurement.
    fn measure(&self, rng: &mut SplitMix64) -> Vec<Point> {
        let point = |i: i32| {
            let x = 50.0 * 2f64.powi(i);
            let shared = self.shared * rng.normal();
            let mut run = |_| self.law.at(x) * (shared + self.noise * rng.normal()).exp();
            Point { x, y: (0..self.repeats).map(&mut run).collect() }
        };
        (0..self.sizes).map(point).collect()
    }
}

/// Counts and times summed over the trials of one plan.
#[derive(Default)]
struct Tally {
    slope: usize,
    net: usize,
    headline: usize,
    headline_is_net: usize,
    true_form_kept: usize,
    predicted: usize,
    prediction_covered: usize,
    fitting: Duration,
    predicting: Duration,
    chosen: BTreeMap<&'static str, usize>,
}

/// Measures, fits and predicts once, and adds the results to `tally`.
fn run_trial(plan: &Plan, seed: u64, tally: &mut Tally) {
    let mut rng = SplitMix64::new(seed);
    let points = plan.measure(&mut rng);
    let start = Instant::now();
    let got = fit(&points).expect("planted costs are above zero");
    tally.fitting += start.elapsed();
    let covers = |interval: Option<simprof_stats::Interval>| {
        usize::from(interval.zip(plan.exponent).is_some_and(|(i, b)| i.contains(b)))
    };
    tally.slope += covers(got.slope.interval);
    tally.net += covers(got.net.interval);
    tally.headline += covers(got.exponent_interval);
    tally.headline_is_net += usize::from(got.exponent_kind == ExponentKind::NetOfConstant);
    let mut kept = got.indistinguishable.iter();
    tally.true_form_kept += usize::from(kept.any(|&i| got.models[i].law.term == plan.law.term));
    *tally.chosen.entry(got.chosen_law().term.name()).or_default() += 1;
    let x = 4.0 * points[points.len() - 1].x;
    let start = Instant::now();
    if let Ok(prediction) = got.predict(x, 3, seed) {
        tally.predicting += start.elapsed();
        tally.predicted += 1;
        let noise = plan.shared * rng.normal() + plan.noise / 3f64.sqrt() * rng.normal();
        let run = plan.law.at(x) * noise.exp();
        tally.prediction_covered += usize::from(prediction.interval.contains(run));
    }
}

fn scaling(trials: u64) {
    println!(
        "scaling: % of trials whose interval covers the truth; prediction at 4 times the largest size; ms per fit and per prediction"
    );
    println!(
        "{:28} {:>6} {:>6} {:>8} {:>7} {:>7} {:>9} {:>6} {:>5} {:>5}  chosen",
        "planted",
        "slope",
        "net",
        "headline",
        "is net",
        "kept",
        "predicted",
        "covers",
        "fit",
        "pred"
    );
    for plan in plans() {
        let mut tally = Tally::default();
        (0..trials).for_each(|trial| run_trial(&plan, trial * 7919 + 1, &mut tally));
        let share = |count: usize, total: usize| 100.0 * count as f64 / total.max(1) as f64;
        let all = |count| share(count, trials as usize);
        let ms = |time: Duration, total: usize| 1e3 * time.as_secs_f64() / total.max(1) as f64;
        println!(
            "{:28} {:6.1} {:6.1} {:8.1} {:7.1} {:7.1} {:9.1} {:6.1} {:5.2} {:5.2}  {:?}",
            plan.name,
            all(tally.slope),
            all(tally.net),
            all(tally.headline),
            all(tally.headline_is_net),
            all(tally.true_form_kept),
            all(tally.predicted),
            share(tally.prediction_covered, tally.predicted),
            ms(tally.fitting, trials as usize),
            ms(tally.predicting, tally.predicted),
            tally.chosen,
        );
    }
}

fn plans() -> Vec<Plan> {
    let form = |term, a, b, c| Law { term, a, b: Some(b), c };
    let plan = |name, law: Law, exponent, sizes, repeats, noise, shared| Plan {
        name,
        law,
        exponent,
        sizes,
        repeats,
        noise,
        shared,
    };
    let square = form(Term::Power, 1e-3, 2.0, 0.0);
    let line = form(Term::Linear, 1.0, 1.0, 0.0);
    let n_log_n = form(Term::Linearithmic, 1.0, 1.0, 0.0);
    let flat = form(Term::Constant, 7.0, 0.0, 0.0);
    let late_square = form(Term::Quadratic, 1e-3, 2.0, 62.5);
    let late_line = form(Term::Linear, 1.0, 1.0, 250.0);
    let amdahl = form(Term::OffsetPower, 2000.0, -1.0, 5.0);
    vec![
        plan("n^2 5x5", square, Some(2.0), 5, 5, 0.05, 0.0),
        plan("n^2 5x3", square, Some(2.0), 5, 3, 0.05, 0.0),
        plan("n^2 5x1", square, Some(2.0), 5, 1, 0.05, 0.0),
        plan("n^2 7x5", square, Some(2.0), 7, 5, 0.05, 0.0),
        plan("n^2 7x5, 5 % shared", square, Some(2.0), 7, 5, 0.05, 0.05),
        plan("n^2 5x5, 1 %, 5 % shared", square, Some(2.0), 5, 5, 0.01, 0.05),
        plan("n 5x5", line, Some(1.0), 5, 5, 0.05, 0.0),
        plan("n log n 5x5", n_log_n, None, 5, 5, 0.05, 0.0),
        plan("n log n 7x5, 2 %", n_log_n, None, 7, 5, 0.02, 0.0),
        plan("constant 5x5", flat, Some(0.0), 5, 5, 0.05, 0.0),
        plan("constant 5x1", flat, Some(0.0), 5, 1, 0.05, 0.0),
        plan("constant 7x3", flat, Some(0.0), 7, 3, 0.05, 0.0),
        plan("constant 5x5, 1 %, 5 % shared", flat, Some(0.0), 5, 5, 0.01, 0.05),
        plan("62.5 + n^2/1000 5x5", late_square, Some(2.0), 5, 5, 0.05, 0.0),
        plan("62.5 + n^2/1000 7x5", late_square, Some(2.0), 7, 5, 0.05, 0.0),
        plan("62.5 + n^2/1000 7x5, 5 % sh.", late_square, Some(2.0), 7, 5, 0.05, 0.05),
        plan("250 + n 5x5", late_line, Some(1.0), 5, 5, 0.05, 0.0),
        plan("5 + 2000/n 7x5", amdahl, Some(-1.0), 7, 5, 0.05, 0.0),
    ]
}

fn comparisons(trials: u64) {
    println!("\ncomparison, true ratio 1.3, 10 % noise: % of intervals that cover it");
    for n in [6, 8, 12, 20, 60] {
        let mut rng = SplitMix64::new(n as u64);
        let (mut paired, mut unpaired) = (0, 0);
        for _ in 0..trials {
            let mut side = |scale: f64| -> Vec<f64> {
                (0..n).map(|_| scale * (0.1 * rng.normal()).exp()).collect()
            };
            let (before, after) = (side(1.0), side(1.3));
            let covers = |compare: fn(&[f64], &[f64], f64, f64) -> _| {
                let got: Result<simprof_stats::Comparison, _> =
                    compare(&before, &after, 0.95, 0.03);
                got.ok().and_then(|got| got.interval).is_some_and(|i| i.contains(1.3))
            };
            paired += usize::from(covers(compare_paired));
            unpaired += usize::from(covers(compare_unpaired));
        }
        let share = |count: usize| 100.0 * count as f64 / trials as f64;
        println!("n = {n:2}: paired {:5.1}, unpaired {:5.1}", share(paired), share(unpaired));
    }
}

fn drifts(trials: u64) {
    println!("\ndrift of 1000 readings about 100, noise 5 with autocorrelation rho: verdicts");
    for (growth, rho) in
        [(0.0, 0.0), (0.0, 0.5), (0.0, 0.9), (0.0, 0.98), (10.0, 0.0), (10.0, 0.5), (10.0, 0.9)]
    {
        let mut verdicts = BTreeMap::<String, usize>::new();
        let mut spent = Duration::ZERO;
        for seed in 0..trials {
            let mut rng = SplitMix64::new(seed);
            let innovation = 5.0 * (1.0f64 - rho * rho).sqrt();
            let mut noise = 5.0 * rng.normal();
            let (times, values): (Vec<f64>, Vec<f64>) = (0..1000)
                .map(|i| {
                    noise = rho * noise + innovation * rng.normal();
                    (f64::from(i), 100.0 + growth * f64::from(i) / 1000.0 + noise)
                })
                .unzip();
            let start = Instant::now();
            let got = assess_drift(&times, &values, DriftRule::cost()).expect("finite readings");
            spent += start.elapsed();
            *verdicts.entry(format!("{:?}", got.verdict)).or_default() += 1;
        }
        let ms = 1e3 * spent.as_secs_f64() / trials as f64;
        println!("growth {growth:4.0}, rho {rho:.2}: {verdicts:?}, {ms:.2} ms each");
    }
}

fn main() {
    let trials = std::env::args().nth(1).and_then(|word| word.parse().ok()).unwrap_or(500);
    scaling(trials);
    comparisons(trials);
    drifts(trials.min(200));
}
