//! A run in progress: the plan, the folder, the processes and the results so far.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use simprof_model::{
    Measurement, Notice, NoticeId, Phase, Profile, Status, append_line, has_notice,
};
use simprof_record::RecordError;
use simprof_report::analysis::ComponentRules;
use simprof_report::summary::{ComponentSummary, LineSummary, MacroSummary, SystemSummary};

use crate::budget::Budget;
use crate::folder::{RunFolder, now_ms};
use crate::plan::Plan;
use crate::processes::Processes;
use crate::progress::Progress;
use crate::runner::{is_permanent, with_fix};

/// Results of the finished phases, which later phases use.
#[derive(Debug, Default)]
pub struct Evidence {
    /// Summary of phase 1, and the profile of its default case.
    pub macro_: Option<(MacroSummary, Profile)>,
    /// Summary of phase 2.
    pub component: Option<ComponentSummary>,
    /// Summary of phase 3.
    pub line: Option<LineSummary>,
    /// Summary of phase 4.
    pub system: Option<SystemSummary>,
}

/// A run in progress.
#[derive(Debug)]
pub struct Session<'a> {
    /// What to measure.
    pub plan: &'a Plan,
    /// The folder for results.
    pub folder: RunFolder,
    /// Starts processes of the target.
    pub processes: Box<dyn Processes>,
    /// The progress display.
    pub progress: Progress,
    /// Rules that assign functions to components.
    pub rules: ComponentRules,
    /// Results of the finished phases.
    pub evidence: Evidence,
    /// Why no further process is started, if there is a reason.
    pub stopped: Option<String>,
    /// The time that the run may take.
    pub budget: Budget,
}

impl Session<'_> {
    /// Returns why no further process is started, or `None` if the run continues.
    pub fn stop_reason(&self) -> Option<String> {
        if self.processes.is_cancelled() {
            Some("interrupted".to_owned())
        } else {
            self.stopped.clone()
        }
    }

    /// Returns true if other programs used the machine when the run began.
    pub fn is_machine_busy(&self) -> bool {
        has_notice(&self.folder.run().machine.notices, NoticeId::MachineBusy)
    }

    /// Returns the folder of a phase.
    ///
    /// # Errors
    /// Returns an error if it cannot be created.
    pub fn phase_folder(&self, phase: Phase) -> Result<PathBuf> {
        Ok(self.folder.phase(phase)?)
    }

    /// Starts a phase in the manifest and in the progress display.
    ///
    /// # Errors
    /// Returns an error if the manifest cannot be written.
    pub fn begin(&mut self, phase: Phase, units: usize) -> Result<()> {
        log::info!("{phase}: started, processes planned: {units}");
        let later = self.plan.phases.iter().filter(|&&later| later > phase);
        let later = later.map(|&later| self.plan.weight_s(later)).sum();
        self.budget.begin_phase(self.plan.weight_s(phase), later);
        self.progress.begin(&title(phase), units, self.budget.phase_time_left());
        self.folder.update(|run| {
            if let Some(record) = run.phase_mut(phase) {
                record.started_ms = Some(now_ms());
                record.planned = units;
            }
        })?;
        Ok(())
    }

    /// Adds `units` of work to a running phase whose results require more measurements.
    pub fn plan_more(&mut self, phase: Phase, units: usize) {
        if let Some(record) = self.folder.run_mut().phase_mut(phase) {
            record.planned += units;
        }
        self.progress.plan_more(units);
    }

    /// Records and shows what is running.
    ///
    /// # Errors
    /// Returns an error if the manifest cannot be written.
    pub fn current(&mut self, phase: Phase, what: &str) -> Result<()> {
        self.progress.current(what);
        self.folder.update(|run| {
            if let Some(record) = run.phase_mut(phase) {
                what.clone_into(&mut record.current);
            }
        })?;
        Ok(())
    }

    /// Saves the current state of a measurement and the progress of the phase.
    pub fn keep(&mut self, phase: Phase, measurement: &Measurement, done: usize) {
        self.progress.advance(done, &measurement.name);
        let kept = self.folder.update(|run| {
            if let Some(record) = run.phase_mut(phase) {
                if was_started(measurement) {
                    record.done = done;
                }
                measurement.name.clone_into(&mut record.current);
                match record.measurements.iter_mut().find(|known| known.name == measurement.name) {
                    Some(known) => known.clone_from(measurement),
                    None => record.measurements.push(measurement.clone()),
                }
            }
        });
        if let Err(error) = kept {
            self.stop(&anyhow::Error::from(error));
        }
    }

    /// Ends the run early because of an error that would also affect all later measurements.
    /// Reports the first such error.
    pub fn stop(&mut self, error: &anyhow::Error) {
        if self.stopped.is_none() {
            let reason = crate::exit::describe_error(error);
            self.progress.error(&reason);
            self.stopped = Some(reason);
        }
    }

    /// Reports that the target could not be started. Ends the run if later attempts would fail too.
    pub fn not_started(&mut self, error: &RecordError) {
        let text = with_fix(error);
        if is_permanent(error) {
            self.stop(&anyhow::anyhow!(text));
        } else {
            self.progress.error(&text);
        }
    }

    /// Adds a notice to a phase unless it has it. Also prints it if it is urgent and new in this run.
    pub fn notice(&mut self, phase: Phase, notice: Notice) {
        let mut others = self.folder.run().phases.iter().map(|record| &record.notices);
        let is_new = !others.any(|notices| stands_for(notices, &notice));
        if notice.id.is_urgent() && is_new {
            self.progress.note(&notice.text);
        }
        if let Some(record) = self.folder.run_mut().phase_mut(phase)
            && !stands_for(&record.notices, &notice)
        {
            record.notices.push(notice);
        }
    }

    /// Returns true if a phase has a notice of this kind.
    pub fn has_notice(&self, phase: Phase, id: NoticeId) -> bool {
        self.folder.run().phase(phase).is_some_and(|record| has_notice(&record.notices, id))
    }

    /// Writes a file of a phase and lists it in the manifest.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    pub fn write(&mut self, phase: Phase, name: &str, content: &[u8]) -> Result<()> {
        let path = self.phase_folder(phase)?.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("cannot create {}", parent.display()))?;
        }
        simprof_model::write_atomically(&path, content)?;
        log::info!("wrote {} ({} bytes)", path.display(), content.len());
        self.note_file(phase, name);
        Ok(())
    }

    /// Lists a file of a phase in the manifest.
    pub fn note_file(&mut self, phase: Phase, name: &str) {
        let name = format!("{}/{name}", phase.folder());
        if let Some(record) = self.folder.run_mut().phase_mut(phase)
            && !record.files.contains(&name)
        {
            record.files.push(name);
        }
    }

    /// Lists the files with the target's output in the manifest.
    pub fn note_output(&mut self, phase: Phase, stem: &str) {
        self.note_file(phase, &format!("{stem}.out"));
        self.note_file(phase, &format!("{stem}.err"));
    }

    /// Appends a line to the log of a phase. The run ends if the log cannot be written.
    pub fn log(&mut self, phase: Phase, line: &str) {
        let logged = self.phase_folder(phase).and_then(|folder| {
            Ok(append_line(&folder.join(format!("{}.log", phase.folder())), line)?)
        });
        match logged {
            Ok(()) => self.note_file(phase, &format!("{}.log", phase.folder())),
            Err(error) => self.stop(&error),
        }
    }

    /// Ends a phase in the manifest and in the progress display, and returns its status.
    ///
    /// # Errors
    /// Returns an error if the manifest cannot be written.
    pub fn end(&mut self, phase: Phase, outcome: &str) -> Result<Status> {
        let mut status = Status::Skipped;
        self.folder.update(|run| {
            if let Some(record) = run.phase_mut(phase) {
                status = Status::of_parts(
                    record.measurements.iter().map(|measurement| measurement.status),
                );
                record.status = Some(status);
                record.ended_ms = Some(now_ms());
            }
        })?;
        log::info!("{phase}: ended, {status}");
        self.progress.end(&title(phase), outcome);
        Ok(status)
    }

    /// Returns the folder of the run.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Returns true if `notices` contain this notice, or one that stands for it.
fn stands_for(notices: &[Notice], notice: &Notice) -> bool {
    notices.contains(notice)
        || notice.id.is_about_steps_as_specified() && has_notice(notices, notice.id)
}

/// Returns true if the last replicate was started. Skipped ones do not count as done.
fn was_started(measurement: &Measurement) -> bool {
    let newest = measurement.replicates.last();
    newest.map_or(measurement.status, |replicate| replicate.status) != Status::Skipped
}

/// Returns the title of a phase, such as `phase 1 (macro): WHAT is slow`.
pub fn title(phase: Phase) -> String {
    format!("{phase}: {}", phase.question())
}
