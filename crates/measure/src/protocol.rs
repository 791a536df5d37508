//! How a process reports what it measured: one line of JSON on its standard output.
//!
//! ```json
//! {"simprof": 1, "metrics": {"nearby_ns": [812.0, 799.5]}, "counters": {"hits": 4711}, "digest": "9f3c"}
//! ```
//!
//! Every key but `simprof` may be absent; other keys are ignored, so that a program may use the same
//! line for more. Several such lines in one output are merged, later values winning.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a process reported.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of the protocol.
    pub simprof: u32,
    /// Samples by name; the unit is the end of the name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, Vec<f64>>,
    /// Work done, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<String, f64>,
    /// Digest of the answer computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// Version of the protocol that this crate writes and reads.
pub const VERSION: u32 = 1;

/// Why a line that claims to be a report is not one.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// Not the JSON of a report.
    #[error("the target's report line is malformed")]
    Malformed(#[from] serde_json::Error),
    /// From another version.
    #[error("the target's report line has version {0}; this simprof reads version {VERSION}")]
    Version(u32),
}

impl Report {
    /// An empty report of this version.
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

    /// The line to print.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("maps of numbers serialise")
    }

    fn merge(&mut self, later: Report) {
        self.metrics.extend(later.metrics);
        self.counters.extend(later.counters);
        self.digest = later.digest.or(self.digest.take());
    }
}

/// Finds the report in a process's output; none where it made none.
///
/// # Errors
/// Where a line has the key `simprof` but is malformed or of another version.
pub fn parse(output: &str) -> Result<Option<Report>, ProtocolError> {
    let mut found: Option<Report> = None;
    for line in output.lines().map(str::trim).filter(|line| claims_to_be_a_report(line)) {
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

fn claims_to_be_a_report(line: &str) -> bool {
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
    fn later_lines_win() {
        let output = r#"{"simprof":1,"counters":{"a":1,"b":1}}
            {"simprof":1,"counters":{"b":2},"digest":"x","more":[]}"#;
        let report = parse(output).expect("well formed").expect("a report");
        assert_eq!((report.counters["a"], report.counters["b"]), (1.0, 2.0));
        assert_eq!(report.digest.as_deref(), Some("x"));
    }

    #[test]
    fn what_is_no_report_is_said() {
        assert_eq!(parse("").expect("nothing is fine"), None);
        assert!(matches!(parse(r#"{"simprof":9}"#), Err(ProtocolError::Version(9))));
        assert!(matches!(parse(r#"{"simprof":"x"}"#), Err(ProtocolError::Malformed(_))));
    }
}
