//! Estimates growth from increments, for series whose noise accumulates, such as sampled bytes that are never freed.
//!
//! A trend test fails on such series: it takes the accumulated noise for a trend, or rejects the trend as noise. Their
//! increments are nearly independent, and the mean of these is the growth rate.

/// Minimum number of blocks for estimating an error.
const BLOCKS_MIN: usize = 10;
/// Growth rate of a part relative to the whole, below which the series has levelled off.
const PLATEAU_SHARE: f64 = 0.25;
/// Two-sided 99 % quantile of the normal distribution, in standard errors.
const NORMAL_99: f64 = 2.575_829;

/// Growth of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Growth {
    /// Mean growth per unit of time.
    pub rate: f64,
    /// Its standard error.
    pub error: f64,
    /// Mean growth per unit of time in the second half.
    pub second_half: f64,
}

impl Growth {
    /// Whether the growth is significant (p below 0.01) and continues in the second half.
    pub fn continues(&self) -> bool {
        self.rate > NORMAL_99 * self.error && self.second_half >= PLATEAU_SHARE * self.rate
    }
}

/// Returns the growth of `values` at ascending `times`, or `None` if there are fewer than [`BLOCKS_MIN`] increments.
///
/// The error is the largest of the errors from increments summed over blocks of 1, 2, 4… (Flyvbjerg and Petersen 1989), so
/// that correlated increments do not make it too small.
pub fn growth(times: &[f64], values: &[f64]) -> Option<Growth> {
    let rate_since = |from: usize| {
        let span = times.last()? - times.get(from)?;
        (span > 0.0).then(|| (values[values.len() - 1] - values[from]) / span)
    };
    let (rate, second_half) = (rate_since(0)?, rate_since(times.len() / 2)?);
    let mut residuals: Vec<f64> = (1..times.len())
        .map(|at| values[at] - values[at - 1] - rate * (times[at] - times[at - 1]))
        .collect();
    let span = times[times.len() - 1] - times[0];
    let mut error: Option<f64> = None;
    while residuals.len() >= BLOCKS_MIN {
        let squares: f64 = residuals.iter().map(|residual| residual * residual).sum();
        let blocks = residuals.len() as f64;
        let block_error = (squares * blocks / (blocks - 1.0)).sqrt() / span;
        error = Some(error.unwrap_or(0.0).max(block_error));
        residuals = residuals.chunks_exact(2).map(|pair| pair[0] + pair[1]).collect();
    }
    error.map(|error| Growth { rate, error, second_half })
}

/// Whether a series that grows by `rate` overall also grows in its middle third and in its last third. A single
/// allocation, such as loading a library, makes an overall trend, but not one in each of these.
pub fn lasts(times: &[f64], values: &[f64], rate: f64) -> bool {
    let third = times.len() / 3;
    let grows = |from: usize, to: usize| {
        slope(&times[from..to], &values[from..to])
            .is_some_and(|slope| slope >= PLATEAU_SHARE * rate)
    };
    grows(third, 2 * third) && grows(2 * third, times.len())
}

/// Returns the slope of the least-squares line, or `None` if all times are equal.
fn slope(times: &[f64], values: &[f64]) -> Option<f64> {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (time, value) = (mean(times), mean(values));
    let spread: f64 = times.iter().map(|t| (t - time).powi(2)).sum();
    let common: f64 = times.iter().zip(values).map(|(t, v)| (t - time) * (v - value)).sum();
    (spread > 0.0).then(|| common / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pseudo-random numbers from 0 to 1, the same in every run.
    fn noise(seed: u64) -> impl Iterator<Item = f64> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        std::iter::repeat_with(move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 53) as f64
        })
    }

    fn walk(seed: u64, step: impl Fn(usize, f64) -> f64) -> Growth {
        let (mut times, mut values, mut sum) = (Vec::new(), Vec::new(), 0.0);
        for (at, random) in noise(seed).take(200).enumerate() {
            sum += step(at, random);
            times.push(at as f64);
            values.push(sum);
        }
        growth(&times, &values).expect("there are increments")
    }

    /// Number of seeds of 200 for which growth is found.
    fn found(step: impl Fn(usize, f64) -> f64 + Copy) -> usize {
        (1..=200).filter(|&seed| walk(seed, step).continues()).count()
    }

    #[test]
    fn sparse_samples_of_steady_growth_are_found() {
        // One step in five has a sample: about 40 samples.
        assert!(found(|_, random| if random < 0.2 { 5.0 } else { 0.0 }) >= 198);
        let within = (1..=200).filter(|&seed| {
            let growth = walk(seed, |_, random| if random < 0.2 { 5.0 } else { 0.0 });
            (growth.rate - 1.0).abs() < 1.96 * growth.error
        });
        assert!(within.count() >= 180, "a 95 % interval");
    }

    #[test]
    fn random_walks_jumps_and_plateaus_are_not_growth() {
        assert!(found(|_, random| random - 0.5) <= 4, "one in a hundred, on one side");
        assert_eq!(found(|at, random| if at == 100 { 1000.0 } else { random - 0.5 }), 0);
        assert_eq!(found(|at, random| if at < 90 { random } else { 0.0 }), 0);
        assert_eq!(found(|at, _| if at % 40 < 20 { 1.0 } else { -1.0 }), 0, "it oscillates");
    }

    #[test]
    fn exact_growth_has_no_error() {
        let exact = walk(1, |_, _| 40_000.0);
        assert_eq!((exact.rate, exact.error), (40_000.0, 0.0));
        assert_eq!(growth(&[1.0, 2.0], &[1.0, 2.0]), None);
        assert_eq!(growth(&[1.0; 30], &[1.0; 30]), None);
    }

    #[test]
    fn growth_lasts_if_both_later_thirds_grow() {
        let times: Vec<f64> = (0..180).map(f64::from).collect();
        let lasts_at = |value: &dyn Fn(f64) -> f64| {
            let values: Vec<f64> = times.iter().map(|&time| value(time)).collect();
            lasts(&times, &values, (values[179] - values[0]) / 179.0)
        };
        assert!(lasts_at(&|time| 5.0 * time));
        assert!(lasts_at(&|time| 100.0 * (time / 20.0).floor()), "in jumps");
        assert!(!lasts_at(&|time| 100.0 * time.min(50.0)), "early");
        assert!(!lasts_at(&|time| 100.0 * time.min(110.0)), "until past the middle");
        assert!(!lasts_at(&|time| if time < 90.0 { 0.0 } else { 1000.0 }), "once");
        assert!(!lasts_at(&|time| if time < 150.0 { 0.0 } else { 1000.0 }), "once, near the end");
    }
}
