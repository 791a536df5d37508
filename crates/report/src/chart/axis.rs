//! Axes: scales from values to positions, with ticks at round values.

use super::Unit;

/// Maximum number of ticks of a linear axis.
const MAX_TICKS: f64 = 6.0;

/// A mark on an axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tick {
    pub(super) value: f64,
    pub(super) label: String,
}

/// A scale from values to positions along one side of a chart.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    /// Positions of `low` and `high`.
    from: f64,
    to: f64,
    is_log: bool,
    pub(super) ticks: Vec<Tick>,
}

impl Axis {
    /// Creates a linear axis from 0 to a round value at or above `largest`.
    pub(super) fn from_zero(largest: f64, unit: Unit, from: f64, to: f64) -> Self {
        let largest = if largest.is_finite() && largest > 0.0 { largest } else { 1.0 };
        let step = round_step(largest / MAX_TICKS, unit);
        let high = (largest / step - 1e-9).ceil() * step;
        Self::linear(0.0, high, step, unit, from, to)
    }

    /// Creates a linear axis of exactly `low` to `high`, with round ticks between.
    pub(super) fn exact(low: f64, high: f64, unit: Unit, from: f64, to: f64) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        Self::linear(low, high, round_step((high - low) / MAX_TICKS, unit), unit, from, to)
    }

    fn linear(low: f64, high: f64, step: f64, unit: Unit, from: f64, to: f64) -> Self {
        let first = (low / step - 1e-9).ceil();
        let ticks = (0..100)
            .map(|n| (first + f64::from(n)) * step)
            .take_while(|&value| value <= high + step * 1e-6)
            .map(|value| Tick { value, label: label(value, step, unit) })
            .collect();
        Self { low, high, from, to, is_log: false, ticks }
    }

    /// Creates a logarithmic axis around positive values. Ticks are at 1, 2 and 5 times powers of ten, or at fewer of
    /// these if they would be too close together.
    pub(super) fn log(values: impl Iterator<Item = f64>, unit: Unit, from: f64, to: f64) -> Self {
        let (mut low, mut high) = values
            .filter(|value| value.is_finite() && *value > 0.0)
            .fold((f64::INFINITY, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)));
        if low > high {
            (low, high) = (1.0, 10.0);
        }
        let margin = ((high / low).log10() * 0.06).max(0.08);
        (low, high) = (low / 10_f64.powf(margin), high * 10_f64.powf(margin));
        let ticks = log_ticks(low, high, unit);
        Self { low, high, from, to, is_log: true, ticks }
    }

    /// Returns the position of a value; values outside the axis are clamped to its ends.
    pub(super) fn position(&self, value: f64) -> f64 {
        let part = if self.is_log {
            (value.max(f64::MIN_POSITIVE) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + (self.to - self.from) * part.clamp(0.0, 1.0)
    }
}

/// Returns the label of a tick; zero has no unit.
fn label(value: f64, step: f64, unit: Unit) -> String {
    if value.abs() < step * 1e-6 { "0".to_owned() } else { unit.show(value) }
}

fn log_ticks(low: f64, high: f64, unit: Unit) -> Vec<Tick> {
    let decades = (high / low).log10();
    let factors: &[f64] = match decades {
        d if d < 0.7 => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0],
        d if d < 2.5 => &[1.0, 2.0, 5.0],
        d if d < 4.0 => &[1.0, 3.0],
        _ => &[1.0],
    };
    // Round byte values are multiples of powers of 1024. The same factors are good enough for these.
    let base = if unit == Unit::Bytes { 1024_f64.powf((low.log2() / 10.0).floor()) } else { 1.0 };
    let first = (low / base).log10().floor() as i32;
    let last = (high / base).log10().ceil() as i32;
    let every = usize::try_from(last - first).unwrap_or(0) / 8 + 1;
    (first..=last)
        .step_by(every)
        .flat_map(|power| factors.iter().map(move |factor| factor * 10_f64.powi(power) * base))
        .filter(|value| (low..=high).contains(value))
        .map(|value| Tick { value, label: unit.show(value) })
        .collect()
}

/// Returns the smallest round step at or above `least`.
fn round_step(least: f64, unit: Unit) -> f64 {
    match unit {
        Unit::Bytes => {
            let base = 1024_f64.powf((least.max(1.0).log2() / 10.0).floor());
            let step = decimal_step(least.max(1.0) / base);
            if step >= 1000.0 { base * 1024.0 } else { step * base }
        }
        Unit::DurationNs if least > 10e9 => {
            const STEPS_S: [f64; 11] =
                [15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0];
            let seconds = least * 1e-9;
            let step = STEPS_S.into_iter().find(|&step| step >= seconds);
            step.unwrap_or_else(|| (seconds / 86_400.0).ceil() * 86_400.0) * 1e9
        }
        _ => decimal_step(least),
    }
}

fn decimal_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let factor =
        [1.0, 2.0, 2.5, 5.0].into_iter().find(|factor| factor * power >= least * 0.999_999);
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    #[test]
    fn linear_ticks_are_round() {
        let second = 1e9;
        for (largest, unit, expected) in [
            (187.0, Unit::Count, vec!["0", "50", "100", "150", "200"]),
            (1.0, Unit::Share, vec!["0", "20 %", "40 %", "60 %", "80 %", "100 %"]),
            (3.1 * 1048576.0, Unit::Bytes, vec!["0", "1 MiB", "2 MiB", "3 MiB", "4 MiB"]),
            (0.0, Unit::Count, vec!["0", "0.2", "0.4", "0.6", "0.8", "1"]),
            (95.0 * second, Unit::DurationNs, vec!["0", "30 s", "60 s", "90 s", "2 min"]),
        ] {
            assert_eq!(labels(&Axis::from_zero(largest, unit, 0.0, 1.0)), expected, "{largest}");
        }
    }

    #[test]
    fn log_ticks_fit_the_range() {
        for (values, unit, expected) in [
            ([10.0, 1000.0], Unit::Count, vec!["10", "20", "50", "100", "200", "500", "1,000"]),
            (
                [1e3, 1e8],
                Unit::DurationNs,
                vec!["1 µs", "10 µs", "100 µs", "1 ms", "10 ms", "100 ms"],
            ),
            ([50.0, 50.0], Unit::Count, vec!["50"]),
            ([0.0, f64::NAN], Unit::Count, vec!["1", "2", "5", "10"]),
        ] {
            let axis = Axis::log(values.into_iter(), unit, 0.0, 1.0);
            assert_eq!(labels(&axis), expected, "{values:?}");
        }
        let wide = Axis::log([1.0, 1e30].into_iter(), Unit::Count, 0.0, 1.0);
        assert!(wide.ticks.len() <= 10, "{:?}", labels(&wide));
    }

    #[test]
    fn positions_stay_on_the_chart() {
        let axis = Axis::from_zero(10.0, Unit::Count, 100.0, 0.0);
        assert_eq!(
            (axis.position(0.0), axis.position(5.0), axis.position(99.0)),
            (100.0, 50.0, 0.0)
        );
        let axis = Axis::log([1.0, 100.0].into_iter(), Unit::Count, 0.0, 100.0);
        assert!((axis.position(10.0) - 50.0).abs() < 1e-9);
        assert_eq!(axis.position(0.0), 0.0);
    }
}
