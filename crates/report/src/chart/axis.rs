//! Axes: scales from values to positions, with ticks at round or at measured values.

use super::scale::{Scale, Unit};
use super::svg::text_width;

/// Maximum number of ticks of a linear axis.
const MAX_TICKS: f64 = 6.0;
/// Number of ticks that a logarithmic axis should have at least.
const MIN_LOG_TICKS: usize = 3;
/// Font size of the labels.
pub(super) const LABEL_SIZE: f64 = 11.0;
/// Gap between adjacent labels.
const LABEL_GAP: f64 = 8.0;

/// A mark on an axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tick {
    pub(super) value: f64,
    /// The value in the unit of the axis; empty if the label would overlap another.
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
    scale: Scale,
    pub(super) ticks: Vec<Tick>,
}

impl Axis {
    /// Creates a linear axis from 0 to a round value at or above `largest`.
    pub(super) fn from_zero(largest: f64, unit: Unit, from: f64, to: f64) -> Self {
        let largest = if largest.is_finite() && largest > 0.0 { largest } else { 1.0 };
        let scale = Scale::new(unit, largest);
        let step = round_step(largest / MAX_TICKS, scale);
        Self::linear((largest / step - 1e-9).ceil() * step, step, scale, from, to)
    }

    /// Creates a linear axis of exactly 0 to `high`, with round ticks between.
    pub(super) fn exact(high: f64, unit: Unit, from: f64, to: f64) -> Self {
        let high = if high > 0.0 { high } else { 1.0 };
        let scale = Scale::new(unit, high);
        Self::linear(high, round_step(high / MAX_TICKS, scale), scale, from, to)
    }

    fn linear(high: f64, step: f64, scale: Scale, from: f64, to: f64) -> Self {
        let ticks = linear_ticks(0.0, high, step, scale);
        Self { low: 0.0, high, from, to, is_log: false, scale, ticks }
    }

    /// Creates a logarithmic axis around positive values. Ticks are at round values: 1, 2 and 5 times powers of ten, or
    /// more or fewer of these to suit the range.
    pub(super) fn log(values: impl Iterator<Item = f64>, unit: Unit, from: f64, to: f64) -> Self {
        let mut axis = Self::log_range(values, unit, from, to);
        axis.ticks = log_ticks(axis.low, axis.high, axis.scale);
        axis
    }

    /// Creates a horizontal logarithmic axis around positive values, with ticks at the sizes that were measured. Labels
    /// that would overlap are omitted, but never that of the largest size.
    pub(super) fn log_measured(
        values: impl Iterator<Item = f64>,
        mut measured: Vec<f64>,
        unit: Unit,
        from: f64,
        to: f64,
    ) -> Self {
        let mut axis = Self::log_range(values, unit, from, to);
        measured.retain(|&size| (axis.low..=axis.high).contains(&size));
        measured.sort_by(f64::total_cmp);
        measured.dedup();
        let label = |value: f64| Tick { value, label: axis.scale.show(value) };
        let ticks: Vec<Tick> = measured.into_iter().map(label).collect();
        axis.ticks = ticks;
        axis.thin();
        axis
    }

    /// Creates a logarithmic axis without ticks, somewhat longer than the range of the values.
    fn log_range(values: impl Iterator<Item = f64>, unit: Unit, from: f64, to: f64) -> Self {
        let (mut low, mut high) = values
            .filter(|value| value.is_finite() && *value > 0.0)
            .fold((f64::INFINITY, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)));
        if low > high {
            (low, high) = (1.0, 10.0);
        }
        // The middle of the range has small numbers then, and neither end has very large or very small ones.
        let scale = Scale::new(unit, (low * high).sqrt());
        let margin = ((high / low).log10() * 0.06).max(0.08);
        let (low, high) = (low / 10_f64.powf(margin), high * 10_f64.powf(margin));
        Self { low, high, from, to, is_log: true, scale, ticks: Vec::new() }
    }

    /// Removes labels that would overlap along a horizontal axis. The last label comes first, then the others in order.
    fn thin(&mut self) {
        let Some(last) = self.ticks.len().checked_sub(1) else { return };
        let half = |tick: &Tick| text_width(&tick.label, LABEL_SIZE) / 2.0;
        let limit = self.position(self.ticks[last].value) - half(&self.ticks[last]) - LABEL_GAP;
        let mut taken = f64::NEG_INFINITY;
        for at in 0..last {
            let (x, half) = (self.position(self.ticks[at].value), half(&self.ticks[at]));
            if x - half >= taken && x + half <= limit {
                taken = x + half + LABEL_GAP;
            } else {
                self.ticks[at].label.clear();
            }
        }
    }

    /// Returns the title of the axis: the name of its values, their unit, and whether the axis is logarithmic.
    pub(super) fn title(&self, name: &str) -> String {
        let log = if self.is_log { "log scale" } else { "" };
        let notes: Vec<&str> =
            [self.scale.name, log].into_iter().filter(|note| !note.is_empty()).collect();
        if notes.is_empty() { name.to_owned() } else { format!("{name} ({})", notes.join(", ")) }
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

fn linear_ticks(low: f64, high: f64, step: f64, scale: Scale) -> Vec<Tick> {
    let first = (low / step - 1e-9).ceil();
    (0..100)
        .map(|n| (first + f64::from(n)) * step)
        .take_while(|&value| value <= high + step * 1e-6)
        .map(|value| Tick { value, label: scale.show(value) })
        .collect()
}

fn log_ticks(low: f64, high: f64, scale: Scale) -> Vec<Tick> {
    let factors: &[f64] = match (high / low).log10() {
        d if d < 1.2 => &[1.0, 2.0, 3.0, 5.0, 7.0],
        d if d < 2.5 => &[1.0, 2.0, 5.0],
        d if d < 4.0 => &[1.0, 3.0],
        _ => &[1.0],
    };
    let first = (low / scale.factor).log10().floor() as i32;
    let last = (high / scale.factor).log10().ceil() as i32;
    let every = usize::try_from(last - first).unwrap_or(0) / 8 + 1;
    let ticks: Vec<Tick> = (first..=last)
        .step_by(every)
        .flat_map(|power| factors.iter().map(move |factor| factor * 10_f64.powi(power)))
        .map(|value| value * scale.factor)
        .filter(|value| (low..=high).contains(value))
        .map(|value| Tick { value, label: scale.show(value) })
        .collect();
    if ticks.len() >= MIN_LOG_TICKS {
        return ticks;
    }
    linear_ticks(low, high, round_step((high - low) / MAX_TICKS, scale), scale)
}

/// Returns the smallest step at or above `least` that is round in the unit of the axis.
fn round_step(least: f64, scale: Scale) -> f64 {
    decimal_step(least / scale.factor) * scale.factor
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
    fn linear_ticks_are_round_in_one_unit() {
        for (largest, unit, title, expected) in [
            (187.0, Unit::Count, "x", vec!["0", "50", "100", "150", "200"]),
            (1.0, Unit::Cores, "x (cores)", vec!["0", "0.2", "0.4", "0.6", "0.8", "1"]),
            (3.1 * 1_048_576.0, Unit::Bytes, "x (MiB)", vec!["0", "1", "2", "3", "4"]),
            (1e9, Unit::Bytes, "x (MiB)", vec!["0", "200", "400", "600", "800", "1,000"]),
            (1.1e9, Unit::Bytes, "x (GiB)", vec!["0", "0.2", "0.4", "0.6", "0.8", "1", "1.2"]),
            (0.0, Unit::Count, "x", vec!["0", "0.2", "0.4", "0.6", "0.8", "1"]),
            (95e9, Unit::DurationNs, "x (s)", vec!["0", "20", "40", "60", "80", "100"]),
            (7200e9, Unit::DurationNs, "x (min)", vec!["0", "20", "40", "60", "80", "100", "120"]),
        ] {
            let axis = Axis::from_zero(largest, unit, 0.0, 1.0);
            assert_eq!((axis.title("x").as_str(), labels(&axis)), (title, expected), "{largest}");
        }
    }

    #[test]
    fn log_ticks_fit_the_range() {
        for (values, unit, title, expected) in [
            (
                [10.0, 1000.0],
                Unit::Count,
                "x (log scale)",
                vec!["10", "20", "50", "100", "200", "500", "1,000"],
            ),
            (
                [1e3, 1e8],
                Unit::DurationNs,
                "x (µs, log scale)",
                vec!["1", "10", "100", "1,000", "10,000", "100,000"],
            ),
            (
                [1_048_576.0, 50.0 * 1_048_576.0],
                Unit::Bytes,
                "x (MiB, log scale)",
                vec!["1", "2", "5", "10", "20", "50"],
            ),
            ([50.0, 50.0], Unit::Count, "x (log scale)", vec!["45", "50", "55", "60"]),
            ([0.0, f64::NAN], Unit::Count, "x (log scale)", vec!["1", "2", "3", "5", "7", "10"]),
        ] {
            let axis = Axis::log(values.into_iter(), unit, 0.0, 1.0);
            assert_eq!((axis.title("x").as_str(), labels(&axis)), (title, expected), "{values:?}");
        }
        let wide = Axis::log([1.0, 1e30].into_iter(), Unit::Count, 0.0, 1.0);
        assert!(wide.ticks.len() <= 10, "{:?}", labels(&wide));
    }

    #[test]
    fn ticks_are_at_the_measured_sizes() {
        let axis = |sizes: &[f64], width: f64| {
            let (values, measured) = (sizes.iter().copied(), sizes.to_vec());
            Axis::log_measured(values, measured, Unit::Count, 0.0, width)
        };
        let sizes = [200.0, 10.0, 25.0, 50.0, 100.0, 50.0];
        let wide = axis(&sizes, 600.0);
        assert_eq!(labels(&wide), ["10", "25", "50", "100", "200"]);
        let values: Vec<f64> = wide.ticks.iter().map(|tick| tick.value).collect();
        assert_eq!(values, [10.0, 25.0, 50.0, 100.0, 200.0]);
        // Every size keeps its mark.
        assert_eq!(labels(&axis(&sizes, 70.0)), ["10", "", "50", "", "200"]);
        assert_eq!(labels(&axis(&sizes, 30.0)), ["10", "", "", "", "200"]);
        assert_eq!(labels(&axis(&[5.0], 600.0)), ["5"]);
        assert!(axis(&[], 600.0).ticks.is_empty());
        let predicted = [10.0, 100.0, 400.0];
        let axis =
            Axis::log_measured(predicted.into_iter(), vec![10.0, 100.0], Unit::Count, 0.0, 600.0);
        assert_eq!(labels(&axis), ["10", "100"], "the end of a curve was not measured");
    }

    #[test]
    fn labels_of_measured_sizes_never_overlap() {
        let sizes: Vec<f64> = (1..200).map(|n| f64::from(n * n)).collect();
        let axis =
            Axis::log_measured(sizes.iter().copied(), sizes.clone(), Unit::Count, 92.0, 736.0);
        let mut end = 0.0;
        for tick in axis.ticks.iter().filter(|tick| !tick.label.is_empty()) {
            let half = text_width(&tick.label, LABEL_SIZE) / 2.0;
            assert!(axis.position(tick.value) - half > end, "{tick:?}");
            end = axis.position(tick.value) + half;
        }
        assert_eq!(axis.ticks.len(), sizes.len());
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
