//! Determines the best arm of an operation and the sizes for which it is faster.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_stats::{Block, compare_blocks};

use super::arms::{Arm, ArmPoint, ArmVerdict, CONFIDENCE, arms, bounds, by_seed};
use super::common::Bounds;

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
    /// The baseline's cost divided by the winner's, above 1; `null` if the baseline is the winner.
    pub speedup: Option<f64>,
    /// 95 % interval of the speed-up.
    pub interval: Option<Bounds>,
    /// Blocks of processes.
    pub n: usize,
    /// The result in one sentence.
    pub statement: String,
}

/// Returns the best arm of an operation: the one that is faster at the most sizes, then the one with the largest gain.
///
/// An arm is faster from the smallest size on at which, and at all larger sizes, its interval is beyond the margin. Its
/// gain is that over all these sizes: one log-ratio of geometric means per block of processes.
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
        interval: bounds(&comparison).map(|[low, high]| [1.0 / high, 1.0 / low]),
        n: comparison.n,
    })
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
    let interval = gain
        .interval
        .map_or_else(String::new, |[low, high]| format!(", 95 % interval {low:.2} to {high:.2}"));
    let statement = format!(
        "{} {} beats {} {sizes}: {} is {:.2}x faster{interval} ({} blocks)",
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
    let count = |verdict| arms.iter().filter(|arm| arm.verdict == verdict).count();
    let (slower, same) = (count(ArmVerdict::Slower), count(ArmVerdict::Same));
    let result = if slower == arms.len() {
        format!(
            "{} {} is the fastest, all other values are slower",
            first.parameter, first.baseline
        )
    } else if same == arms.len() {
        format!("{} makes no difference beyond the margin", first.parameter)
    } else {
        format!(
            "no other {} is shown to be faster than {} at the largest size",
            first.parameter, first.baseline
        )
    };
    let statement = format!(
        "{}: {result} (of {} comparisons {slower} slower, {same} same, {} faster, {} inconclusive)",
        first.operation,
        arms.len(),
        count(ArmVerdict::Faster),
        count(ArmVerdict::Inconclusive),
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
