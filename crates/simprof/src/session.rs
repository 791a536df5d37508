//! A run in progress: the plan, the folder, and what is known so far.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use simprof_model::{Measurement, Notice, Phase, Profile, Run, Status, add_notices, append_line};
use simprof_record::RecordError;
use simprof_report::analysis::ComponentRules;
use simprof_report::summary::{ComponentSummary, LineSummary, MacroSummary, SystemSummary};

use crate::folder::{RunFolder, now_ms};
use crate::plan::Plan;
use crate::progress::Progress;
use crate::runner::{Runner, is_lasting, with_mend};

/// What the phases have found, for those that follow.
#[derive(Debug, Default)]
pub struct Evidence {
    /// Phase 1, and the profile of its default case.
    pub macro_: Option<(MacroSummary, Profile)>,
    /// Phase 2.
    pub component: Option<ComponentSummary>,
    /// Phase 3.
    pub line: Option<LineSummary>,
    /// Phase 4.
    pub system: Option<SystemSummary>,
}

/// A run in progress.
#[derive(Debug)]
pub struct Session<'a> {
    /// What is to be measured.
    pub plan: &'a Plan,
    /// Where results go.
    pub folder: RunFolder,
    /// How processes of the target are started.
    pub runner: Runner,
    /// What a person sees.
    pub progress: Progress,
    /// Groups of functions.
    pub rules: ComponentRules,
    /// What is known so far.
    pub evidence: Evidence,
    /// Why no further process is to be started, once there is a reason.
    pub stopped: Option<String>,
}

impl Session<'_> {
    /// Why no further process is to be started, if so.
    pub fn stop_reason(&self) -> Option<String> {
        if self.runner.cancelled() { Some("interrupted".to_owned()) } else { self.stopped.clone() }
    }

    /// The folder of a phase.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn phase_folder(&self, phase: Phase) -> Result<PathBuf> {
        Ok(self.folder.phase(phase)?)
    }

    /// Begins a phase: in the manifest and on the screen.
    ///
    /// # Errors
    /// Where the manifest cannot be written.
    pub fn begin(&mut self, phase: Phase, units: usize) -> Result<()> {
        self.progress.begin(&title(phase), units);
        self.folder.update(|run| {
            if let Some(record) = run.phase_mut(phase) {
                record.started_ms = Some(now_ms());
                record.planned = units;
            }
        })?;
        Ok(())
    }

    /// Plans `units` more of a phase that runs: what only its results call for.
    pub fn plan_more(&mut self, phase: Phase, units: usize) {
        if let Some(record) = self.folder.run_mut().phase_mut(phase) {
            record.planned += units;
        }
        self.progress.plan_more(units);
    }

    /// Names what runs now.
    ///
    /// # Errors
    /// Where the manifest cannot be written.
    pub fn current(&mut self, phase: Phase, what: &str) -> Result<()> {
        self.progress.current(what);
        self.folder.update(|run| {
            if let Some(record) = run.phase_mut(phase) {
                what.clone_into(&mut record.current);
            }
        })?;
        Ok(())
    }

    /// Keeps a measurement as it stands, and how far the phase is.
    pub fn keep(&mut self, phase: Phase, measurement: &Measurement, done: usize) {
        self.progress.advance(done, &measurement.name);
        let kept = self.folder.update(|run| {
            if let Some(record) = run.phase_mut(phase) {
                if was_tried(measurement) {
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

    /// Ends the whole run early, once, for a reason that no later measurement can survive.
    pub fn stop(&mut self, error: &anyhow::Error) {
        if self.stopped.is_none() {
            let reason = crate::exit::describe(error);
            self.progress.say(&format!("simprof: {reason}"));
            self.stopped = Some(reason);
        }
    }

    /// The target could not be started. Where that will not change, the run ends.
    pub fn not_started(&mut self, error: &RecordError) {
        let text = with_mend(error);
        if is_lasting(error) {
            self.stop(&anyhow::anyhow!(text));
        } else {
            self.progress.say(&format!("simprof: {text}"));
        }
    }

    /// Adds a notice to a phase, once. Prints it too if it is urgent and new to the run.
    pub fn notice(&mut self, phase: Phase, notice: Notice) {
        let is_new = |run: &Run| !run.phases.iter().any(|record| record.notices.contains(&notice));
        if notice.id.is_urgent() && is_new(self.folder.run()) {
            self.progress.say(&format!("simprof: {notice}"));
        }
        if let Some(record) = self.folder.run_mut().phase_mut(phase) {
            add_notices(&mut record.notices, [notice]);
        }
    }

    /// Writes a file of a phase and notes it in the manifest.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&mut self, phase: Phase, name: &str, content: &[u8]) -> Result<()> {
        let path = self.phase_folder(phase)?.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("cannot make {}", parent.display()))?;
        }
        simprof_model::write_atomically(&path, content)?;
        self.note_file(phase, name);
        Ok(())
    }

    /// Notes a file of a phase in the manifest.
    pub fn note_file(&mut self, phase: Phase, name: &str) {
        let name = format!("{}/{name}", phase.folder());
        if let Some(record) = self.folder.run_mut().phase_mut(phase)
            && !record.files.contains(&name)
        {
            record.files.push(name);
        }
    }

    /// Notes the files that hold the target's own output.
    pub fn note_output(&mut self, phase: Phase, stem: &str) {
        self.note_file(phase, &format!("{stem}.out"));
        self.note_file(phase, &format!("{stem}.err"));
    }

    /// Appends a line to the phase's log; a log that cannot be written stops the run.
    pub fn log(&mut self, phase: Phase, line: &str) {
        let logged = self.phase_folder(phase).and_then(|folder| {
            Ok(append_line(&folder.join(format!("{}.log", phase.folder())), line)?)
        });
        match logged {
            Ok(()) => self.note_file(phase, &format!("{}.log", phase.folder())),
            Err(error) => self.stop(&error),
        }
    }

    /// Ends a phase: in the manifest and on the screen.
    ///
    /// # Errors
    /// Where the manifest cannot be written.
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
        self.progress.end(&title(phase), outcome);
        Ok(status)
    }

    /// The folder of the run.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Whether the newest of it was started at all: what was skipped counts as not done.
fn was_tried(measurement: &Measurement) -> bool {
    let newest = measurement.replicates.last();
    newest.map_or(measurement.status, |replicate| replicate.status) != Status::Skipped
}

/// `phase 1 (macro): WHAT is slow`.
pub fn title(phase: Phase) -> String {
    format!("{phase}: {}", phase.question())
}
