//! Quantiles and tail probabilities of the normal, Student's t and binomial distributions.

use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, Normal, StudentsT};

/// The standard normal distribution.
fn standard_normal() -> Normal {
    Normal::new(0.0, 1.0).expect("mean 0 and deviation 1 are valid")
}

/// Returns the quantile of the standard normal distribution at probability `p`.
pub(crate) fn normal_quantile(p: f64) -> f64 {
    standard_normal().inverse_cdf(p)
}

/// Returns the probability that a standard normal variable exceeds `z`.
pub(crate) fn normal_upper_tail(z: f64) -> f64 {
    standard_normal().sf(z)
}

/// Returns the quantile of Student's t distribution with `df` > 0 degrees of freedom at probability
/// `p`.
pub(crate) fn t_quantile(p: f64, df: f64) -> f64 {
    StudentsT::new(0.0, 1.0, df).expect("callers pass df > 0").inverse_cdf(p)
}

/// Returns the probability of at most `k` heads in `n` tosses of a fair coin.
pub(crate) fn fair_coin_cdf(k: u64, n: u64) -> f64 {
    Binomial::new(0.5, n).expect("one half is a probability").cdf(k)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference values: scipy.stats 1.x `t.ppf` and `norm.ppf`, to ten digits.
    #[test]
    fn quantiles_agree_with_published_tables() {
        for (p, df, want) in [
            (0.975, 1.0, 12.706_204_736),
            (0.975, 3.0, 3.182_446_305),
            (0.975, 5.0, 2.570_581_836),
            (0.995, 10.0, 3.169_272_673),
            (0.975, 23.0, 2.068_657_610),
        ] {
            assert!((t_quantile(p, df) - want).abs() < 1e-7, "t {p} {df}");
        }
        assert!((normal_quantile(0.975) - 1.959_963_985).abs() < 1e-8);
        assert!((normal_upper_tail(1.959_963_985) - 0.025).abs() < 1e-10);
        assert!((fair_coin_cdf(1, 9) - 10.0 / 512.0).abs() < 1e-12);
    }
}
