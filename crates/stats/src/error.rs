//! Errors about the numbers passed in.

use thiserror::Error;

/// The reason why a statistic could not be computed.
///
/// It is not an error if there are too few values for an interval. The result then has no interval
/// and contains the number of values needed.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum StatsError {
    /// The input is empty.
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
    /// A sample is zero or negative, but its logarithm is needed.
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
    /// A probability or a confidence level is out of range.
    #[error("{what} must be strictly between 0 and 1, not {value}")]
    BadProbability {
        /// Name of the parameter.
        what: &'static str,
        /// The offending value.
        value: f64,
    },
    /// More successes than trials.
    #[error("{successes} successes out of {trials} trials")]
    TooManySuccesses {
        /// Number of successes given.
        successes: u64,
        /// Number of trials given.
        trials: u64,
    },
    /// There are fewer observations than the method needs.
    #[error("{what}: {have} given, at least {need} needed")]
    TooFew {
        /// What is counted, in the plural.
        what: &'static str,
        /// Number given.
        have: usize,
        /// Smallest number that is enough.
        need: usize,
    },
}

/// Checks that there is at least one sample and that all samples are finite.
pub(crate) fn require_finite(samples: &[f64]) -> Result<(), StatsError> {
    if samples.is_empty() {
        return Err(StatsError::Empty);
    }
    match samples.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(StatsError::NotFinite { index, value: samples[index] }),
        None => Ok(()),
    }
}

/// Checks that there is at least one sample and that all samples are finite and above zero.
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
