//! The scale of an axis: the one unit in which all of its values are shown.

use crate::format;

/// The kind of values of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds, shown in ns, µs, ms, s, min, h or days.
    DurationNs,
    /// Bytes, shown with binary prefixes.
    Bytes,
    /// Bytes per second, shown with binary prefixes.
    BytesPerSecond,
    /// Cores of CPU time: CPU time per wall time.
    Cores,
    /// A count, or any quantity without a unit.
    Count,
}

/// A unit, and the number of base units in one of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    pub(super) factor: f64,
    /// Name of the unit; empty if values have none.
    pub(super) name: &'static str,
}

const SECOND: f64 = 1e9;
const MINUTE: f64 = 60.0 * SECOND;
const HOUR: f64 = 60.0 * MINUTE;
const DAY: f64 = 24.0 * HOUR;
const KIB: f64 = 1024.0;

/// Units with the size from which they are used. Seconds are used up to 10 minutes, because most runs are shorter.
const DURATIONS: [(f64, Scale); 7] = [
    (3.0 * DAY, Scale { factor: DAY, name: "days" }),
    (3.0 * HOUR, Scale { factor: HOUR, name: "h" }),
    (10.0 * MINUTE, Scale { factor: MINUTE, name: "min" }),
    (SECOND, Scale { factor: SECOND, name: "s" }),
    (1e6, Scale { factor: 1e6, name: "ms" }),
    (1e3, Scale { factor: 1e3, name: "µs" }),
    (0.0, Scale { factor: 1.0, name: "ns" }),
];
const BYTES: [(f64, Scale); 5] = [
    (KIB * KIB * KIB * KIB, Scale { factor: KIB * KIB * KIB * KIB, name: "TiB" }),
    (KIB * KIB * KIB, Scale { factor: KIB * KIB * KIB, name: "GiB" }),
    (KIB * KIB, Scale { factor: KIB * KIB, name: "MiB" }),
    (KIB, Scale { factor: KIB, name: "KiB" }),
    (0.0, Scale { factor: 1.0, name: "B" }),
];
const BYTES_PER_SECOND: [(f64, Scale); 5] = [
    (BYTES[0].0, Scale { factor: BYTES[0].0, name: "TiB/s" }),
    (BYTES[1].0, Scale { factor: BYTES[1].0, name: "GiB/s" }),
    (BYTES[2].0, Scale { factor: BYTES[2].0, name: "MiB/s" }),
    (BYTES[3].0, Scale { factor: BYTES[3].0, name: "KiB/s" }),
    (0.0, Scale { factor: 1.0, name: "B/s" }),
];
/// Counts are written out up to 10 million.
const COUNTS: [(f64, Scale); 3] = [
    (1e10, Scale { factor: 1e9, name: "billions" }),
    (1e7, Scale { factor: 1e6, name: "millions" }),
    (0.0, Scale { factor: 1.0, name: "" }),
];

impl Scale {
    /// Returns the largest unit that suits values of about this size.
    pub(super) fn new(unit: Unit, size: f64) -> Self {
        let units: &[(f64, Scale)] = match unit {
            Unit::DurationNs => &DURATIONS,
            Unit::Bytes => &BYTES,
            Unit::BytesPerSecond => &BYTES_PER_SECOND,
            Unit::Cores => &[(0.0, Scale { factor: 1.0, name: "cores" })],
            Unit::Count => &COUNTS,
        };
        let fits = units.iter().find(|(from, _)| size >= *from);
        fits.unwrap_or(&units[units.len() - 1]).1
    }

    /// Returns a value in this unit, without the unit's name.
    pub(super) fn show(self, value: f64) -> String {
        format::three_digits(value / self.factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_suits_the_size() {
        for (unit, size, name, shown) in [
            (Unit::DurationNs, 0.0, "ns", "0"),
            (Unit::DurationNs, 250.0, "ns", "250"),
            (Unit::DurationNs, 4e6, "ms", "4"),
            (Unit::DurationNs, 599e9, "s", "599"),
            (Unit::DurationNs, 1200e9, "min", "20"),
            (Unit::DurationNs, 36_000e9, "h", "10"),
            (Unit::DurationNs, 864_000e9, "days", "10"),
            (Unit::Bytes, 1000.0, "B", "1,000"),
            (Unit::Bytes, 1024.0, "KiB", "1"),
            (Unit::Bytes, 1.5 * 1_073_741_824.0, "GiB", "1.5"),
            (Unit::BytesPerSecond, 3.0 * 1_048_576.0, "MiB/s", "3"),
            (Unit::Cores, 0.25, "cores", "0.25"),
            (Unit::Count, 1_000_000.0, "", "1,000,000"),
            (Unit::Count, 25_000_000.0, "millions", "25"),
        ] {
            let scale = Scale::new(unit, size);
            assert_eq!((scale.name, scale.show(size).as_str()), (name, shown), "{unit:?} {size}");
        }
        assert_eq!(Scale::new(Unit::Bytes, f64::NAN).name, "B");
    }
}
