//! `simprof run --into RUN`: adds phases to an earlier run, so that one cross-reference joins them all.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use serde::de::DeserializeOwned;
use simprof_model::{Mode, Notice, NoticeId, Phase, Run, Status};

use crate::cli::{Cli, Command};
use crate::exit::UsageError;
use crate::folder::{MANIFEST, read};
use crate::session::Evidence;
use crate::spec::{Spec, Strictness};
use crate::text::relative;

/// An earlier run.
#[derive(Debug)]
pub struct EarlierRun {
    /// Its folder.
    pub path: PathBuf,
    /// Its manifest.
    pub run: Run,
}

impl EarlierRun {
    /// Finds a run by its folder, or by its name in the folder for results.
    ///
    /// # Errors
    /// Returns an error if there is no such run or its manifest cannot be read.
    pub fn find(run: &Path, output: &Path) -> Result<EarlierRun> {
        let candidates = [run.to_owned(), output.join(run)];
        let Some(path) = candidates.iter().find(|path| path.join(MANIFEST).is_file()) else {
            return Err(UsageError(format!(
                "--into: there is no run in {} or in {}; give the folder of a run, or `latest`",
                run.display(),
                candidates[1].display()
            ))
            .into());
        };
        let path =
            path.canonicalize().with_context(|| format!("cannot open {}", path.display()))?;
        let run = read(&path.join(MANIFEST))?;
        Ok(EarlierRun { path, run })
    }

    /// Returns the spec of the run, and how braces in its command are read.
    ///
    /// # Errors
    /// Returns an error if the manifest holds no spec that this version can read.
    pub fn spec(&self) -> Result<(Spec, Strictness)> {
        let owner = self.path.join(MANIFEST).display().to_string();
        let spec = Spec::parse(&self.run.spec, &owner)?;
        let arguments = self.run.arguments.iter().map(OsString::from);
        let cli = Cli::try_parse_from(std::iter::once("simprof".into()).chain(arguments));
        let typed = match cli.map(|cli| cli.command) {
            Ok(Command::Run(arguments)) => !arguments.command.is_empty(),
            _ => false,
        };
        Ok((spec, if typed { Strictness::Literal } else { Strictness::Strict }))
    }

    /// Returns the numbers of the phases that are not in the run or did not succeed.
    ///
    /// # Errors
    /// Returns an error if there are none.
    pub fn missing(&self) -> Result<Vec<u8>> {
        let missing = Phase::ALL.into_iter().filter(|&phase| !self.has(phase));
        let missing: Vec<u8> = missing.map(Phase::number).collect();
        if missing.is_empty() {
            let folder = relative(&self.path);
            let text = format!("--into: the run in {} has all phases", folder.display());
            return Err(UsageError(text).into());
        }
        Ok(missing)
    }

    fn has(&self, phase: Phase) -> bool {
        let status = self.run.phase(phase).and_then(|record| record.status);
        status.is_some_and(Status::is_ok)
    }

    /// Checks that `fresh`, the manifest of what is going to run, measures the same as this run, and adds no phase that
    /// this run has. Returns what differs without making the phases incomparable.
    ///
    /// # Errors
    /// Returns an error that names the first difference that does.
    pub fn check(&self, fresh: &Run) -> Result<Vec<Notice>> {
        if let Some(difference) = self.difference(fresh)? {
            let folder = relative(&self.path);
            let text = format!(
                "--into: {difference}, so its phases do not belong to the run in {}; start a new run without --into",
                folder.display()
            );
            return Err(UsageError(text).into());
        }
        if let Some(record) = fresh.phases.iter().find(|record| self.has(record.phase)) {
            let text = format!(
                "--into: the run in {} has {} already; choose another with --phase, or start a new run without --into",
                relative(&self.path).display(),
                record.phase
            );
            return Err(UsageError(text).into());
        }
        let mut notices = Vec::new();
        let mut differs = |what: &str, before: &str, now: &str| {
            if before != now {
                let text = format!(
                    "The phases of this run were measured under different conditions: {what} was {before} and is {now} for {}. \
                     Compare figures of different phases with care.",
                    names(fresh)
                );
                notices.push(Notice::new(NoticeId::PhasesDiffer, text));
            }
        };
        let (old, new) = (&self.run.machine, &fresh.machine);
        differs("the CPU", &old.cpu, &new.cpu);
        differs("the number of cores", &old.cores.to_string(), &new.cores.to_string());
        differs("the kernel", &old.kernel, &new.kernel);
        differs("simprof's version", &self.run.simprof_version, &fresh.simprof_version);
        Ok(notices)
    }

    /// Returns what differs between this run and `fresh` such that their phases do not belong together.
    fn difference(&self, fresh: &Run) -> Result<Option<String>> {
        let run = &self.run;
        if run.target != fresh.target {
            let (old, new) = (run.target.join(" "), fresh.target.join(" "));
            return Ok(Some(format!("that run profiled `{old}`, this command profiles `{new}`")));
        }
        if run.mode != fresh.mode {
            let mode = |mode| if mode == Mode::Quick { "quick" } else { "full" };
            let (old, new) = (mode(run.mode), mode(fresh.mode));
            return Ok(Some(format!("that run is {old} and this one {new} (see --quick)")));
        }
        if run.seed != fresh.seed {
            return Ok(Some(format!("that run has seed {}, this one {}", run.seed, fresh.seed)));
        }
        let (old, _) = self.spec()?;
        let new = Spec::parse(&fresh.spec, "the spec")?;
        let part = if old.target != new.target {
            "[target]"
        } else if old.parameters != new.parameters {
            "[parameters]"
        } else if old.components != new.components {
            "[components]"
        } else {
            return Ok(None);
        };
        Ok(Some(format!("{part} of the spec has changed since that run")))
    }

    /// Returns the results of the phases of this run.
    ///
    /// # Errors
    /// Returns an error if a summary or profile cannot be read.
    pub fn evidence(&self) -> Result<Evidence> {
        let macro_ = match self.summary(Phase::Macro)? {
            Some(summary) => {
                self.file(Phase::Macro, "profile.json")?.map(|profile| (summary, profile))
            }
            None => None,
        };
        Ok(Evidence {
            macro_,
            component: self.summary(Phase::Component)?,
            line: self.summary(Phase::Line)?,
            system: self.summary(Phase::System)?,
        })
    }

    fn summary<T: DeserializeOwned>(&self, phase: Phase) -> Result<Option<T>> {
        self.file(phase, &format!("{}_summary.json", phase.folder()))
    }

    /// Reads a file that the manifest lists.
    fn file<T: DeserializeOwned>(&self, phase: Phase, name: &str) -> Result<Option<T>> {
        let name = format!("{}/{name}", phase.folder());
        let listed = self.run.phase(phase).is_some_and(|record| record.files.contains(&name));
        if listed { read(&self.path.join(name)).map(Some) } else { Ok(None) }
    }

    /// Removes the phases that `fresh` measures again because they did not succeed. Their folders get the suffix
    /// `-replaced`.
    ///
    /// # Errors
    /// Returns an error if a folder cannot be renamed.
    pub fn set_aside(&mut self, fresh: &Run) -> Result<()> {
        for phase in fresh.phases.iter().map(|record| record.phase) {
            let folder = self.path.join(phase.folder());
            if folder.exists() {
                let aside = self.path.join(format!("{}-replaced", phase.folder()));
                // A folder that does not exist is the usual case; any other problem makes the rename fail.
                let _ = std::fs::remove_dir_all(&aside);
                std::fs::rename(&folder, &aside)
                    .with_context(|| format!("cannot rename {}", folder.display()))?;
            }
            self.run.phases.retain(|record| record.phase != phase);
        }
        Ok(())
    }

    /// Returns the manifest of the run with the phases of `fresh` added.
    pub fn joined(self, fresh: Run) -> Run {
        let mut run = self.run;
        run.phases.extend(fresh.phases);
        run.phases.sort_by_key(|record| record.phase);
        run.joined.push(fresh.arguments);
        let Run { status, pid, pid_start_ticks, .. } = fresh;
        Run { status, pid, pid_start_ticks, ended_ms: None, problems: Vec::new(), ..run }
    }
}

fn names(run: &Run) -> String {
    let phases: Vec<String> = run.phases.iter().map(|record| record.phase.to_string()).collect();
    phases.join(", ")
}
