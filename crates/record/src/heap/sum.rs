//! Sums of allocations: exact, or estimates with their variance.

use simprof_model::HeapAmount;
use simprof_preload::heap::format::weight;

/// What one recorded allocation stands for.
///
/// It was recorded with probability `p` and stands for `w = 1 / p` of its kind (Horvitz and Thompson 1952). A sum of `w * x` over
/// what was recorded estimates the sum of `x` over all; the sum of `w * (w - 1) * x * x` estimates the variance of that.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    bytes: f64,
    count: f64,
    bytes_variance: f64,
    count_variance: f64,
}

impl Share {
    /// Of an allocation of `size` bytes where draws are `interval` bytes apart.
    pub fn of(size: u64, interval: u64) -> Self {
        let (weight, bytes) = (weight(size, interval), size as f64);
        let excess = weight * (weight - 1.0);
        Self {
            bytes: weight * bytes,
            count: weight,
            bytes_variance: excess * bytes * bytes,
            count_variance: excess,
        }
    }

    /// Bytes that it stands for.
    pub fn bytes(self) -> f64 {
        self.bytes
    }

    /// Allocations that it stands for.
    pub fn count(self) -> f64 {
        self.count
    }
}

/// A sum of shares.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sum {
    pub bytes: f64,
    pub count: f64,
    bytes_variance: f64,
    count_variance: f64,
}

impl Sum {
    pub fn add(&mut self, share: Share) {
        self.bytes += share.bytes;
        self.count += share.count;
        self.bytes_variance += share.bytes_variance;
        self.count_variance += share.count_variance;
    }

    /// Takes out what was added before.
    pub fn remove(&mut self, share: Share) {
        self.bytes -= share.bytes;
        self.count -= share.count;
        self.bytes_variance -= share.bytes_variance;
        self.count_variance -= share.count_variance;
    }

    pub fn absorb(&mut self, other: Sum) {
        self.bytes += other.bytes;
        self.count += other.count;
        self.bytes_variance += other.bytes_variance;
        self.count_variance += other.count_variance;
    }

    /// As an amount; what rounding, or a record that was lost, left below zero is zero.
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
    fn exact_sums_are_exact() {
        let mut sum = Sum::default();
        for size in [1, 1 << 40, 0, 12_345_678_901] {
            sum.add(Share::of(size, 1));
        }
        sum.remove(Share::of(1 << 40, 1));
        let amount = HeapAmount { bytes: 12_345_678_902, count: 3, bytes_error: 0, count_error: 0 };
        assert_eq!(sum.amount(), amount);
    }

    /// Poisson draws over many allocations of one size: the estimate lies in its interval about as often as it says.
    #[test]
    fn intervals_hold_the_truth() {
        let (interval, size, allocations) = (1000_u64, 300_u64, 2000_u64);
        let mut state = 1_u64;
        let mut random = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let p = 1.0 - (-(size as f64) / interval as f64).exp();
        let truth = (size * allocations) as f64;
        let held = (0..400).filter(|_| {
            let mut sum = Sum::default();
            (0..allocations)
                .filter(|_| random() < p)
                .for_each(|_| sum.add(Share::of(size, interval)));
            let [low, high] = sum.amount().bytes_interval();
            low <= truth && truth <= high
        });
        let held = held.count();
        assert!((360..=395).contains(&held), "{held} of 400 at 95 %");
    }
}
