//! Lines whose live memory goes on growing.

use simprof_model::{HeapProfile, HeapTick};
use simprof_stats::{Drift, DriftRule, DriftVerdict, Interval, assess_drift, assess_leak};

use super::lines::{HeapLine, heap_lines};

/// Share of the ticks, from the first, in which a program still fills its tables.
const WARM_UP: f64 = 0.1;
/// Growth below this is what caches and buffers do, bytes.
const FLOOR_BYTES: f64 = 65536.0;
/// An estimate is trusted to grow when as many samples more are alive.
const FLOOR_SAMPLES: f64 = 8.0;

/// What growth is told by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrowthPer {
    /// Steps of the target.
    Step,
    /// Seconds, where it marks none.
    Second,
}

/// A line that may leak.
#[derive(Debug, Clone, PartialEq)]
pub struct LeakSuspect {
    /// The line.
    pub line: HeapLine,
    /// [`DriftVerdict::Growing`], or [`DriftVerdict::Confounded`] where the population grows along with time.
    pub verdict: DriftVerdict,
    /// What `rate` is per.
    pub per: GrowthPer,
    /// Bytes more that are alive, per step or second.
    pub rate: f64,
    /// 95 % interval of the rate.
    pub rate_interval: Interval,
    /// Growth over the ticks that were looked at, bytes.
    pub growth_bytes: f64,
    /// 95 % interval of it.
    pub growth_interval: Interval,
    /// Bytes per agent that were taken out first; none where no population was told.
    pub per_agent_bytes: Option<f64>,
    /// Ticks that were looked at.
    pub ticks: usize,
}

/// Lines whose live bytes at the ends of steps (or over time) grow, by falling growth. What the population accounts for is taken out
/// first. Empty where there are fewer than twenty ticks after the warm-up.
pub fn leak_suspects(profile: &HeapProfile) -> Vec<LeakSuspect> {
    let warm_up = (profile.ticks.len() as f64 * WARM_UP).ceil() as usize;
    let ticks = &profile.ticks[warm_up.min(profile.ticks.len())..];
    let (times, per) = times(&profile.ticks, warm_up, profile.steps > 0);
    let population: Option<Vec<f64>> =
        ticks.iter().map(|tick| tick.population.map(|count| count as f64)).collect();
    let noise = FLOOR_SAMPLES * profile.provenance.interval_bytes as f64;
    let floor = if profile.provenance.is_exact() { FLOOR_BYTES } else { noise.max(FLOOR_BYTES) };
    let rule = DriftRule { absolute_floor: floor, ..DriftRule::memory() };
    let mut suspects: Vec<LeakSuspect> = heap_lines(profile)
        .into_iter()
        .filter_map(|line| {
            let live: Vec<f64> =
                line.amounts.live_at_ticks.iter().skip(warm_up).map(|&b| b as f64).collect();
            let drift = match &population {
                Some(population) => assess_leak(&times, &live, population, rule),
                None => assess_drift(&times, &live, rule),
            };
            suspect(line, drift.ok()?, per, ticks.len())
        })
        .collect();
    suspects.sort_by(|a, b| b.growth_bytes.total_cmp(&a.growth_bytes));
    suspects
}

/// The ends of ticks after the warm-up: steps so far, or seconds.
fn times(ticks: &[HeapTick], warm_up: usize, by_steps: bool) -> (Vec<f64>, GrowthPer) {
    if by_steps {
        let mut steps = 0;
        let ends = ticks.iter().map(|tick| {
            steps += tick.steps;
            steps as f64
        });
        return (ends.skip(warm_up).collect(), GrowthPer::Step);
    }
    let begin = ticks.first().map_or(0, |tick| tick.end_ns);
    let seconds = |tick: &HeapTick| tick.end_ns.saturating_sub(begin) as f64 * 1e-9;
    (ticks.iter().skip(warm_up).map(seconds).collect(), GrowthPer::Second)
}

fn suspect(line: HeapLine, drift: Drift, per: GrowthPer, ticks: usize) -> Option<LeakSuspect> {
    let grows = drift.growth > drift.threshold && drift.trend.interval.lo > 0.0;
    let is_suspect = match drift.verdict {
        DriftVerdict::Growing => true,
        DriftVerdict::Confounded => grows,
        _ => false,
    };
    is_suspect.then(|| LeakSuspect {
        line,
        verdict: drift.verdict,
        per,
        rate: drift.trend.slope,
        rate_interval: drift.trend.interval,
        growth_bytes: drift.growth,
        growth_interval: drift.growth_interval,
        per_agent_bytes: drift.population.map(|fit| fit.per_individual),
        ticks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{heap, with_ticks};

    const KIB: u64 = 1024;

    fn suspects(profile: &HeapProfile) -> Vec<(String, DriftVerdict, f64)> {
        let found = leak_suspects(profile).into_iter();
        found.map(|s| (s.line.function, s.verdict, s.rate)).collect()
    }

    #[test]
    fn a_planted_leak_is_found_with_its_rate() {
        let profile = with_ticks(
            heap(&[("main@1 > s::leak@5 > malloc", 1), ("main@1 > s::steady@9 > malloc", 1)]),
            200,
            |_| None,
            |site, step| if site == 0 { 40 * KIB * step } else { 9000 * KIB + step % 5 },
        );
        let found = leak_suspects(&profile);
        assert_eq!(suspects(&profile).len(), 1, "{found:?}");
        assert_eq!(found[0].line.function, "s::leak");
        assert!((found[0].rate - 40960.0).abs() < 1.0, "{found:?}");
        assert_eq!((found[0].per, found[0].ticks), (GrowthPer::Step, 180));
    }

    #[test]
    fn growth_with_the_population_is_no_leak() {
        let population = |step: u64| 1000 + (step * 37) % 400;
        let profile = with_ticks(
            heap(&[("main@1 > s::agents@5 > malloc", 1), ("main@1 > s::leak@7 > malloc", 1)]),
            200,
            |step| Some(population(step)),
            |site, step| match site {
                0 => 800 * population(step),
                _ => 800 * population(step) + 2 * KIB * step,
            },
        );
        let found = suspects(&profile);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].0.as_str(), found[0].1), ("s::leak", DriftVerdict::Growing));
        assert!((found[0].2 - 2048.0).abs() < 30.0, "{found:?}");
    }

    #[test]
    fn a_population_that_only_grows_is_said_to_hide_the_cause() {
        let profile = with_ticks(
            heap(&[("main@1 > s::agents@5 > malloc", 1)]),
            100,
            |step| Some(1000 + 10 * step),
            |_, step| 10_000 * (1000 + 10 * step),
        );
        assert_eq!(suspects(&profile)[0].1, DriftVerdict::Confounded);
    }

    #[test]
    fn few_ticks_tell_nothing() {
        let stacks = [("main@1 > s::leak@5 > malloc", 1)];
        let profile = with_ticks(heap(&stacks), 20, |_| None, |_, step| step << 20);
        assert!(suspects(&profile).is_empty());
    }
}
