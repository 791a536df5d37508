//! Samples allocated bytes at exponentially distributed distances, which decides which allocations are
//! recorded.

/// Returns the next number of the generator SplitMix64 (Steele, Lea and Flood 2014).
pub fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mix(*state)
}

/// Mixes the bits of a number.
pub fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

/// Returns the distance to the next sampled byte, bytes. It is at least 1, with `P(distance > n) = exp(-n /
/// interval)` for whole `n`.
pub fn distance(interval: u64, random: u64) -> u64 {
    let bytes = negative_logarithm(random) * interval as f64;
    // The mean is far below 2^53 and the largest logarithm is 45.
    (bytes as u64).saturating_add(1)
}

/// Returns `-ln(u)` for a uniform number `u` from the open interval (0, 1), whose 64 binary digits are
/// `bits`.
fn negative_logarithm(bits: u64) -> f64 {
    let bits = bits | 1;
    let zeros = bits.leading_zeros();
    // u = m * 2^-(zeros + 1) with m in [1, 2).
    let mantissa = (bits << zeros >> 11) as f64 / (1u64 << 52) as f64;
    f64::from(zeros + 1) * core::f64::consts::LN_2 - logarithm(mantissa)
}

/// Returns `ln(m)` for `m` in [1, 2], by the series of the inverse hyperbolic tangent. The error is less than
/// 1e-10.
fn logarithm(m: f64) -> f64 {
    let s = (m - 1.0) / (m + 1.0);
    let square = s * s;
    let mut sum = 0.0;
    let mut odd = 19;
    while odd > 0 {
        sum = sum * square + 1.0 / f64::from(odd);
        odd -= 2;
    }
    2.0 * s * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_agrees_with_the_standard_library() {
        let mut state = 1;
        for _ in 0..100_000 {
            let bits = next(&mut state);
            let u = (bits | 1) as f64 / 2f64.powi(64);
            assert!((negative_logarithm(bits) + u.ln()).abs() < 1e-9, "{bits:x}");
        }
        for bits in [0, 1, 2, 1 << 63, u64::MAX, u64::MAX - 1] {
            assert!(negative_logarithm(bits) >= 0.0);
            assert!(negative_logarithm(bits) < 45.0);
        }
    }

    /// The fraction of distances up to `n` is `1 - exp(-n / interval)`, within 5 standard errors.
    #[test]
    fn distances_are_exponential() {
        let mut state = 7;
        let samples = 400_000;
        let distances: Vec<u64> = (0..samples).map(|_| distance(1000, next(&mut state))).collect();
        assert!(distances.iter().all(|&distance| distance >= 1));
        for n in [1, 10, 100, 500, 1000, 3000, 8000] {
            let expected = 1.0 - (-(n as f64) / 1000.0).exp();
            let found = distances.iter().filter(|&&distance| distance <= n).count() as f64;
            let error = (expected * (1.0 - expected) / samples as f64).sqrt();
            assert!((found / samples as f64 - expected).abs() < 5.0 * error, "{n}");
        }
    }
}
