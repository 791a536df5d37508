//! The runner protocol: a process reports its results as one line of JSON on its standard output.
//!
//! ```json
//! {"simprof": 1, "metrics": {"nearby_ns": [812.0, 799.5]}, "counters": {"hits": 4711}, "digest": "9f3c"}
//! ```
//!
//! All keys except `simprof` are optional. Unknown keys are ignored, so that a program may add its own. If there are several such
//! lines, they are merged, and later values replace earlier ones.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The results that a process reports.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of the protocol.
    pub simprof: u32,
    /// Samples by metric. The name of a metric ends with its unit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, Vec<f64>>,
    /// Work counters by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<String, f64>,
    /// Digest of the computed result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// The version of the protocol that this crate writes and reads.
pub const VERSION: u32 = 1;

/// An error in a report line.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The line is not the JSON of a report.
    #[error("the target's report line is malformed")]
    Malformed(#[from] serde_json::Error),
    /// The line has another version.
    #[error("the target's report line has version {0}; this simprof reads version {VERSION}")]
    Version(u32),
}

impl Report {
    /// Creates an empty report.
    pub fn new() -> Self {
        Self { simprof: VERSION, ..Self::default() }
    }

    /// Adds the samples of a metric.
    pub fn metric(mut self, name: &str, samples: Vec<f64>) -> Self {
        self.metrics.insert(name.to_owned(), samples);
        self
    }

    /// Adds a counter.
    pub fn counter(mut self, name: &str, value: f64) -> Self {
        self.counters.insert(name.to_owned(), value);
        self
    }

    /// Returns the line to print, without a newline.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("maps of numbers serialise")
    }

    fn merge(&mut self, later: Report) {
        self.metrics.extend(later.metrics);
        self.counters.extend(later.counters);
        self.digest = later.digest.or(self.digest.take());
    }
}

/// Parses the report in the output of a process. `None` if there is none.
///
/// # Errors
/// Returns an error if a line has the key `simprof` but is malformed or of another version.
pub fn parse(output: &str) -> Result<Option<Report>, ProtocolError> {
    let mut found: Option<Report> = None;
    for line in output.lines().map(str::trim).filter(|line| looks_like_a_report(line)) {
        let report: Report = serde_json::from_str(line)?;
        if report.simprof != VERSION {
            return Err(ProtocolError::Version(report.simprof));
        }
        match &mut found {
            Some(earlier) => earlier.merge(report),
            None => found = Some(report),
        }
    }
    Ok(found)
}

fn looks_like_a_report(line: &str) -> bool {
    line.starts_with('{') && line.ends_with('}') && line.contains("\"simprof\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_found_among_other_output() {
        let report = Report::new().metric("build_ns", vec![1.0, 2.5]).counter("hits", 3.0);
        let output = format!("step 1\n{}\n{{not json\ndone\n", report.to_line());
        assert_eq!(parse(&output).expect("well formed"), Some(report));
    }

    #[test]
    fn later_lines_replace_earlier_values() {
        let output = r#"{"simprof":1,"counters":{"a":1,"b":1}}
            {"simprof":1,"counters":{"b":2},"digest":"x","more":[]}"#;
        let report = parse(output).expect("well formed").expect("a report");
        assert_eq!((report.counters["a"], report.counters["b"]), (1.0, 2.0));
        assert_eq!(report.digest.as_deref(), Some("x"));
    }

    #[test]
    fn output_without_a_report_is_allowed_but_a_malformed_report_is_an_error() {
        assert_eq!(parse("").expect("an empty output is allowed"), None);
        assert!(matches!(parse(r#"{"simprof":9}"#), Err(ProtocolError::Version(9))));
        assert!(matches!(parse(r#"{"simprof":"x"}"#), Err(ProtocolError::Malformed(_))));
    }
}
