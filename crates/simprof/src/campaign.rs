//! Runs the planned measurements of a phase as processes of the target.

use std::path::Path;

use anyhow::Result;
use simprof_measure::campaign::{Executor, Job};
use simprof_model::{Measurement, Phase, Replicate, Status};

use crate::phases::{add_urgent_notices, ending, file_stem};
use crate::replicate::{Place, replicate};
use crate::runner::{Invocation, Observe, with_ending};
use crate::session::Session;
use crate::spec::CommandTemplate;

/// Executes jobs as processes of the target.
pub struct TargetExecutor<'s, 'p> {
    /// The run.
    pub session: &'s mut Session<'p>,
    /// The phase that they belong to.
    pub phase: Phase,
    /// The command of each planned measurement.
    pub commands: Vec<&'s CommandTemplate>,
    /// What to observe.
    pub observe: Observe,
    /// Processes of the phase that were done before.
    pub done_before: usize,
}

impl Executor for TargetExecutor<'_, '_> {
    fn execute(&mut self, job: Job<'_>) -> Replicate {
        match self.start(&job) {
            Ok(replicate) => replicate,
            Err(error) => {
                self.session.stop(&error);
                let place = Place { seed: job.seed, order: job.order, load: None };
                failed(place, crate::exit::describe(&error))
            }
        }
    }

    fn stop_reason(&self) -> Option<String> {
        self.session.stop_reason()
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
        let result = self.session.runner.run(&invocation);
        let place = Place { seed: job.seed, order: job.order, load };
        let timeout = self.session.plan.target.timeout;
        let replicate = replicate(place, result.as_ref(), &with_ending(&log, "out"), timeout);
        self.session.folder.clear_scratch();
        if let Ok(recording) = &result {
            add_urgent_notices(self.session, self.phase, recording);
        }
        self.keep_output(&log, job, &replicate)?;
        let line =
            format!("{} run {}: {}", job.planned.name, job.replicate + 1, ending(&replicate));
        self.session.log(self.phase, &line);
        Ok(replicate)
    }

    /// The output of a process that failed is kept under its name; that of others is not.
    fn keep_output(&mut self, log: &Path, job: &Job<'_>, replicate: &Replicate) -> Result<()> {
        for end in ["out", "err"] {
            let from = with_ending(log, end);
            if replicate.status.is_ok() {
                // What is not there need not be removed.
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

fn failed(place: Place, reason: String) -> Replicate {
    Replicate {
        seed: place.seed,
        order: place.order,
        status: Status::Failed,
        reason: Some(reason),
        metrics: Default::default(),
        counters: Default::default(),
        digest: None,
        load: None,
    }
}
