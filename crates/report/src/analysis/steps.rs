//! Durations of steps and their warm-up.

use serde::Serialize;
use simprof_model::Steps;
use simprof_stats::{Summary, median};

/// Minimum number of steps for detecting a warm-up.
const MIN_STEPS_FOR_WARM_UP: usize = 8;
/// A warm-up step takes at least this multiple of the settled median.
const WARM_UP_RATIO: f64 = 1.25;
/// A warm-up step is at least this many robust standard deviations above the settled median.
const WARM_UP_DEVIATIONS: f64 = 3.0;
/// Standard deviation of a normal distribution in units of its median absolute deviation.
const DEVIATION_PER_MAD: f64 = 1.4826;

/// Durations and rate of the steps of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepSummary {
    /// Steps per second from the beginning of the first to the end of the last.
    pub per_second: Option<f64>,
    /// Median of all steps, ms.
    pub p50_ms: Option<f64>,
    /// 95th percentile of all steps, ms.
    pub p95_ms: Option<f64>,
    /// 99th percentile of all steps, ms.
    pub p99_ms: Option<f64>,
    /// Mean of all steps, ms.
    pub mean_ms: Option<f64>,
    /// Number of leading steps that are warm-up: those before the first step that is as fast as the settled ones.
    pub warm_up_steps: usize,
    /// Time from `start_ns` to the first step, ms.
    pub setup_ms: Option<f64>,
}

/// Summarises steps. `start_ns` is when the target started, CLOCK_MONOTONIC, if known.
///
/// Percentiles are interpolated linearly between order statistics (type 7 of Hyndman and Fan 1996).
pub fn step_summary(steps: &Steps, start_ns: Option<u64>) -> StepSummary {
    let durations = durations_ms(steps);
    let all = Summary::new(&durations).ok();
    let all = all.as_ref();
    let setup_ns =
        steps.first_begin_ns().zip(start_ns).and_then(|(begin, start)| begin.checked_sub(start));
    StepSummary {
        per_second: steps.per_second(),
        p50_ms: all.map(|all| all.median),
        p95_ms: all.map(|all| all.p95),
        p99_ms: all.map(|all| all.p99),
        mean_ms: all.map(|all| all.mean),
        warm_up_steps: warm_up_steps(&durations),
        setup_ms: setup_ns.map(|ns| ns as f64 * 1e-6),
    }
}

/// Returns the number of leading steps that are clearly slower than the settled ones.
///
/// The settled steps are the later half. Clearly slower is more than 1.25 times their median and more than three robust
/// standard deviations (1.4826 MAD) above it. The warm-up is at most the earlier half, and 0 if there are fewer than
/// eight steps.
fn warm_up_steps(durations_ms: &[f64]) -> usize {
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

#[cfg(test)]
mod tests {
    use simprof_model::Step;

    use super::*;

    fn steps(spans: &[(u64, u64)]) -> Steps {
        let steps = (0..)
            .zip(spans)
            .map(|(index, &(begin_ns, end_ns))| Step {
                index,
                begin_ns,
                end_ns,
                population: None,
                thread: None,
            })
            .collect();
        Steps { steps, lost: 0, source: "marks".into() }
    }

    #[test]
    fn percentiles_are_interpolated() {
        let spans: Vec<(u64, u64)> = (1..=101).map(|ms| (0, ms * 1_000_000)).collect();
        let found = step_summary(&steps(&spans), None);
        let percentiles = [found.p50_ms, found.p95_ms, found.p99_ms];
        for (found, expected) in percentiles.into_iter().zip([51.0, 96.0, 100.0]) {
            assert!((found.expect("there are steps") - expected).abs() < 1e-9, "{percentiles:?}");
        }
    }

    #[test]
    fn warm_up_is_the_leading_steps_that_are_clearly_slower() {
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
        assert_eq!((summary.p50_ms, summary.setup_ms), (Some(3.0), Some(7.0)));
        assert!((summary.per_second.expect("a rate") - 2000.0 / 6.0).abs() < 1e-9);
        let none = step_summary(&Steps::default(), Some(1));
        assert_eq!((none.per_second, none.p99_ms, none.setup_ms), (None, None, None));
    }
}
