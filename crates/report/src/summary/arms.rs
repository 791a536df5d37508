//! Compares arms with the baseline at every size.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{Measurement, Replicate, Value};
use simprof_stats::{Comparison, Verdict, compare_paired};

use super::common::Bounds;

/// Confidence of every interval.
pub(super) const CONFIDENCE: f64 = 0.95;

/// Two costs are the same only if the whole interval of their ratio is within this of 1, even if the margin is wider. The
/// wide margin of a noisy machine hides differences; that does not show that there are none.
const SAME_MAX: f64 = 0.1;

/// The result of comparing an arm with the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ArmVerdict {
    /// The arm costs less.
    Faster,
    /// The arm costs more.
    Slower,
    /// Any difference is too small to matter.
    Same,
    /// The data do not decide.
    Inconclusive,
}

impl ArmVerdict {
    /// Returns the verdict in a word.
    pub fn name(self) -> &'static str {
        match self {
            ArmVerdict::Faster => "faster",
            ArmVerdict::Slower => "slower",
            ArmVerdict::Same => "same",
            ArmVerdict::Inconclusive => "inconclusive",
        }
    }
}

impl From<Verdict> for ArmVerdict {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Faster => ArmVerdict::Faster,
            Verdict::Slower => ArmVerdict::Slower,
            Verdict::Same => ArmVerdict::Same,
            Verdict::Inconclusive => ArmVerdict::Inconclusive,
        }
    }
}

/// One arm compared with the baseline at one point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Arm {
    /// Component.
    pub component: String,
    /// Operation.
    pub operation: String,
    /// Metric that is compared; its name ends with its unit.
    pub metric: String,
    /// Parameter that distinguishes the arms.
    pub parameter: String,
    /// Its value in the baseline.
    pub baseline: String,
    /// Its value in this arm.
    pub arm: String,
    /// Values of the swept parameters: `entities=1000`.
    pub at: String,
    /// Cost of this arm divided by the cost of the baseline; below 1 it is faster.
    pub ratio: Option<f64>,
    /// 95 % interval of the ratio.
    pub interval: Option<Bounds>,
    /// Result of the comparison.
    pub verdict: ArmVerdict,
    /// Pairs of processes.
    pub n: usize,
    /// Relative margin of the verdict.
    pub margin: f64,
    /// Smallest relative change that could have been detected.
    pub smallest_visible: Option<f64>,
    /// Whether the arm is inert: neither its cost nor its work differs from the baseline's at any point.
    pub inert: bool,
    /// Whether both computed the same answer; `null` if they report no digest.
    pub same_answer: Option<bool>,
}

/// The measurements of an arm and of its baseline at one point.
#[derive(Debug, Clone)]
pub(super) struct ArmPoint<'a> {
    /// The baseline's measurement.
    pub baseline: &'a Measurement,
    /// The arm's measurement.
    pub arm: &'a Measurement,
    /// Values of the swept parameters.
    pub at: String,
    /// Name and value of the first swept parameter, if one is swept.
    pub size: Option<(String, f64)>,
}

/// Compares every point's arm with its baseline.
///
/// An arm is inert only if it is at every point: a configuration that is as fast at one size may differ at another.
pub(super) fn arms(
    points: &[ArmPoint<'_>],
    parameter: &str,
    metric: &str,
    margin: f64,
) -> Vec<Arm> {
    let mut arms: Vec<Arm> =
        points.iter().map(|point| arm(point, parameter, metric, margin)).collect();
    let not_inert: Vec<String> =
        arms.iter().filter(|arm| !arm.inert).map(|arm| arm.arm.clone()).collect();
    arms.iter_mut().for_each(|arm| arm.inert &= !not_inert.contains(&arm.arm));
    arms
}

fn arm(point: &ArmPoint<'_>, parameter: &str, metric: &str, margin: f64) -> Arm {
    let comparison = compare_measurements(point.baseline, point.arm, metric, margin);
    let value = |measurement: &Measurement| {
        measurement.parameters.get(parameter).map_or_else(String::new, Value::to_string)
    };
    let verdict = comparison.as_ref().map_or(ArmVerdict::Inconclusive, verdict);
    Arm {
        component: point.arm.component.clone().unwrap_or_default(),
        operation: point.arm.operation.clone().unwrap_or_default(),
        metric: metric.to_owned(),
        parameter: parameter.to_owned(),
        baseline: value(point.baseline),
        arm: value(point.arm),
        at: point.at.clone(),
        ratio: comparison.as_ref().map(|comparison| comparison.ratio),
        interval: comparison.as_ref().and_then(bounds),
        verdict,
        n: comparison.as_ref().map_or(0, |comparison| comparison.n),
        margin,
        smallest_visible: comparison.as_ref().and_then(|comparison| comparison.smallest_visible),
        inert: verdict == ArmVerdict::Same && same_work(point),
        same_answer: same_answer(point),
    }
}

pub(super) fn bounds(comparison: &Comparison) -> Option<Bounds> {
    comparison.interval.map(|interval| [interval.lo, interval.hi])
}

/// Returns the verdict of a comparison; a wide interval within a wide margin is inconclusive.
fn verdict(comparison: &Comparison) -> ArmVerdict {
    let within =
        |bounds: [f64; 2]| bounds[0] * (1.0 + SAME_MAX) >= 1.0 && bounds[1] <= 1.0 + SAME_MAX;
    match comparison.verdict {
        Verdict::Same if !bounds(comparison).is_some_and(within) => ArmVerdict::Inconclusive,
        verdict => verdict.into(),
    }
}

/// Compares the processes of the same block, which have the same seed, on both sides.
pub(super) fn compare_measurements(
    before: &Measurement,
    after: &Measurement,
    metric: &str,
    margin: f64,
) -> Option<Comparison> {
    let after = by_seed(after, metric);
    let pairs = by_seed(before, metric).into_iter();
    let (before, after): (Vec<f64>, Vec<f64>) =
        pairs.filter_map(|(seed, before)| Some((before, *after.get(&seed)?))).unzip();
    compare_paired(&before, &after, CONFIDENCE, margin).ok()
}

pub(super) fn by_seed(measurement: &Measurement, metric: &str) -> BTreeMap<u64, f64> {
    let median = |samples: &[f64]| simprof_stats::median(samples).ok().filter(|value| *value > 0.0);
    measurement
        .ok_replicates()
        .filter_map(|replicate| {
            Some((replicate.seed, median(&replicate.metrics.get(metric)?.samples)?))
        })
        .collect()
}

/// Whether every counter and every measured size of a structure is equal in every pair of processes. Without counters it
/// is false.
fn same_work(point: &ArmPoint<'_>) -> bool {
    let mut pairs = replicate_pairs(point).peekable();
    let same = |(a, b): (&Replicate, &Replicate)| {
        !a.counters.is_empty()
            && a.counters == b.counters
            && structure_sizes(a) == structure_sizes(b)
    };
    pairs.peek().is_some() && pairs.all(same)
}

/// Returns the metrics of a process that are sizes of structures, in bytes.
fn structure_sizes(replicate: &Replicate) -> BTreeMap<&str, &Vec<f64>> {
    let is_size = |name: &str| name.ends_with("_bytes") && name != "peak_rss_bytes";
    let metrics = replicate.metrics.iter().filter(|(name, _)| is_size(name));
    metrics.map(|(name, metric)| (name.as_str(), &metric.samples)).collect()
}

fn same_answer(point: &ArmPoint<'_>) -> Option<bool> {
    let digests: Option<Vec<bool>> = replicate_pairs(point)
        .map(|(a, b)| Some(a.digest.as_ref()? == b.digest.as_ref()?))
        .collect();
    digests.filter(|equal| !equal.is_empty()).map(|equal| equal.iter().all(|&equal| equal))
}

fn replicate_pairs<'a>(
    point: &ArmPoint<'a>,
) -> impl Iterator<Item = (&'a Replicate, &'a Replicate)> {
    let (baseline, arm) = (point.baseline, point.arm);
    baseline.ok_replicates().filter_map(move |before| {
        Some((before, arm.ok_replicates().find(|after| after.seed == before.seed)?))
    })
}

#[cfg(test)]
mod tests {
    use super::super::winner::winner;
    use super::*;
    use simprof_model::{Metric, Status};

    fn measurement(arm: &str, cost: f64, work: f64) -> Measurement {
        let replicate = |seed: u64| Replicate {
            seed,
            order: 0,
            status: Status::Ok,
            reason: None,
            metrics: [("t_ns".to_owned(), Metric::single(cost * (1.0 + 0.001 * seed as f64)))]
                .into(),
            counters: [("calls".to_owned(), work)].into(),
            digest: Some("same".into()),
            load: None,
        };
        Measurement {
            name: arm.into(),
            component: Some("spatial".into()),
            operation: Some("nearby".into()),
            parameters: [("index".to_owned(), Value::Text(arm.into()))].into(),
            status: Status::Ok,
            reason: None,
            replicates: (0..8).map(replicate).collect(),
        }
    }

    fn point<'a>(baseline: &'a Measurement, arm: &'a Measurement, n: f64) -> ArmPoint<'a> {
        ArmPoint { baseline, arm, at: format!("n={n}"), size: Some(("n".into(), n)) }
    }

    #[test]
    fn the_winner_has_its_range_and_speed_up() {
        let (base, slow, fast) = (
            measurement("kdtree", 10.0, 1.0),
            measurement("hash", 12.0, 1.0),
            measurement("hash", 5.0, 1.0),
        );
        let points =
            [point(&base, &slow, 100.0), point(&base, &fast, 500.0), point(&base, &fast, 2000.0)];
        let winner = winner(&points, "index", "t_ns", 0.03).expect("there are points");
        assert_eq!((winner.winner.as_str(), winner.range.as_str()), ("hash", "n >= 500"));
        assert!((winner.speedup.expect("a gain") - 2.0).abs() < 1e-9);
        assert!(winner.statement.contains("index = hash is faster than index = kdtree"));
        // The speed-up is the same at all sizes of the range: one figure is enough.
        assert!(winner.statement.contains("2x, 95 %"), "{}", winner.statement);
        let sizes: Vec<Option<f64>> = winner.speedups.iter().map(|one| one.size).collect();
        assert_eq!(sizes, [Some(500.0), Some(2000.0)]);
    }

    #[test]
    fn a_speed_up_that_depends_on_the_size_is_a_range() {
        let (base, faster, fastest) = (
            measurement("all", 10.0, 1.0),
            measurement("grid", 5.0, 1.0),
            measurement("grid", 0.8, 1.0),
        );
        let points = [point(&base, &faster, 50.0), point(&base, &fastest, 400.0)];
        let winner = winner(&points, "search", "t_ns", 0.03).expect("there are points");
        let speedups: Vec<f64> = winner.speedups.iter().map(|one| one.speedup).collect();
        assert!((speedups[0] - 2.0).abs() < 1e-9 && (speedups[1] - 12.5).abs() < 1e-9);
        assert!((winner.speedup.expect("a gain") - 5.0).abs() < 1e-9, "the geometric mean");
        let statement = &winner.statement;
        assert!(statement.contains("2x at 50 to 12.5x at 400"), "{statement}");
        assert!(!statement.contains("5x,"), "5x holds at no size: {statement}");
    }

    #[test]
    fn an_arm_with_the_same_cost_and_work_is_inert() {
        let (base, arm) = (measurement("a", 10.0, 1.0), measurement("b", 10.0, 1.0));
        let arms = arms(&[point(&base, &arm, 1.0)], "index", "t_ns", 0.03);
        assert!(arms[0].inert, "{arms:?}");
        assert_eq!((arms[0].verdict, arms[0].same_answer), (ArmVerdict::Same, Some(true)));
    }

    #[test]
    fn a_wide_margin_does_not_prove_equality() {
        let cases = [
            (13.0, ArmVerdict::Inconclusive),
            (10.5, ArmVerdict::Same),
            (20.0, ArmVerdict::Slower),
        ];
        for (cost, verdict) in cases {
            let (base, arm) = (measurement("a", 10.0, 1.0), measurement("b", cost, 1.0));
            let arms = arms(&[point(&base, &arm, 1.0)], "index", "t_ns", 0.8);
            let inert = verdict == ArmVerdict::Same;
            assert_eq!((arms[0].verdict, arms[0].inert), (verdict, inert));
        }
    }

    #[test]
    fn an_arm_that_differs_at_one_size_is_not_inert() {
        let (base, same, slow) =
            (measurement("a", 10.0, 1.0), measurement("b", 10.0, 1.0), measurement("b", 20.0, 1.0));
        let points = [point(&base, &same, 1.0), point(&base, &slow, 2.0)];
        assert!(arms(&points, "index", "t_ns", 0.03).iter().all(|arm| !arm.inert));
    }

    #[test]
    fn an_arm_with_other_structure_sizes_is_not_inert() {
        let (base, mut arm) = (measurement("a", 10.0, 1.0), measurement("b", 10.0, 1.0));
        for replicate in &mut arm.replicates {
            replicate.metrics.insert("index_bytes".into(), Metric::single(8.0));
        }
        assert!(!arms(&[point(&base, &arm, 1.0)], "index", "t_ns", 0.03)[0].inert);
    }

    #[test]
    fn an_arm_with_other_work_is_not_inert() {
        let (base, arm) = (measurement("a", 10.0, 1.0), measurement("b", 10.0, 2.0));
        assert!(!arms(&[point(&base, &arm, 1.0)], "index", "t_ns", 0.03)[0].inert);
    }

    #[test]
    fn too_few_pairs_are_inconclusive() {
        let (mut base, mut arm) = (measurement("a", 10.0, 1.0), measurement("b", 5.0, 1.0));
        base.replicates.truncate(3);
        arm.replicates.truncate(3);
        let points = [point(&base, &arm, 1.0)];
        assert_eq!(arms(&points, "index", "t_ns", 0.03)[0].verdict, ArmVerdict::Inconclusive);
        let winner = winner(&points, "index", "t_ns", 0.03).expect("there are points");
        assert_eq!((winner.winner.as_str(), winner.n), ("a", 3));
        assert!(winner.statement.contains("3 pairs"), "{}", winner.statement);
        assert!(winner.statement.ends_with("needs 6"), "{}", winner.statement);
    }
}
