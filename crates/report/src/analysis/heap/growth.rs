//! Growth told by its increments, for series whose noise adds up: what is never freed, estimated from draws, is such a one.
//!
//! A test for a trend takes noise that lasts for the trend itself, or for none where it has to doubt both. The increments
//! of such a series are nearly independent, and their mean is the rate.

/// Fewest blocks from which an error is estimated.
const BLOCKS: usize = 10;
/// Growth of the second half, of that of the whole, below which it has levelled off.
const PLATEAU_SHARE: f64 = 0.25;
/// Standard errors above which growth is no chance: p of 0.01.
const NORMAL_99: f64 = 2.575_829;

/// How a series grows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Growth {
    /// Mean growth per unit of time.
    pub rate: f64,
    /// Its standard error.
    pub error: f64,
    /// The same of the second half alone.
    pub second_half: f64,
}

impl Growth {
    /// Whether it surely grows, and goes on growing.
    pub fn goes_on(&self) -> bool {
        self.rate > NORMAL_99 * self.error && self.second_half >= PLATEAU_SHARE * self.rate
    }
}

/// Growth of `values` at ascending `times`; none where there are fewer than [`BLOCKS`] increments.
///
/// The error is the largest of those that increments summed over blocks of 1, 2, 4… give (Flyvbjerg and Petersen 1989), so that
/// increments that depend on their neighbours do not make it too small.
pub fn growth(times: &[f64], values: &[f64]) -> Option<Growth> {
    let of = |from: usize| {
        let span = times.last()? - times.get(from)?;
        (span > 0.0).then(|| (values[values.len() - 1] - values[from]) / span)
    };
    let (rate, second_half) = (of(0)?, of(times.len() / 2)?);
    let mut rests: Vec<f64> = (1..times.len())
        .map(|at| values[at] - values[at - 1] - rate * (times[at] - times[at - 1]))
        .collect();
    let span = times[times.len() - 1] - times[0];
    let mut error: Option<f64> = None;
    while rests.len() >= BLOCKS {
        let squares: f64 = rests.iter().map(|rest| rest * rest).sum();
        let blocks = rests.len() as f64;
        let of_blocks = (squares * blocks / (blocks - 1.0)).sqrt() / span;
        error = Some(error.unwrap_or(0.0).max(of_blocks));
        rests = rests.chunks_exact(2).map(|pair| pair[0] + pair[1]).collect();
    }
    error.map(|error| Growth { rate, error, second_half })
}

/// Whether what grows by `rate` over the whole still does so in the middle and in the last third: what is allocated once, such as by a
/// library that is loaded, makes a trend over the whole, but none in each of these.
pub fn lasts(times: &[f64], values: &[f64], rate: f64) -> bool {
    let third = times.len() / 3;
    let grows = |from: usize, to: usize| {
        slope(&times[from..to], &values[from..to])
            .is_some_and(|slope| slope >= PLATEAU_SHARE * rate)
    };
    grows(third, 2 * third) && grows(2 * third, times.len())
}

/// The slope of the line of least squares; none where all times are the same.
fn slope(times: &[f64], values: &[f64]) -> Option<f64> {
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
    let (time, value) = (mean(times), mean(values));
    let spread: f64 = times.iter().map(|t| (t - time).powi(2)).sum();
    let common: f64 = times.iter().zip(values).map(|(t, v)| (t - time) * (v - value)).sum();
    (spread > 0.0).then(|| common / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers from 0 to 1, the same in every run.
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

    fn found(step: impl Fn(usize, f64) -> f64 + Copy) -> usize {
        (1..=200).filter(|&seed| walk(seed, step).goes_on()).count()
    }

    #[test]
    fn what_is_drawn_now_and_then_adds_up_to_growth() {
        // One step in five draws something: some 40 draws.
        assert!(found(|_, random| if random < 0.2 { 5.0 } else { 0.0 }) >= 198);
        let within = (1..=200).filter(|&seed| {
            let growth = walk(seed, |_, random| if random < 0.2 { 5.0 } else { 0.0 });
            (growth.rate - 1.0).abs() < 1.96 * growth.error
        });
        assert!(within.count() >= 180, "a 95 % interval");
    }

    #[test]
    fn what_wanders_or_jumps_or_levels_off_does_not_grow() {
        assert!(found(|_, random| random - 0.5) <= 4, "one in a hundred, on one side");
        assert_eq!(found(|at, random| if at == 100 { 1000.0 } else { random - 0.5 }), 0);
        assert_eq!(found(|at, random| if at < 90 { random } else { 0.0 }), 0);
        assert_eq!(found(|at, _| if at % 40 < 20 { 1.0 } else { -1.0 }), 0, "it swings");
    }

    #[test]
    fn what_is_exact_has_no_error() {
        let exact = walk(1, |_, _| 40_000.0);
        assert_eq!((exact.rate, exact.error), (40_000.0, 0.0));
        assert_eq!(growth(&[1.0, 2.0], &[1.0, 2.0]), None);
        assert_eq!(growth(&[1.0; 30], &[1.0; 30]), None);
    }

    #[test]
    fn growth_lasts_where_each_later_third_has_its_part() {
        let times: Vec<f64> = (0..180).map(f64::from).collect();
        let lasts_at = |of: &dyn Fn(f64) -> f64| {
            let values: Vec<f64> = times.iter().map(|&time| of(time)).collect();
            lasts(&times, &values, (values[179] - values[0]) / 179.0)
        };
        assert!(lasts_at(&|time| 5.0 * time));
        assert!(lasts_at(&|time| 100.0 * (time / 20.0).floor()), "by jumps");
        assert!(!lasts_at(&|time| 100.0 * time.min(50.0)), "early");
        assert!(!lasts_at(&|time| 100.0 * time.min(110.0)), "until past the middle");
        assert!(!lasts_at(&|time| if time < 90.0 { 0.0 } else { 1000.0 }), "once");
        assert!(!lasts_at(&|time| if time < 150.0 { 0.0 } else { 1000.0 }), "once, at last");
    }
}
