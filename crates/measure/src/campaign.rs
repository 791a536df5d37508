//! Runs a set of planned measurements. Each of them ends with a recorded status.

use std::time::Duration;

use simprof_model::{Measurement, Replicate, Status};

use crate::grid::Parameters;
use crate::schedule::{self, Slot};

/// A planned measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// Name, unique in its phase.
    pub name: String,
    /// Component. `None` if it is not a component benchmark.
    pub component: Option<String>,
    /// Operation of that component.
    pub operation: Option<String>,
    /// Parameters.
    pub parameters: Parameters,
    /// Number of replicates: fresh processes to run.
    pub repeats: usize,
    /// The sweep that it is a point of: measurements of a series differ only in their size.
    pub series: String,
    /// Position in its series, from 0, which is the smallest size. If time is limited, larger sizes are skipped first.
    pub rank: usize,
}

/// A process to run.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The measurement that it is a replicate of.
    pub planned: &'a Planned,
    /// Index of the measurement in the campaign.
    pub index: usize,
    /// Number of the replicate, from 0.
    pub replicate: usize,
    /// Seed for the process.
    pub seed: u64,
    /// Position in the execution order of the campaign, from 0.
    pub order: usize,
}

/// Runs processes of the target.
pub trait Executor {
    /// Runs a process until it ends. A failure is not an error: the status and the reason of the replicate describe it.
    fn execute(&mut self, job: Job<'_>) -> Replicate;

    /// Returns the reason why no more processes may be started, for example an interrupt or a full disk. `None` if there is none.
    fn stop_reason(&self) -> Option<String>;

    /// Returns the reason why a process that takes about `expected` is not started because time is limited. `None` if there is
    /// enough time. `expected` is `None` if nothing is known about the time of the process.
    fn no_time_for(&self, expected: Option<Duration>) -> Option<String>;

    /// Returns whether time is limited, so that [`Executor::no_time_for`] may return a reason.
    fn has_limited_time(&self) -> bool;

    /// Called after each process with the current state of its measurement and the number of processes done.
    fn progressed(&mut self, measurement: &Measurement, done: usize);
}

/// Runs all `planned` measurements in randomised, interleaved order and returns them in the given order.
///
/// If a replicate fails or times out, the remaining replicates of its measurement are skipped. They would probably fail in the
/// same way and take as long.
///
/// If time is limited, the first replicates run from the smallest size to the largest. A measurement for whose first replicate
/// there is no time is skipped. Further replicates for which there is no time are not part of the result: the measurement then
/// has fewer replicates than planned.
pub fn run(planned: &[Planned], seed: u64, executor: &mut impl Executor) -> Vec<Measurement> {
    let mut measurements: Vec<Measurement> = planned.iter().map(blank).collect();
    let repeats: Vec<usize> = planned.iter().map(|planned| planned.repeats).collect();
    let ranks: Vec<usize> = planned.iter().map(|planned| planned.rank).collect();
    let ranks = executor.has_limited_time().then_some(&ranks[..]);
    let slots = schedule::interleaved(&repeats, seed, ranks);
    log::debug!("{} measurements in {} processes, seed {seed}", planned.len(), slots.len());
    for (order, slot) in slots.iter().enumerate() {
        let replicate = match next(planned, &measurements, slot, executor) {
            Next::Omit => continue,
            Next::Skip(reason) => skipped(slot, order, reason),
            Next::Run => executor.execute(Job {
                planned: &planned[slot.measurement],
                index: slot.measurement,
                replicate: slot.replicate,
                seed: slot.seed,
                order,
            }),
        };
        let measurement = &mut measurements[slot.measurement];
        measurement.replicates.push(replicate);
        conclude(measurement);
        executor.progressed(&measurements[slot.measurement], order + 1);
    }
    measurements
}

/// What happens with a replicate.
enum Next {
    /// It is run.
    Run,
    /// It is recorded as skipped, with the reason.
    Skip(String),
    /// It is not part of the result.
    Omit,
}

fn next(
    planned: &[Planned],
    measurements: &[Measurement],
    slot: &Slot,
    executor: &impl Executor,
) -> Next {
    let measurement = &measurements[slot.measurement];
    if let Some(reason) = reason_to_skip(measurement, executor) {
        return Next::Skip(reason);
    }
    let is_first = measurement.replicates.is_empty();
    if !is_first && measurement.ok_replicates().next().is_none() {
        return Next::Omit;
    }
    let expected = expected_time(planned, measurements, slot.measurement);
    match executor.no_time_for(expected) {
        None => Next::Run,
        Some(reason) if is_first => Next::Skip(reason),
        Some(_) => Next::Omit,
    }
}

/// Returns the time that the next process of a measurement probably takes: that of its longest one so far. Before the first one,
/// the times of the two largest measured sizes of its series are extrapolated, as if they grew by the same factor with each size.
/// `None` if no smaller size was measured.
fn expected_time(
    planned: &[Planned],
    measurements: &[Measurement],
    index: usize,
) -> Option<Duration> {
    if let Some(longest) = longest_s(&measurements[index]) {
        return Some(Duration::from_secs_f64(longest));
    }
    let Planned { series, rank, .. } = &planned[index];
    let smaller = planned.iter().zip(measurements);
    let smaller = smaller.filter(|(other, _)| other.series == *series && other.rank < *rank);
    let mut times: Vec<(usize, f64)> = smaller
        .filter_map(|(other, measurement)| Some((other.rank, longest_s(measurement)?)))
        .collect();
    times.sort_by(|a, b| b.0.cmp(&a.0).then(b.1.total_cmp(&a.1)));
    let &(near, time) = times.first()?;
    let growth = times
        .iter()
        .find(|(far, _)| *far < near)
        .map_or(1.0, |&(far, before)| (time / before).powf(1.0 / (near - far) as f64));
    let expected = time * growth.max(1.0).powf((rank - near) as f64);
    Some(Duration::try_from_secs_f64(expected).unwrap_or(Duration::MAX))
}

/// Returns the wall time of the longest successful process of a measurement, in seconds.
fn longest_s(measurement: &Measurement) -> Option<f64> {
    measurement.replicate_medians("wall_ms").into_iter().reduce(f64::max).map(|ms| ms * 1e-3)
}

fn blank(planned: &Planned) -> Measurement {
    Measurement {
        name: planned.name.clone(),
        component: planned.component.clone(),
        operation: planned.operation.clone(),
        parameters: planned.parameters.clone(),
        status: Status::Skipped,
        reason: Some("not started".to_owned()),
        replicates: Vec::new(),
    }
}

fn reason_to_skip(measurement: &Measurement, executor: &impl Executor) -> Option<String> {
    if let Some(reason) = executor.stop_reason() {
        return Some(reason);
    }
    let unsuccessful =
        |replicate: &&Replicate| matches!(replicate.status, Status::Failed | Status::TimedOut);
    let first = measurement.replicates.iter().find(unsuccessful)?;
    Some(format!("an earlier replicate {}", first.status))
}

fn skipped(slot: &Slot, order: usize, reason: String) -> Replicate {
    Replicate {
        seed: slot.seed,
        order,
        status: Status::Skipped,
        reason: Some(reason),
        metrics: Default::default(),
        counters: Default::default(),
        digest: None,
        load: None,
    }
}

/// Derives the status and the reason of a measurement from its replicates.
fn conclude(measurement: &mut Measurement) {
    let replicates = &measurement.replicates;
    let worst = [Status::TimedOut, Status::Failed, Status::Partial, Status::Skipped]
        .into_iter()
        .find(|&status| replicates.iter().any(|replicate| replicate.status == status));
    let any_ok = replicates.iter().any(|replicate| replicate.status.is_ok());
    measurement.status = match worst {
        None => Status::Ok,
        Some(_) if any_ok => Status::Partial,
        Some(status) => status,
    };
    measurement.reason = worst.and_then(|status| {
        replicates.iter().find(|replicate| replicate.status == status)?.reason.clone()
    });
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use simprof_model::Metric;

    /// Returns scripted results and records the executed jobs.
    struct Scripted<'a> {
        answer: &'a dyn Fn(&Job<'_>) -> (Status, Option<&'static str>),
        ran: Vec<(usize, usize)>,
        stop_after: usize,
        reports: usize,
        /// Time that a process takes, s.
        wall_s: &'a dyn Fn(&Job<'_>) -> f64,
        /// Time since the start, s.
        clock: Cell<f64>,
        limit_s: f64,
    }

    impl Executor for Scripted<'_> {
        fn execute(&mut self, job: Job<'_>) -> Replicate {
            self.ran.push((job.index, job.replicate));
            let (status, reason) = (self.answer)(&job);
            let slot = Slot { measurement: job.index, replicate: job.replicate, seed: job.seed };
            let wall_ms = (self.wall_s)(&job) * 1e3;
            self.clock.set(self.clock.get() + wall_ms * 1e-3);
            let metrics = [("t_ns", 1.0), ("wall_ms", wall_ms)];
            let metrics = metrics.map(|(name, value)| (name.to_owned(), Metric::single(value)));
            let metrics = metrics.into();
            let reason = reason.map(str::to_owned);
            Replicate { status, reason, metrics, ..skipped(&slot, job.order, String::new()) }
        }

        fn stop_reason(&self) -> Option<String> {
            (self.ran.len() >= self.stop_after).then(|| "interrupted".to_owned())
        }

        fn no_time_for(&self, expected: Option<Duration>) -> Option<String> {
            let end = self.clock.get() + expected.map_or(0.0, |expected| expected.as_secs_f64());
            let is_started = !self.ran.is_empty();
            (is_started && end > self.limit_s).then(|| "no time".to_owned())
        }

        fn has_limited_time(&self) -> bool {
            self.limit_s.is_finite()
        }

        fn progressed(&mut self, _: &Measurement, _: usize) {
            self.reports += 1;
        }
    }

    fn planned(count: usize, repeats: usize) -> Vec<Planned> {
        (0..count)
            .map(|index| Planned {
                name: format!("m{index}"),
                component: None,
                operation: None,
                parameters: Parameters::new(),
                repeats,
                series: "n".into(),
                rank: index,
            })
            .collect()
    }

    fn scripted(answer: &dyn Fn(&Job<'_>) -> (Status, Option<&'static str>)) -> Scripted<'_> {
        Scripted {
            answer,
            ran: Vec::new(),
            stop_after: usize::MAX,
            reports: 0,
            wall_s: &|_| 1.0,
            clock: Cell::new(0.0),
            limit_s: f64::INFINITY,
        }
    }

    #[test]
    fn everything_planned_is_run_and_reported() {
        let mut executor = scripted(&|_| (Status::Ok, None));
        let measurements = run(&planned(3, 4), 1, &mut executor);
        assert_eq!((executor.ran.len(), executor.reports), (12, 12));
        assert!(measurements.iter().all(|m| m.status.is_ok() && m.replicates.len() == 4));
        assert_eq!(measurements[2].name, "m2");
    }

    #[test]
    fn replicates_after_a_time_out_are_skipped() {
        let answer = |job: &Job<'_>| match job.index {
            1 => (Status::TimedOut, Some("no end within 5 s")),
            _ => (Status::Ok, None),
        };
        let mut executor = scripted(&answer);
        let measurements = run(&planned(2, 5), 1, &mut executor);
        assert_eq!(executor.ran.iter().filter(|ran| ran.0 == 1).count(), 1);
        assert_eq!(measurements[1].status, Status::TimedOut);
        assert_eq!(measurements[1].reason.as_deref(), Some("no end within 5 s"));
        assert_eq!(measurements[1].replicates.len(), 5);
        assert!(measurements[0].status.is_ok());
    }

    #[test]
    fn replicates_before_a_failure_are_kept() {
        let answer = |job: &Job<'_>| match job.replicate {
            2 => (Status::Failed, Some("exited with status 3")),
            _ => (Status::Ok, None),
        };
        let measurements = run(&planned(1, 4), 1, &mut scripted(&answer));
        assert_eq!(measurements[0].status, Status::Partial);
        assert_eq!(measurements[0].reason.as_deref(), Some("exited with status 3"));
        assert_eq!(measurements[0].replicate_medians("t_ns").len(), 2);
    }

    #[test]
    fn an_interrupt_skips_the_remaining_measurements_with_the_reason() {
        let mut executor = scripted(&|_| (Status::Ok, None));
        executor.stop_after = 2;
        let measurements = run(&planned(4, 1), 1, &mut executor);
        let skipped: Vec<_> = measurements.iter().filter(|m| m.status == Status::Skipped).collect();
        assert_eq!(skipped.len(), 2);
        assert_eq!(skipped[0].reason.as_deref(), Some("interrupted"));
    }

    /// Runs five sizes three times within a limit. A process of size `i` takes `4^i` s.
    fn limited(limit_s: f64) -> (Vec<Measurement>, f64) {
        let mut executor = scripted(&|_| (Status::Ok, None));
        executor.limit_s = limit_s;
        executor.wall_s = &|job| 4f64.powi(i32::try_from(job.index).expect("few sizes"));
        let measurements = run(&planned(5, 3), 1, &mut executor);
        (measurements, executor.clock.get())
    }

    /// Returns the numbers of replicates of each measurement.
    fn replicates(measurements: &[Measurement]) -> Vec<usize> {
        measurements.iter().map(|measurement| measurement.ok_replicates().count()).collect()
    }

    #[test]
    fn within_enough_time_everything_is_run() {
        let (measurements, time) = limited(3.0 * 341.0);
        assert_eq!(replicates(&measurements), [3; 5]);
        assert!((time - 3.0 * 341.0).abs() < 1e-6, "{time}");
    }

    #[test]
    fn the_largest_sizes_are_skipped_first_and_then_repetitions() {
        // Nothing is known about the time of the second size, so it may exceed the limit. The first process is always run.
        for (limit_s, sizes, most_s) in
            [(100.0, 4, 100.0), (30.0, 3, 30.0), (4.0, 2, 5.0), (0.5, 1, 1.0)]
        {
            let (measurements, time) = limited(limit_s);
            let found = replicates(&measurements);
            assert_eq!(found.iter().filter(|&&count| count > 0).count(), sizes, "{found:?}");
            assert!(found[..sizes].iter().all(|&count| count > 0), "{found:?}");
            assert!(time <= most_s, "{limit_s}: {time}");
            for (measurement, count) in measurements.iter().zip(found) {
                let is_skipped = measurement.status == Status::Skipped;
                assert_eq!(is_skipped, count == 0, "{measurement:?}");
                assert_eq!(measurement.reason.is_some(), is_skipped);
                assert_eq!(measurement.replicates.len(), count.max(1), "{measurement:?}");
            }
        }
    }

    #[test]
    fn the_time_of_a_larger_size_is_extrapolated_within_its_series() {
        let mut executor = scripted(&|_| (Status::Ok, None));
        executor.wall_s = &|job| [1.0, 3.0, 9.0, 50.0, 100.0][job.index];
        let mut planned = planned(5, 1);
        let expected = |planned: &[Planned], measurements: &[Measurement], index| {
            expected_time(planned, measurements, index).map(|time| time.as_secs_f64().round())
        };
        let mut measurements = run(&planned, 1, &mut executor);
        assert_eq!(expected(&planned, &measurements, 3), Some(50.0), "measured");
        measurements[3..].iter_mut().for_each(|measurement| measurement.replicates.clear());
        assert_eq!(expected(&planned, &measurements, 3), Some(27.0));
        assert_eq!(expected(&planned, &measurements, 4), Some(81.0));
        planned[4].series = "other".into();
        assert_eq!(expected(&planned, &measurements, 4), None);
        measurements[1..].iter_mut().for_each(|measurement| measurement.replicates.clear());
        assert_eq!(expected(&planned, &measurements, 3), Some(1.0));
    }
}
