//! The forms of scaling laws, and a law with its coefficients.

use std::fmt;

use serde::Serialize;

/// The form of a scaling law: cost as a function of the size n, the value of the parameter. The
/// coefficients a and c are at least zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Term {
    /// a: the cost does not depend on the size.
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
    /// All forms, in order of preference if they fit equally well.
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

    /// Returns the formula, for instance "c + a n log n".
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

    /// Returns the number of estimated parameters including the noise: the K of AICc.
    pub fn parameters(self) -> usize {
        match self {
            Term::Constant => 2,
            Term::OffsetPower => 4,
            _ => 3,
        }
    }

    /// Returns the power of the size if it is fixed and the form has no logarithm.
    pub fn power(self) -> Option<f64> {
        match self {
            Term::Linear => Some(1.0),
            Term::Quadratic => Some(2.0),
            Term::Cubic => Some(3.0),
            Term::Constant
            | Term::Power
            | Term::OffsetPower
            | Term::Logarithmic
            | Term::Linearithmic => None,
        }
    }

    /// Returns whether the form has an additive constant and a growing part.
    pub fn has_offset(self) -> bool {
        !matches!(self, Term::Constant | Term::Power)
    }

    /// Returns whether the form is defined for sizes from `smallest`: log n must not be negative.
    pub(crate) fn allows(self, smallest: f64) -> bool {
        smallest >= 1.0 || !matches!(self, Term::Logarithmic | Term::Linearithmic)
    }

    /// Returns the growing part at size `x` without its factor a. `b` is ignored if the form has no
    /// free exponent.
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

/// A law with its coefficients: cost(n) = c + a g(n), in the unit of the fitted costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Law {
    /// The form.
    pub term: Term,
    /// Factor of the growing part. For [`Term::Constant`] it is the cost itself.
    pub a: f64,
    /// Exponent of n. `None` if the form has no free exponent.
    pub b: Option<f64>,
    /// Additive constant, at least 0. It is 0 if the form has none.
    pub c: f64,
}

impl Law {
    /// Returns the cost at size `x` > 0 without noise: the median over runs.
    pub fn at(&self, x: f64) -> f64 {
        self.c + self.a * self.term.growth(x, self.b.unwrap_or(1.0))
    }

    /// Returns the local exponent at size `x`: d log cost / d log n. At large sizes, where the
    /// growing part outweighs the constant, it approaches the exponent of the growing part.
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
    fn local_exponents_equal_numerical_derivatives() {
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
