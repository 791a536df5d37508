//! Determines the best arm of an operation and the sizes for which it is faster.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_stats::{Block, compare_blocks, pairs_needed};

use super::arms::{Arm, ArmPoint, ArmVerdict, CONFIDENCE, arms, bounds, by_seed};
use super::common::Bounds;
use crate::format::{counted, three_digits};

/// The best arm of an operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Winner {
    /// Component.
    pub component: String,
    /// Operation.
    pub operation: String,
    /// Metric that was compared.
    pub metric: String,
    /// Parameter that distinguishes the arms.
    pub parameter: String,
    /// The baseline.
    pub baseline: String,
    /// The best arm; the baseline if no arm is faster.
    pub winner: String,
    /// Sizes at which it is faster: `entities >= 500`; empty for all measured sizes.
    pub range: String,
    /// The baseline's cost divided by the winner's, above 1; `null` if the baseline is the winner. It is the geometric mean over
    /// the sizes of `range`, so it may hold at none of them: `speedups` has that at each size.
    pub speedup: Option<f64>,
    /// 95 % interval of the geometric mean.
    pub interval: Option<Bounds>,
    /// The speed-up at each size of `range`, ascending by size; empty if the baseline is the winner.
    #[serde(default)]
    pub speedups: Vec<Speedup>,
    /// Pairs of processes with the same seed.
    pub n: usize,
    /// The result in one sentence.
    pub statement: String,
}

/// The speed-up at one size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Speedup {
    /// Value of the swept parameter; `null` if none is swept.
    pub size: Option<f64>,
    /// The baseline's cost divided by the winner's.
    pub speedup: f64,
    /// 95 % interval of the speed-up.
    pub interval: Option<Bounds>,
}

/// Returns the best arm of an operation: the one that is faster at the most sizes, then the one with the largest gain.
///
/// An arm is faster from the smallest size on at which, and at all larger sizes, its interval is beyond the margin. Its
/// gain is that over all these sizes: one log-ratio of geometric means per block of processes with the same seed.
pub(super) fn winner(
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

/// By how much an arm is faster, and at which sizes.
struct Gain {
    arm: String,
    range: String,
    sizes: usize,
    speedup: f64,
    interval: Option<Bounds>,
    speedups: Vec<Speedup>,
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
    let is_faster = |arm: &Arm| arm.verdict == ArmVerdict::Faster;
    let from = of_arm.iter().rposition(|(arm, _)| !is_faster(arm)).map_or(0, |last| last + 1);
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
        interval: bounds(&comparison).map(inverse),
        speedups: winning.iter().filter_map(|(arm, point)| speedup(arm, point)).collect(),
        n: comparison.n,
    })
}

fn speedup(arm: &Arm, point: &ArmPoint<'_>) -> Option<Speedup> {
    Some(Speedup {
        size: point.size.as_ref().map(|size| size.1),
        speedup: 1.0 / arm.ratio?,
        interval: arm.interval.map(inverse),
    })
}

fn inverse([low, high]: Bounds) -> Bounds {
    [1.0 / high, 1.0 / low]
}

fn size(point: &ArmPoint<'_>) -> f64 {
    point.size.as_ref().map_or(0.0, |size| size.1)
}

/// Returns one block per seed: the costs at all `points`, on both sides.
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
    let sizes = if gain.range.is_empty() {
        "at every measured size".to_owned()
    } else {
        format!("for {}", gain.range)
    };
    let parameter = &first.parameter;
    let statement = format!(
        "{}: {parameter} = {} is faster than {parameter} = {} {sizes}: {} ({})",
        first.operation,
        gain.arm,
        first.baseline,
        extent(&gain),
        counted(gain.n as u64, "pair"),
    );
    Winner {
        winner: gain.arm,
        range: gain.range,
        speedup: Some(gain.speedup),
        interval: gain.interval,
        speedups: gain.speedups,
        ..baseline_wins(first, gain.n, statement)
    }
}

/// Returns by how much the arm is faster: one figure if it may be the same at all sizes, else the range.
fn extent(gain: &Gain) -> String {
    let by_speedup = |a: &&Speedup, b: &&Speedup| a.speedup.total_cmp(&b.speedup);
    let least = gain.speedups.iter().min_by(by_speedup);
    let most = gain.speedups.iter().max_by(by_speedup);
    if let (Some(least), Some(most)) = (least, most)
        && let (Some(small), Some(large)) = (least.size, most.size)
        && !intervals_overlap(&gain.speedups)
    {
        let times = |speedup: &Speedup| three_digits(speedup.speedup);
        return format!("{}x at {small} to {}x at {large}", times(least), times(most));
    }
    let interval = gain.interval.map_or_else(String::new, |[low, high]| {
        format!(", 95 % interval {} to {}", three_digits(low), three_digits(high))
    });
    format!("{}x{interval}", three_digits(gain.speedup))
}

/// Whether one speed-up is in the intervals of all sizes.
fn intervals_overlap(speedups: &[Speedup]) -> bool {
    let intervals = || speedups.iter().filter_map(|speedup| speedup.interval);
    let highest_start = intervals().map(|[low, _]| low).fold(f64::MIN, f64::max);
    let lowest_end = intervals().map(|[_, high]| high).fold(f64::MAX, f64::min);
    highest_start <= lowest_end
}

fn lost(first: &Arm, arms: &[Arm]) -> Winner {
    let statement =
        format!("{}: {}", first.operation, undecided(arms).unwrap_or_else(|| decided(first, arms)));
    baseline_wins(first, arms.iter().map(|arm| arm.n).min().unwrap_or(0), statement)
}

/// Returns the result that no arm is faster than the baseline. `first` is any of the arms.
fn baseline_wins(first: &Arm, n: usize, statement: String) -> Winner {
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
        speedups: Vec::new(),
        n,
        statement,
    }
}

/// Returns why there is no verdict, if no comparison has enough pairs for one.
fn undecided(arms: &[Arm]) -> Option<String> {
    let (measured, needed) = (arms.iter().map(|arm| arm.n).max()?, pairs_needed(CONFIDENCE));
    let verb = if measured == 1 { "was" } else { "were" };
    (measured < needed).then(|| {
        format!(
            "not decided: {} {verb} measured, a verdict needs {needed}",
            counted(measured as u64, "pair")
        )
    })
}

/// Returns the result of comparisons in which no arm is faster up to the largest size.
fn decided(first: &Arm, arms: &[Arm]) -> String {
    let count = |verdict| arms.iter().filter(|arm| arm.verdict == verdict).count();
    let (slower, same) = (count(ArmVerdict::Slower), count(ArmVerdict::Same));
    let (parameter, baseline) = (&first.parameter, &first.baseline);
    let result = if slower == arms.len() {
        format!("{parameter} = {baseline} is the fastest, all other values are slower")
    } else if same == arms.len() {
        format!("{parameter} makes no difference beyond the margin")
    } else {
        format!(
            "no value of {parameter} is shown to be faster than {parameter} = {baseline} at the largest size"
        )
    };
    format!(
        "{result} (of {}, {slower} slower, {same} same, {} faster, {} inconclusive)",
        counted(arms.len() as u64, "comparison"),
        count(ArmVerdict::Faster),
        count(ArmVerdict::Inconclusive),
    )
}
