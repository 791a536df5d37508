//! Configurations side by side: each against the baseline at every size, and which one wins from where on.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{Measurement, Replicate, Value};
use simprof_stats::{Block, Comparison, Verdict, compare_blocks, compare_paired};

use super::common::Bounds;

/// Confidence of every interval.
const CONFIDENCE: f64 = 0.95;

/// Two costs are only called the same where their ratio surely differs from 1 by less than this. A noisy machine has a
/// wide margin: it hides differences, which is no reason to say that there are none.
const SAME_MOST: f64 = 0.1;

/// One arm against the baseline, at one point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Arm {
    /// Component.
    pub component: String,
    /// Operation.
    pub operation: String,
    /// What is compared; the unit is the end of the name.
    pub metric: String,
    /// The parameter that tells the arms apart.
    pub parameter: String,
    /// Its value in the baseline.
    pub baseline: String,
    /// Its value in this arm.
    pub arm: String,
    /// The other parameters that are swept: `entities=1000`.
    pub at: String,
    /// Cost of this arm over cost of the baseline; below 1 it is faster.
    pub ratio: Option<f64>,
    /// 95 % interval of the ratio.
    pub interval: Option<Bounds>,
    /// `faster`, `slower`, `same` or `inconclusive`.
    pub verdict: String,
    /// Pairs of processes.
    pub n: usize,
    /// Relative margin that the verdict stands on.
    pub margin: f64,
    /// The smallest relative change that could have been seen.
    pub smallest_visible: Option<f64>,
    /// True where neither cost nor work done can be told from the baseline: the knob changes nothing here.
    pub inert: bool,
    /// Whether both computed the same answer; absent where there is no digest.
    pub same_answer: Option<bool>,
}

/// Replicates of one arm and its baseline at one point, and the size that the point has on the sweep.
#[derive(Debug, Clone)]
pub struct ArmPoint<'a> {
    /// The baseline's measurement.
    pub baseline: &'a Measurement,
    /// The arm's measurement.
    pub arm: &'a Measurement,
    /// Swept parameters at this point.
    pub at: String,
    /// The swept parameter's value, where one is swept.
    pub size: Option<(String, f64)>,
}

/// Which arm is best, from which size on, and by how much.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Winner {
    /// Component.
    pub component: String,
    /// Operation.
    pub operation: String,
    /// What was compared.
    pub metric: String,
    /// The parameter that tells the arms apart.
    pub parameter: String,
    /// The baseline.
    pub baseline: String,
    /// The best arm; the baseline itself where nothing beats it.
    pub winner: String,
    /// Where it wins: `entities >= 500`; empty for everywhere measured.
    pub range: String,
    /// Baseline's cost over the winner's, above 1; absent where the baseline wins.
    pub speedup: Option<f64>,
    /// 95 % interval of the speed-up.
    pub interval: Option<Bounds>,
    /// Blocks of processes.
    pub n: usize,
    /// The answer in one sentence.
    pub statement: String,
}

/// Compares every point's arm with its baseline.
///
/// An arm is inert only where it cannot be told from the baseline at any point: a configuration that is
/// as fast at one size is no knob that changes nothing.
pub fn arms(points: &[ArmPoint<'_>], parameter: &str, metric: &str, margin: f64) -> Vec<Arm> {
    let mut arms: Vec<Arm> =
        points.iter().map(|point| arm(point, parameter, metric, margin)).collect();
    let told: Vec<String> =
        arms.iter().filter(|arm| !arm.inert).map(|arm| arm.arm.clone()).collect();
    arms.iter_mut().for_each(|arm| arm.inert &= !told.contains(&arm.arm));
    arms
}

fn arm(point: &ArmPoint<'_>, parameter: &str, metric: &str, margin: f64) -> Arm {
    let comparison = compare_measurements(point.baseline, point.arm, metric, margin);
    let value = |measurement: &Measurement| {
        measurement.parameters.get(parameter).map_or_else(String::new, Value::to_string)
    };
    let verdict = comparison.as_ref().map_or(Verdict::Inconclusive, verdict);
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
        verdict: verdict_name(verdict).to_owned(),
        n: comparison.as_ref().map_or(0, |comparison| comparison.n),
        margin,
        smallest_visible: comparison.as_ref().and_then(|comparison| comparison.smallest_visible),
        inert: verdict == Verdict::Same && same_work(point),
        same_answer: same_answer(point),
    }
}

fn bounds(comparison: &Comparison) -> Option<Bounds> {
    comparison.interval.map(|interval| [interval.lo, interval.hi])
}

/// The verdict of a comparison, where noise alone is not taken for equality.
fn verdict(comparison: &Comparison) -> Verdict {
    let within =
        |bounds: [f64; 2]| bounds[0] * (1.0 + SAME_MOST) >= 1.0 && bounds[1] <= 1.0 + SAME_MOST;
    match comparison.verdict {
        Verdict::Same if !bounds(comparison).is_some_and(within) => Verdict::Inconclusive,
        verdict => verdict,
    }
}

fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Faster => "faster",
        Verdict::Slower => "slower",
        Verdict::Same => "same",
        Verdict::Inconclusive => "inconclusive",
    }
}

/// Compares the processes that ran in the same block (with the same seed) on both sides.
pub fn compare_measurements(
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

fn by_seed(measurement: &Measurement, metric: &str) -> BTreeMap<u64, f64> {
    let median = |samples: &[f64]| simprof_stats::median(samples).ok().filter(|value| *value > 0.0);
    measurement
        .ok_replicates()
        .filter_map(|replicate| {
            Some((replicate.seed, median(&replicate.metrics.get(metric)?.samples)?))
        })
        .collect()
}

/// Whether every counter, and every size that was measured, is equal in every pair of processes; without
/// counters nothing is known.
fn same_work(point: &ArmPoint<'_>) -> bool {
    let mut pairs = replicate_pairs(point).peekable();
    let same = |(a, b): (&Replicate, &Replicate)| {
        !a.counters.is_empty() && a.counters == b.counters && sizes_of(a) == sizes_of(b)
    };
    pairs.peek().is_some() && pairs.all(same)
}

/// What a process measured that is no time and no figure of the process as a whole: bytes of a structure.
fn sizes_of(replicate: &Replicate) -> BTreeMap<&str, &Vec<f64>> {
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

/// For one operation, the arm with the largest gain over the range on which it is surely faster.
///
/// An arm wins from the smallest size on at which, and at all larger sizes, its interval clears the margin. Its gain is
/// that of those sizes together: one log-ratio of geometric means per block of processes.
pub fn winners(
    points: &[ArmPoint<'_>],
    parameter: &str,
    metric: &str,
    margin: f64,
) -> Option<Winner> {
    let arms: Vec<Arm> = arms(points, parameter, metric, margin);
    let first = arms.first()?;
    let mut names: Vec<&str> = arms.iter().map(|arm| arm.arm.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let best = names
        .into_iter()
        .filter_map(|name| gain(&arms, points, name, metric, margin))
        .max_by(|a, b| {
            (a.sizes, a.speedup)
                .partial_cmp(&(b.sizes, b.speedup))
                .unwrap_or(std::cmp::Ordering::Equal)
        });
    Some(match best {
        Some(gain) => won(first, gain),
        None => lost(first, &arms),
    })
}

/// How much faster an arm is, and where.
struct Gain {
    arm: String,
    range: String,
    sizes: usize,
    speedup: f64,
    interval: Option<Bounds>,
    n: usize,
}

fn gain(
    arms: &[Arm],
    points: &[ArmPoint<'_>],
    name: &str,
    metric: &str,
    margin: f64,
) -> Option<Gain> {
    let mut of_arm: Vec<(&Arm, &ArmPoint<'_>)> =
        arms.iter().zip(points).filter(|(arm, _)| arm.arm == name).collect();
    of_arm.sort_by(|a, b| size(a.1).total_cmp(&size(b.1)));
    let from =
        of_arm.iter().rposition(|(arm, _)| arm.verdict != "faster").map_or(0, |last| last + 1);
    let winning = &of_arm[from..];
    let start = winning.first()?.1;
    let blocks = blocks(&winning.iter().map(|(_, point)| *point).collect::<Vec<_>>(), metric);
    let comparison = compare_blocks(&blocks, CONFIDENCE, margin).ok()?;
    let range = match (&start.size, from) {
        (Some((parameter, size)), 1..) => format!("{parameter} >= {size}"),
        _ => String::new(),
    };
    Some(Gain {
        arm: name.to_owned(),
        range,
        sizes: winning.len(),
        speedup: 1.0 / comparison.ratio,
        interval: bounds(&comparison).map(|[low, high]| [1.0 / high, 1.0 / low]),
        n: comparison.n,
    })
}

fn size(point: &ArmPoint<'_>) -> f64 {
    point.size.as_ref().map_or(0.0, |size| size.1)
}

/// One block for each seed: the costs at all `points`, on both sides.
fn blocks(points: &[&ArmPoint<'_>], metric: &str) -> Vec<Block> {
    let mut blocks: BTreeMap<u64, Block> = BTreeMap::new();
    for point in points {
        let after = by_seed(point.arm, metric);
        for (seed, before) in by_seed(point.baseline, metric) {
            if let Some(&after) = after.get(&seed) {
                let block =
                    blocks.entry(seed).or_insert_with(|| Block { before: vec![], after: vec![] });
                block.before.push(before);
                block.after.push(after);
            }
        }
    }
    blocks.into_values().filter(|block| block.before.len() == points.len()).collect()
}

fn won(first: &Arm, gain: Gain) -> Winner {
    let place = if gain.range.is_empty() {
        "at every size measured".to_owned()
    } else {
        format!("for {}", gain.range)
    };
    let interval = gain
        .interval
        .map_or_else(String::new, |[low, high]| format!(", 95 % interval {low:.2} to {high:.2}"));
    let statement = format!(
        "{} {} wins over {} {place}: {} {:.2}x faster{interval} ({} blocks)",
        first.parameter, gain.arm, first.baseline, first.operation, gain.speedup, gain.n
    );
    Winner {
        component: first.component.clone(),
        operation: first.operation.clone(),
        metric: first.metric.clone(),
        parameter: first.parameter.clone(),
        baseline: first.baseline.clone(),
        winner: gain.arm,
        range: gain.range,
        speedup: Some(gain.speedup),
        interval: gain.interval,
        n: gain.n,
        statement,
    }
}

fn lost(first: &Arm, arms: &[Arm]) -> Winner {
    let count = |verdict: &str| arms.iter().filter(|arm| arm.verdict == verdict).count();
    let (slower, same) = (count("slower"), count("same"));
    let what = if slower == arms.len() {
        format!("{} {} is the fastest: every other is slower", first.parameter, first.baseline)
    } else if same == arms.len() {
        format!("{} makes no difference beyond the margin", first.parameter)
    } else {
        format!(
            "no {} is surely faster than {} at the largest size",
            first.parameter, first.baseline
        )
    };
    let statement = format!(
        "{}: {what} ({slower} slower, {same} same, {} faster, {} inconclusive of {} comparisons)",
        first.operation,
        count("faster"),
        count("inconclusive"),
        arms.len()
    );
    Winner {
        component: first.component.clone(),
        operation: first.operation.clone(),
        metric: first.metric.clone(),
        parameter: first.parameter.clone(),
        baseline: first.baseline.clone(),
        winner: first.baseline.clone(),
        range: String::new(),
        speedup: None,
        interval: None,
        n: arms.iter().map(|arm| arm.n).min().unwrap_or(0),
        statement,
    }
}

#[cfg(test)]
mod tests {
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
    fn the_winner_is_named_with_its_range_and_interval() {
        let (base, slow, fast) = (
            measurement("kdtree", 10.0, 1.0),
            measurement("hash", 12.0, 1.0),
            measurement("hash", 5.0, 1.0),
        );
        let points =
            [point(&base, &slow, 100.0), point(&base, &fast, 500.0), point(&base, &fast, 2000.0)];
        let winner = winners(&points, "index", "t_ns", 0.03).expect("points");
        assert_eq!((winner.winner.as_str(), winner.range.as_str()), ("hash", "n >= 500"));
        assert!((winner.speedup.expect("a gain") - 2.0).abs() < 1e-9);
        assert!(winner.statement.contains("2.00x faster"), "{}", winner.statement);
    }

    #[test]
    fn a_knob_that_changes_nothing_is_inert() {
        let (base, arm) = (measurement("a", 10.0, 1.0), measurement("b", 10.0, 1.0));
        let arms = arms(&[point(&base, &arm, 1.0)], "index", "t_ns", 0.03);
        assert!(arms[0].inert, "{arms:?}");
        assert_eq!((arms[0].verdict.as_str(), arms[0].same_answer), ("same", Some(true)));
    }

    #[test]
    fn a_wide_margin_is_no_proof_of_equality() {
        for (cost, verdict) in [(13.0, "inconclusive"), (10.5, "same"), (20.0, "slower")] {
            let (base, arm) = (measurement("a", 10.0, 1.0), measurement("b", cost, 1.0));
            let arms = arms(&[point(&base, &arm, 1.0)], "index", "t_ns", 0.8);
            assert_eq!((arms[0].verdict.as_str(), arms[0].inert), (verdict, verdict == "same"));
        }
    }

    #[test]
    fn as_fast_at_one_size_is_not_inert() {
        let (base, same, slow) =
            (measurement("a", 10.0, 1.0), measurement("b", 10.0, 1.0), measurement("b", 20.0, 1.0));
        let points = [point(&base, &same, 1.0), point(&base, &slow, 2.0)];
        assert!(arms(&points, "index", "t_ns", 0.03).iter().all(|arm| !arm.inert));
    }

    #[test]
    fn another_size_of_structure_is_not_inert() {
        let (base, mut arm) = (measurement("a", 10.0, 1.0), measurement("b", 10.0, 1.0));
        for replicate in &mut arm.replicates {
            replicate.metrics.insert("index_bytes".into(), Metric::single(8.0));
        }
        assert!(!arms(&[point(&base, &arm, 1.0)], "index", "t_ns", 0.03)[0].inert);
    }

    #[test]
    fn a_knob_that_changes_the_work_is_not_inert() {
        let (base, arm) = (measurement("a", 10.0, 1.0), measurement("b", 10.0, 2.0));
        assert!(!arms(&[point(&base, &arm, 1.0)], "index", "t_ns", 0.03)[0].inert);
    }

    #[test]
    fn too_few_pairs_claim_nothing() {
        let (mut base, mut arm) = (measurement("a", 10.0, 1.0), measurement("b", 5.0, 1.0));
        base.replicates.truncate(3);
        arm.replicates.truncate(3);
        let points = [point(&base, &arm, 1.0)];
        assert_eq!(arms(&points, "index", "t_ns", 0.03)[0].verdict, "inconclusive");
        assert_eq!(winners(&points, "index", "t_ns", 0.03).expect("points").winner, "a");
    }
}
