//! Sums of allocations with their variance. They are exact if every allocation was recorded, otherwise estimates.

use simprof_model::HeapAmount;
use simprof_preload::heap::format::weight;

/// One recorded allocation with the weight that it has in sums.
///
/// An allocation that was recorded with probability `p` has the weight `w = 1 / p` (Horvitz and Thompson 1952). The sum of
/// `w * x` over the recorded allocations estimates the sum of `x` over all of them. The sum of `w * (w - 1) * x * x`
/// estimates the variance of that estimate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weighted {
    bytes: f64,
    count: f64,
    bytes_variance: f64,
    count_variance: f64,
}

impl Weighted {
    /// Creates the weighted form of an allocation of `size` bytes, sampled every `interval` bytes on average.
    pub fn new(size: u64, interval: u64) -> Self {
        let (weight, bytes) = (weight(size, interval), size as f64);
        let excess = weight * (weight - 1.0);
        Self {
            bytes: weight * bytes,
            count: weight,
            bytes_variance: excess * bytes * bytes,
            count_variance: excess,
        }
    }

    /// Returns the weighted bytes.
    pub fn bytes(self) -> f64 {
        self.bytes
    }

    /// Returns the weighted number of allocations.
    pub fn count(self) -> f64 {
        self.count
    }
}

/// A sum of weighted allocations.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sum {
    pub bytes: f64,
    pub count: f64,
    bytes_variance: f64,
    count_variance: f64,
}

impl Sum {
    pub fn add(&mut self, weighted: Weighted) {
        self.bytes += weighted.bytes;
        self.count += weighted.count;
        self.bytes_variance += weighted.bytes_variance;
        self.count_variance += weighted.count_variance;
    }

    /// Removes an allocation that was added before.
    pub fn remove(&mut self, weighted: Weighted) {
        self.bytes -= weighted.bytes;
        self.count -= weighted.count;
        self.bytes_variance -= weighted.bytes_variance;
        self.count_variance -= weighted.count_variance;
    }

    pub fn merge(&mut self, other: Sum) {
        self.bytes += other.bytes;
        self.count += other.count;
        self.bytes_variance += other.bytes_variance;
        self.count_variance += other.count_variance;
    }

    /// Returns the sum as an amount. Negative values, from rounding or lost records, become zero.
    pub fn amount(self) -> HeapAmount {
        let error = |variance: f64| variance.max(0.0).sqrt().round() as u64;
        HeapAmount {
            bytes: self.bytes.max(0.0).round() as u64,
            count: self.count.max(0.0).round() as u64,
            bytes_error: error(self.bytes_variance),
            count_error: error(self.count_variance),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsampled_sums_are_exact() {
        let mut sum = Sum::default();
        for size in [1, 1 << 40, 0, 12_345_678_901] {
            sum.add(Weighted::new(size, 1));
        }
        sum.remove(Weighted::new(1 << 40, 1));
        let amount = HeapAmount { bytes: 12_345_678_902, count: 3, bytes_error: 0, count_error: 0 };
        assert_eq!(sum.amount(), amount);
    }

    /// Samples many allocations of one size. The 95 % interval contains the true sum in about 95 % of the cases.
    #[test]
    fn intervals_contain_the_true_sum() {
        let (interval, size, allocations) = (1000_u64, 300_u64, 2000_u64);
        let mut state = 1_u64;
        let mut random = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let p = 1.0 - (-(size as f64) / interval as f64).exp();
        let expected = (size * allocations) as f64;
        let covered = (0..400).filter(|_| {
            let mut sum = Sum::default();
            (0..allocations)
                .filter(|_| random() < p)
                .for_each(|_| sum.add(Weighted::new(size, interval)));
            let [low, high] = sum.amount().bytes_interval();
            low <= expected && expected <= high
        });
        let covered = covered.count();
        assert!((360..=395).contains(&covered), "{covered} of 400 at 95 %");
    }
}
