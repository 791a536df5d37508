//! The summary of failures: measurements that failed for the same reason are listed together.

use std::collections::BTreeSet;

use simprof_model::{Measurement, Phase, PhaseRecord, Status};

/// Maximum number of reasons that are listed. run.json has all.
const NAMED: usize = 8;
/// Maximum number of measurements that are named for each reason.
const EXAMPLES: usize = 3;

/// Measurements, of one or several phases, with the same status and reason.
struct Group<'r> {
    status: Status,
    reason: &'r str,
    phases: BTreeSet<Phase>,
    names: Vec<&'r str>,
}

/// Returns one line for each reason. `known` are reasons that have already been reported: measurements skipped for them are
/// omitted.
pub fn lines(records: &[PhaseRecord], known: &[String]) -> Vec<String> {
    let groups = groups(records, known);
    let mut lines: Vec<String> = groups.iter().take(NAMED).map(line).collect();
    if groups.len() > NAMED {
        let more: usize = groups[NAMED..].iter().map(|group| group.names.len()).sum();
        lines.push(format!(
            "and {more} more measurements that failed or were skipped; run.json lists all"
        ));
    }
    lines
}

fn groups<'r>(records: &'r [PhaseRecord], known: &[String]) -> Vec<Group<'r>> {
    let mut groups: Vec<Group<'r>> = Vec::new();
    for (phase, measurement) in failed(records) {
        let reason = measurement.reason.as_deref().unwrap_or("no reason was recorded");
        if known.iter().any(|known| known == reason) {
            continue;
        }
        let same =
            |group: &&mut Group<'_>| group.reason == reason && group.status == measurement.status;
        match groups.iter_mut().find(same) {
            Some(group) => {
                group.phases.insert(phase);
                group.names.push(&measurement.name);
            }
            None => groups.push(Group {
                status: measurement.status,
                reason,
                phases: [phase].into(),
                names: vec![&measurement.name],
            }),
        }
    }
    groups
}

fn failed(records: &[PhaseRecord]) -> impl Iterator<Item = (Phase, &Measurement)> {
    let all = records.iter().flat_map(|record| {
        record.measurements.iter().map(move |measurement| (record.phase, measurement))
    });
    all.filter(|(_, measurement)| !measurement.status.is_ok())
}

/// Returns, for example, `phase 1 (macro): default failed: exited with status 3`.
fn line(group: &Group<'_>) -> String {
    let phases: Vec<String> = group.phases.iter().map(ToString::to_string).collect();
    let names: BTreeSet<&str> = group.names.iter().copied().collect();
    let mut named: Vec<&str> = names.iter().copied().take(EXAMPLES).collect();
    let more = format!("{} more", names.len().saturating_sub(EXAMPLES));
    if names.len() > EXAMPLES {
        named.push(&more);
    }
    format!("{}: {} {}: {}", phases.join(", "), named.join(", "), group.status, group.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(name: &str, status: Status, reason: &str) -> Measurement {
        Measurement {
            name: name.into(),
            component: None,
            operation: None,
            parameters: Default::default(),
            status,
            reason: Some(reason.into()),
            replicates: Vec::new(),
        }
    }

    fn record(phase: Phase, measurements: Vec<Measurement>) -> PhaseRecord {
        PhaseRecord { measurements, ..PhaseRecord::waiting(phase, 1, 0.0) }
    }

    #[test]
    fn failures_with_the_same_reason_are_listed_once() {
        let crash = |name| measurement(name, Status::Failed, "killed by SIGSEGV");
        let records = [
            record(Phase::Macro, vec![crash("default"), measurement("well", Status::Ok, "")]),
            record(Phase::System, ["n=1", "n=2", "n=3", "n=4"].map(crash).to_vec()),
        ];
        let expected = "phase 1 (macro), phase 4 (system): default, n=1, n=2, 2 more failed: killed by SIGSEGV";
        assert_eq!(lines(&records, &[]), [expected]);
        assert_eq!(lines(&records, &["killed by SIGSEGV".to_owned()]), [""; 0]);
    }

    #[test]
    fn many_reasons_are_counted() {
        let failures = (0..10).map(|index| measurement("m", Status::Failed, &index.to_string()));
        let lines = lines(&[record(Phase::Macro, failures.collect())], &[]);
        assert_eq!(lines.len(), NAMED + 1);
        assert!(lines[NAMED].starts_with("and 2 more"), "{lines:?}");
    }
}
