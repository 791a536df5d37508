//! Scaling laws: fitted to the replicates at all sizes of one parameter.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{Measurement, Value};
use simprof_stats::scaling::{self, Adequacy, Point, ScalingFit, Term};

use super::common::Bounds;

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
    /// Exponent of the parameter; `null` if there are too few sizes or their range is too narrow.
    pub exponent: Option<f64>,
    /// 95 % interval of the exponent.
    pub exponent_interval: Option<Bounds>,
    /// Forms that fit the data equally well, the best first: `c + a n log n`.
    pub models: Vec<String>,
    /// The best form with its numbers.
    pub formula: String,
    /// Sizes measured.
    pub sizes: Vec<f64>,
    /// Median of the metric at each size.
    pub medians: Vec<f64>,
    /// Number of processes that it is fitted to.
    pub n: usize,
    /// Why the data do not support a law; `null` if they do.
    pub inadequate: Option<String>,
}

impl Law {
    /// Whether the best form does not grow.
    pub fn is_constant(&self) -> bool {
        self.models.first().is_some_and(|model| model == Term::Constant.name())
    }
}

/// Returns the costs at each size, ascending: the size and one median per process. Sizes without data are omitted.
pub fn sizes(measurements: &[&Measurement], parameter: &str, metric: &str) -> Vec<(f64, Vec<f64>)> {
    let mut points: Vec<(f64, Vec<f64>)> = measurements
        .iter()
        .filter_map(|measurement| {
            let size = measurement.parameters.get(parameter).and_then(Value::as_number)?;
            let costs = measurement.replicate_medians(metric);
            (!costs.is_empty()).then_some((size, costs))
        })
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

/// Returns the law of every metric of `measurements` in `parameter`, with its fit.
///
/// Metrics with values that are not above zero, and metrics with fewer than three sizes, have no law.
pub fn laws(measurements: &[&Measurement], parameter: &str, arm: &str) -> Vec<(Law, ScalingFit)> {
    let mut metrics: Vec<&str> =
        measurements.iter().flat_map(|measurement| measurement.metric_names()).collect();
    metrics.sort_unstable();
    metrics.dedup();
    metrics.into_iter().filter_map(|metric| law(measurements, parameter, metric, arm)).collect()
}

fn law(
    measurements: &[&Measurement],
    parameter: &str,
    metric: &str,
    arm: &str,
) -> Option<(Law, ScalingFit)> {
    let points = sizes(measurements, parameter, metric);
    let fit = scaling::fit(
        &points.iter().map(|(x, y)| Point { x: *x, y: y.clone() }).collect::<Vec<_>>(),
    );
    let fit = fit.ok()?;
    let first = measurements.first()?;
    let adequate = fit.adequacy == Adequacy::Adequate;
    let interval = fit.exponent_interval.map(|interval| [interval.lo, interval.hi]);
    let law = Law {
        component: first.component.clone(),
        operation: first.operation.clone(),
        arm: arm.to_owned(),
        metric: metric.to_owned(),
        parameter: parameter.to_owned(),
        exponent: adequate.then_some(fit.exponent),
        exponent_interval: if adequate { interval } else { None },
        models: models(&fit),
        formula: formula(&fit, parameter),
        sizes: points.iter().map(|point| point.0).collect(),
        medians: points.iter().map(|point| middle(&point.1)).collect(),
        n: fit.n_samples,
        inadequate: (!adequate).then(|| fit.adequacy.to_string()),
    };
    Some((law, fit))
}

fn middle(values: &[f64]) -> f64 {
    simprof_stats::median(values).unwrap_or(f64::NAN)
}

/// Returns the form to report: the chosen one, but not a constant if the slope differs from 0. With few processes, no
/// growing form may fit sufficiently better than a constant.
fn reported(fit: &ScalingFit) -> usize {
    let is_constant = fit.chosen_law().term == Term::Constant;
    let has_slope = fit.slope.interval.is_some_and(|interval| !interval.contains(0.0));
    if is_constant && has_slope { 0 } else { fit.chosen }
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
    use std::collections::BTreeMap;

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
        assert_eq!((law.n, law.inadequate), (20, None));
    }

    #[test]
    fn too_few_sizes_give_no_exponent() {
        let law = fit(&[10, 20, 40], |n| n);
        assert_eq!(law.exponent, None);
        assert!(law.inadequate.expect("a reason").contains("3 sizes"));
    }
}
