//! What a program itself measured, against what simprof tells of it.
//!
//! Work that is three to one takes three to one of the time only on the mean: on a machine that others use too, the share of a
//! single run strays by more than its samples do. So programs measure what they spend where, and are believed.

use serde_json::Value;

use super::Place;

/// What a program has told in its file `truth` of each of the runs that a summary joins: rows of numbers, their means.
pub fn truth(place: &Place, summary: &Value) -> Vec<f64> {
    let runs = summary["profile"]["runs"].as_u64().expect("runs");
    let runs = usize::try_from(runs).expect("they are few");
    let text = std::fs::read_to_string(place.path("truth")).expect("the program told");
    // The run whose calls are counted is the last.
    let rows = text.lines().take(runs).map(|line| {
        line.split(' ').map(|number| number.parse::<f64>().expect("a number")).collect::<Vec<_>>()
    });
    let sums = rows.reduce(|a, b| a.iter().zip(&b).map(|(a, b)| a + b).collect());
    sums.expect("the program ran").into_iter().map(|sum| sum / runs as f64).collect()
}

/// Asserts that a share lies in the binomial interval of `part` of `whole`, both shares of `samples`.
pub fn assert_share(expected: f64, part: f64, whole: f64, samples: f64) {
    let count = |share: f64| (share * samples).round() as u64;
    // Wide enough not to fail by chance in a lifetime of runs.
    let interval = simprof_stats::binomial_interval(count(part), count(whole), 0.9999);
    let interval = interval.expect("counts");
    let is_in = interval.lo <= expected && expected <= interval.hi;
    assert!(is_in, "{expected} is not {part} of {whole}: {interval:?}");
    assert!(interval.hi - interval.lo < 0.08, "there are enough samples to tell: {interval:?}");
}
