//! Starts processes of the target, as the plan says, and observes them.

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
use crate::plan::Target;
use crate::python::{self, Counted, Told};
use crate::spec::{CommandTemplate, ConfigTemplate, StepRule};

/// Name of the hidden command that the guardian runs as.
pub const GUARDIAN_COMMAND: &str = "__guardian";

/// Between two looks at the target's resources.
const RESOURCE_INTERVAL: Duration = Duration::from_millis(50);

/// Bytes of user stack copied with each sample.
const STACK_BYTES: u32 = 16 * 1024;

/// What to observe of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observe {
    /// Its stacks and its resources.
    Stacks {
        /// Samples per second of CPU time.
        rate_hz: u32,
    },
    /// Its allocations and its resources.
    Allocations {
        /// Mean distance of two draws, bytes; 1 for every allocation.
        interval_bytes: u64,
    },
    /// Its resources.
    Resources,
    /// Its end and its totals only: nothing disturbs what it times itself.
    Nothing,
}

/// One process to start.
#[derive(Debug)]
pub struct Invocation<'a> {
    /// The command.
    pub command: &'a CommandTemplate,
    /// Values of its placeholders.
    pub parameters: &'a Parameters,
    /// Seed to give it.
    pub seed: u64,
    /// What to observe.
    pub observe: Observe,
    /// Folders of its own.
    pub scratch: Scratch,
    /// Its standard output goes to this file with `.out`, its standard error to `.err`.
    pub log: &'a Path,
}

/// Starts processes of the target.
#[derive(Debug)]
pub struct Runner {
    directory: Option<PathBuf>,
    /// By the names that the spec has for them.
    originals: BTreeMap<PathBuf, Original>,
    timeout: Duration,
    step: Option<StepRule>,
    recorder: Recorder,
    simprof: PathBuf,
    cancel: Cancel,
}

impl Runner {
    /// A runner for `target`; `cancel` ends its processes.
    ///
    /// # Errors
    /// Where this program cannot find itself.
    pub fn new(target: &Target, recorder: Recorder, cancel: Cancel) -> Result<Self> {
        Ok(Self {
            directory: target.directory.clone(),
            originals: BTreeMap::new(),
            timeout: target.timeout,
            step: target.step.clone(),
            recorder,
            simprof: std::env::current_exe().context("simprof cannot find its own executable")?,
            cancel,
        })
    }

    /// Reads the configuration files of `command`, once for the whole run: whoever changes them meanwhile changes
    /// nothing of what is measured.
    ///
    /// # Errors
    /// Where one cannot be read or is not of its format.
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

    /// The configuration files that were read.
    pub fn originals(&self) -> impl Iterator<Item = &Original> {
        self.originals.values()
    }

    /// Tries what is set in configuration files before anything is started.
    ///
    /// # Errors
    /// Where a key is not there or cannot be set.
    pub fn try_configuration(
        &self,
        command: &CommandTemplate,
        parameters: &Parameters,
    ) -> Result<(), ConfigurationError> {
        let nowhere = Scratch { work: PathBuf::from("."), copies: PathBuf::from(".") };
        let values = self.values(parameters, 0, &nowhere, command.configs());
        command.configs().iter().try_for_each(|config| self.edited(config, &values).map(drop))
    }

    /// Writes the copies of the configuration files for one process.
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

    /// True once a person asked to stop.
    pub fn cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// The argument vector that an invocation would start, with the copies of configuration files left as
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

    /// Looks for the program of `command` before anything is started.
    ///
    /// # Errors
    /// Where it is not there or may not be executed.
    pub fn find(
        &self,
        command: &CommandTemplate,
        parameters: &Parameters,
    ) -> Result<(), RecordError> {
        let (program, environment) = self.program(command, parameters);
        simprof_record::resolve(&program, self.directory.as_deref(), &environment).map(drop)
    }

    /// Whether the allocations of `command` can be recorded.
    ///
    /// # Errors
    /// Where they cannot; as [`Runner::find`].
    pub fn check_memory(
        &self,
        command: &CommandTemplate,
        parameters: &Parameters,
    ) -> Result<(), RecordError> {
        let (program, environment) = self.program(command, parameters);
        simprof_record::heap::check(&program, self.directory.as_deref(), &environment)
    }

    /// The program that `command` names, and its environment; empty where it names none.
    fn program(
        &self,
        command: &CommandTemplate,
        parameters: &Parameters,
    ) -> (String, BTreeMap<String, String>) {
        let nowhere = Scratch { work: PathBuf::from("."), copies: PathBuf::from(".") };
        let values = self.values(parameters, 0, &nowhere, &[]);
        let program = command.argv(&values).into_iter().next().unwrap_or_default();
        (program, command.environment(&values))
    }

    /// Runs one process to its end.
    ///
    /// # Errors
    /// Where it cannot be started or observed; how it ended is in the recording.
    pub fn run(&self, invocation: &Invocation<'_>) -> Result<Recording, RecordError> {
        let function = self.step.as_ref().and_then(StepRule::function);
        let function = function.filter(|_| invocation.observe != Observe::Nothing);
        let told = function.map(|_| told(invocation)).transpose()?;
        let script =
            function.zip(told.as_ref()).map(|(function, told)| told.steps_script(function));
        let request = self.request(invocation, preload(invocation.observe, script))?;
        let mut recording = launch(&request, &self.cancel)?;
        if let Some((function, told)) = function.zip(told.as_ref())
            && recording.steps.steps.is_empty()
        {
            recording.notices.push(python::uncalled_step(told, function));
        }
        Ok(recording)
    }

    /// Runs one process to its end, within a time limit, and counts every call of its Python code.
    ///
    /// # Errors
    /// As [`Runner::run`].
    pub fn count_calls(
        &self,
        invocation: &Invocation<'_>,
        limit: Duration,
    ) -> Result<(Recording, Counted), RecordError> {
        let told = told(invocation)?;
        let script = Some(told.calls_script());
        let preload = Preload { script, ..Preload::default() };
        let mut request = self.request(invocation, preload)?;
        request.timeout = Some(limit);
        let recording = launch(&request, &self.cancel)?;
        Ok((recording, python::counted(&told)))
    }

    /// What to start; the copies of its configuration files are written.
    fn request(
        &self,
        invocation: &Invocation<'_>,
        preload: Preload,
    ) -> Result<Launch, RecordError> {
        let Invocation { command, parameters, seed, scratch, .. } = invocation;
        let values = self.values(parameters, *seed, scratch, command.configs());
        self.write_copies(command, &values, scratch).map_err(|error| RecordError::System {
            what: "the target has no configuration",
            source: std::io::Error::other(error),
        })?;
        let (sampling, resources) = match invocation.observe {
            Observe::Stacks { rate_hz } => (Some(self.sampling(rate_hz)), Some(RESOURCE_INTERVAL)),
            Observe::Allocations { .. } | Observe::Resources => (None, Some(RESOURCE_INTERVAL)),
            Observe::Nothing => (None, None),
        };
        Ok(Launch {
            argv: command.argv(&values),
            directory: self.directory.clone(),
            environment: command.environment(&values),
            stdout: with_ending(invocation.log, "out"),
            stderr: with_ending(invocation.log, "err"),
            timeout: Some(self.timeout),
            sampling,
            heap: self.heap(invocation),
            resources,
            marks: true,
            step_pattern: self.step.as_ref().and_then(StepRule::pattern).cloned(),
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

/// What is loaded into the process: for samples what Python needs; where resources alone are looked at, no more than lets
/// a Python program mark its steps.
fn preload(observe: Observe, script: Option<String>) -> Preload {
    match observe {
        Observe::Stacks { .. } => Preload { script, ..Preload::python() },
        Observe::Resources | Observe::Allocations { .. } => {
            Preload { script: Some(script.unwrap_or_default()), ..Preload::default() }
        }
        Observe::Nothing => Preload::default(),
    }
}

/// The folder for what Python texts in the process tell.
fn told(invocation: &Invocation<'_>) -> Result<Told, RecordError> {
    let what = "no folder for what Python tells";
    Told::create(invocation.log).map_err(|source| RecordError::System { what, source })
}

/// `path` with a further ending.
pub fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

/// What to do about a command that cannot be run; none where the next try may well succeed.
fn mend(error: &RecordError) -> Option<&'static str> {
    Some(match error {
        RecordError::NotInPath { .. } => {
            "install it, or give its path (./NAME for one in this folder)"
        }
        RecordError::ProgramMissing { .. } => {
            "check the path, and whether the program has been built"
        }
        RecordError::ProgramIsDirectory { .. } => "name a program in it",
        RecordError::NotExecutable { .. } => "if it is a program, `chmod +x` lets it be run",
        RecordError::NotAProgram { .. } => "name the program that reads it as the command",
        RecordError::InterpreterMissing { .. } => {
            "install that, or mend the first line of the script"
        }
        RecordError::EmptyCommand
        | RecordError::Exec { .. }
        | RecordError::Unpassable { .. }
        | RecordError::Directory { .. } => "mend the command or [target] in the spec",
        _ => return None,
    })
}

/// Whether a command that failed to start for this reason will never start.
pub fn is_lasting(error: &RecordError) -> bool {
    mend(error).is_some()
}

/// The error with its causes and its mend.
pub fn with_mend(error: &RecordError) -> String {
    let text = crate::replicate::describe(error);
    mend(error).map_or_else(|| text.clone(), |mend| format!("{text}; {mend}"))
}

/// Why a process that ended so did not do its work; none where it did.
pub fn failure(recording: &Recording, timeout: Duration) -> Option<String> {
    let reason = match &recording.outcome {
        Outcome::Exited(0) => return None,
        Outcome::TimedOut => {
            let limit = timeout.as_secs_f64();
            format!("no end within {limit} s: raise --timeout or make the run shorter")
        }
        Outcome::Cancelled => "interrupted".to_owned(),
        Outcome::Signalled { signal: libc::SIGKILL, .. } => {
            format!(
                "{}, by somebody or by the kernel for want of memory (see dmesg)",
                recording.outcome
            )
        }
        other => other.to_string(),
    };
    let said = recording.stderr_tail.lines().rev().map(str::trim).find(|line| !line.is_empty());
    Some(match (&recording.outcome, said) {
        (Outcome::Exited(_) | Outcome::Signalled { .. }, Some(said)) => {
            format!("{reason}; its last words: {}", said)
        }
        _ => reason,
    })
}
