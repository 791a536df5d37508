//! Measurements by size, reduced to the sums that least squares on logarithms needs.

use serde::Serialize;

use crate::error::{StatsError, require_positive};

/// All costs measured at one size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// Value of the parameter, above zero: agents, steps or cells.
    pub x: f64,
    /// One cost per fresh process, above zero, all in the same unit.
    pub y: Vec<f64>,
}

/// For each size: the number of costs and the mean of their logarithms.
///
/// The scatter within sizes does not depend on the law, so its sum of squares is computed once.
#[derive(Debug, Clone)]
pub(crate) struct Points {
    /// Sizes, ascending and distinct.
    pub x: Vec<f64>,
    /// Mean logarithm of the cost at each size.
    pub mean: Vec<f64>,
    /// Number of costs at each size.
    pub count: Vec<f64>,
    /// Pure-error sum of squares: the squared distances of the logarithms from the mean of their
    /// size.
    pub within: f64,
    /// Smallest relative scatter that is assumed: the resolution of the costs.
    pub resolution: f64,
}

/// Smallest relative scatter that is assumed of any cost. Without it, rounding errors would decide
/// between laws that fit exact counts.
const RESOLUTION: f64 = 1e-3;

impl Points {
    /// Checks and reduces `points`. Entries of equal size are merged.
    ///
    /// # Errors
    /// Returns an error if there are no points, if a size has no costs, or if a number is not finite
    /// or not above zero.
    pub fn new(points: &[Point]) -> Result<Points, StatsError> {
        let x: Vec<f64> = points.iter().map(|point| point.x).collect();
        require_positive(&x)?;
        let mut groups: Vec<(f64, Vec<f64>)> = Vec::new();
        let mut order: Vec<&Point> = points.iter().collect();
        order.sort_by(|a, b| a.x.total_cmp(&b.x));
        for point in order {
            require_positive(&point.y)?;
            let logs = point.y.iter().map(|y| y.ln());
            match groups.last_mut() {
                Some((x, group)) if *x == point.x => group.extend(logs),
                _ => groups.push((point.x, logs.collect())),
            }
        }
        Ok(Points::reduce(&groups))
    }

    /// Computes means, counts and scatter of groups of logarithms.
    fn reduce(groups: &[(f64, Vec<f64>)]) -> Points {
        let mean: Vec<f64> =
            groups.iter().map(|(_, logs)| logs.iter().sum::<f64>() / logs.len() as f64).collect();
        let squares = |((_, logs), mean): (&(f64, Vec<f64>), &f64)| {
            logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>()
        };
        Points {
            x: groups.iter().map(|(x, _)| *x).collect(),
            count: groups.iter().map(|(_, logs)| logs.len() as f64).collect(),
            within: groups.iter().zip(&mean).map(squares).sum(),
            mean,
            resolution: RESOLUTION,
        }
    }

    /// Returns the points with the resolution of costs that are multiples of `granule`.
    ///
    /// A value rounded to multiples of g has an error with the standard deviation g / sqrt(12). It
    /// is relative to the smallest cost, so that it is not too small at any size.
    pub fn rounded_to(self, granule: f64) -> Points {
        let least = self.mean.iter().copied().fold(f64::INFINITY, f64::min).exp();
        Points { resolution: self.resolution.max(granule / 12f64.sqrt() / least), ..self }
    }

    /// Returns the smallest sum of squares that is assumed.
    pub fn floor(&self) -> f64 {
        self.samples() * self.resolution * self.resolution
    }

    /// Returns the number of distinct sizes.
    pub fn sizes(&self) -> usize {
        self.x.len()
    }

    /// Returns the number of costs over all sizes.
    pub fn samples(&self) -> f64 {
        self.count.iter().sum()
    }

    /// Returns the largest size.
    pub fn largest(&self) -> f64 {
        self.x[self.x.len() - 1]
    }

    /// Returns the ratio of the largest size to the smallest.
    pub fn span(&self) -> f64 {
        self.largest() / self.x[0]
    }

    /// Returns the geometric mean of the smallest and largest size. Laws are scaled relative to it for
    /// numerical stability.
    pub fn reference(&self) -> f64 {
        (self.x[0] * self.largest()).sqrt()
    }

    /// Returns the least-squares level of a shape, and the lack-of-fit sum of squares about it.
    ///
    /// `shape` returns the logarithm of the law at the size with the given index; the level is the
    /// additive constant in logarithms. This is the innermost loop of every fit, so it makes one
    /// pass with a running mean (West 1979).
    pub fn level(&self, shape: impl Fn(usize) -> f64) -> (f64, f64) {
        let (mut level, mut squares, mut weight) = (0.0, 0.0, 0.0);
        for i in 0..self.sizes() {
            let count = self.count[i];
            weight += count;
            let step = self.mean[i] - shape(i) - level;
            level += step * count / weight;
            squares += count * step * step * (1.0 - count / weight);
        }
        (level, squares)
    }
}
