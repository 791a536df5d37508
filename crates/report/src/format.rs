//! Formats numbers for people: three significant digits, in the unit that fits.

use std::borrow::Cow;

/// Formats a duration in nanoseconds: `0 ns`, `3.42 ms`, `61.2 s`, `2 min 5 s`, `3 h 20 min`, `12 days`, `3.4 years`.
pub fn duration_ns(ns: f64) -> String {
    if !ns.is_finite() {
        return "-".to_owned();
    }
    let size = ns.abs();
    if size >= 99.95e9 {
        let sign = if ns < 0.0 { "-" } else { "" };
        return format!("{sign}{}", clock(size * 1e-9));
    }
    scaled(ns, &[(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")])
}

/// Formats bytes with binary prefixes: `812 B`, `12.3 MiB`.
pub fn bytes(bytes: f64) -> String {
    const KIB: f64 = 1024.0;
    let units = [
        (KIB.powi(4), "TiB"),
        (KIB.powi(3), "GiB"),
        (KIB.powi(2), "MiB"),
        (KIB, "KiB"),
        (1.0, "B"),
    ];
    scaled(bytes, &units)
}

/// Formats a fraction of 0 to 1 as a percentage: `61.2 %`, `0.034 %`, `100 %`.
pub fn share(share: f64) -> String {
    if !share.is_finite() {
        return "-".to_owned();
    }
    let percent = share * 100.0;
    if percent != 0.0 && percent.abs() < 0.0005 {
        return "< 0.001 %".to_owned();
    }
    let digits = match percent.abs() {
        size if size >= 99.95 => 0,
        size if size >= 0.995 => 1,
        size if size >= 0.0995 => 2,
        _ => 3,
    };
    format!("{} %", trimmed(&format!("{percent:.digits$}")))
}

/// Formats a ratio: `1.24×`, `0.031×`, `37.5×`.
pub fn ratio(ratio: f64) -> String {
    if ratio.is_finite() { format!("{}×", three_digits(ratio)) } else { "-".to_owned() }
}

/// Formats a count or a mean of counts: `0`, `3.2`, `17`, `12,400`, `1.25 M`, `3.1 G`.
pub fn count(count: f64) -> String {
    if !count.is_finite() {
        return "-".to_owned();
    }
    let size = count.abs();
    if size >= 999.5e12 {
        return scientific(count);
    }
    if size >= 999_500.0 {
        return scaled(count, &[(1e12, "T"), (1e9, "G"), (1e6, "M")]);
    }
    if size < 99.95 { three_digits(count) } else { grouped(count) }
}

/// Formats a number with its noun: `1 pair`, `3 pairs`.
pub fn counted(number: u64, noun: &str) -> String {
    let end = if number == 1 { "" } else { "s" };
    format!("{} {noun}{end}", count(number as f64))
}

/// Formats a mean number of threads per run: `1 thread`, `3 threads`, or `1.2 threads on average` if it is not whole.
pub fn threads(mean: f64) -> String {
    let number = count(mean);
    match mean {
        1.0 => format!("{number} thread"),
        whole if whole.fract() == 0.0 => format!("{number} threads"),
        _ => format!("{number} threads on average"),
    }
}

/// Formats a number with three significant digits, without trailing zeros of a fraction. Very large and very small numbers
/// have an exponent: `1.29e18`.
pub fn three_digits(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { "0".to_owned() } else { "-".to_owned() };
    }
    let magnitude = rounded_magnitude(value);
    if !(-6..15).contains(&magnitude) {
        return scientific(value);
    }
    if magnitude >= 3 {
        return grouped(value);
    }
    let digits = usize::try_from(2 - magnitude).unwrap_or(0).min(12);
    trimmed(&format!("{value:.digits$}"))
}

/// Returns a bar with eight steps per character, `width` characters long at a share of 1: `███▌`.
pub fn bar(share: f64, width: usize) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = (share.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    let mut bar = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        bar.push(EIGHTHS[eighths % 8]);
    }
    bar
}

/// Returns one small bar per value, scaled from 0 to the largest value: `▁▂▅█`. Values that are not finite are spaces.
pub fn sparkline(values: &[f64]) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let largest = values.iter().copied().filter(|value| value.is_finite()).fold(0.0, f64::max);
    let level = |value: f64| (value / largest * 7.0).round().clamp(0.0, 7.0) as usize;
    values
        .iter()
        .map(|&value| match value {
            value if !value.is_finite() => ' ',
            _ if largest == 0.0 => LEVELS[0],
            value => LEVELS[level(value)],
        })
        .collect()
}

/// Formats a value in the first unit in which it is at least 1, or else in the last unit.
fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    // 999.6 µs prints as 1 ms: the unit is chosen by the rounded value.
    let fits = |factor: f64| (value / factor).abs() >= 0.9995;
    let last = units[units.len() - 1];
    let (factor, unit) = units.iter().copied().find(|&(factor, _)| fits(factor)).unwrap_or(last);
    format!("{} {unit}", three_digits(value / factor))
}

/// Returns the power of ten of a value rounded to three digits. The value must not be zero.
fn rounded_magnitude(value: f64) -> i32 {
    let magnitude = value.abs().log10().floor() as i32;
    let rounded = (value.abs() / 10_f64.powi(magnitude) * 100.0).round();
    magnitude + i32::from(rounded >= 1000.0)
}

fn trimmed(number: &str) -> String {
    if !number.contains('.') {
        return number.to_owned();
    }
    number.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Formats a whole number with a comma after each three digits.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

/// Formats a value with its interval: `2 KiB (1 KiB to 4 KiB)`. The interval is omitted if the value is exact, or if both
/// ends print like the value.
pub fn with_interval(value: f64, [low, high]: [f64; 2], show: fn(f64) -> String) -> String {
    let (shown, least, most) = (show(value), show(low), show(high));
    let is_exact = high - low < 0.5 || (least == shown && most == shown);
    if is_exact { shown } else { format!("{shown} ({least} to {most})") }
}

/// Formats a time of at least 100 s. No duration of more than a million years is meant as one.
fn clock(seconds: f64) -> String {
    const DAY: f64 = 86_400.0;
    const YEAR: f64 = 365.25 * DAY;
    if seconds >= 1e6 * YEAR {
        return format!("{} s", scientific(seconds));
    }
    if seconds >= 2.0 * YEAR {
        return format!("{} years", three_digits(seconds / YEAR));
    }
    if seconds >= 3.0 * DAY {
        return format!("{} days", three_digits(seconds / DAY));
    }
    let seconds = seconds.round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, minutes, 0) => format!("{minutes} min"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, 0, _) => format!("{hours} h"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// Formats a number with three significant digits and an exponent: `1.29e18`, `3e-9`.
fn scientific(value: f64) -> String {
    let text = format!("{value:.2e}");
    match text.split_once('e') {
        Some((digits, exponent)) => format!("{}e{exponent}", trimmed(digits)),
        None => text,
    }
}

/// Formats a value of a metric, in the unit that the metric's name ends with.
pub fn metric(metric: &str, value: f64) -> String {
    let per_step = metric.strip_suffix("_per_step").unwrap_or(metric);
    let unit = per_step.rsplit('_').next().unwrap_or_default();
    match unit {
        "ns" => duration_ns(value),
        "us" => duration_ns(value * 1e3),
        "ms" => duration_ns(value * 1e6),
        "s" => duration_ns(value * 1e9),
        "bytes" => bytes(value),
        "share" => share(value),
        _ => three_digits(value),
    }
}

/// Characters of a source line that are shown in a table or a sentence.
const SOURCE_WIDTH: usize = 80;

/// Returns a source line for quoting: trimmed, and cut after 80 characters.
pub fn quoted_line(text: &str) -> Cow<'_, str> {
    let text = text.trim();
    match text.char_indices().nth(SOURCE_WIDTH) {
        Some((at, _)) => Cow::Owned(format!("{}…", text[..at].trim_end())),
        None => Cow::Borrowed(text),
    }
}

/// Characters of a name that are shown; longer names are cut in their middle. The JSON summaries have the full names.
const LONGEST_NAME: usize = 256;

/// Shortens the words of a text, such as function names, to at most 256 characters each.
pub fn shorten(text: &str) -> Cow<'_, str> {
    if text.len() <= LONGEST_NAME {
        return Cow::Borrowed(text);
    }
    let words: Vec<Cow<'_, str>> = text.split(' ').map(shorten_word).collect();
    Cow::Owned(words.join(" "))
}

fn shorten_word(word: &str) -> Cow<'_, str> {
    let count = word.chars().count();
    if count <= LONGEST_NAME {
        return Cow::Borrowed(word);
    }
    let (head, tail) = (LONGEST_NAME * 2 / 3, LONGEST_NAME / 3);
    let middle = count - head - tail;
    let head: String = word.chars().take(head).collect();
    let tail: String = word.chars().skip(count - tail).collect();
    Cow::Owned(format!("{head}…({middle} more)…{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_source_is_cut() {
        let fits = "é".repeat(SOURCE_WIDTH);
        assert_eq!(quoted_line(&format!("  {fits}\n")), fits);
        assert_eq!(quoted_line(&format!("{fits}é")), format!("{fits}…"));
        assert_eq!(quoted_line("  "), "");
    }

    #[test]
    fn only_very_long_words_are_cut() {
        let sentence = "a sentence of common words, ".repeat(100);
        assert_eq!(shorten(&sentence), sentence);
        assert_eq!(shorten(&"n".repeat(LONGEST_NAME)), "n".repeat(LONGEST_NAME));
        let name = format!("{}é{}", "a".repeat(4000), "z".repeat(4000));
        let shown = shorten(&name).into_owned();
        assert!(shown.chars().count() < LONGEST_NAME + 20, "{shown}");
        assert!(
            shown.starts_with("aaa") && shown.ends_with("zzz") && shown.contains("…(7746 more)…"),
            "{shown}"
        );
        assert_eq!(shorten(&format!("calls {name} often")), format!("calls {shown} often"));
    }

    #[test]
    fn durations() {
        for (ns, expected) in [
            (0.0, "0 ns"),
            (0.25, "0.25 ns"),
            (999.0, "999 ns"),
            (999.6, "1 µs"),
            (3_420_000.0, "3.42 ms"),
            (61.24e9, "61.2 s"),
            (99.94e9, "99.9 s"),
            (100e9, "1 min 40 s"),
            (120e9, "2 min"),
            (12_000e9, "3 h 20 min"),
            (7_200e9, "2 h"),
            (250_000e9, "69 h 26 min"),
            (1e6 * 1e9, "11.6 days"),
            (1e8 * 1e9, "3.17 years"),
            (1e290, "1e281 s"),
            (-1e290, "-1e281 s"),
            (2e-9, "2e-9 ns"),
            (-5e6, "-5 ms"),
            (-125e9, "-2 min 5 s"),
            (f64::NAN, "-"),
            (f64::INFINITY, "-"),
        ] {
            assert_eq!(duration_ns(ns), expected, "{ns}");
        }
    }

    #[test]
    fn sizes_and_shares() {
        for (value, expected) in [
            (0.0, "0 B"),
            (812.0, "812 B"),
            (1536.0, "1.5 KiB"),
            (12.34 * 1048576.0, "12.3 MiB"),
            (1e18, "909,495 TiB"),
        ] {
            assert_eq!(bytes(value), expected);
        }
        for (value, expected) in [
            (0.0, "0 %"),
            (0.612_34, "61.2 %"),
            (1.0, "100 %"),
            (0.9996, "100 %"),
            (0.05, "5 %"),
            (0.001_234, "0.12 %"),
            (0.000_34, "0.034 %"),
            (0.000_001, "< 0.001 %"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(share(value), expected, "{value}");
        }
    }

    #[test]
    fn ratios_and_counts() {
        assert_eq!(ratio(1.2444), "1.24×");
        assert_eq!(ratio(0.03126), "0.0313×");
        for (value, expected) in [
            (0.0, "0"),
            (17.0, "17"),
            (3.25, "3.25"),
            (99.96, "100"),
            (12_400.0, "12,400"),
            (999_999.0, "1 M"),
            (1_254_000.0, "1.25 M"),
            (-1234.0, "-1,234"),
            (999.4e12, "999 T"),
            (1.5e290, "1.5e290"),
            (-1e300, "-1e300"),
            (f64::MAX, "1.8e308"),
        ] {
            assert_eq!(count(value), expected, "{value}");
        }
        assert_eq!(three_digits(999.7), "1,000");
        assert_eq!(three_digits(9.996), "10");
        assert_eq!(three_digits(f64::MIN_POSITIVE), "2.23e-308");
        assert_eq!(three_digits(0.000_012_3), "0.0000123");
    }

    #[test]
    fn values_have_the_unit_of_the_metrics_name() {
        for (name, number, expected) in [
            ("nearby_ns", 3_420.0, "3.42 µs"),
            ("step_ms", 2.0, "2 ms"),
            ("cpu_ms_per_step", 2.0, "2 ms"),
            ("peak_rss_bytes", 1024.0, "1 KiB"),
            ("queries", 12.0, "12"),
        ] {
            assert_eq!(metric(name, number), expected, "{name}");
        }
    }

    #[test]
    fn bars_and_sparklines() {
        assert_eq!(bar(0.5, 4), "██");
        assert_eq!(bar(0.45, 5), "██▎");
        assert_eq!(bar(7.0, 2), "██");
        assert_eq!(bar(f64::NAN, 2), "");
        assert_eq!(sparkline(&[0.0, 1.0, f64::NAN, 2.0]), "▁▅ █");
        assert_eq!(sparkline(&[0.0, 0.0]), "▁▁");
    }
}
