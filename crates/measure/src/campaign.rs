//! Runs a set of planned measurements. Each of them ends with a recorded status.

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

    /// Called after each process with the current state of its measurement and the number of processes done.
    fn progressed(&mut self, measurement: &Measurement, done: usize);
}

/// Runs all `planned` measurements in randomised, interleaved order and returns them in the given order.
///
/// If a replicate fails or times out, the remaining replicates of its measurement are skipped. They would probably fail in the
/// same way and take as long.
pub fn run(planned: &[Planned], seed: u64, executor: &mut impl Executor) -> Vec<Measurement> {
    let mut measurements: Vec<Measurement> = planned.iter().map(blank).collect();
    let repeats: Vec<usize> = planned.iter().map(|planned| planned.repeats).collect();
    let slots = schedule::interleaved(&repeats, seed);
    log::debug!("{} measurements in {} processes, seed {seed}", planned.len(), slots.len());
    for (order, slot) in slots.iter().enumerate() {
        let measurement = &mut measurements[slot.measurement];
        let replicate = match reason_to_skip(measurement, executor) {
            Some(reason) => skipped(slot, order, reason),
            None => executor.execute(Job {
                planned: &planned[slot.measurement],
                index: slot.measurement,
                replicate: slot.replicate,
                seed: slot.seed,
                order,
            }),
        };
        measurement.replicates.push(replicate);
        conclude(measurement);
        executor.progressed(&measurements[slot.measurement], order + 1);
    }
    measurements
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
    use super::*;
    use simprof_model::Metric;

    /// Returns scripted results and records the executed jobs.
    struct Scripted<'a> {
        answer: &'a dyn Fn(&Job<'_>) -> (Status, Option<&'static str>),
        ran: Vec<(usize, usize)>,
        stop_after: usize,
        reports: usize,
    }

    impl Executor for Scripted<'_> {
        fn execute(&mut self, job: Job<'_>) -> Replicate {
            self.ran.push((job.index, job.replicate));
            let (status, reason) = (self.answer)(&job);
            let slot = Slot { measurement: job.index, replicate: job.replicate, seed: job.seed };
            let metrics = [("t_ns".to_owned(), Metric::single(1.0))].into();
            let reason = reason.map(str::to_owned);
            Replicate { status, reason, metrics, ..skipped(&slot, job.order, String::new()) }
        }

        fn stop_reason(&self) -> Option<String> {
            (self.ran.len() >= self.stop_after).then(|| "interrupted".to_owned())
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
            })
            .collect()
    }

    fn scripted(answer: &dyn Fn(&Job<'_>) -> (Status, Option<&'static str>)) -> Scripted<'_> {
        Scripted { answer, ran: Vec::new(), stop_after: usize::MAX, reports: 0 }
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
}
