//! Weights as files state them: whole numbers of any size that fits in 64 bits, and fractions.

/// Decimal places that are kept of a fraction.
const MAX_PLACES: u32 = 18;
/// A fraction is taken as written with so many decimal places if it differs by less than this, relative to its value.
const ROUNDING: f64 = 1e-9;

/// A weight that is not negative.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Weight {
    whole: u64,
    /// Below 1.
    fraction: f64,
}

impl Weight {
    /// Converts a number. `None` if it is negative or too large.
    pub(super) fn new(number: f64) -> Option<Self> {
        let fits = (0.0..1.8e19).contains(&number);
        fits.then(|| Self { whole: number as u64, fraction: number.fract() })
    }

    /// Parses a number as programs write it: `3`, `2.5`, `.5`, `1e3`. `None` if it is not a number, is negative, or is too large.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Ok(whole) = text.parse() {
            return Some(Self { whole, fraction: 0.0 });
        }
        is_number(text).then(|| Self::new(text.parse().ok()?))?
    }

    /// Returns the weight rounded to a whole number.
    pub(super) fn rounded(self) -> Self {
        Self { whole: self.whole.saturating_add(self.fraction.round() as u64), fraction: 0.0 }
    }
}

/// Returns whether the text is a decimal number without words such as `inf`.
pub(super) fn is_number(text: &str) -> bool {
    let of_number =
        |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-');
    text.bytes().all(of_number) && text.parse::<f64>().is_ok()
}

/// Converts weights to whole multiples of a unit. Returns how many units are 1, and the multiples. `None` if their sum does not fit in
/// 64 bits.
///
/// The unit is 1 if all weights are whole, otherwise the power of ten that keeps the decimal places of all weights, as far as 64 bits
/// allow.
pub(super) fn multiples(weights: &[Weight]) -> Option<(u64, Vec<u64>)> {
    let whole: u128 = weights.iter().map(|weight| u128::from(weight.whole)).sum();
    let most = whole + weights.len() as u128;
    let fits = |places: &u32| most.saturating_mul(10_u128.pow(*places)) < u128::from(u64::MAX);
    let possible = (0..=MAX_PLACES).take_while(fits).last().unwrap_or(0);
    let needed = weights.iter().map(|weight| places(weight.fraction, possible)).max().unwrap_or(0);
    let units = 10_u64.pow(needed);
    let multiple = |weight: &Weight| {
        weight
            .whole
            .checked_mul(units)?
            .checked_add((weight.fraction * units as f64).round() as u64)
    };
    let all = weights.iter().map(multiple).collect::<Option<Vec<u64>>>()?;
    all.iter().try_fold(0_u64, |sum, &multiple| sum.checked_add(multiple))?;
    Some((units, all))
}

/// Returns with how many decimal places a fraction is written, at most `most`.
fn places(fraction: f64, most: u32) -> u32 {
    let is_whole = |places: &u32| {
        let scaled = fraction * 10_f64.powi(*places as i32);
        (scaled - scaled.round()).abs() <= ROUNDING * scaled
    };
    (0..most).find(is_whole).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_of_all_notations_are_parsed() {
        for (text, whole, fraction) in [
            ("3", 3, 0.0),
            ("18446744073709551615", u64::MAX, 0.0),
            ("2.5", 2, 0.5),
            ("2.", 2, 0.0),
            (".5", 0, 0.5),
            ("+1e3", 1000, 0.0),
            ("3E-1", 0, 0.3),
            ("-0", 0, 0.0),
        ] {
            assert_eq!(Weight::parse(text), Some(Weight { whole, fraction }), "{text}");
        }
        for text in ["", "-1", "-0.5", "inf", "nan", "1e30", "0x10", "1_000", "e", "3s", "--1"] {
            assert_eq!(Weight::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_unit_keeps_the_decimal_places() {
        let table: [(&[&str], u64, &[u64]); 7] = [
            (&["3", "1"], 1, &[3, 1]),
            (&["2.5", "7.5"], 10, &[25, 75]),
            (&["0.1", "7.35", "2"], 100, &[10, 735, 200]),
            (&["1e-12", "1e-12"], 1_000_000_000_000, &[1, 1]),
            (&["1e19", "0.5"], 1, &[10_000_000_000_000_000_000, 1]),
            (&["9223372036854775808", "9223372036854775807"], 1, &[1 << 63, (1 << 63) - 1]),
            (&[], 1, &[]),
        ];
        for (texts, units, expected) in table {
            let parse = |text: &&str| Weight::parse(text).expect("a number");
            let weights: Vec<Weight> = texts.iter().map(parse).collect();
            assert_eq!(multiples(&weights), Some((units, expected.to_vec())), "{texts:?}");
        }
        let huge = Weight::parse("18446744073709551615").expect("a number");
        assert_eq!(multiples(&[huge, Weight::parse("1").expect("a number")]), None);
    }

    proptest! {
        #[test]
        fn shares_are_kept(numbers in prop::collection::vec(0.0_f64..1e9, 1..20)) {
            let weights: Vec<Weight> = numbers.iter().filter_map(|&n| Weight::new(n)).collect();
            let (units, multiples) = multiples(&weights).expect("they fit");
            for (number, multiple) in numbers.iter().zip(multiples) {
                let error = (multiple as f64 / units as f64 - number).abs();
                prop_assert!(error <= 1e-6 * number.max(1.0), "{number}: {multiple} / {units}");
            }
        }

        #[test]
        fn any_text_and_number_is_handled(text in "[-+.0-9eE]{0,12}", number in any::<f64>()) {
            let parsed = Weight::parse(&text).into_iter().chain(Weight::new(number));
            let _ = multiples(&parsed.collect::<Vec<_>>());
        }
    }
}
