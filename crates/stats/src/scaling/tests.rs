//! Tests with simulated data: planted laws are recovered, and intervals cover the planted values as
//! often as they claim.

use proptest::prelude::*;

use super::*;
use crate::error::StatsError;
use crate::rng::SplitMix64;

/// `sizes` sizes that start at 50 and double, each measured `repeats` times with relative noise.
fn measure(law: Law, sizes: i32, repeats: usize, noise: f64, rng: &mut SplitMix64) -> Vec<Point> {
    let point = |i: i32| {
        let x = 50.0 * 2f64.powi(i);
        Point { x, y: (0..repeats).map(|_| law.at(x) * (noise * rng.normal()).exp()).collect() }
    };
    (0..sizes).map(point).collect()
}

fn law(term: Term, a: f64, b: f64, c: f64) -> Law {
    Law { term, a, b: Some(b), c }
}

/// Returns how many of 300 seeded trials satisfy `holds`.
fn trials(
    law: Law,
    sizes: i32,
    repeats: usize,
    mut holds: impl FnMut(&ScalingFit) -> bool,
) -> usize {
    (0..300u64)
        .filter(|&seed| {
            let mut rng = SplitMix64::new(seed * 104_729 + 17);
            holds(&fit(&measure(law, sizes, repeats, 0.05, &mut rng)).unwrap())
        })
        .count()
}

fn covers(fit: &ScalingFit, exponent: f64) -> bool {
    fit.exponent_interval.is_some_and(|interval| interval.contains(exponent))
}

#[test]
fn quadratic_growth_is_recovered_from_five_sizes() {
    for repeats in [3, 5] {
        let square = law(Term::Power, 1e-3, 2.0, 0.0);
        let held = trials(square, 5, repeats, |fit| covers(fit, 2.0));
        assert!(held >= 270, "{repeats} repeats: {held} of 300");
        let near = trials(square, 5, repeats, |fit| (fit.exponent - 2.0).abs() < 0.1);
        assert_eq!(near, 300);
    }
}

#[test]
fn linear_growth_is_recovered_and_never_called_quadratic() {
    let line = law(Term::Linear, 0.2, 1.0, 0.0);
    assert!(trials(line, 5, 3, |fit| covers(fit, 1.0)) >= 270);
    let squares = trials(line, 5, 3, |fit| fit.chosen_law().term == Term::Quadratic);
    assert_eq!(squares, 0);
}

#[test]
fn a_constant_is_not_reported_as_growth() {
    let constant = law(Term::Constant, 40.0, 0.0, 0.0);
    for (sizes, repeats) in [(5, 3), (5, 5), (7, 5), (5, 1)] {
        let kept = trials(constant, sizes, repeats, |fit| fit.chosen_law().term == Term::Constant);
        assert!(kept >= 297, "{sizes} x {repeats}: {kept} of 300");
        let squares = trials(constant, sizes, repeats, |fit| {
            fit.chosen_law().local_exponent(800.0) > 1.5 || fit.exponent > 0.5
        });
        assert_eq!(squares, 0, "{sizes} x {repeats}");
        let held = trials(constant, sizes, repeats, |fit| covers(fit, 0.0));
        assert!(held >= 270, "{sizes} x {repeats}: {held} of 300");
    }
}

#[test]
fn n_log_n_stays_among_the_indistinguishable_laws() {
    let planted = law(Term::Linearithmic, 0.01, 1.0, 0.0);
    let kept = trials(planted, 7, 5, |fit| {
        fit.indistinguishable.iter().any(|&i| fit.models[i].law.term == Term::Linearithmic)
    });
    assert!(kept >= 270, "{kept} of 300");
    // The slope lies between the smallest and largest local exponent, 1 + 1 / ln n.
    let between = trials(planted, 7, 5, |fit| fit.exponent > 1.08 && fit.exponent < 1.3);
    assert_eq!(between, 300);
}

#[test]
fn the_net_exponent_excludes_a_constant_overhead() {
    let planted = law(Term::Quadratic, 1e-3, 2.0, 62.5);
    let mut misleading_slopes = 0;
    let held = trials(planted, 5, 5, |fit| {
        misleading_slopes += usize::from(fit.slope.value < 1.6);
        fit.exponent_kind == ExponentKind::NetOfConstant && covers(fit, 2.0)
    });
    assert!(held >= 270, "{held} of 300");
    assert_eq!(misleading_slopes, 300);
}

/// Measures a cost at sizes that start at 1 and double, `repeats` times with relative noise.
fn measure_cost(cost: impl Fn(f64) -> f64, repeats: usize, noise: f64, seed: u64) -> ScalingFit {
    let mut rng = SplitMix64::new(seed);
    let mut point = |i: i32| {
        let x = 2f64.powi(i);
        Point { x, y: (0..repeats).map(|_| cost(x) * (noise * rng.normal()).exp()).collect() }
    };
    fit(&(0..7).map(&mut point).collect::<Vec<_>>()).unwrap()
}

/// `examples/exponents.rs` measures the same with more laws and designs.
#[test]
fn the_exponent_of_the_growing_part_is_covered_with_and_without_noise() {
    let laws: [(f64, fn(f64) -> f64); 9] = [
        (2.0, |n| 3.0 * n * n + 1000.0),
        (1.0, |n| 29.0 * n + 7.0),
        (1.0, |n| n + 1.0),
        (1.0, |n| 1e290 * (n + 1.0)),
        (1.0, |n| 1e-9 * (n + 1.0)),
        (1.5, |n| 100.0 * n.powf(1.5) + 1.0),
        (3.0, |n| n.powi(3) + 10.0 * n),
        (-1.0, |n| 1e6 / n + 1e4),
        (0.0, |_| 5000.0),
    ];
    for (law, (exponent, cost)) in laws.into_iter().enumerate() {
        for (repeats, noise, trials) in [(3, 0.0, 1), (1, 0.0, 1), (3, 0.01, 40), (6, 0.01, 40)] {
            let held = (0..trials).filter(|&seed| {
                let fit = measure_cost(cost, repeats, noise, seed * 7919 + law as u64);
                let interval = fit.exponent_interval.filter(|i| i.hi - i.lo < 0.3);
                interval.is_some_and(|interval| interval.contains(exponent))
            });
            let held = held.count() as f64;
            assert!(held >= 0.9 * trials as f64, "law {law}, {repeats} x {noise}: {held}");
        }
    }
}

#[test]
fn costs_that_no_form_describes_are_inadequate() {
    let laws: [fn(f64) -> f64; 3] = [
        |n| (29.0 * n - 88.0).max(0.5),
        |n| if n < 8.0 { 10.0 } else { 1000.0 },
        |n| n.powi(3) + 300.0 * n,
    ];
    for cost in laws {
        for (repeats, noise) in [(1, 0.0), (3, 0.0), (3, 0.01), (6, 0.05)] {
            let fit = measure_cost(cost, repeats, noise, 3);
            let inadequate = matches!(fit.adequacy, Adequacy::NoForm { .. });
            // Without repeats, noise and deviation are indistinguishable, so the limit is higher.
            assert!(inadequate || repeats == 1 && fit.noise < 0.3, "{:?}", fit.adequacy);
            assert!(!inadequate || fit.predict(128.0, 1, 0).is_err());
        }
    }
}

#[test]
fn noise_alone_is_not_a_deviation() {
    for noise in [0.05, 0.2, 0.5] {
        let adequate = (0..200).filter(|&seed| {
            measure_cost(|n| 3.0 * n * n, 6, noise, seed).adequacy == Adequacy::Adequate
        });
        let adequate = adequate.count();
        assert!(adequate >= 196, "{noise}: {adequate} of 200");
    }
}

#[test]
fn rounded_costs_have_wider_intervals() {
    // Beside 10 MiB, in pages: 64 KiB or 1 KiB for each of n individuals.
    let measured = |each: f64| -> Vec<Point> {
        let pages = |n: f64| (10_240.0 + each * n).div_euclid(4.0) * 4096.0;
        (0..7).map(|i| 2f64.powi(i)).map(|x| Point { x, y: vec![pages(x); 3] }).collect()
    };
    let width = |fit: ScalingFit| fit.exponent_interval.map(|i| i.hi - i.lo).unwrap();
    let (exact, rounded) = (fit(&measured(64.0)), fit_rounded(&measured(64.0), 131_072.0));
    assert!(width(rounded.unwrap()) > 2.0 * width(exact.unwrap()));
    let small = fit_rounded(&measured(1.0), 131_072.0).unwrap();
    assert_eq!(small.chosen_law().term, Term::Constant);
}

#[test]
fn noise_shared_by_repeats_widens_the_interval() {
    let square = law(Term::Power, 1e-3, 2.0, 0.0);
    let held = (0..300u64).filter(|&seed| {
        let mut rng = SplitMix64::new(seed + 9000);
        let mut points = measure(square, 5, 5, 0.01, &mut rng);
        for point in &mut points {
            let shared = (0.05 * rng.normal()).exp();
            point.y.iter_mut().for_each(|y| *y *= shared);
        }
        covers(&fit(&points).unwrap(), 2.0)
    });
    let held = held.count();
    assert!(held >= 270, "{held} of 300");
}

#[test]
fn prediction_intervals_cover_runs_at_four_times_the_largest_size() {
    for planted in [law(Term::Power, 1e-3, 2.0, 0.0), law(Term::Linear, 1.0, 1.0, 250.0)] {
        let (mut made, mut held) = (0, 0);
        for seed in 0..200u64 {
            let mut rng = SplitMix64::new(seed * 31 + 5);
            let fit = fit(&measure(planted, 5, 3, 0.05, &mut rng)).unwrap();
            if let Ok(prediction) = fit.predict(3200.0, 1, seed) {
                made += 1;
                let run = planted.at(3200.0) * (0.05 * rng.normal()).exp();
                held += usize::from(prediction.interval.contains(run));
            }
        }
        assert!(made > 150, "{made} predictions");
        assert!(held as f64 >= 0.9 * f64::from(made), "{held} of {made}");
    }
}

#[test]
fn refusals_name_the_reason() {
    let mut rng = SplitMix64::new(8);
    let square = law(Term::Power, 1e-3, 2.0, 0.0);
    let good = fit(&measure(square, 5, 3, 0.05, &mut rng)).unwrap();
    assert_eq!(good.adequacy, Adequacy::Adequate);
    assert!(matches!(good.predict(3201.0, 1, 0), Err(Refusal::TooFar { .. })));
    assert!(good.predict(3200.0, 1, 0).is_ok());
    let few = fit(&measure(square, 4, 3, 0.05, &mut rng)).unwrap();
    assert!(matches!(few.adequacy, Adequacy::TooFewSizes { have: 4, need: 5 }));
    let refusal = few.predict(800.0, 1, 0).unwrap_err();
    assert!(matches!(refusal, Refusal::Inadequate { .. }));
    assert_eq!(refusal.to_string(), "4 sizes were measured; a law needs 5");
    let narrow: Vec<Point> =
        (10..16).map(|x| Point { x: f64::from(x), y: vec![1.0, 1.1] }).collect();
    assert!(matches!(fit(&narrow).unwrap().adequacy, Adequacy::TooNarrow { .. }));
    // Growth so weak that every exponent fits it.
    let faint: Vec<Point> = [50.0, 100.0, 200.0, 400.0, 800.0]
        .iter()
        .zip([1.00, 1.01, 1.0, 1.02, 1.12])
        .map(|(&x, y)| Point { x, y: vec![y * 0.97, y, y * 1.03] })
        .collect();
    assert!(matches!(
        fit(&faint).unwrap().predict(3200.0, 1, 0),
        Err(Refusal::LawsDisagree { .. })
    ));
}

#[test]
fn capacity_is_the_size_at_which_the_cost_reaches_the_limit() {
    let mut rng = SplitMix64::new(21);
    let square = law(Term::Power, 1e-3, 2.0, 0.0);
    let fit = fit(&measure(square, 5, 5, 0.02, &mut rng)).unwrap();
    let capacity = fit.capacity(4000.0, 1).unwrap();
    assert!(capacity.interval.contains(2000.0) && (capacity.x / 2000.0 - 1.0).abs() < 0.05);
    assert!(!capacity.open_above);
    assert!(matches!(fit.capacity(1e9, 1), Err(Refusal::LimitNotReached { .. })));
    assert!(matches!(fit.capacity(1e-9, 1), Err(Refusal::LimitAlreadyExceeded { .. })));
}

#[test]
fn exact_counts_are_fitted_exactly() {
    let square = law(Term::Power, 3.0, 2.0, 0.0);
    let fit = fit(&measure(square, 5, 3, 0.0, &mut SplitMix64::new(0))).unwrap();
    assert!(
        (fit.exponent - 2.0).abs() < 1e-9
            && (fit.chosen_law().local_exponent(1e6) - 2.0).abs() < 1e-3
    );
    assert_eq!((fit.n_points, fit.n_samples, fit.n_effective), (5, 15, 5.0));
}

#[test]
fn rejects_points_that_cannot_be_fitted() {
    let point = |x: f64, y: &[f64]| Point { x, y: y.to_vec() };
    assert!(matches!(fit(&[]), Err(StatsError::Empty)));
    let two = [point(1.0, &[1.0]), point(2.0, &[2.0]), point(2.0, &[2.1])];
    assert!(matches!(fit(&two), Err(StatsError::TooFew { have: 2, need: 3, .. })));
    assert!(fit(&[point(0.0, &[1.0]), point(1.0, &[1.0]), point(2.0, &[1.0])]).is_err());
    assert!(fit(&[point(1.0, &[]), point(2.0, &[1.0]), point(3.0, &[1.0])]).is_err());
    assert!(fit(&[point(1.0, &[-1.0]), point(2.0, &[1.0]), point(3.0, &[1.0])]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_unit_of_cost_changes_only_the_factor(
        seed in any::<u64>(), unit in 1e-9f64..1e9, b in 0.0f64..3.0,
    ) {
        let planted = law(Term::Power, 1.0, b, 0.0);
        let points = measure(planted, 6, 3, 0.1, &mut SplitMix64::new(seed));
        let scaled: Vec<Point> = points
            .iter()
            .map(|p| Point { x: p.x, y: p.y.iter().map(|y| y * unit).collect() })
            .collect();
        let (one, other) = (fit(&points).unwrap(), fit(&scaled).unwrap());
        prop_assert!((one.slope.value - other.slope.value).abs() < 1e-6);
        prop_assert_eq!(one.chosen_law().term, other.chosen_law().term);
        let ratio = other.chosen_law().at(300.0) / one.chosen_law().at(300.0) / unit;
        prop_assert!((ratio - 1.0).abs() < 1e-4);
    }

    #[test]
    fn any_positive_costs_give_a_valid_fit(
        raw in prop::collection::vec((1e-3f64..1e6, prop::collection::vec(1e-9f64..1e9, 1..4)), 3..9),
    ) {
        let points: Vec<Point> = raw.into_iter().map(|(x, y)| Point { x, y }).collect();
        if let Ok(fit) = fit(&points) {
            prop_assert!((fit.models.iter().map(|m| m.weight).sum::<f64>() - 1.0).abs() < 1e-9);
            prop_assert!(fit.exponent.is_finite());
            prop_assert!(fit.n_effective >= fit.n_points as f64 - 1e-9);
            prop_assert!(fit.n_effective <= fit.n_samples as f64 + 1e-9);
            prop_assert!(fit.indistinguishable.contains(&fit.chosen));
        }
    }
}

#[test]
fn a_refusal_has_numbers_with_three_digits() {
    let text = Refusal::LawsDisagree { x: 694.118_222_171_948_4, ratio: 1.5123 }.to_string();
    assert!(text.ends_with("1.51 at 694"), "{text}");
    let text = Refusal::LimitNotReached { highest: 12_345.678 }.to_string();
    assert!(text.ends_with("12346"), "{text}");
    assert!(Refusal::LimitAlreadyExceeded { lowest: 2.0 }.to_string().contains(" 2 on"));
}
