//! Lines whose live memory goes on growing.

use simprof_model::{HeapAmount, HeapProfile, HeapTick, NORMAL_95};
use simprof_stats::{Drift, DriftRule, DriftVerdict, Interval, Trend, assess_drift, assess_leak};

use super::growth::{Growth, growth, lasts};
use super::lines::{HeapLine, heap_lines};

/// Share of the ticks, from the first, in which a program still fills its tables.
const WARM_UP: f64 = 0.1;
/// Growth below this is what caches and buffers do, bytes.
const FLOOR_BYTES: f64 = 65536.0;
/// An estimate is trusted to grow when as many samples more are alive.
const FLOOR_SAMPLES: f64 = 8.0;
/// Of growth, what is left at the end below which it was freed.
const LEFT_SHARE: f64 = 0.5;
/// Where growth is told by time, the least of it after the warm-up, s: in less, a program still loads its libraries.
const LEAST_SECONDS: f64 = 5.0;

/// Fewest readings after the warm-up that tell of growth.
const LEAST_READINGS: usize = 20;

/// What growth is told by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrowthPer {
    /// Steps of the target.
    Step,
    /// Seconds, where it marks none.
    Second,
}

/// What came of a search for leaks.
#[derive(Debug, Clone, PartialEq)]
pub struct LeakSearch {
    /// Lines that may leak, by falling growth.
    pub suspects: Vec<LeakSuspect>,
    /// What there was and what is needed, where it was too little to look for any.
    pub untold: Option<String>,
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
    /// Whether most of it was freed when the program ended: a cache that fills, or what something global keeps.
    pub freed_at_end: bool,
    /// Bytes per agent that were taken out first; none where no population was told.
    pub per_agent_bytes: Option<f64>,
    /// Ticks that were looked at.
    pub ticks: usize,
}

/// Lines whose live bytes at the ends of steps (or over time) grow, by falling growth. What the population accounts for is taken out
/// first. A line is judged by the rules of drift, and by its increments where noise that lasts leaves those without a verdict; growth
/// that stops is none. Nothing is looked for where there are fewer than twenty ticks after the warm-up, without steps less than five
/// seconds, or fewer draws than a single line needs to be told from chance.
pub fn leak_suspects(profile: &HeapProfile) -> LeakSearch {
    let warm_up = warm_up(profile.ticks.len());
    let ticks = &profile.ticks[warm_up.min(profile.ticks.len())..];
    let (times, per) = times(&profile.ticks, warm_up, profile.steps > 0);
    if let Some(reason) = untold(profile, span(&times), per) {
        return LeakSearch { suspects: Vec::new(), untold: Some(reason) };
    }
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
            let drift = drift.ok()?;
            let rest = rest(&live, &drift, population.as_deref());
            let drift = judged(drift, &line, &times, &rest);
            let stops =
                drift.verdict == DriftVerdict::Growing && !lasts(&times, &rest, drift.trend.slope);
            if stops { None } else { suspect(line, drift, per, ticks.len()) }
        })
        .collect();
    suspects.sort_by(|a, b| b.growth_bytes.total_cmp(&a.growth_bytes));
    LeakSearch { suspects, untold: None }
}

/// Ticks at the begin that are left out of so many.
fn warm_up(ticks: usize) -> usize {
    (ticks as f64 * WARM_UP).ceil() as usize
}

/// Why no line can be judged, if so.
fn untold(profile: &HeapProfile, seconds: f64, per: GrowthPer) -> Option<String> {
    if per == GrowthPer::Second && seconds < LEAST_SECONDS {
        return Some(format!(
            "{seconds:.1} s after the first tenth of the run, {LEAST_SECONDS:.0} s are needed where no steps are marked"
        ));
    }
    let ticks = profile.ticks.len();
    let needed = (LEAST_READINGS..).find(|&ticks| ticks - warm_up(ticks) >= LEAST_READINGS)?;
    if ticks < needed {
        let what = if per == GrowthPer::Step { "steps" } else { "readings" };
        return Some(format!("{ticks} {what}, {needed} are needed"));
    }
    let draws: u64 = profile.sites.iter().map(|site| site.amounts.records).sum();
    let is_drawn = !profile.provenance.is_exact() && (draws as f64) < FLOOR_SAMPLES;
    is_drawn.then(|| format!("{draws} draws, {FLOOR_SAMPLES:.0} are needed"))
}

/// From the first tick to the last.
fn span(times: &[f64]) -> f64 {
    times.last().zip(times.first()).map_or(0.0, |(last, first)| last - first)
}

/// What is alive without what the population accounts for.
fn rest(live: &[f64], drift: &Drift, population: Option<&[f64]>) -> Vec<f64> {
    let owed = drift.population.map_or(0.0, |fit| fit.per_individual);
    let alive = population.into_iter().flatten().copied().chain(std::iter::repeat(0.0));
    live.iter().zip(alive).map(|(bytes, alive)| bytes - owed * alive).collect()
}

/// The drift of a line, judged by the increments of the rest where it has no verdict otherwise.
fn judged(drift: Drift, line: &HeapLine, times: &[f64], rest: &[f64]) -> Drift {
    let span = span(times);
    if drift.verdict != DriftVerdict::Inconclusive {
        let half = NORMAL_95 * drawn_error(line, drift.growth);
        return widened(drift, half, span);
    }
    match growth(times, rest) {
        Some(growth) if growth.goes_on() && growth.rate * span > drift.threshold => {
            by_increments(drift, growth, span)
        }
        _ => drift,
    }
}

/// Standard error of growth that is estimated from draws: each byte of a line has the same part in the line's variance.
fn drawn_error(line: &HeapLine, growth: f64) -> f64 {
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

/// Intervals widened by an independent error of growth of this half-width.
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
    fn a_planted_leak_is_found_with_its_rate() {
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
    fn the_rate_of_an_estimate_is_as_uncertain_as_its_draws() {
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
    fn what_is_freed_when_the_program_ends_is_told_apart() {
        let stacks = [("main@1 > s::cache@5 > malloc", 1)];
        let mut profile = with_ticks(heap(&stacks), 200, |_| None, |_, step| 40 * KIB * step);
        for (left, freed) in [(0, true), (200 * 40 * KIB, false)] {
            profile.sites[0].amounts.live.bytes = left;
            assert_eq!(leak_suspects(&profile).suspects[0].freed_at_end, freed, "{left}");
        }
    }

    #[test]
    fn a_leak_that_is_estimated_from_draws_is_found() {
        let stacks = [("main@1 > s::leak@5 > malloc", 1), ("main@1 > s::steady@9 > malloc", 1)];
        // 40 KiB a step, of which every 16th is drawn on average, in no order, and stands for 16.
        let drawn =
            |step: u64| (0..=step).filter(|step| (step * 7919) % 521 % 16 == 3).count() as u64;
        let live = |site: usize, step: u64| match site {
            0 => 640 * KIB * drawn(step),
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
        for (ticks, untold) in [
            (18, Some("18 steps, 23 are needed")),
            (22, Some("22 steps, 23 are needed")),
            (23, None),
        ] {
            let profile = with_ticks(heap(&stacks), ticks, |_| None, |_, step| step << 20);
            let found = leak_suspects(&profile);
            assert_eq!(found.untold.as_deref(), untold);
            assert_eq!(found.suspects.len(), usize::from(untold.is_none()), "{ticks}");
        }
    }

    #[test]
    fn few_draws_tell_nothing() {
        let stacks = [("main@1 > s::leak@5 > malloc", 1)];
        let mut profile = with_ticks(heap(&stacks), 200, |_| None, |_, step| step << 20);
        for (interval_bytes, records, untold) in
            [(4096, 7, Some("7 draws, 8 are needed")), (4096, 8, None), (1, 7, None)]
        {
            profile.provenance.interval_bytes = interval_bytes;
            profile.sites[0].amounts.records = records;
            assert_eq!(leak_suspects(&profile).untold.as_deref(), untold);
        }
    }

    /// Ticks of time, 50 ms each, of one line that allocates.
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
        // Libraries that are loaded, at once or in parts, and then stay; the last for most of a short run.
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
    fn without_steps_growth_must_last_for_seconds() {
        let leak = |tick: u64| 60 * KIB * tick;
        let found = leak_suspects(&over_time(200, leak)).suspects;
        assert_eq!((found.len(), found[0].per), (1, GrowthPer::Second), "{found:?}");
        assert!((found[0].rate - 20.0 * 60.0 * 1024.0).abs() < 1.0, "{found:?}");
        let short = leak_suspects(&over_time(100, leak));
        assert!(short.suspects.is_empty(), "five seconds with the warm-up");
        let reason = short.untold.expect("it is told");
        assert!(reason.starts_with("4.5 s after") && reason.contains("5 s are needed"), "{reason}");
    }
}
