//! How many independent observations the repeats at each size are worth.

/// The worth of the repeats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Dispersion {
    /// Number of independent samples that carry as much information, from the number of sizes to
    /// the number of samples.
    pub effective: f64,
    /// Share of the noise's variance that all repeats at one size have in common, 0 to 1.
    pub shared: f64,
    /// Degrees of freedom behind the variance of a size's mean about the law; infinite where sizes
    /// without repeats leave it to the law's own residuals.
    freedom: f64,
}

impl Dispersion {
    /// Degrees of freedom of the noise about a law with so many numbers of its own.
    pub fn freedom(&self, parameters: usize) -> f64 {
        self.freedom.min(self.effective - parameters as f64)
    }
}

/// Judges repeats by the scatter that is left between sizes once the most flexible law has been
/// taken out.
///
/// If sizes scatter about the law by no more than their repeats explain, every repeat counts. If a
/// size shifts all its repeats together (an allocation that just misses a cache, a machine that
/// drifted), further repeats say nothing about the law, and the count falls towards the number of
/// sizes: the design effect 1 + (r - 1) * intraclass correlation (Kish 1965), the correlation by
/// the method of moments, and the degrees of freedom of the two variances together (Satterthwaite
/// 1946). `lack` and `within` are sums of squares of logarithms between and within
/// `sizes`; `spare` is the number of sizes beyond the law's parameters.
pub(crate) fn effective_samples(
    sizes: usize,
    samples: f64,
    lack: f64,
    spare: usize,
    within: f64,
) -> Dispersion {
    let repeats = samples / sizes as f64;
    let spare_repeats = samples - sizes as f64;
    if spare == 0 || spare_repeats <= 0.0 {
        return Dispersion { effective: samples, shared: 0.0, freedom: f64::INFINITY };
    }
    let pure = within / spare_repeats;
    let common = ((lack / spare as f64 - pure) / repeats).max(0.0);
    // Repeats that never differ are one observation, however often it is copied.
    let shared = if pure == 0.0 { 1.0 } else { common / (common + pure) };
    let inflation = 1.0 + (repeats - 1.0) * shared;
    let of_mean = repeats * shared / inflation;
    let freedom = of_mean.powi(2) / spare as f64 + (1.0 - of_mean).powi(2) / spare_repeats;
    Dispersion { effective: samples / inflation, shared, freedom: freedom.recip() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_count_by_what_they_add() {
        // Five sizes, five repeats; squares within of 20 degrees of freedom at variance 1.
        let all = effective_samples(5, 25.0, 2.0, 2, 20.0);
        assert_eq!((all.effective, all.shared), (25.0, 0.0));
        assert_eq!((all.freedom(3), all.freedom(7)), (20.0, 18.0));
        // Between sizes the mean square is 11: ten above the noise, so 2 shared by 5 repeats.
        let some = effective_samples(5, 25.0, 22.0, 2, 20.0);
        assert!((some.shared - 2.0 / 3.0).abs() < 1e-12);
        assert!((some.effective - 25.0 / (1.0 + 4.0 * 2.0 / 3.0)).abs() < 1e-12);
        let copies = effective_samples(5, 25.0, 0.0, 2, 0.0);
        assert_eq!((copies.effective, copies.freedom(3)), (5.0, 2.0));
        assert_eq!(effective_samples(5, 5.0, 3.0, 2, 0.0).effective, 5.0);
    }
}
