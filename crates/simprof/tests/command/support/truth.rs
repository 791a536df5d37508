//! What a program itself measured, against what simprof tells of it.
//!
//! Work that is three to one takes three to one of the time only on the mean: on a machine that others use too, the share of a
//! single run strays by more than its samples do. So programs measure what they spend where, and are believed.

use serde_json::Value;

use super::Place;

const FILE: &str = "truth";

/// The path of the file that a program is to tell in.
pub fn truth_file(place: &Place) -> String {
    place.path(FILE).to_str().expect("the folder of the tests is text").to_owned()
}

/// What a program has told in [`truth_file`]: of its rows of numbers, one of each run, the means over the runs
/// that a summary joins.
pub fn truth<const N: usize>(place: &Place, summary: &Value) -> [f64; N] {
    let runs = summary["profile"]["runs"].as_u64().expect("runs");
    let runs = usize::try_from(runs).expect("they are few");
    let text = std::fs::read_to_string(truth_file(place)).expect("the program told");
    // The run whose calls are counted is the last.
    let mut means = [0.0; N];
    for row in text.lines().take(runs) {
        let numbers: Vec<f64> =
            row.split(' ').map(|number| number.parse().expect("a number")).collect();
        assert_eq!(numbers.len(), N, "{text}");
        means.iter_mut().zip(numbers).for_each(|(mean, number)| *mean += number / runs as f64);
    }
    assert!(text.lines().count() >= runs, "each run told: {text}");
    means
}

/// Asserts that a share lies in the binomial interval of `part` of `whole`, both shares of `samples`.
pub fn assert_share(expected: f64, part: f64, whole: f64, samples: f64) {
    let count = |share: f64| (share * samples).round() as u64;
    // Wide enough not to fail by chance in a lifetime of runs: a timer's samples stray less than random ones.
    let interval = simprof_stats::binomial_interval(count(part), count(whole), 0.999);
    let interval = interval.expect("counts");
    let is_in = interval.lo <= expected && expected <= interval.hi;
    assert!(is_in, "{expected} is not {part} of {whole}: {interval:?}");
    assert!(interval.hi - interval.lo < 0.08, "there are enough samples to tell: {interval:?}");
}
