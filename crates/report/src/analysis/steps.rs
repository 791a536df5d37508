//! How long steps take, when they settle, and what belongs to them.

use serde::Serialize;
use simprof_model::{Profile, StackSample, Steps};
use simprof_stats::{Summary, median};

use super::weights::share;

/// Fewest steps in which a warm-up can be told.
const MIN_STEPS_FOR_WARM_UP: usize = 8;
/// How much slower than the settled median a step of the warm-up is at least.
const WARM_UP_RATIO: f64 = 1.25;
/// How many robust standard deviations above the settled median a step of the warm-up is at least.
const WARM_UP_DEVIATIONS: f64 = 3.0;
/// Standard deviation of a normal distribution in units of its median absolute deviation.
const DEVIATION_PER_MAD: f64 = 1.4826;

/// The distribution of how long steps took, ms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    /// Number of steps.
    pub count: usize,
    /// Arithmetic mean.
    pub mean_ms: f64,
    /// Shortest.
    pub min_ms: f64,
    /// Median.
    pub p50_ms: f64,
    /// 95th percentile.
    pub p95_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Longest.
    pub max_ms: f64,
}

/// What the steps of a run say.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepSummary {
    /// Number of steps.
    pub count: usize,
    /// Steps whose marks were lost.
    pub lost: u64,
    /// Where the marks come from, as in [`Steps::source`].
    pub source: String,
    /// Steps per second from the begin of the first to the end of the last.
    pub per_second: Option<f64>,
    /// Median of all steps, ms.
    pub p50_ms: Option<f64>,
    /// 95th percentile of all steps, ms.
    pub p95_ms: Option<f64>,
    /// 99th percentile of all steps, ms.
    pub p99_ms: Option<f64>,
    /// Leading steps that are warm-up, see [`warm_up_steps`].
    pub warm_up_steps: usize,
    /// Time that the warm-up took, ms.
    pub warm_up_ms: f64,
    /// The steps after the warm-up.
    pub steady: Option<Latency>,
    /// Time from `start_ns` to the first step, ms.
    pub setup_ms: Option<f64>,
}

/// Summarises steps; `start_ns` (CLOCK_MONOTONIC) is when the target started, where known.
pub fn step_summary(steps: &Steps, start_ns: Option<u64>) -> StepSummary {
    let durations = durations_ms(steps);
    let warm_up = warm_up_steps(&durations);
    let all = latency(&durations);
    let setup_ns =
        steps.first_begin_ns().zip(start_ns).and_then(|(begin, start)| begin.checked_sub(start));
    StepSummary {
        count: durations.len(),
        lost: steps.lost,
        source: steps.source.clone(),
        per_second: steps.per_second(),
        p50_ms: all.map(|all| all.p50_ms),
        p95_ms: all.map(|all| all.p95_ms),
        p99_ms: all.map(|all| all.p99_ms),
        warm_up_steps: warm_up,
        warm_up_ms: durations[..warm_up].iter().sum(),
        steady: latency(&durations[warm_up..]),
        setup_ms: setup_ns.map(|ns| ns as f64 * 1e-6),
    }
}

/// The distribution of durations in ms; none where there are none, or one is not finite. Percentiles are interpolated linearly
/// between order statistics (type 7 of Hyndman and Fan 1996).
pub fn latency(durations_ms: &[f64]) -> Option<Latency> {
    let summary = Summary::new(durations_ms).ok()?;
    Some(Latency {
        count: summary.n,
        mean_ms: summary.mean,
        min_ms: summary.min,
        p50_ms: summary.median,
        p95_ms: summary.p95,
        p99_ms: summary.p99,
        max_ms: summary.max,
    })
}

/// Number of leading steps that are warm-up: those before the first step that is not clearly slower
/// than the settled ones. The settled ones are the later half; clearly slower is more than 1.25 times
/// their median and more than three robust standard deviations (1.4826 MAD) above it. The warm-up is
/// never longer than the earlier half, and none is told from fewer than eight steps.
pub fn warm_up_steps(durations_ms: &[f64]) -> usize {
    if durations_ms.len() < MIN_STEPS_FOR_WARM_UP {
        return 0;
    }
    let (early, late) = durations_ms.split_at(durations_ms.len() / 2);
    let Ok(middle) = median(late) else { return 0 };
    let deviations: Vec<f64> = late.iter().map(|duration| (duration - middle).abs()).collect();
    let Ok(mad) = median(&deviations) else { return 0 };
    let slow = (middle * WARM_UP_RATIO).max(middle + WARM_UP_DEVIATIONS * DEVIATION_PER_MAD * mad);
    early.iter().take_while(|&&duration| duration > slow).count()
}

fn durations_ms(steps: &Steps) -> Vec<f64> {
    steps.steps.iter().map(|step| step.duration_ns() as f64 * 1e-6).collect()
}

/// The part of a profile that was taken within steps, so that every analysis can be made of it.
#[derive(Debug, Clone)]
pub struct WithinSteps {
    /// The profile with the samples within steps alone.
    pub profile: Profile,
    /// Number of steps; a weight of `profile` over this is a weight per step.
    pub steps: usize,
    /// Share of the weight of the whole profile that is within steps, 0 to 1.
    pub steps_share: f64,
    /// Share of it that is before the first step, 0 to 1.
    pub setup_share: f64,
    /// Share of it that is between steps or after the last, 0 to 1.
    pub outside_share: f64,
}

impl WithinSteps {
    /// A weight of the profile per step.
    pub fn per_step(&self, weight: u64) -> f64 {
        weight as f64 / self.steps as f64
    }
}

/// Splits a profile by its steps; none where there are no steps. A sample at the very end of a step
/// is not in it. Steps may overlap, as those of several processes do.
pub fn within_steps(profile: &Profile, steps: &Steps) -> Option<WithinSteps> {
    let first = steps.steps.iter().map(|step| step.begin_ns).min()?;
    let spans = union(steps);
    let in_step = |sample: &&StackSample| {
        let after = spans.partition_point(|&(begin, _)| begin <= sample.time_ns);
        after > 0 && sample.time_ns < spans[after - 1].1
    };
    let weigh = |samples: &[StackSample]| samples.iter().map(|sample| sample.weight).sum::<u64>();
    let whole = profile.total_weight();
    let before: u64 = profile
        .samples
        .iter()
        .filter(|sample| sample.time_ns < first)
        .map(|sample| sample.weight)
        .sum();
    let samples: Vec<StackSample> = profile.samples.iter().filter(in_step).copied().collect();
    let inside = weigh(&samples);
    Some(WithinSteps {
        profile: Profile { samples, ..profile.clone() },
        steps: steps.steps.len(),
        steps_share: share(inside, whole),
        setup_share: share(before, whole),
        outside_share: share(whole - inside - before, whole),
    })
}

/// Spans of time covered by steps, in order and apart.
fn union(steps: &Steps) -> Vec<(u64, u64)> {
    let mut spans: Vec<(u64, u64)> =
        steps.steps.iter().map(|step| (step.begin_ns, step.end_ns)).collect();
    spans.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::with_capacity(spans.len());
    for (begin, end) in spans {
        match merged.last_mut() {
            Some(last) if begin <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((begin, end)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use simprof_model::Step;

    use super::*;
    use crate::analysis::functions;
    use crate::testing::Sketch;

    fn steps(spans: &[(u64, u64)]) -> Steps {
        let steps = (0..)
            .zip(spans)
            .map(|(index, &(begin_ns, end_ns))| Step { index, begin_ns, end_ns, population: None })
            .collect();
        Steps { steps, lost: 0, source: "marks".into() }
    }

    #[test]
    fn percentiles_are_interpolated() {
        let durations: Vec<f64> = (1..=101).map(f64::from).collect();
        let found = latency(&durations).expect("some steps");
        assert_eq!((found.p50_ms, found.p95_ms, found.p99_ms), (51.0, 96.0, 100.0));
        assert_eq!(
            (found.min_ms, found.max_ms, found.mean_ms, found.count),
            (1.0, 101.0, 51.0, 101)
        );
        assert_eq!(latency(&[2.0, 4.0]).expect("some").p50_ms, 3.0);
        assert_eq!(latency(&[]), None);
    }

    #[test]
    fn warm_up_is_what_leads_and_is_clearly_slower() {
        let settled = [10.0; 10];
        for (case, head, expected) in [
            ("none", vec![10.0, 10.0], 0),
            ("two", vec![40.0, 20.0, 10.0], 2),
            ("a little slower is not", vec![12.0, 12.0], 0),
            ("a later outlier is not", vec![10.0, 90.0], 0),
            ("faster is not", vec![1.0, 1.0], 0),
            ("never more than the earlier half", vec![90.0; 30], 0),
        ] {
            let durations: Vec<f64> = head.into_iter().chain(settled).collect();
            assert_eq!(warm_up_steps(&durations), expected, "{case}");
        }
        assert_eq!(warm_up_steps(&[90.0, 1.0, 1.0, 1.0]), 0, "too few");
        let noisy = [30.0, 10.0, 30.0, 10.0, 10.0, 30.0, 10.0, 30.0, 10.0, 30.0];
        assert_eq!(warm_up_steps(&noisy), 0, "within the noise");
    }

    #[test]
    fn a_summary_of_steps() {
        let ms = 1_000_000;
        let summary = step_summary(&steps(&[(10 * ms, 12 * ms), (12 * ms, 16 * ms)]), Some(3 * ms));
        assert_eq!((summary.count, summary.p50_ms, summary.setup_ms), (2, Some(3.0), Some(7.0)));
        assert!((summary.per_second.expect("a rate") - 2000.0 / 6.0).abs() < 1e-9);
        let none = step_summary(&Steps::default(), Some(1));
        assert_eq!((none.count, none.p99_ms, none.steady, none.setup_ms), (0, None, None, None));
    }

    #[test]
    fn weights_are_split_by_steps() {
        let profile = Sketch::new()
            .sample("main > load", 5)
            .at(100)
            .sample("main > step", 2)
            .at(150)
            .sample("main > pause", 1)
            .at(210)
            .sample("main > step", 2)
            .finish();
        let within = within_steps(&profile, &steps(&[(100, 120), (200, 250), (205, 210)]))
            .expect("there are steps");
        assert_eq!((within.steps, within.profile.total_weight()), (3, 4));
        assert_eq!((within.steps_share, within.setup_share, within.outside_share), (0.4, 0.5, 0.1));
        let costs = functions(&within.profile);
        assert!((within.per_step(costs[0].total_weight) - 4.0 / 3.0).abs() < 1e-12);
        assert!(within_steps(&profile, &Steps::default()).is_none());
    }
}
