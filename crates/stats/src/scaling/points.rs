//! Measurements by size, reduced to what least squares on logarithms needs.

use serde::Serialize;

use crate::error::{StatsError, require_positive};

/// Every cost measured at one size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// The parameter's value, above zero: agents, steps, cells.
    pub x: f64,
    /// One cost per fresh process, above zero, all in one unit.
    pub y: Vec<f64>,
}

/// Sizes in ascending order with the mean and number of the logarithms of their costs. The scatter
/// within a size is the same for every law, so that sum of squares is kept once.
#[derive(Debug, Clone)]
pub(crate) struct Points {
    /// Sizes, ascending and distinct.
    pub x: Vec<f64>,
    /// Mean logarithm of the cost at each size.
    pub mean: Vec<f64>,
    /// Number of costs at each size.
    pub count: Vec<f64>,
    /// Squares of logarithms about the mean of their size, summed over all.
    pub within: f64,
}

impl Points {
    /// Checks and reduces `points`; entries of equal size are joined.
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

    /// Means, counts and scatter of groups of logarithms.
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
        }
    }

    /// Number of distinct sizes.
    pub fn sizes(&self) -> usize {
        self.x.len()
    }

    /// Number of costs over all sizes.
    pub fn samples(&self) -> f64 {
        self.count.iter().sum()
    }

    /// The largest size.
    pub fn largest(&self) -> f64 {
        self.x[self.x.len() - 1]
    }

    /// The largest size over the smallest.
    pub fn span(&self) -> f64 {
        self.largest() / self.x[0]
    }

    /// The geometric mean of the extreme sizes, against which laws are scaled for numerical health.
    pub fn reference(&self) -> f64 {
        (self.x[0] * self.largest()).sqrt()
    }

    /// The best additive shift (in logarithms) of a shape given at every size, and the weighted
    /// squares that remain.
    ///
    /// One pass with a running mean (West 1979): this is the innermost loop of every fit.
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
