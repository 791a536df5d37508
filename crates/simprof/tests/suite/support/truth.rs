//! The times that a program measured itself, to compare with the shares that simprof reports.
//!
//! Three times the work takes three times as long only on average. On a shared machine, the ratio of a single run differs from that
//! by more than the sampling error. Programs therefore measure their own times.

use serde_json::Value;

use super::Workspace;

const FILE: &str = "truth";

/// Returns the path of the file to which a program writes its times.
pub fn truth_file(workspace: &Workspace) -> String {
    workspace.text_path(FILE)
}

/// Returns the times that a program wrote to [`truth_file`], as means over the runs that a summary combines.
///
/// The program appends a row of numbers in each run.
pub fn truth<const N: usize>(workspace: &Workspace, summary: &Value) -> [f64; N] {
    let runs = summary["profile"]["runs"].as_u64().expect("runs");
    let runs = usize::try_from(runs).expect("they are few");
    let text = workspace.read(FILE);
    // A run that counts calls appends one more row. It is not part of the profile.
    let mut means = [0.0; N];
    for row in text.lines().take(runs) {
        let numbers: Vec<f64> =
            row.split(' ').map(|number| number.parse().expect("a number")).collect();
        assert_eq!(numbers.len(), N, "{text}");
        means.iter_mut().zip(numbers).for_each(|(mean, number)| *mean += number / runs as f64);
    }
    assert!(text.lines().count() >= runs, "one row per run: {text}");
    means
}

/// Asserts that `expected` lies in the binomial interval of `part / whole`. Both are shares of `samples` samples.
pub fn assert_share(expected: f64, part: f64, whole: f64, samples: f64) {
    let count = |share: f64| (share * samples).round() as u64;
    // Fails by chance in less than one of a thousand runs: the samples of a timer vary less than random ones.
    let interval = simprof_stats::binomial_interval(count(part), count(whole), 0.999);
    let interval = interval.expect("counts");
    let is_in = interval.lo <= expected && expected <= interval.hi;
    assert!(is_in, "{expected} is not {part} of {whole}: {interval:?}");
    assert!(interval.hi - interval.lo < 0.08, "too few samples: {interval:?}");
}
