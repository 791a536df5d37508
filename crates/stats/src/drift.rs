//! Drift and leaks: whether a cost goes on growing while a simulation runs.

use serde::Serialize;

use crate::error::{StatsError, require_finite, require_same_length};
use crate::interval::Interval;
use crate::summary::{median, median_of_sorted};
use crate::trend::{Trend, trend};

/// Growth of memory below this many bytes is what allocators do: 4 MiB.
pub const LEAK_FLOOR_BYTES: f64 = 4.0 * 1024.0 * 1024.0;
/// Fewest readings: each half must have a trend of its own.
const READINGS_NEEDED: usize = 20;
/// Long series are thinned to this many medians, which bounds the cost and takes out spikes.
const BINS: usize = 240;
/// A second half that grows at less than this share of the whole's rate has levelled off.
const PLATEAU_SHARE: f64 = 0.25;
/// Correlation of population and time from which their effects on memory cannot be told apart: a
/// variance inflation of 10.
const COLLINEAR: f64 = 0.948_683;

/// What counts as growth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DriftRule {
    /// Least growth over the series as a share of its median.
    pub relative_floor: f64,
    /// Least growth over the series in the unit of its values.
    pub absolute_floor: f64,
    /// The p of the Mann-Kendall test must lie below this.
    pub p: f64,
}

impl DriftRule {
    /// For bytes: above 2 % and 4 MiB, p below 0.01.
    pub fn memory() -> Self {
        DriftRule { relative_floor: 0.02, absolute_floor: LEAK_FLOOR_BYTES, p: 0.01 }
    }

    /// For times per step and other costs: above 2 %, p below 0.01.
    pub fn cost() -> Self {
        DriftRule { absolute_floor: 0.0, ..Self::memory() }
    }
}

/// What a series does over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftVerdict {
    /// It grows, by more than the floor, and goes on growing.
    Growing,
    /// It grew, perhaps by more than the floor, then levelled off.
    Levelled,
    /// Any growth is below the floor, with 95 % confidence.
    Steady,
    /// Growth above the floor is neither shown nor excluded.
    Inconclusive,
    /// Memory grows, but the population grows along with time: which of them memory follows cannot
    /// be told.
    Confounded,
}

/// How a series drifts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Drift {
    /// The verdict.
    pub verdict: DriftVerdict,
    /// Trend of the series, thinned to at most 240 medians.
    pub trend: Trend,
    /// Slope times duration: growth over the series, in the unit of its values.
    pub growth: f64,
    /// 95 % interval of the growth.
    pub growth_interval: Interval,
    /// Growth that the rule asks for, in the unit of the values.
    pub threshold: f64,
    /// Trend of the second half alone, on which the plateau is judged.
    pub second_half: Trend,
    /// Readings before thinning.
    pub n: usize,
    /// What memory owes to the population; absent where no population was given.
    pub population: Option<PopulationFit>,
}

/// What memory owes to the live population.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PopulationFit {
    /// Bytes per individual, at least 0.
    pub per_individual: f64,
    /// Correlation of population and time, -1 to 1.
    pub correlation_with_time: f64,
}

/// Judges the drift of `values` read at `times` (ascending or not), warm-up already removed.
///
/// It grows if the Theil-Sen interval lies above zero, the Mann-Kendall test (corrected for
/// autocorrelation) is below the rule's p and the growth is above both floors. It has levelled off
/// if the second half, kept up for as long as the whole, excludes growth above the floors, or if
/// the second half's slope is under a quarter of the whole's and surely below it. It is steady only
/// if the interval excludes growth above the floors: a series too noisy for that is inconclusive.
///
/// # Errors
/// Fewer than twenty readings, lengths that differ, readings all at one time, or a number that is
/// not finite.
pub fn assess_drift(times: &[f64], values: &[f64], rule: DriftRule) -> Result<Drift, StatsError> {
    require_same_length(times, values)?;
    require_finite(times)?;
    require_finite(values)?;
    if times.len() < READINGS_NEEDED {
        let have = times.len();
        return Err(StatsError::TooFew { what: "readings", have, need: READINGS_NEEDED });
    }
    let (binned_times, binned) = thin(times, values);
    let whole = trend(&binned_times, &binned)?;
    let middle = binned.len() / 2;
    let second_half = trend(&binned_times[middle..], &binned[middle..])?;
    let duration = duration(times);
    let threshold = rule.absolute_floor.max(rule.relative_floor * median(values)?.abs());
    Ok(Drift {
        verdict: judge(&whole, &second_half, duration, threshold, rule.p),
        trend: whole,
        growth: whole.slope * duration,
        growth_interval: whole.interval.map(|slope| slope * duration),
        threshold,
        second_half,
        n: times.len(),
        population: None,
    })
}

/// Judges whether memory leaks: the drift of `memory` (bytes) at `times` with what the live
/// `population` accounts for taken out.
///
/// Bytes per individual come from the least squares of memory on population and time together: on
/// population alone, a leak in a growing world would pass for its upkeep. Where both rise together
/// no regression can tell, and a memory that is not steady is confounded.
///
/// # Errors
/// As for [`assess_drift`].
pub fn assess_leak(
    times: &[f64],
    memory: &[f64],
    population: &[f64],
    rule: DriftRule,
) -> Result<Drift, StatsError> {
    require_same_length(times, population)?;
    require_finite(population)?;
    let raw = assess_drift(times, memory, rule)?;
    let fit = population_fit(times, memory, population);
    if fit.correlation_with_time.abs() > COLLINEAR {
        let steady = raw.verdict == DriftVerdict::Steady;
        let verdict = if steady { DriftVerdict::Steady } else { DriftVerdict::Confounded };
        return Ok(Drift { verdict, population: Some(fit), ..raw });
    }
    let centre = mean(population);
    let owed = |(bytes, alive): (&f64, &f64)| bytes - fit.per_individual * (alive - centre);
    let rest: Vec<f64> = memory.iter().zip(population).map(owed).collect();
    Ok(Drift { population: Some(fit), ..assess_drift(times, &rest, rule)? })
}

/// The verdict on a series that lasts `duration`: see [`assess_drift`].
fn judge(whole: &Trend, half: &Trend, duration: f64, threshold: f64, p: f64) -> DriftVerdict {
    let rising = whole.interval.lo > 0.0 && whole.p < p;
    let levelled =
        half.interval.hi * duration <= threshold || (rising && has_levelled(whole, half));
    if rising && whole.slope * duration > threshold && !levelled {
        DriftVerdict::Growing
    } else if whole.interval.hi * duration <= threshold {
        DriftVerdict::Steady
    } else if levelled {
        DriftVerdict::Levelled
    } else {
        DriftVerdict::Inconclusive
    }
}

/// Whether the second half grows surely slower than the whole, and much slower.
fn has_levelled(whole: &Trend, second_half: &Trend) -> bool {
    second_half.slope < PLATEAU_SHARE * whole.slope && second_half.interval.hi < whole.slope
}

/// Time from the first reading to the last.
fn duration(times: &[f64]) -> f64 {
    let (first, last) = times
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), &t| (lo.min(t), hi.max(t)));
    last - first
}

/// The series in order of time, in at most [`BINS`] runs of equal length: mean time and median
/// value of each.
fn thin(times: &[f64], values: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let mut series: Vec<(f64, f64)> = times.iter().copied().zip(values.iter().copied()).collect();
    series.sort_by(|a, b| a.0.total_cmp(&b.0));
    let bins = series.len().min(BINS);
    let bin = |i: usize| &series[i * series.len() / bins..(i + 1) * series.len() / bins];
    let reduce = |run: &[(f64, f64)]| {
        let mut values: Vec<f64> = run.iter().map(|(_, y)| *y).collect();
        values.sort_by(f64::total_cmp);
        let time = run.iter().map(|(t, _)| t).sum::<f64>() / run.len() as f64;
        (time, median_of_sorted(&values))
    };
    (0..bins).map(|i| reduce(bin(i))).unzip()
}

/// Least squares of memory on population and time; a population that never changes accounts for
/// nothing.
fn population_fit(times: &[f64], memory: &[f64], population: &[f64]) -> PopulationFit {
    let (tt, pp) = (covariance(times, times), covariance(population, population));
    let tp = covariance(times, population);
    if pp == 0.0 || tt == 0.0 {
        return PopulationFit { per_individual: 0.0, correlation_with_time: 0.0 };
    }
    let (tm, pm) = (covariance(times, memory), covariance(population, memory));
    let determinant = tt * pp - tp * tp;
    // Wholly collinear: the caller sees the correlation and makes nothing of the slope.
    let slope = if determinant > 0.0 { (pm * tt - tm * tp) / determinant } else { 0.0 };
    PopulationFit { per_individual: slope.max(0.0), correlation_with_time: tp / (tt * pp).sqrt() }
}

/// Mean product of the deviations of two series of equal length.
fn covariance(a: &[f64], b: &[f64]) -> f64 {
    let (mean_a, mean_b) = (mean(a), mean(b));
    a.iter().zip(b).map(|(x, y)| (x - mean_a) * (y - mean_b)).sum::<f64>() / a.len() as f64
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;

    const MIB: f64 = 1024.0 * 1024.0;

    /// 600 readings over 60 s of 100 MiB plus `growth`, with noise of half a MiB that lasts some
    /// readings.
    fn memory(seed: u64, growth: impl Fn(f64) -> f64) -> (Vec<f64>, Vec<f64>) {
        let mut rng = SplitMix64::new(seed);
        let mut noise = 0.0;
        (0..600)
            .map(|i| {
                let t = f64::from(i) / 10.0;
                noise = 0.7 * noise + 0.35 * rng.normal();
                (t, (100.0 + noise + growth(t)) * MIB)
            })
            .unzip()
    }

    fn verdicts(growth: impl Fn(f64) -> f64 + Copy, want: DriftVerdict) -> usize {
        let judge = |seed| {
            let (times, values) = memory(seed, growth);
            assess_drift(&times, &values, DriftRule::memory()).unwrap().verdict
        };
        (0..50).filter(|&seed| judge(seed) == want).count()
    }

    #[test]
    fn planted_series_are_judged_right() {
        assert!(verdicts(|t| 0.2 * t, DriftVerdict::Growing) >= 49);
        assert!(verdicts(|_| 0.0, DriftVerdict::Steady) >= 49);
        assert_eq!(verdicts(|t| 0.03 * t, DriftVerdict::Growing), 0);
        assert!(verdicts(|t| 20.0 * (1.0 - (-t / 8.0).exp()), DriftVerdict::Levelled) >= 49);
        assert!(verdicts(|t| if t < 28.0 { 0.0 } else { 30.0 }, DriftVerdict::Growing) == 0);
    }

    #[test]
    fn noise_as_large_as_the_floor_is_inconclusive() {
        let mut rng = SplitMix64::new(2);
        let times: Vec<f64> = (0..30).map(f64::from).collect();
        let values: Vec<f64> = times.iter().map(|_| (100.0 + 30.0 * rng.normal()) * MIB).collect();
        let got = assess_drift(&times, &values, DriftRule::memory()).unwrap();
        assert_eq!(got.verdict, DriftVerdict::Inconclusive);
        assert!(assess_drift(&times[..19], &values[..19], DriftRule::memory()).is_err());
    }

    /// A population that rises and falls, 0.02 MiB each.
    fn population(t: f64) -> f64 {
        1000.0 + 400.0 * (t / 6.0).sin() + 8.0 * t
    }

    #[test]
    fn upkeep_is_no_leak_and_a_leak_is_not_upkeep() {
        for (leak, want) in [(0.0, DriftVerdict::Steady), (0.2, DriftVerdict::Growing)] {
            let (times, values) = memory(5, |t| 0.02 * population(t) + leak * t);
            let alive: Vec<f64> = times.iter().map(|&t| population(t)).collect();
            let got = assess_leak(&times, &values, &alive, DriftRule::memory()).unwrap();
            assert_eq!(got.verdict, want, "{got:?}");
            let each = got.population.unwrap().per_individual / MIB;
            assert!((each - 0.02).abs() < 0.001, "{each}");
            assert!((got.growth / MIB - 60.0 * leak).abs() < 1.5, "{}", got.growth / MIB);
        }
    }

    #[test]
    fn a_population_that_only_grows_hides_the_cause() {
        let (times, values) = memory(6, |t| 0.3 * t);
        let alive: Vec<f64> = times.iter().map(|&t| 100.0 + t).collect();
        let got = assess_leak(&times, &values, &alive, DriftRule::memory()).unwrap();
        assert_eq!(got.verdict, DriftVerdict::Confounded);
        let (times, flat) = memory(6, |_| 0.0);
        let got = assess_leak(&times, &flat, &alive, DriftRule::memory()).unwrap();
        assert_eq!(got.verdict, DriftVerdict::Steady);
    }

    #[test]
    fn a_fixed_population_changes_nothing() {
        let (times, values) = memory(7, |t| 0.2 * t);
        let got = assess_leak(&times, &values, &[50.0; 600], DriftRule::memory()).unwrap();
        let plain = assess_drift(&times, &values, DriftRule::memory()).unwrap();
        assert_eq!((got.verdict, got.growth), (plain.verdict, plain.growth));
    }
}
