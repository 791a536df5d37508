//! Starts processes of the target and records them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use simprof_measure::grid::Parameters;
use simprof_model::Value;
use simprof_record::heap::HeapSampling;
use simprof_record::sample::{Recorder, Sampling};
use simprof_record::{Cancel, Guardian, Launch, Outcome, Preload, RecordError, Recording, launch};

use crate::configuration::{ConfigurationError, Original};
use crate::folder::Scratch;
use crate::logging::command_line;
use crate::plan::Target;
use crate::processes::{Invocation, Observe, Observed, Processes, Stacks};
use crate::python::{self, CallCounts, ScriptFolder};
use crate::spec::{CommandTemplate, ConfigTemplate, StepRule};
use crate::step_notices::step_notices;
use crate::text::{append_extension, error_chain};

/// Name of the hidden command that the guardian runs as.
pub const GUARDIAN_COMMAND: &str = "__guardian";

/// Time between two samples of the target's resources.
const RESOURCE_INTERVAL: Duration = Duration::from_millis(50);

/// Bytes of user stack copied with each sample.
const STACK_BYTES: u32 = 16 * 1024;

/// Starts processes of the target.
#[derive(Debug)]
pub struct Runner {
    directory: Option<PathBuf>,
    /// Configuration files as they were read, by their path in the spec.
    originals: BTreeMap<PathBuf, Original>,
    timeout: Duration,
    /// File that the processes read as standard input.
    input: Option<PathBuf>,
    keep_output: u64,
    step: Option<StepRule>,
    terminal: bool,
    recorder: Recorder,
    simprof: PathBuf,
    cancel: Cancel,
}

impl Runner {
    /// Creates a runner for `target`. `cancel` ends its processes.
    ///
    /// # Errors
    /// Returns an error if the path of simprof's executable is not known.
    pub fn new(target: &Target, recorder: Recorder, cancel: Cancel) -> Result<Self> {
        Ok(Self {
            directory: target.directory.clone(),
            originals: BTreeMap::new(),
            timeout: target.timeout,
            input: None,
            keep_output: target.keep_output,
            step: target.step.clone(),
            terminal: target.terminal,
            recorder,
            simprof: std::env::current_exe().context("simprof cannot find its own executable")?,
            cancel,
        })
    }

    /// Reads the configuration files of `command`. Each is read once, so that changes during the
    /// run have no effect on it.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read or parsed.
    pub fn read_configuration(
        &mut self,
        command: &CommandTemplate,
    ) -> Result<(), ConfigurationError> {
        for config in command.configs() {
            if !self.originals.contains_key(&config.file) {
                let original = Original::load(&config.file, self.directory.as_deref())?;
                self.originals.insert(config.file.clone(), original);
            }
        }
        Ok(())
    }

    /// Makes all processes read this file as standard input.
    pub fn set_input(&mut self, file: PathBuf) {
        self.input = Some(file);
    }

    /// Returns the configuration files that were read.
    pub fn originals(&self) -> impl Iterator<Item = &Original> {
        self.originals.values()
    }

    /// Tries the edits of the configuration files, without writing copies.
    ///
    /// # Errors
    /// Returns an error if an edit is not possible.
    pub fn try_configuration(
        &self,
        command: &CommandTemplate,
        parameters: &Parameters,
    ) -> Result<(), ConfigurationError> {
        let values = self.values(parameters, 0, &unused_scratch(), command.configs());
        command.configs().iter().try_for_each(|config| self.edited(config, &values).map(drop))
    }

    /// Writes the edited copies of the configuration files for one process.
    fn write_copies(
        &self,
        command: &CommandTemplate,
        values: &Parameters,
        scratch: &Scratch,
    ) -> Result<(), ConfigurationError> {
        for config in command.configs() {
            let path = config.copy(&scratch.copies);
            let text = self.edited(config, values)?;
            let folder = path.parent().unwrap_or(&scratch.copies);
            log::debug!(
                "writing an edited copy of {} to {}",
                config.file.display(),
                path.display()
            );
            std::fs::create_dir_all(folder)
                .and_then(|()| std::fs::write(&path, text))
                .map_err(|source| ConfigurationError::Unwritable { path, source })?;
        }
        Ok(())
    }

    fn edited(
        &self,
        config: &ConfigTemplate,
        values: &Parameters,
    ) -> Result<String, ConfigurationError> {
        let edits = config.edits(values);
        match self.originals.get(&config.file) {
            Some(original) => original.edited(&edits),
            None => Original::load(&config.file, self.directory.as_deref())?.edited(&edits),
        }
    }

    /// Returns the argument vector of a process. Paths of edited configuration files stay
    /// placeholders.
    pub fn argv(
        &self,
        command: &CommandTemplate,
        parameters: &Parameters,
        seed: u64,
        scratch: &Scratch,
    ) -> Vec<String> {
        command.argv(&self.values(parameters, seed, scratch, &[]))
    }

    /// Checks that the program of `command` exists and can be executed.
    ///
    /// # Errors
    /// Returns an error if it does not exist or cannot be executed.
    pub fn find(
        &self,
        command: &CommandTemplate,
        parameters: &Parameters,
    ) -> Result<(), RecordError> {
        let (program, environment) = self.program(command, parameters);
        simprof_record::resolve(&program, self.directory.as_deref(), &environment).map(drop)
    }

    /// Checks that the allocations of `command` can be recorded.
    ///
    /// # Errors
    /// Returns an error if they cannot, or as [`Runner::find`].
    pub fn check_memory(
        &self,
        command: &CommandTemplate,
        parameters: &Parameters,
    ) -> Result<(), RecordError> {
        let (program, environment) = self.program(command, parameters);
        simprof_record::heap::check(&program, self.directory.as_deref(), &environment)
    }

    /// Returns the program of `command` (empty if it has none) and its environment.
    fn program(
        &self,
        command: &CommandTemplate,
        parameters: &Parameters,
    ) -> (String, BTreeMap<String, String>) {
        let values = self.values(parameters, 0, &unused_scratch(), &[]);
        let program = command.argv(&values).into_iter().next().unwrap_or_default();
        (program, command.environment(&values))
    }

    /// Returns what to launch. Writes the copies of its configuration files.
    fn request(
        &self,
        invocation: &Invocation<'_>,
        preload: Preload,
    ) -> Result<Launch, RecordError> {
        let Invocation { command, parameters, seed, scratch, .. } = invocation;
        let values = self.values(parameters, *seed, scratch, command.configs());
        self.write_copies(command, &values, scratch).map_err(|error| RecordError::System {
            what: "cannot prepare the configuration of the target",
            source: std::io::Error::other(error),
        })?;
        let (sampling, resources) = match invocation.observe {
            Observe::Stacks { rate_hz } => (Some(self.sampling(rate_hz)), Some(RESOURCE_INTERVAL)),
            Observe::Allocations { .. } | Observe::Resources => (None, Some(RESOURCE_INTERVAL)),
            Observe::Nothing => (None, None),
        };
        let rule = self.step.as_ref().filter(|_| invocation.observe != Observe::Nothing);
        let pattern = rule.and_then(StepRule::pattern);
        let argv = command.argv(&values);
        log::info!("starting {}", command_line(&argv));
        Ok(Launch {
            argv,
            directory: self.directory.clone(),
            environment: command.environment(&values),
            input: self.input.clone(),
            keep_output: self.keep_output,
            stdout: append_extension(invocation.log, "out"),
            stderr: append_extension(invocation.log, "err"),
            timeout: Some(self.timeout),
            sampling,
            heap: self.heap(invocation),
            resources,
            marks: true,
            step_pattern: pattern.cloned(),
            terminal: self.terminal,
            preload,
            guardian: Guardian {
                exe: self.simprof.clone(),
                arguments: vec![GUARDIAN_COMMAND.into()],
            },
        })
    }

    fn heap(&self, invocation: &Invocation<'_>) -> Option<HeapSampling> {
        let Observe::Allocations { interval_bytes } = invocation.observe else { return None };
        Some(HeapSampling { interval_bytes, seed: invocation.seed })
    }

    fn sampling(&self, rate_hz: u32) -> Sampling {
        Sampling { rate_hz, stack_bytes: STACK_BYTES, kernel: true, recorder: self.recorder }
    }

    fn values(
        &self,
        parameters: &Parameters,
        seed: u64,
        scratch: &Scratch,
        configs: &[ConfigTemplate],
    ) -> Parameters {
        let mut values = parameters.clone();
        let text = |path: &Path| Value::Text(path.to_string_lossy().into_owned());
        values.insert("seed".into(), Value::Integer(i64::try_from(seed).unwrap_or(i64::MAX)));
        values.insert("simprof".into(), text(&self.simprof));
        values.insert("scratch".into(), text(&scratch.work));
        for config in configs {
            values.insert(config.placeholder.clone(), text(&config.copy(&scratch.copies)));
        }
        values
    }
}

impl Processes for Runner {
    fn run(&self, invocation: &Invocation<'_>) -> Result<Observed, RecordError> {
        let function = self.step.as_ref().and_then(StepRule::function);
        let function = function.filter(|_| invocation.observe != Observe::Nothing);
        let folder = function.map(|_| script_folder(invocation)).transpose()?;
        let script =
            function.zip(folder.as_ref()).map(|(function, folder)| folder.steps_script(function));
        let request = self.request(invocation, preload(invocation.observe, script))?;
        let mut recording = launch(&request, &self.cancel)?;
        recording.notices.extend(step_notices(
            &recording.steps,
            self.step.as_ref(),
            folder.as_ref(),
        ));
        let stacks = recording.samples.take().map(Box::new).map(Stacks::Sampled);
        Ok(Observed { recording, stacks })
    }

    fn count_calls(
        &self,
        invocation: &Invocation<'_>,
        limit: Duration,
    ) -> Result<(Recording, CallCounts), RecordError> {
        let folder = script_folder(invocation)?;
        let script = Some(folder.calls_script());
        let preload = Preload { script, ..Preload::default() };
        let mut request = self.request(invocation, preload)?;
        request.timeout = Some(limit);
        let recording = launch(&request, &self.cancel)?;
        Ok((recording, python::read_call_counts(&folder)))
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}

/// Returns what the preload library does in the process. For stacks, it reads Python frames; for
/// resources and allocations, it only runs the script that marks steps of a Python program.
fn preload(observe: Observe, script: Option<String>) -> Preload {
    match observe {
        Observe::Stacks { .. } => Preload { script, ..Preload::python() },
        Observe::Resources | Observe::Allocations { .. } => {
            Preload { script: Some(script.unwrap_or_default()), ..Preload::default() }
        }
        Observe::Nothing => Preload::default(),
    }
}

/// Returns folders that need not exist, for looking at commands without starting them.
fn unused_scratch() -> Scratch {
    Scratch { work: PathBuf::from("."), copies: PathBuf::from(".") }
}

/// Creates the folder for the results of Python scripts in the process.
fn script_folder(invocation: &Invocation<'_>) -> Result<ScriptFolder, RecordError> {
    let what = "cannot create a folder for the results of Python scripts";
    ScriptFolder::create(invocation.log).map_err(|source| RecordError::System { what, source })
}

/// Returns the fix for a command that cannot be started, or `None` if another attempt may succeed.
fn fix(error: &RecordError) -> Option<&'static str> {
    Some(match error {
        RecordError::NotInPath { .. } => {
            "install it, or give its path (./NAME for a program in this folder)"
        }
        RecordError::ProgramMissing { .. } => "check the path, and build the program if necessary",
        RecordError::ProgramIsDirectory { .. } => "give the path of a program in it",
        RecordError::NotExecutable { .. } => {
            "if it is a program, make it executable with `chmod +x`"
        }
        RecordError::NotAProgram { .. } => "give the program that interprets it as the command",
        RecordError::InterpreterMissing { .. } => {
            "install the interpreter, or fix the first line of the script"
        }
        RecordError::EmptyCommand
        | RecordError::Exec { .. }
        | RecordError::Unpassable { .. }
        | RecordError::Directory { .. } => "fix the command, or [target] in the spec",
        _ => return None,
    })
}

/// Returns true if another attempt to start the command would fail for the same reason.
pub fn is_permanent(error: &RecordError) -> bool {
    fix(error).is_some()
}

/// Returns the error with its causes and the fix.
pub fn with_fix(error: &RecordError) -> String {
    let text = error_chain(error);
    fix(error).map_or_else(|| text.clone(), |fix| format!("{text}; {fix}"))
}

/// Returns why a process failed, or `None` if it succeeded.
pub fn failure(recording: &Recording, timeout: Duration) -> Option<String> {
    let reason = match &recording.outcome {
        Outcome::Exited(0) => return None,
        Outcome::TimedOut => {
            let limit = timeout.as_secs_f64();
            format!("did not end within {limit} s; raise --timeout or make the run shorter")
        }
        Outcome::Cancelled => "interrupted".to_owned(),
        Outcome::Signalled { signal: libc::SIGKILL, .. } => {
            format!(
                "{}, by a user or by the kernel because memory ran out (see dmesg)",
                recording.outcome
            )
        }
        other => other.to_string(),
    };
    let last_line =
        recording.stderr_tail.lines().rev().map(str::trim).find(|line| !line.is_empty());
    Some(match (&recording.outcome, last_line) {
        (Outcome::Exited(_) | Outcome::Signalled { .. }, Some(line)) => {
            format!("{reason}; last line of its standard error: {line}")
        }
        _ => reason,
    })
}
