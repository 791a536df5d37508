//! Runs the planned measurements of phases 2 and 4 as processes of the target.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use simprof_measure::campaign::{Executor, Job};
use simprof_model::{Measurement, Phase, Replicate, Status};

use crate::phases::{add_urgent_notices, ending};
use crate::processes::{Invocation, Observe};
use crate::replicate::{ProcessContext, replicate_from};
use crate::session::Session;
use crate::spec::CommandTemplate;
use crate::text::{append_extension, file_stem};

/// Executes jobs as processes of the target.
pub struct TargetExecutor<'s, 'p> {
    /// The run.
    pub session: &'s mut Session<'p>,
    /// The phase that they belong to.
    pub phase: Phase,
    /// The command of each planned measurement.
    pub commands: Vec<&'s CommandTemplate>,
    /// What to record of each process.
    pub observe: Observe,
    /// Number of processes of the phase that ran before.
    pub done_before: usize,
}

impl Executor for TargetExecutor<'_, '_> {
    fn execute(&mut self, job: Job<'_>) -> Replicate {
        match self.start(&job) {
            Ok(replicate) => replicate,
            Err(error) => {
                self.session.stop(&error);
                let context = ProcessContext { seed: job.seed, order: job.order, load: None };
                failed(context, crate::exit::describe_error(&error))
            }
        }
    }

    fn stop_reason(&self) -> Option<String> {
        self.session.stop_reason()
    }

    fn no_time_for(&self, expected: Option<Duration>) -> Option<String> {
        self.session.budget.refusal(expected)
    }

    fn has_limited_time(&self) -> bool {
        self.session.budget.is_limited()
    }

    fn progressed(&mut self, measurement: &Measurement, done: usize) {
        self.session.keep(self.phase, measurement, self.done_before + done);
    }
}

impl TargetExecutor<'_, '_> {
    fn start(&mut self, job: &Job<'_>) -> Result<Replicate> {
        self.session.progress.current(&job.planned.name);
        let log = self.session.phase_folder(self.phase)?.join("current");
        let invocation = Invocation {
            command: self.commands[job.index],
            parameters: &job.planned.parameters,
            seed: job.seed,
            observe: self.observe,
            scratch: self.session.folder.scratch()?,
            log: &log,
        };
        let load = crate::replicate::load_average();
        self.session.budget.start_process();
        let result = self.session.processes.run(&invocation);
        let context = ProcessContext { seed: job.seed, order: job.order, load };
        let recording = result.as_ref().map(|observed| &observed.recording);
        let timeout = self.session.plan.target.timeout;
        let replicate = replicate_from(context, recording, &append_extension(&log, "out"), timeout);
        self.session.folder.clear_scratch();
        if let Ok(recording) = recording {
            add_urgent_notices(self.session, self.phase, recording);
        }
        self.keep_output(&log, job, &replicate)?;
        let line =
            format!("{} run {}: {}", job.planned.name, job.replicate + 1, ending(&replicate));
        self.session.log(self.phase, &line);
        Ok(replicate)
    }

    /// Keeps the output of a failed process under the name of its measurement, and deletes the
    /// output of others.
    fn keep_output(&mut self, log: &Path, job: &Job<'_>, replicate: &Replicate) -> Result<()> {
        for end in ["out", "err"] {
            let from = append_extension(log, end);
            if replicate.status.is_ok() {
                // The file may not exist.
                let _ = std::fs::remove_file(&from);
            } else if from.exists() {
                let name = format!("failed/{}.{end}", file_stem(&job.planned.name));
                let to = self.session.phase_folder(self.phase)?.join(&name);
                std::fs::create_dir_all(to.parent().unwrap_or(Path::new(".")))?;
                std::fs::rename(&from, &to)?;
                self.session.note_file(self.phase, &name);
            }
        }
        Ok(())
    }
}

fn failed(context: ProcessContext, reason: String) -> Replicate {
    Replicate {
        seed: context.seed,
        order: context.order,
        status: Status::Failed,
        reason: Some(reason),
        metrics: Default::default(),
        counters: Default::default(),
        digest: None,
        load: None,
    }
}

#[cfg(test)]
mod tests {
    use simprof_measure::campaign;
    use simprof_record::Outcome;

    use super::*;
    use crate::processes::fake::{FakeProcesses, FakeSession, ended, plan_for};

    const SPEC: &str = "[target]\ncommand = [\"./sim\", \"{n}\"]\n\
                        [parameters]\nn = { default = 1, sweep = [1, 2] }\n";

    /// Runs the sweep of [`SPEC`], three processes for each value.
    fn run(processes: &FakeProcesses) -> (Vec<Measurement>, Vec<String>) {
        let plan = plan_for(SPEC);
        let mut fake = FakeSession::new(&plan, processes);
        let planned = &plan.sweeps[0].planned;
        let mut executor = TargetExecutor {
            session: &mut fake.session,
            phase: Phase::System,
            commands: planned.iter().map(|_| &plan.target.command).collect(),
            observe: Observe::Resources,
            done_before: 0,
        };
        let measurements = campaign::run(planned, 1, &mut executor);
        (measurements, fake.record(Phase::System).files.clone())
    }

    #[test]
    fn every_process_gets_its_parameters() {
        let processes = FakeProcesses::new((0..6).map(|_| ended(Outcome::Exited(0))));
        let (measurements, _) = run(&processes);
        assert!(measurements.iter().all(|measurement| measurement.status == Status::Ok));
        for value in ["1", "2"] {
            let argv = ["./sim", value];
            let count = processes.started().iter().filter(|started| started.argv == argv).count();
            assert_eq!(count, 3, "{value}");
        }
    }

    #[test]
    fn replicates_after_a_failure_are_skipped() {
        let processes = FakeProcesses::new((0..2).map(|_| ended(Outcome::TimedOut)));
        let (measurements, _) = run(&processes);
        assert_eq!(processes.started().len(), 2, "one process for each value");
        for measurement in measurements {
            assert_eq!(measurement.status, Status::TimedOut);
            let reason = measurement.reason.expect("a reason");
            assert!(reason.contains("did not end within 600 s"), "{reason}");
        }
    }

    #[test]
    fn an_interrupted_campaign_skips_the_rest() {
        let processes = FakeProcesses::new((0..1).map(|_| ended(Outcome::Exited(0))));
        processes.cancel_after(1);
        let (measurements, _) = run(&processes);
        let replicates = measurements.iter().flat_map(|measurement| &measurement.replicates);
        let skipped = replicates.filter(|replicate| replicate.status == Status::Skipped).count();
        assert_eq!((processes.started().len(), skipped), (1, 5));
    }
}
