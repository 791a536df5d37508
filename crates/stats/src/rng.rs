//! A seeded random number generator, so that bootstraps and run orders can be reproduced exactly.

/// The SplitMix64 generator (Steele, Lea and Flood 2014). It has 64 bits of state and is
/// equidistributed. It is good enough for resampling and for shuffling a run order. It is not
/// cryptographically secure.
#[derive(Debug, Clone)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// Creates a generator. The seed determines its whole sequence.
    pub fn new(seed: u64) -> Self {
        SplitMix64(seed)
    }

    /// Returns the next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Returns a uniform number in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Returns a uniform integer in 0..`bound`, where `bound` is above zero (Lemire 2019, without the
    /// rejection step: the bias is below `bound` / 2^64).
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }

    /// Returns a standard normal number (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Returns a chi-square number with `df` > 0 degrees of freedom.
    ///
    /// Up to 100 degrees of freedom it is a sum of squared normal numbers. Above, it is the cube of
    /// a normal number, an approximation by Wilson and Hilferty 1931. The relative error is then
    /// below 1 in 10,000.
    pub(crate) fn chi_square(&mut self, df: usize) -> f64 {
        if df <= 100 {
            return (0..df).map(|_| self.normal().powi(2)).sum();
        }
        let (df, spread) = (df as f64, 2.0 / (9.0 * df as f64));
        df * (1.0 - spread + spread.sqrt() * self.normal()).powi(3)
    }

    /// Shuffles `items` (Fisher and Yates 1938; Durstenfeld 1964).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sequence for seed 1234567, as published with the C implementation of the algorithm.
    #[test]
    fn matches_the_reference_sequence() {
        let mut rng = SplitMix64::new(1_234_567);
        let got: Vec<u64> = (0..3).map(|_| rng.next_u64()).collect();
        assert_eq!(
            got,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn normal_numbers_have_the_right_mean_and_variance() {
        let mut rng = SplitMix64::new(1);
        let numbers: Vec<f64> = (0..20_000).map(|_| rng.normal()).collect();
        let mean = numbers.iter().sum::<f64>() / 20_000.0;
        let variance = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }

    #[test]
    fn chi_square_numbers_have_the_right_mean_and_variance() {
        for df in [3usize, 100, 101, 1000] {
            let mut rng = SplitMix64::new(df as u64);
            let numbers: Vec<f64> = (0..4000).map(|_| rng.chi_square(df)).collect();
            let mean = numbers.iter().sum::<f64>() / 4000.0;
            let variance = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 4000.0;
            assert!((mean / df as f64 - 1.0).abs() < 0.05, "{df}: {mean}");
            assert!((variance / (2.0 * df as f64) - 1.0).abs() < 0.15, "{df}: {variance}");
        }
    }

    #[test]
    fn shuffle_keeps_the_items() {
        let mut items: Vec<usize> = (0..50).collect();
        SplitMix64::new(7).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
