//! Scaling laws: fitted to the replicates at all sizes of one parameter.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{Measurement, Notice, NoticeId, Value};
use simprof_stats::scaling::{self, Adequacy, Point, SIZES_NEEDED, ScalingFit, Term};

use super::common::Bounds;

mod sentence;
mod time;

pub use sentence::STEP_CPU;
pub use time::TimeLaws;

/// Unit in which the peak of the resident set grows, bytes. The kernel counts pages of 4 KiB, in batches per core, and
/// allocators request and return memory in units of this size (glibc: `M_TOP_PAD` and `M_TRIM_THRESHOLD`, 128 KiB).
pub const RESIDENT_GRANULE: f64 = 131_072.0;

/// The scaling law of one metric in one parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Law {
    /// Component, for a component benchmark.
    pub component: Option<String>,
    /// Operation of that component.
    pub operation: Option<String>,
    /// Arm that it holds for: `index=kdtree`; empty for the defaults.
    pub arm: String,
    /// Metric that grows; its name ends with its unit.
    pub metric: String,
    /// Parameter that it grows with.
    pub parameter: String,
    /// Exponent of the part that grows with the parameter; `null` if the data do not determine it. `inadequate` is the reason.
    pub exponent: Option<f64>,
    /// 95 % interval of the exponent.
    pub exponent_interval: Option<Bounds>,
    /// Forms that fit the data equally well, the best first: `c + a n log n`. Empty if none fits.
    pub models: Vec<String>,
    /// The best form with its numbers.
    pub formula: String,
    /// Sizes that the law is fitted to.
    pub sizes: Vec<f64>,
    /// Median of the metric at each size.
    pub medians: Vec<f64>,
    /// Number of processes that it is fitted to.
    pub n: usize,
    /// Why the data do not support a law or its exponent; `null` if they do.
    pub inadequate: Option<String>,
    /// Sizes that were measured, but are not part of the law: those that are not above zero, and those with costs that are not.
    #[serde(default)]
    pub skipped_sizes: Vec<f64>,
    /// Sizes at which less than half of the runs that succeeded have a value of the metric. CPU time of a step has none if it may be off by more than 10 %, mostly because the steps take too little time.
    #[serde(default)]
    pub missing_sizes: Vec<f64>,
}

/// A law with the fit that it reports. `None` if there are too few sizes for a fit, or if the cost is always zero.
pub type FittedLaw = (Law, Option<ScalingFit>);

impl Law {
    /// Whether the best form does not grow.
    pub fn is_constant(&self) -> bool {
        self.models.first().is_some_and(|model| model == Term::Constant.name())
    }

    /// Returns `component/operation`, or `the run` for a law of the whole target.
    fn operation_name(&self) -> String {
        match (&self.component, &self.operation) {
            (Some(component), Some(operation)) => format!("{component}/{operation}"),
            _ => "the run".to_owned(),
        }
    }
}

/// Returns the costs at each size, ascending: the size and one median per process. Sizes are omitted if less than half of the
/// processes that succeeded have a value: the others do not represent them.
pub fn sizes(measurements: &[&Measurement], parameter: &str, metric: &str) -> Vec<(f64, Vec<f64>)> {
    let mut points: Vec<(f64, Vec<f64>)> = measurements
        .iter()
        .filter_map(|measurement| {
            let size = measurement.parameters.get(parameter).and_then(Value::as_number)?;
            Some((size, costs(measurement, metric)?))
        })
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

/// Returns the law of every metric of `measurements` in `parameter`, with its fit. Metrics that were measured at fewer
/// than two sizes have no law.
pub fn laws(measurements: &[&Measurement], parameter: &str, arm: &str) -> Vec<FittedLaw> {
    let mut metrics: Vec<&str> =
        measurements.iter().flat_map(|measurement| measurement.metric_names()).collect();
    metrics.sort_unstable();
    metrics.dedup();
    metrics.into_iter().filter_map(|metric| law(measurements, parameter, metric, arm)).collect()
}

/// Returns notices on the laws that do not use all sizes: one for each operation, list of sizes and reason.
pub fn skipped_sizes<'a>(laws: impl IntoIterator<Item = &'a Law>) -> Vec<Notice> {
    type Group<'a> = (String, &'a str, String, &'static str);
    let mut groups: BTreeMap<Group<'_>, BTreeSet<&str>> = BTreeMap::new();
    for law in laws {
        // The reason of a law that is unknown names the sizes that are missing.
        let missing = if law.inadequate.is_none() { law.missing_sizes.as_slice() } else { &[] };
        for (sizes, why) in [
            (law.skipped_sizes.as_slice(), "a law needs sizes and costs above zero"),
            (missing, "less than half of the processes have a value there"),
        ] {
            if !sizes.is_empty() {
                let group = (law.operation_name(), law.parameter.as_str(), listed(sizes), why);
                groups.entry(group).or_default().insert(&law.metric);
            }
        }
    }
    let text = |((operation, parameter, sizes, why), metrics): (Group<'_>, BTreeSet<&str>)| {
        let metrics: Vec<&str> = metrics.into_iter().collect();
        format!(
            "The laws of {operation} in {parameter} are fitted without {parameter} = {sizes} ({}): {why}.",
            metrics.join(", ")
        )
    };
    groups.into_iter().map(|group| Notice::new(NoticeId::SizesSkipped, text(group))).collect()
}

fn listed(sizes: &[f64]) -> String {
    sizes.iter().map(f64::to_string).collect::<Vec<_>>().join(", ")
}

fn law(
    measurements: &[&Measurement],
    parameter: &str,
    metric: &str,
    arm: &str,
) -> Option<FittedLaw> {
    let points = sizes(measurements, parameter, metric);
    let first = measurements.first()?;
    let missing_sizes = missing_sizes(measurements, parameter, metric);
    if points.len() + missing_sizes.len() < 2 {
        return None;
    }
    let idle = missing_sizes.is_empty()
        && points.iter().all(|(_, costs)| costs.iter().all(|&cost| cost == 0.0));
    let is_usable =
        |(size, costs): &(f64, Vec<f64>)| *size > 0.0 && costs.iter().all(|&cost| cost > 0.0);
    let (used, skipped): (Vec<_>, Vec<_>) =
        points.into_iter().partition(|point| idle || is_usable(point));
    let law = Law {
        component: first.component.clone(),
        operation: first.operation.clone(),
        arm: arm.to_owned(),
        metric: metric.to_owned(),
        parameter: parameter.to_owned(),
        exponent: None,
        exponent_interval: None,
        models: Vec::new(),
        formula: String::new(),
        sizes: used.iter().map(|point| point.0).collect(),
        medians: used.iter().map(|point| middle(&point.1)).collect(),
        n: used.iter().map(|point| point.1.len()).sum(),
        inadequate: None,
        skipped_sizes: skipped.iter().map(|point| point.0).collect(),
        missing_sizes,
    };
    if idle {
        return Some((without_work(law), None));
    }
    let points: Vec<Point> = used.into_iter().map(|(x, y)| Point { x, y }).collect();
    match scaling::fit_rounded(&points, granule(metric)) {
        Ok(fit) => Some((fitted(law, &fit), Some(fit))),
        Err(_) => Some((without_fit(law), None)),
    }
}

/// Returns one median per process that has a value of `metric`. `None` if less than half of those that succeeded have one.
fn costs(measurement: &Measurement, metric: &str) -> Option<Vec<f64>> {
    let costs = measurement.replicate_medians(metric);
    let are_most = 2 * costs.len() >= measurement.ok_replicates().count();
    (!costs.is_empty() && are_most).then_some(costs)
}

/// Returns the sizes, ascending, at which a process succeeded, but less than half of them have a value of `metric`.
fn missing_sizes(measurements: &[&Measurement], parameter: &str, metric: &str) -> Vec<f64> {
    let mut missing: Vec<f64> = measurements
        .iter()
        .filter(|measurement| measurement.ok_replicates().next().is_some())
        .filter(|measurement| costs(measurement, metric).is_none())
        .filter_map(|measurement| measurement.parameters.get(parameter).and_then(Value::as_number))
        .collect();
    missing.sort_by(f64::total_cmp);
    missing
}

/// Returns the unit that the values of a metric are multiples of; 0 if they are not.
fn granule(metric: &str) -> f64 {
    if metric.ends_with("rss_bytes") { RESIDENT_GRANULE } else { 0.0 }
}

/// Returns the law of a cost that is 0 at every size.
fn without_work(law: Law) -> Law {
    Law {
        exponent: Some(0.0),
        exponent_interval: Some([0.0, 0.0]),
        models: vec![Term::Constant.name().to_owned()],
        formula: "0 at every size".to_owned(),
        ..law
    }
}

/// Returns the law of a cost with too few sizes for any fit.
fn without_fit(law: Law) -> Law {
    let have = law.sizes.len();
    let above = if law.skipped_sizes.is_empty() { "" } else { " with costs above zero" };
    let why = match have {
        0 if !law.missing_sizes.is_empty() => "most processes have no value".to_owned(),
        0 => format!("no size was measured{above}"),
        1 => format!("1 size was measured{above}; a law needs {SIZES_NEEDED}"),
        _ => format!("{have} sizes were measured{above}; a law needs {SIZES_NEEDED}"),
    };
    Law { inadequate: Some(why + &missing_note(&law)), ..law }
}

/// Returns which sizes have no value, and why, as the end of a sentence; empty if all have one.
fn missing_note(law: &Law) -> String {
    if law.missing_sizes.is_empty() {
        return String::new();
    }
    let why = if law.metric == STEP_CPU {
        "CPU time of a step may be off by more than 10 %"
    } else {
        "most processes have no value"
    };
    format!("; at {} = {}, {why}", law.parameter, listed(&law.missing_sizes))
}

fn fitted(law: Law, fit: &ScalingFit) -> Law {
    let interval = fit.exponent_interval.map(|interval| [interval.lo, interval.hi]);
    let inadequate = match (fit.adequacy, interval) {
        (Adequacy::Adequate, Some(_)) => None,
        (Adequacy::Adequate, None) => Some(
            "the growth is too small beside the noise and the constant part to bound its exponent"
                .to_owned(),
        ),
        (inadequacy, _) => Some(inadequacy.to_string()),
    };
    let inadequate = inadequate.map(|why| why + &missing_note(&law));
    let is_known = inadequate.is_none();
    let has_form = !matches!(fit.adequacy, Adequacy::NoForm { .. });
    Law {
        exponent: is_known.then_some(fit.exponent),
        exponent_interval: interval.filter(|_| is_known),
        models: if has_form { models(fit) } else { Vec::new() },
        formula: if has_form { formula(fit, &law.parameter) } else { String::new() },
        inadequate,
        ..law
    }
}

fn middle(values: &[f64]) -> f64 {
    simprof_stats::median(values).unwrap_or(f64::NAN)
}

/// Returns the form to report: the chosen one, but not a constant if the exponent is not known to be 0. With few processes,
/// no growing form may fit sufficiently better than a constant.
fn reported(fit: &ScalingFit) -> usize {
    let is_constant = fit.chosen_law().term == Term::Constant;
    let is_flat = fit.exponent_interval.is_some_and(|interval| interval.contains(0.0));
    if is_constant && !is_flat { 0 } else { fit.chosen }
}

/// Returns the names of the forms that fit equally well, the reported one first.
fn models(fit: &ScalingFit) -> Vec<String> {
    let first = reported(fit);
    let others = fit.indistinguishable.iter().copied().filter(|&index| index != first);
    std::iter::once(first)
        .chain(others)
        .map(|index| fit.models[index].law.term.name().to_owned())
        .collect()
}

/// Returns the reported form with its numbers: `a n^b (n = agents, a = 3.100, b = 1.92)`.
fn formula(fit: &ScalingFit, parameter: &str) -> String {
    let law = &fit.models[reported(fit)].law;
    let term = law.term.name().to_owned();
    let mut numbers = vec![format!("a = {:.4}", Short(law.a))];
    if let Some(b) = law.b {
        numbers.push(format!("b = {b:.2}"));
    }
    if law.term.has_offset() {
        numbers.push(format!("c = {:.4}", Short(law.c)));
    }
    format!("{term} (n = {parameter}, {})", numbers.join(", "))
}

/// A number with four significant digits.
struct Short(f64);

impl std::fmt::Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let magnitude = self.0.abs();
        if magnitude != 0.0 && !(1e-3..1e6).contains(&magnitude) {
            write!(f, "{:.3e}", self.0)
        } else {
            let decimals = 3 - (magnitude.max(1e-3).log10().floor() as i32).min(3);
            write!(f, "{:.*}", usize::try_from(decimals).unwrap_or(0), self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use simprof_model::{Metric, Replicate, Status};

    fn measurement(n: i64, cost: impl Fn(f64) -> f64) -> Measurement {
        let replicate = |order: usize| Replicate {
            seed: order as u64,
            order,
            status: Status::Ok,
            reason: None,
            metrics: [(
                "t_ns".to_owned(),
                Metric::single(cost(n as f64) * (1.0 + 0.004 * order as f64)),
            )]
            .into(),
            counters: BTreeMap::new(),
            digest: None,
            load: None,
        };
        Measurement {
            name: format!("n={n}"),
            component: None,
            operation: None,
            parameters: [("n".to_owned(), Value::Integer(n))].into(),
            status: Status::Ok,
            reason: None,
            replicates: (0..4).map(replicate).collect(),
        }
    }

    fn fit(sizes: &[i64], cost: impl Fn(f64) -> f64 + Copy) -> Law {
        let measurements: Vec<Measurement> = sizes.iter().map(|&n| measurement(n, cost)).collect();
        let measurements: Vec<&Measurement> = measurements.iter().collect();
        laws(&measurements, "n", "").remove(0).0
    }

    #[test]
    fn a_quadratic_cost_has_exponent_2() {
        let law = fit(&[10, 20, 40, 80, 160], |n| 3.0 * n * n);
        let [low, high] = law.exponent_interval.expect("enough sizes");
        assert!(low <= 2.0 && 2.0 <= high, "{law:?}");
        assert_eq!((law.n, law.inadequate, law.skipped_sizes), (20, None, vec![]));
    }

    #[test]
    fn sizes_without_a_value_are_listed() {
        let mut measurements: Vec<Measurement> =
            [10, 20, 40, 80, 160].map(|n| measurement(n, |n| n)).into();
        for replicate in &mut measurements[0].replicates {
            replicate.metrics = [("other_ns".to_owned(), Metric::single(1.0))].into();
        }
        let measurements: Vec<&Measurement> = measurements.iter().collect();
        let laws = laws(&measurements, "n", "");
        let law = &laws.iter().find(|(law, _)| law.metric == "t_ns").expect("measured").0;
        assert_eq!((law.missing_sizes.as_slice(), law.exponent), ([10.0].as_slice(), None));
        let reason = law.inadequate.as_deref().expect("4 sizes are too few");
        assert!(reason.contains("n = 10"), "{reason}");
    }

    #[test]
    fn sizes_with_a_value_in_few_processes_are_missing() {
        let law = |with_value: usize| {
            let mut measurements: Vec<Measurement> =
                [10, 20, 40, 80, 160].map(|n| measurement(n, |n| n)).into();
            for replicate in
                measurements.iter_mut().flat_map(|it| it.replicates.iter_mut().skip(with_value))
            {
                replicate.metrics.clear();
            }
            laws(&measurements.iter().collect::<Vec<_>>(), "n", "").remove(0).0
        };
        let (one, half) = (law(1), law(2));
        assert_eq!((one.exponent, one.n, one.missing_sizes.len()), (None, 0, 5));
        assert!(one.inadequate.is_some());
        assert_eq!((half.n, half.missing_sizes), (10, vec![]));
        assert!(half.exponent.is_some());
    }

    #[test]
    fn an_unknown_law_has_no_form() {
        let law = fit(&[10, 20, 40], |n| n);
        assert_eq!((law.exponent, law.forms()), (None, String::new()));
    }

    #[test]
    fn a_law_names_one_exponent() {
        let law = fit(&[10, 20, 40, 80, 160], |n| 3.0 * n * n + 200.0);
        assert_eq!(law.models[0], "c + a n^2");
        let growth = law.growth().expect("known");
        assert!(growth.contains("n^2 (exponent "), "{growth}");
        let outside = Law { exponent: Some(1.5), exponent_interval: Some([1.4, 1.6]), ..law };
        assert!(outside.growth().expect("known").contains("n^1.50 (95 %"), "{outside:?}");
        let falling =
            Law { exponent: Some(-0.79), exponent_interval: Some([-0.8, -0.7]), ..outside };
        assert!(falling.growth().expect("known").starts_with("falls as n^-0.79"));
    }

    #[test]
    fn too_few_sizes_give_no_exponent() {
        for sizes in [vec![10, 20, 40], vec![10, 160]] {
            let law = fit(&sizes, |n| n);
            assert_eq!(law.exponent, None);
            let reason = law.inadequate.expect("a reason");
            assert!(reason.contains(&format!("{} sizes", sizes.len())), "{reason}");
        }
    }

    #[test]
    fn sizes_and_costs_not_above_zero_are_skipped_with_a_notice() {
        let cases: [(&[i64], fn(f64) -> f64, &[f64]); 3] = [
            (&[0, 1, 2, 4, 8, 16, 32], |n| 29.0 * n + 7.0, &[0.0]),
            (&[1, 2, 4, 8, 16, 32, 64], |n| if n > 1.0 { 3.0 * n * n } else { 0.0 }, &[1.0]),
            (&[-4, 0, 1, 2, 4, 8, 16, 32], |n| n + 10.0, &[-4.0, 0.0]),
        ];
        for (sizes, cost, skipped) in cases {
            let law = fit(sizes, cost);
            assert_eq!(law.skipped_sizes, skipped);
            assert!(law.exponent_interval.is_some(), "{law:?}");
            let notices = skipped_sizes([&law]);
            assert_eq!(notices[0].id, NoticeId::SizesSkipped);
        }
        let negative = fit(&[1, 2, 4, 8, 16], |n| -n);
        assert_eq!((negative.exponent, negative.sizes.len()), (None, 0));
        assert!(negative.inadequate.is_some());
    }

    #[test]
    fn a_cost_that_is_always_zero_is_constant() {
        let law = fit(&[0, 1, 2, 4, 8], |_| 0.0);
        assert!(law.is_constant());
        assert_eq!((law.exponent_interval, law.inadequate), (Some([0.0, 0.0]), None));
    }

    #[test]
    fn memory_near_the_granule_has_no_tight_exponent() {
        let law = |metric: &str, each: f64| {
            let mut measurements: Vec<Measurement> =
                [1, 2, 4, 8, 16].map(|n| measurement(n, |n| (10_240.0 + each * n) * 1024.0)).into();
            for replicate in measurements.iter_mut().flat_map(|it| &mut it.replicates) {
                let exact = replicate.metrics.remove("t_ns").expect("measured");
                let value = exact.samples[0] / (1.0 + 0.004 * replicate.order as f64);
                replicate.metrics.insert(metric.to_owned(), Metric::single(value));
            }
            laws(&measurements.iter().collect::<Vec<_>>(), "n", "").remove(0).0
        };
        let width = |law: &Law| law.exponent_interval.map(|[low, high]| high - low);
        let (exact, resident) = (law("index_bytes", 60.0), law("peak_rss_bytes", 60.0));
        assert!(width(&exact).is_some_and(|width| width < 0.8), "{exact:?}");
        assert!(width(&resident).is_none_or(|width| width > 1.0), "{resident:?}");
        // 1 MiB each is far above the granule.
        assert!(width(&law("peak_rss_bytes", 10_240.0)).is_some_and(|width| width < 0.2));
    }
}
