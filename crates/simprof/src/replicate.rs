//! Converts the recording of one process of the target to a replicate.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use simprof_measure::protocol::{self, Report};
use simprof_model::{Metric, Replicate, Status};
use simprof_record::{Outcome, RecordError, Recording};

use crate::runner::{failure, with_fix};
use crate::text::error_chain;

/// Bytes at the end of the output that are searched for a report of the runner protocol.
const OUTPUT_READ: u64 = 1 << 20;

/// Largest possible error of the CPU time of all steps, as a fraction of it, with which it is reported. The expected error is
/// far smaller: it is 0 if the load does not change with the first and the last step.
const CPU_ERROR_MAX: f64 = 0.1;

/// The circumstances of a process.
#[derive(Debug, Clone, Copy)]
pub struct ProcessContext {
    /// Its seed.
    pub seed: u64,
    /// Position in the order of processes.
    pub order: usize,
    /// Load average of the machine at its start.
    pub load: Option<f64>,
}

/// Returns the metrics of a process that succeeded, or the status and the reason of one that
/// failed.
pub fn replicate_from(
    context: ProcessContext,
    recorded: Result<&Recording, &RecordError>,
    output: &Path,
    timeout: Duration,
) -> Replicate {
    let mut replicate = Replicate {
        seed: context.seed,
        order: context.order,
        status: Status::Ok,
        reason: None,
        metrics: BTreeMap::new(),
        counters: BTreeMap::new(),
        digest: None,
        load: context.load,
    };
    match recorded {
        Ok(recording) => fill(&mut replicate, recording, output, timeout),
        Err(error) => fail(&mut replicate, Status::Failed, with_fix(error)),
    }
    replicate
}

fn fail(replicate: &mut Replicate, status: Status, reason: String) {
    replicate.status = status;
    replicate.reason = Some(reason);
}

fn fill(replicate: &mut Replicate, recording: &Recording, output: &Path, timeout: Duration) {
    totals(&mut replicate.metrics, recording);
    steps(&mut replicate.metrics, recording);
    if let Some(reason) = failure(recording, timeout) {
        let status = match recording.outcome {
            Outcome::TimedOut => Status::TimedOut,
            Outcome::Cancelled => Status::Skipped,
            _ => Status::Failed,
        };
        return fail(replicate, status, reason);
    }
    match protocol::parse(&tail(output)) {
        Ok(Some(report)) => add_report(replicate, report),
        Ok(None) => {}
        Err(error) => fail(replicate, Status::Failed, error_chain(&error)),
    }
}

fn add_report(replicate: &mut Replicate, report: Report) {
    let metrics = report.metrics.into_iter().map(|(name, samples)| (name, Metric { samples }));
    replicate.metrics.extend(metrics);
    replicate.counters = report.counters;
    replicate.digest = report.digest;
}

/// Adds the metrics of the whole process.
fn totals(metrics: &mut BTreeMap<String, Metric>, recording: &Recording) {
    let cpu_ns = recording.user_cpu_ns + recording.system_cpu_ns;
    for (name, value) in [
        ("wall_ms", recording.wall_ns as f64 * 1e-6),
        ("cpu_ms", cpu_ns as f64 * 1e-6),
        ("peak_rss_bytes", recording.peak_rss_bytes as f64),
    ] {
        metrics.insert(name.to_owned(), Metric::single(value));
    }
}

/// Adds the metrics of its steps, if it has any.
fn steps(metrics: &mut BTreeMap<String, Metric>, recording: &Recording) {
    let Some(per_second) = recording.steps.per_second() else { return };
    metrics.insert("steps_per_second".to_owned(), Metric::single(per_second));
    metrics.insert("step_ms".to_owned(), Metric::single(1e3 / per_second));
    if let Some(ms) = cpu_ms_per_step(recording) {
        metrics.insert("cpu_ms_per_step".to_owned(), Metric::single(ms));
    }
}

/// Returns the CPU time of all processes from the beginning of the first step to the end of the last one, divided by the
/// number of steps. `None` if the steps take too little time for the resolution of the timeline.
pub fn cpu_ms_per_step(recording: &Recording) -> Option<f64> {
    let steps = &recording.steps;
    let cpu = recording.timeline.cpu_between(steps.first_begin_ns()?, steps.last_end_ns()?)?;
    let is_sure = cpu.ns > 0.0 && cpu.error_ns_max <= CPU_ERROR_MAX * cpu.ns;
    is_sure.then(|| cpu.ns * 1e-6 / steps.steps.len() as f64)
}

/// Returns the end of a file as text; empty if it cannot be read.
fn tail(path: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(OUTPUT_READ)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

/// Returns the one-minute load average of the machine, or `None` if it is not available.
pub fn load_average() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use simprof_model::{ResourceSample, Step};

    use super::*;
    use crate::processes::fake::recording;

    const MS: u64 = 1_000_000;

    /// A process that is busy for `set_up_ms`, then half busy in ten steps of `step_ms`, sampled every 50 ms.
    fn with_steps(set_up_ms: u64, step_ms: u64) -> Recording {
        let end = set_up_ms + 10 * step_ms;
        let cpu_ms = |time: u64| time - time.saturating_sub(set_up_ms) / 2;
        let times = (0..=end / 50).map(|sample| sample * 50).chain([end]);
        let sample = |time| ResourceSample {
            time_ns: time * MS,
            cpu_ns: cpu_ms(time) * MS,
            threads: 1,
            ..ResourceSample::default()
        };
        let step = |index| Step {
            index,
            begin_ns: (set_up_ms + index * step_ms) * MS,
            end_ns: (set_up_ms + (index + 1) * step_ms) * MS,
            population: None,
            thread: None,
        };
        let mut recording = recording(Outcome::Exited(0));
        recording.timeline.samples = times.map(sample).collect();
        recording.steps.steps = (0..10).map(step).collect();
        recording
    }

    #[test]
    fn cpu_time_per_step_is_without_set_up() {
        let found = |set_up_ms, step_ms| {
            let mut metrics = BTreeMap::new();
            steps(&mut metrics, &with_steps(set_up_ms, step_ms));
            metrics.get("cpu_ms_per_step").map(|metric| metric.samples[0])
        };
        assert_eq!(found(1000, 100), Some(50.0));
        let between = found(1020, 100).expect("the steps take long enough");
        assert!((between - 50.0).abs() < 2.0, "{between}");
        assert_eq!(found(1025, 3), None, "the steps take less time than one interval");
        assert_eq!(cpu_ms_per_step(&recording(Outcome::Exited(0))), None);
    }
}
