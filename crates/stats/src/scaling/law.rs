//! The forms that a law may take, and a law with its numbers filled in.

use std::fmt;

use serde::Serialize;

/// The form of a law of cost against size n; a and c are at least zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Term {
    /// a: the size does not matter.
    Constant,
    /// a n^b.
    Power,
    /// c + a n^b.
    OffsetPower,
    /// c + a log n.
    Logarithmic,
    /// c + a n.
    Linear,
    /// c + a n log n.
    Linearithmic,
    /// c + a n^2.
    Quadratic,
    /// c + a n^3.
    Cubic,
}

impl Term {
    /// Every form, in the order in which they are tried and, at equal merit, preferred.
    pub const ALL: [Term; 8] = [
        Term::Constant,
        Term::Logarithmic,
        Term::Linear,
        Term::Linearithmic,
        Term::Quadratic,
        Term::Cubic,
        Term::Power,
        Term::OffsetPower,
    ];

    /// The form in symbols, for instance "c + a n log n".
    pub fn name(self) -> &'static str {
        match self {
            Term::Constant => "constant",
            Term::Power => "a n^b",
            Term::OffsetPower => "c + a n^b",
            Term::Logarithmic => "c + a log n",
            Term::Linear => "c + a n",
            Term::Linearithmic => "c + a n log n",
            Term::Quadratic => "c + a n^2",
            Term::Cubic => "c + a n^3",
        }
    }

    /// Numbers estimated, the noise's own included: the K of AICc.
    pub fn parameters(self) -> usize {
        match self {
            Term::Constant => 2,
            Term::OffsetPower => 4,
            _ => 3,
        }
    }

    /// Whether the form has an additive constant beside a growing part.
    pub fn has_offset(self) -> bool {
        !matches!(self, Term::Constant | Term::Power)
    }

    /// Whether the form makes sense over sizes from `smallest`: log n must not be negative.
    pub(crate) fn allows(self, smallest: f64) -> bool {
        smallest >= 1.0 || !matches!(self, Term::Logarithmic | Term::Linearithmic)
    }

    /// The growing part at size `x`, before its factor a; `b` counts only where the form has one.
    pub(crate) fn growth(self, x: f64, b: f64) -> f64 {
        match self {
            Term::Constant => 1.0,
            Term::Power | Term::OffsetPower => x.powf(b),
            Term::Logarithmic => x.ln(),
            Term::Linear => x,
            Term::Linearithmic => x * x.ln(),
            Term::Quadratic => x * x,
            Term::Cubic => x * x * x,
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A law with its numbers: cost(n) = c + a g(n), in the unit of the costs fitted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Law {
    /// The form.
    pub term: Term,
    /// Factor of the growing part; the level itself for a constant.
    pub a: f64,
    /// Exponent of n, where the form has one.
    pub b: Option<f64>,
    /// Additive constant, at least 0; always 0 where the form has none.
    pub c: f64,
}

impl Law {
    /// The cost at size `x` > 0, noise apart: the median of what runs would cost.
    pub fn at(&self, x: f64) -> f64 {
        self.c + self.a * self.term.growth(x, self.b.unwrap_or(1.0))
    }

    /// The power with which the cost grows at size `x`: d log cost / d log n. It tends to the
    /// exponent of the growing part once that outweighs the constant.
    pub fn local_exponent(&self, x: f64) -> f64 {
        let growing = 1.0 - self.c / self.at(x);
        growing
            * match self.term {
                Term::Constant => 0.0,
                Term::Power | Term::OffsetPower => self.b.unwrap_or(1.0),
                Term::Logarithmic => 1.0 / x.ln(),
                Term::Linear => 1.0,
                Term::Linearithmic => 1.0 + 1.0 / x.ln(),
                Term::Quadratic => 2.0,
                Term::Cubic => 3.0,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_exponents_are_the_derivatives() {
        for term in Term::ALL {
            let law =
                Law { term, a: 0.3, b: Some(1.7), c: if term.has_offset() { 5.0 } else { 0.0 } };
            for x in [2.0f64, 30.0, 4000.0] {
                let step = 1e-5f64;
                let rise = (law.at(x * step.exp()) / law.at(x * (-step).exp())).ln();
                assert!(
                    (rise / (2.0 * step) - law.local_exponent(x)).abs() < 1e-6,
                    "{term} at {x}"
                );
            }
        }
    }
}
