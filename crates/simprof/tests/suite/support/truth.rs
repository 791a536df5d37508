//! The times that a program measured of itself, to compare with what simprof reports.
//!
//! Work of three to one takes three to one of the time only on average: on a shared machine, the shares of a single run differ by
//! more than the error of its samples. Programs therefore measure where they spend their time.

use serde_json::Value;

use super::Workspace;

const FILE: &str = "truth";

/// The path of the file that a program writes its times to.
pub fn truth_file(workspace: &Workspace) -> String {
    workspace.text_path(FILE)
}

/// The times that a program wrote to [`truth_file`]: it adds a row of numbers in each run, and the result has the means over the
/// runs that a summary joins.
pub fn truth<const N: usize>(workspace: &Workspace, summary: &Value) -> [f64; N] {
    let runs = summary["profile"]["runs"].as_u64().expect("runs");
    let runs = usize::try_from(runs).expect("they are few");
    let text = workspace.read(FILE);
    // The last row is of the run that counts calls.
    let mut means = [0.0; N];
    for row in text.lines().take(runs) {
        let numbers: Vec<f64> =
            row.split(' ').map(|number| number.parse().expect("a number")).collect();
        assert_eq!(numbers.len(), N, "{text}");
        means.iter_mut().zip(numbers).for_each(|(mean, number)| *mean += number / runs as f64);
    }
    assert!(text.lines().count() >= runs, "a row of each run: {text}");
    means
}

/// Asserts that a share lies in the binomial interval of `part` of `whole`, both shares of `samples`.
pub fn assert_share(expected: f64, part: f64, whole: f64, samples: f64) {
    let count = |share: f64| (share * samples).round() as u64;
    // Wide enough to fail by chance once in thousands of runs; the samples of a timer vary less than random ones.
    let interval = simprof_stats::binomial_interval(count(part), count(whole), 0.999);
    let interval = interval.expect("counts");
    let is_in = interval.lo <= expected && expected <= interval.hi;
    assert!(is_in, "{expected} is not {part} of {whole}: {interval:?}");
    assert!(interval.hi - interval.lo < 0.08, "too few samples: {interval:?}");
}
