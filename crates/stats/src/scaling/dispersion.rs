//! The effective number of independent samples, given repeats at each size.

/// How the noise splits into a part that all repeats at a size share and a part of each single run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Dispersion {
    /// Effective number of independent samples, between the number of sizes and the number of samples.
    pub effective: f64,
    /// Share of the noise variance that all repeats at one size have in common, 0 to 1.
    pub shared: f64,
    /// Degrees of freedom of the variance of a size mean about the law. Infinite without repeats:
    /// the method `freedom` is then limited by the residuals of the law alone.
    freedom: f64,
}

impl Dispersion {
    /// Returns the degrees of freedom of the noise about a law with `parameters` parameters.
    pub fn freedom(&self, parameters: usize) -> f64 {
        self.freedom.min(self.effective - parameters as f64)
    }
}

/// Computes the effective number of samples from the scatter of the size means about the most
/// flexible law.
///
/// If the size means scatter about the law by no more than their repeats explain, every repeat
/// counts. But an effect may shift all repeats at a size together: data that just exceed a cache,
/// or a machine that drifted. More repeats then add little information about the law, and the
/// effective number falls towards the number of sizes. It is divided by the design
/// effect, 1 + (r - 1) * intraclass correlation for r repeats (Kish 1965). The correlation is
/// estimated by the method of moments. The degrees of freedom of the combined variance are those
/// of Satterthwaite 1946.
///
/// `lack_of_fit` and `within` are the sums of squares of logarithms between and within `sizes`.
/// `spare` is the number of sizes beyond the parameters of the law.
pub(crate) fn effective_samples(
    sizes: usize,
    samples: f64,
    lack_of_fit: f64,
    spare: usize,
    within: f64,
) -> Dispersion {
    let repeats = samples / sizes as f64;
    let spare_repeats = samples - sizes as f64;
    if spare == 0 || spare_repeats <= 0.0 {
        return Dispersion { effective: samples, shared: 0.0, freedom: f64::INFINITY };
    }
    let pure = within / spare_repeats;
    let common = ((lack_of_fit / spare as f64 - pure) / repeats).max(0.0);
    // Identical repeats are copies of one observation.
    let shared = if pure == 0.0 { 1.0 } else { common / (common + pure) };
    let inflation = 1.0 + (repeats - 1.0) * shared;
    let shared_of_mean = repeats * shared / inflation;
    let freedom =
        shared_of_mean.powi(2) / spare as f64 + (1.0 - shared_of_mean).powi(2) / spare_repeats;
    Dispersion { effective: samples / inflation, shared, freedom: freedom.recip() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_count_less_if_they_share_their_noise() {
        // Five sizes with five repeats: 20 degrees of freedom within sizes, at variance 1.
        let all = effective_samples(5, 25.0, 2.0, 2, 20.0);
        assert_eq!((all.effective, all.shared), (25.0, 0.0));
        assert_eq!((all.freedom(3), all.freedom(7)), (20.0, 18.0));
        // The mean square between sizes is 11. That is 10 above the noise, so 5 repeats share 2.
        let some = effective_samples(5, 25.0, 22.0, 2, 20.0);
        assert!((some.shared - 2.0 / 3.0).abs() < 1e-12);
        assert!((some.effective - 25.0 / (1.0 + 4.0 * 2.0 / 3.0)).abs() < 1e-12);
        let copies = effective_samples(5, 25.0, 0.0, 2, 0.0);
        assert_eq!((copies.effective, copies.freedom(3)), (5.0, 2.0));
        assert_eq!(effective_samples(5, 5.0, 3.0, 2, 0.0).effective, 5.0);
    }
}
