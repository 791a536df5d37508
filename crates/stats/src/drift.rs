//! Drift and leaks: whether a cost keeps growing while a simulation runs.

use serde::Serialize;

use crate::error::{StatsError, require_finite, require_same_length};
use crate::interval::Interval;
use crate::summary::{median, median_of_sorted};
use crate::trend::{Trend, trend};

/// Growth of memory up to this many bytes does not count as a leak: 4 MiB.
///
/// A rule of thumb of this project: allocators keep free memory and grow in steps of this order.
pub const LEAK_FLOOR_BYTES: f64 = 4.0 * 1024.0 * 1024.0;
/// Fewest readings: each half of the series needs the ten that [`trend`] requires.
const READINGS_NEEDED: usize = 20;
/// Longer series are reduced to this many medians. This bounds the cost of [`trend`], which grows
/// with the square of the length, and removes short spikes.
const BINS: usize = 240;
/// A series has levelled off if its second half grows at less than this share of the rate of the
/// whole. A rule of thumb of this project: a saturating exponential meets it if the series is
/// longer than about four time constants (2 ln 7).
const PLATEAU_SHARE: f64 = 0.25;
/// Correlation of population and time above which their effects on memory cannot be separated:
/// sqrt(1 - 1 / 10). It corresponds to a variance inflation factor of 10, the customary limit
/// (Marquardt 1970).
const COLLINEAR: f64 = 0.948_683;

/// The thresholds above which a series counts as growing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DriftRule {
    /// Smallest growth over the series, as a share of its median.
    pub relative_floor: f64,
    /// Smallest growth over the series, in the unit of its values.
    pub absolute_floor: f64,
    /// Significance level: the p of the Mann-Kendall test must be below it.
    pub p: f64,
}

impl DriftRule {
    /// Returns the rule for bytes: growth above 2 % and above 4 MiB, p below 0.01.
    ///
    /// The 2 % and the p of 0.01 are rules of thumb of this project.
    pub fn memory() -> Self {
        DriftRule { relative_floor: 0.02, absolute_floor: LEAK_FLOOR_BYTES, p: 0.01 }
    }

    /// Returns the rule for times per step and other costs: growth above 2 %, p below 0.01.
    pub fn cost() -> Self {
        DriftRule { absolute_floor: 0.0, ..Self::memory() }
    }
}

/// How a series behaves over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftVerdict {
    /// It grows by more than the floor, and keeps growing.
    Growing,
    /// It grew, perhaps by more than the floor, then levelled off.
    Levelled,
    /// It does not grow, and any growth that the data hide is below the floor, with 95 % confidence.
    Steady,
    /// It grows, but by less than the floor so far. Only a longer series can show whether it continues.
    Small,
    /// The data neither show nor exclude growth above the floor.
    Inconclusive,
    /// Memory is not steady, and the population changes together with time. The cause cannot be
    /// determined.
    Confounded,
}

/// The drift of a series.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Drift {
    /// The verdict.
    pub verdict: DriftVerdict,
    /// Trend of the series, reduced to at most 240 medians.
    pub trend: Trend,
    /// Slope times duration: growth over the series, in the unit of its values.
    pub growth: f64,
    /// 95 % interval of the growth.
    pub growth_interval: Interval,
    /// The larger of the two floors of the rule, in the unit of the values. Growth below it does
    /// not count.
    pub threshold: f64,
    /// Trend of the second half alone. It decides whether the series has levelled off.
    pub second_half: Trend,
    /// Number of readings given.
    pub n: usize,
    /// The part of memory explained by the population. `None` if no population was given.
    pub population: Option<PopulationFit>,
}

/// The part of memory that the live population explains.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PopulationFit {
    /// Bytes per individual, at least 0.
    pub per_individual: f64,
    /// Pearson correlation of population and time, -1 to 1.
    pub correlation_with_time: f64,
}

/// Judges the drift of `values` read at `times`, in any order. The caller has removed the warm-up.
///
/// The rules are this project's. Their estimates are those of [`trend`]. The floor is the larger of
/// the two floors of `rule`. The first rule that applies decides:
///
/// A series rises if the Theil-Sen interval lies above zero and the Mann-Kendall test (corrected for
/// autocorrelation) is below the rule's p. Its second half is slow if its slope is below a quarter of
/// the slope of the whole and its interval lies below the slope of the whole. Its second half is
/// flat if, at its rate, the whole series would grow by less than the floor, with 95 % confidence.
///
/// - Levelled: the series rises and its second half is slow, or it grew by more than the floor and
///   its second half is flat.
/// - Small: the series rises by less than the floor.
/// - Growing: the series rises by more than the floor.
/// - Steady: the series does not rise, and the interval of the growth lies below the floor.
/// - Levelled: the series does not rise, and its second half is flat.
/// - Inconclusive: everything else, for instance a series that is too noisy.
///
/// # Errors
/// Returns an error if there are fewer than twenty readings, if the lengths differ, if all readings
/// have the same time, or if a number is not finite.
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

/// Judges whether memory leaks: the drift of `memory` (bytes) at `times`, after subtracting the part
/// that the live `population` explains.
///
/// The bytes per individual come from a linear regression of memory on population and time
/// together. A regression on population alone would attribute a leak to a population that grows. If
/// the population changes in proportion to time, no regression can separate the two. Memory that
/// grows by more than the floor is then [`DriftVerdict::Confounded`].
///
/// # Errors
/// Returns the errors of [`assess_drift`].
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
        let verdict = match raw.verdict {
            DriftVerdict::Steady | DriftVerdict::Small => raw.verdict,
            _ => DriftVerdict::Confounded,
        };
        return Ok(Drift { verdict, population: Some(fit), ..raw });
    }
    let centre = mean(population);
    let adjusted = |(bytes, alive): (&f64, &f64)| bytes - fit.per_individual * (alive - centre);
    let adjusted: Vec<f64> = memory.iter().zip(population).map(adjusted).collect();
    Ok(Drift { population: Some(fit), ..assess_drift(times, &adjusted, rule)? })
}

/// Returns the verdict on a series that lasts `duration`. See [`assess_drift`] for the rules.
fn judge(whole: &Trend, half: &Trend, duration: f64, threshold: f64, p: f64) -> DriftVerdict {
    let rising = whole.interval.lo > 0.0 && whole.p < p;
    let flat = half.interval.hi * duration <= threshold;
    if rising {
        let small = whole.slope * duration <= threshold;
        return match (has_levelled(whole, half), small) {
            (true, _) => DriftVerdict::Levelled,
            (false, true) => DriftVerdict::Small,
            (false, false) if flat => DriftVerdict::Levelled,
            (false, false) => DriftVerdict::Growing,
        };
    }
    if whole.interval.hi * duration <= threshold {
        DriftVerdict::Steady
    } else if flat {
        DriftVerdict::Levelled
    } else {
        DriftVerdict::Inconclusive
    }
}

/// Returns whether the second half grows much more slowly than the whole, and significantly so.
fn has_levelled(whole: &Trend, second_half: &Trend) -> bool {
    second_half.slope < PLATEAU_SHARE * whole.slope && second_half.interval.hi < whole.slope
}

/// Returns the time from the first reading to the last.
fn duration(times: &[f64]) -> f64 {
    let (first, last) = times
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), &t| (lo.min(t), hi.max(t)));
    last - first
}

/// Sorts the series by time, splits it into at most [`BINS`] bins with equal numbers of readings,
/// and returns the mean time and the median value of each.
fn thin(times: &[f64], values: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let mut series: Vec<(f64, f64)> = times.iter().copied().zip(values.iter().copied()).collect();
    series.sort_by(|a, b| a.0.total_cmp(&b.0));
    let bins = series.len().min(BINS);
    let bin = |i: usize| &series[i * series.len() / bins..(i + 1) * series.len() / bins];
    let reduce = |bin: &[(f64, f64)]| {
        let mut values: Vec<f64> = bin.iter().map(|(_, y)| *y).collect();
        values.sort_by(f64::total_cmp);
        let time = bin.iter().map(|(t, _)| t).sum::<f64>() / bin.len() as f64;
        (time, median_of_sorted(&values))
    };
    (0..bins).map(|i| reduce(bin(i))).unzip()
}

/// Regresses memory on population and time by ordinary least squares. A constant population explains
/// nothing.
fn population_fit(times: &[f64], memory: &[f64], population: &[f64]) -> PopulationFit {
    let (tt, pp) = (covariance(times, times), covariance(population, population));
    let tp = covariance(times, population);
    if pp == 0.0 || tt == 0.0 {
        return PopulationFit { per_individual: 0.0, correlation_with_time: 0.0 };
    }
    let (tm, pm) = (covariance(times, memory), covariance(population, memory));
    let determinant = tt * pp - tp * tp;
    // If the two are fully collinear, the caller checks the correlation and ignores the slope.
    let slope = if determinant > 0.0 { (pm * tt - tm * tp) / determinant } else { 0.0 };
    PopulationFit { per_individual: slope.max(0.0), correlation_with_time: tp / (tt * pp).sqrt() }
}

/// Returns the covariance of two series of equal length, with the divisor n.
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

    /// 600 readings over 60 s of 100 MiB plus `growth` in MiB, with autocorrelated noise of half a
    /// MiB.
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
    fn planted_series_get_the_right_verdict() {
        assert!(verdicts(|t| 0.2 * t, DriftVerdict::Growing) >= 49);
        assert!(verdicts(|_| 0.0, DriftVerdict::Steady) >= 49);
        assert_eq!(verdicts(|t| 0.03 * t, DriftVerdict::Growing), 0);
        assert!(verdicts(|t| 20.0 * (1.0 - (-t / 8.0).exp()), DriftVerdict::Levelled) >= 49);
        assert!(verdicts(|t| if t < 28.0 { 0.0 } else { 30.0 }, DriftVerdict::Growing) == 0);
    }

    /// Series without noise: of a program that does the same in every step.
    #[test]
    fn exact_series_get_the_right_verdict() {
        let exact = |base: f64, growth: fn(f64) -> f64| {
            let (times, values): (Vec<f64>, Vec<f64>) =
                (0..80).map(f64::from).map(|t| (t, (base + growth(t)) * MIB)).unzip();
            assess_drift(&times, &values, DriftRule::memory()).unwrap().verdict
        };
        for (base, growth, want) in [
            // 73 KiB per step beside 370 MiB: less than 2 % of it. Beside 10 MiB: more than 4 MiB.
            (370.0, (|t| 0.0715 * t) as fn(f64) -> f64, DriftVerdict::Small),
            (10.0, |t| 0.0715 * t, DriftVerdict::Growing),
            (10.0, |t| 0.01 * t, DriftVerdict::Small),
            (10.0, |_| 0.0, DriftVerdict::Steady),
            (500.0, |t| -0.05 * t, DriftVerdict::Steady),
            (10.0, |t| t.min(20.0), DriftVerdict::Levelled),
            (10.0, |t| (t / 10.0).fract(), DriftVerdict::Steady),
            (10.0, |t| 20.0 * (t / 10.0).fract() + t, DriftVerdict::Growing),
        ] {
            assert_eq!(exact(base, growth), want, "{base} MiB: {}", growth(79.0));
        }
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

    /// A population that rises and falls.
    fn population(t: f64) -> f64 {
        1000.0 + 400.0 * (t / 6.0).sin() + 8.0 * t
    }

    #[test]
    fn memory_of_the_population_is_separated_from_a_leak() {
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
    fn a_population_that_only_grows_is_confounded() {
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
