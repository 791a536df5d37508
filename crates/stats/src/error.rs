//! What can be wrong with the numbers handed in.

use thiserror::Error;

/// Why a statistic could not be computed. A sample that is merely too small for an interval is not
/// an error: the result then carries no interval and says how many samples it would take.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum StatsError {
    /// There is nothing to compute from.
    #[error("no samples")]
    Empty,
    /// A sample is NaN or infinite.
    #[error("sample {index} is not finite: {value}")]
    NotFinite {
        /// Position in the input, from 0.
        index: usize,
        /// The offending value.
        value: f64,
    },
    /// A sample that must be above zero, because its logarithm is taken, is not.
    #[error("sample {index} is not above zero: {value}")]
    NotPositive {
        /// Position in the input, from 0.
        index: usize,
        /// The offending value.
        value: f64,
    },
    /// Two inputs that belong together differ in length.
    #[error("lengths differ: {left} and {right}")]
    LengthMismatch {
        /// Length of the first input.
        left: usize,
        /// Length of the second input.
        right: usize,
    },
    /// A probability or a confidence level is outside its range.
    #[error("{what} must be strictly between 0 and 1, not {value}")]
    BadProbability {
        /// What the number was meant to be.
        what: &'static str,
        /// The offending value.
        value: f64,
    },
    /// More successes than trials.
    #[error("{successes} successes out of {trials} trials")]
    TooManySuccesses {
        /// Successes claimed.
        successes: u64,
        /// Trials made.
        trials: u64,
    },
    /// Fewer observations than the method needs to say anything at all.
    #[error("{what}: {have} given, at least {need} needed")]
    TooFew {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        have: usize,
        /// How many it takes.
        need: usize,
    },
}

/// Checks that there is at least one sample and that all are finite.
pub(crate) fn require_finite(samples: &[f64]) -> Result<(), StatsError> {
    if samples.is_empty() {
        return Err(StatsError::Empty);
    }
    match samples.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(StatsError::NotFinite { index, value: samples[index] }),
        None => Ok(()),
    }
}

/// Checks that there is at least one sample and that all are finite and above zero.
pub(crate) fn require_positive(samples: &[f64]) -> Result<(), StatsError> {
    require_finite(samples)?;
    match samples.iter().position(|&value| value <= 0.0) {
        Some(index) => Err(StatsError::NotPositive { index, value: samples[index] }),
        None => Ok(()),
    }
}

/// Checks that `value` lies strictly between 0 and 1.
pub(crate) fn require_probability(what: &'static str, value: f64) -> Result<(), StatsError> {
    if value > 0.0 && value < 1.0 {
        Ok(())
    } else {
        Err(StatsError::BadProbability { what, value })
    }
}

/// Checks that two inputs have the same length.
pub(crate) fn require_same_length(left: &[f64], right: &[f64]) -> Result<(), StatsError> {
    if left.len() == right.len() {
        Ok(())
    } else {
        Err(StatsError::LengthMismatch { left: left.len(), right: right.len() })
    }
}
