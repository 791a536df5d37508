//! Leak suspects: lines whose live memory keeps growing.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{HeapAmount, HeapProfile, HeapTick, NORMAL_95};
use simprof_stats::{Drift, DriftRule, DriftVerdict, Interval, Trend, assess_drift, assess_leak};

use super::growth::{Growth, growth, lasts};
use super::lines::{HeapLine, heap_lines};

/// Leading share of the ticks that is warm-up, in which a program fills its tables.
const WARM_UP: f64 = 0.1;
/// Growth below this is normal for caches and buffers, bytes.
const FLOOR_BYTES: f64 = 65536.0;
/// Minimum number of additional live samples for sampled growth to count.
const FLOOR_SAMPLES: u64 = 8;
/// If less than this share of the growth is live at the end, it was freed.
const LEFT_SHARE: f64 = 0.5;
/// Without steps, minimum duration after the warm-up, s: a shorter run may still load its libraries.
const SECONDS_MIN: f64 = 5.0;

/// Minimum number of readings after the warm-up.
const READINGS_MIN: usize = 20;

/// The unit of time of a growth rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrowthPer {
    /// A step of the target.
    Step,
    /// A second, if the target marks no steps.
    Second,
}

impl fmt::Display for GrowthPer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GrowthPer::Step => "step",
            GrowthPer::Second => "second",
        })
    }
}

/// The result of a search for leaks.
#[derive(Debug, Clone, PartialEq)]
pub struct LeakSearch {
    /// Lines that may leak, by decreasing growth.
    pub suspects: Vec<LeakSuspect>,
    /// Why no search was possible.
    pub too_little: Option<TooLittleData>,
}

/// Why a recording has too little data for a search for leaks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TooLittleData {
    /// Too short, in a run without steps.
    Duration {
        /// Time after the warm-up, s.
        have_s: f64,
    },
    /// Too few steps, or readings over time.
    Readings {
        /// What is counted.
        per: GrowthPer,
        /// Their number.
        have: usize,
        /// The number needed.
        need: usize,
    },
    /// Too few allocation samples.
    Samples {
        /// Their number.
        have: u64,
    },
}

impl fmt::Display for TooLittleData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Duration { have_s } => write!(
                f,
                "{have_s:.1} s after the first tenth of the run; without steps, at least {SECONDS_MIN:.0} s are needed"
            ),
            Self::Readings { per, have, need } => {
                let what = if per == GrowthPer::Step { "steps" } else { "readings" };
                write!(f, "{have} {what}; at least {need} are needed")
            }
            Self::Samples { have } => {
                write!(f, "{have} allocation samples; at least {FLOOR_SAMPLES} are needed")
            }
        }
    }
}

/// A line that may leak.
#[derive(Debug, Clone, PartialEq)]
pub struct LeakSuspect {
    /// The line.
    pub line: HeapLine,
    /// [`DriftVerdict::Growing`], or [`DriftVerdict::Confounded`] if the population grows as well.
    pub verdict: DriftVerdict,
    /// Unit of time of `rate`.
    pub per: GrowthPer,
    /// Growth of live bytes per step or second.
    pub rate: f64,
    /// 95 % interval of the rate.
    pub rate_interval: Interval,
    /// Growth over the ticks after the warm-up, bytes.
    pub growth_bytes: f64,
    /// 95 % interval of the growth.
    pub growth_interval: Interval,
    /// Whether most of it was freed when the program ended, as a growing cache or a global container is.
    pub freed_at_end: bool,
    /// Bytes per agent that were subtracted first; `None` if the target reports no population.
    pub per_agent_bytes: Option<f64>,
    /// Number of ticks after the warm-up.
    pub ticks: usize,
}

/// Searches for lines whose live bytes at the ends of steps (without steps: over time) grow.
///
/// The part that the population accounts for is subtracted first. A line is judged by the drift rules. If persistent noise
/// leaves these without a verdict, it is judged by its increments. Growth that stops is not reported.
///
/// There is no search if there are fewer than twenty ticks after the warm-up, less than five seconds in a run without
/// steps, or fewer allocation samples than one line needs to be distinguished from chance.
pub fn leak_suspects(profile: &HeapProfile) -> LeakSearch {
    let warm_up = warm_up(profile.ticks.len());
    let ticks = &profile.ticks[warm_up.min(profile.ticks.len())..];
    let (times, per) = times(&profile.ticks, warm_up, profile.steps > 0);
    if let Some(reason) = too_little(profile, span(&times), per) {
        return LeakSearch { suspects: Vec::new(), too_little: Some(reason) };
    }
    let population: Option<Vec<f64>> =
        ticks.iter().map(|tick| tick.population.map(|count| count as f64)).collect();
    let noise = FLOOR_SAMPLES as f64 * profile.provenance.interval_bytes as f64;
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
            let drift = drift.ok()?;
            let rest = without_population(&live, &drift, population.as_deref());
            let drift = with_increments(drift, &line, &times, &rest);
            let stops =
                drift.verdict == DriftVerdict::Growing && !lasts(&times, &rest, drift.trend.slope);
            if stops { None } else { suspect(line, drift, per, ticks.len()) }
        })
        .collect();
    suspects.sort_by(|a, b| b.growth_bytes.total_cmp(&a.growth_bytes));
    LeakSearch { suspects, too_little: None }
}

/// Returns the number of warm-up ticks among `ticks`.
fn warm_up(ticks: usize) -> usize {
    (ticks as f64 * WARM_UP).ceil() as usize
}

/// Returns why no line can be judged, or `None` if lines can be.
fn too_little(profile: &HeapProfile, have_s: f64, per: GrowthPer) -> Option<TooLittleData> {
    if per == GrowthPer::Second && have_s < SECONDS_MIN {
        return Some(TooLittleData::Duration { have_s });
    }
    let have = profile.ticks.len();
    let need = (READINGS_MIN..).find(|&ticks| ticks - warm_up(ticks) >= READINGS_MIN)?;
    if have < need {
        return Some(TooLittleData::Readings { per, have, need });
    }
    let have: u64 = profile.sites.iter().map(|site| site.amounts.records).sum();
    let is_too_few = !profile.provenance.is_exact() && have < FLOOR_SAMPLES;
    is_too_few.then_some(TooLittleData::Samples { have })
}

/// Returns the time from the first tick to the last.
fn span(times: &[f64]) -> f64 {
    times.last().zip(times.first()).map_or(0.0, |(last, first)| last - first)
}

/// Returns the live bytes without the part that the population accounts for.
fn without_population(live: &[f64], drift: &Drift, population: Option<&[f64]>) -> Vec<f64> {
    let per_agent = drift.population.map_or(0.0, |fit| fit.per_individual);
    let agents = population.into_iter().flatten().copied().chain(std::iter::repeat(0.0));
    live.iter().zip(agents).map(|(bytes, agents)| bytes - per_agent * agents).collect()
}

/// Returns the drift of a line; if it is inconclusive, judged by the increments of `rest`.
fn with_increments(drift: Drift, line: &HeapLine, times: &[f64], rest: &[f64]) -> Drift {
    let span = span(times);
    if drift.verdict != DriftVerdict::Inconclusive {
        let half = NORMAL_95 * sampling_error(line, drift.growth);
        return widened(drift, half, span);
    }
    match growth(times, rest) {
        Some(growth) if growth.continues() && growth.rate * span > drift.threshold => {
            by_increments(drift, growth, span)
        }
        _ => drift,
    }
}

/// Returns the standard error of sampled growth: each byte of a line contributes equally to the line's variance.
fn sampling_error(line: &HeapLine, growth: f64) -> f64 {
    let HeapAmount { bytes, bytes_error, .. } = line.amounts.allocated;
    bytes_error as f64 * (growth.max(0.0) / bytes.max(1) as f64).sqrt()
}

fn by_increments(drift: Drift, growth: Growth, span: f64) -> Drift {
    let half = NORMAL_95 * growth.error;
    let interval = Interval { lo: growth.rate - half, hi: growth.rate + half, confidence: 0.95 };
    Drift {
        verdict: DriftVerdict::Growing,
        growth: growth.rate * span,
        growth_interval: scaled(interval, span),
        trend: Trend { slope: growth.rate, interval, ..drift.trend },
        ..drift
    }
}

/// Returns the drift with its intervals widened by an independent error of half-width `half`.
fn widened(drift: Drift, half: f64, span: f64) -> Drift {
    let Drift { growth, growth_interval, .. } = drift;
    let lo = growth - (growth - growth_interval.lo).hypot(half);
    let hi = growth + (growth_interval.hi - growth).hypot(half);
    let growth_interval = Interval { lo, hi, ..growth_interval };
    let trend = Trend { interval: scaled(growth_interval, 1.0 / span), ..drift.trend };
    Drift { growth_interval, trend, ..drift }
}

fn scaled(interval: Interval, by: f64) -> Interval {
    Interval { lo: interval.lo * by, hi: interval.hi * by, ..interval }
}

/// Returns the ends of ticks after the warm-up, as steps so far or as seconds.
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
        freed_at_end: (line.amounts.live.bytes as f64) < LEFT_SHARE * drift.growth,
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
        let found = leak_suspects(profile).suspects.into_iter();
        found.map(|s| (s.line.function, s.verdict, s.rate)).collect()
    }

    #[test]
    fn a_leak_is_found_with_its_rate() {
        let profile = with_ticks(
            heap(&[("main@1 > s::leak@5 > malloc", 1), ("main@1 > s::steady@9 > malloc", 1)]),
            200,
            |_| None,
            |site, step| if site == 0 { 40 * KIB * step } else { 9000 * KIB + step % 5 },
        );
        let found = leak_suspects(&profile).suspects;
        assert_eq!(suspects(&profile).len(), 1, "{found:?}");
        assert_eq!(found[0].line.function, "s::leak");
        assert!((found[0].rate - 40960.0).abs() < 1.0, "{found:?}");
        assert_eq!((found[0].per, found[0].ticks), (GrowthPer::Step, 180));
    }

    #[test]
    fn the_interval_of_a_sampled_rate_includes_the_sampling_error() {
        let stacks = [("main@1 > s::leak@5 > malloc", 1)];
        let mut profile = with_ticks(heap(&stacks), 200, |_| None, |_, step| 40 * KIB * step);
        let exact = leak_suspects(&profile).suspects[0].rate_interval;
        (
            profile.sites[0].amounts.allocated.bytes,
            profile.sites[0].amounts.allocated.bytes_error,
        ) = (40 * KIB * 179, 1 << 20);
        let suspect = &leak_suspects(&profile).suspects[0];
        assert!(exact.hi - exact.lo < 1.0, "{exact:?}");
        // 2 MiB over 179 steps, on either side.
        let half = 1.96 * f64::from(1 << 20);
        assert!(
            (suspect.rate_interval.hi - suspect.rate - half / 179.0).abs() < 1.0,
            "{suspect:?}"
        );
        assert!((suspect.growth_bytes - suspect.growth_interval.lo - half).abs() < 200.0);
    }

    #[test]
    fn growth_that_is_freed_at_the_end_is_marked() {
        let stacks = [("main@1 > s::cache@5 > malloc", 1)];
        let mut profile = with_ticks(heap(&stacks), 200, |_| None, |_, step| 40 * KIB * step);
        for (left, freed) in [(0, true), (200 * 40 * KIB, false)] {
            profile.sites[0].amounts.live.bytes = left;
            assert_eq!(leak_suspects(&profile).suspects[0].freed_at_end, freed, "{left}");
        }
    }

    #[test]
    fn a_sampled_leak_is_found() {
        let stacks = [("main@1 > s::leak@5 > malloc", 1), ("main@1 > s::steady@9 > malloc", 1)];
        // 40 KiB per step, of which one in 16 is sampled, at irregular distances, and counts 16 times.
        let sampled =
            |step: u64| (0..=step).filter(|step| (step * 7919) % 521 % 16 == 3).count() as u64;
        let live = |site: usize, step: u64| match site {
            0 => 640 * KIB * sampled(step),
            _ => 5000 * KIB + 640 * KIB * (step * 7919 % 521 % 4),
        };
        let population = |step: u64| Some(1000 + step * 37 % 400);
        let mut profile = with_ticks(heap(&stacks), 400, population, live);
        profile.provenance.interval_bytes = 512 * KIB;
        profile.sites[0].amounts.records = 25;
        let found = leak_suspects(&profile).suspects;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].line.function, "s::leak");
        let interval = found[0].rate_interval;
        assert!(interval.contains(40_960.0) && interval.lo > 0.0, "{interval:?}");
        assert!(interval.hi > 1.05 * interval.lo, "it is an estimate: {interval:?}");
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
    fn growth_with_a_population_that_only_grows_is_confounded() {
        let profile = with_ticks(
            heap(&[("main@1 > s::agents@5 > malloc", 1)]),
            100,
            |step| Some(1000 + 10 * step),
            |_, step| 10_000 * (1000 + 10 * step),
        );
        assert_eq!(suspects(&profile)[0].1, DriftVerdict::Confounded);
    }

    #[test]
    fn too_few_ticks_prevent_a_search() {
        let stacks = [("main@1 > s::leak@5 > malloc", 1)];
        let too_few = |have| TooLittleData::Readings { per: GrowthPer::Step, have, need: 23 };
        for (ticks, reason) in [(18, Some(too_few(18))), (22, Some(too_few(22))), (23, None)] {
            let profile = with_ticks(heap(&stacks), ticks, |_| None, |_, step| step << 20);
            let found = leak_suspects(&profile);
            assert_eq!(found.too_little, reason);
            assert_eq!(found.suspects.len(), usize::from(reason.is_none()), "{ticks}");
        }
        assert_eq!(too_few(18).to_string(), "18 steps; at least 23 are needed");
    }

    #[test]
    fn too_few_samples_prevent_a_search() {
        let stacks = [("main@1 > s::leak@5 > malloc", 1)];
        let mut profile = with_ticks(heap(&stacks), 200, |_| None, |_, step| step << 20);
        let too_few = TooLittleData::Samples { have: 7 };
        for (interval_bytes, records, reason) in
            [(4096, 7, Some(too_few)), (4096, 8, None), (1, 7, None)]
        {
            profile.provenance.interval_bytes = interval_bytes;
            profile.sites[0].amounts.records = records;
            assert_eq!(leak_suspects(&profile).too_little, reason);
        }
        assert_eq!(too_few.to_string(), "7 allocation samples; at least 8 are needed");
    }

    /// A profile without steps: ticks of 50 ms, and one line that allocates.
    fn over_time(ticks: u64, live: impl Fn(u64) -> u64) -> HeapProfile {
        let stacks = [("main@1 > s::line@5 > malloc", 1)];
        let mut profile = with_ticks(heap(&stacks), ticks, |_| None, |_, tick| live(tick));
        profile.steps = 0;
        for (at, tick) in (1..).zip(&mut profile.ticks) {
            (tick.steps, tick.end_ns) = (0, at * 50_000_000);
        }
        profile
    }

    #[test]
    fn growth_that_stops_is_no_leak() {
        // Libraries that are loaded at once or in parts; the last case takes most of the run.
        for (last, by) in [(70, 1), (90, 10), (120, 1), (150, 1), (150, 15)] {
            let loaded = |tick: u64| 60 * KIB * (tick.min(last) / by * by);
            let found = leak_suspects(&over_time(200, loaded)).suspects;
            assert!(found.is_empty(), "{last} {found:?}");
            let stacks = [("main@1 > s::load@5 > malloc", 1)];
            let by_steps = with_ticks(heap(&stacks), 200, |_| None, |_, step| loaded(step));
            assert!(leak_suspects(&by_steps).suspects.is_empty(), "{last}");
        }
    }

    #[test]
    fn without_steps_a_search_needs_five_seconds() {
        let leak = |tick: u64| 60 * KIB * tick;
        let found = leak_suspects(&over_time(200, leak)).suspects;
        assert_eq!((found.len(), found[0].per), (1, GrowthPer::Second), "{found:?}");
        assert!((found[0].rate - 20.0 * 60.0 * 1024.0).abs() < 1.0, "{found:?}");
        let short = leak_suspects(&over_time(100, leak));
        assert!(short.suspects.is_empty(), "five seconds include the warm-up");
        let reason = short.too_little.expect("there is a reason").to_string();
        assert!(reason.starts_with("4.5 s after") && reason.contains("5 s are needed"), "{reason}");
    }
}
