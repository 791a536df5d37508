//! What a run will measure, resolved from the spec and the flags before anything is started.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use simprof_measure::campaign::Planned;
use simprof_measure::grid::{self, Axis, Parameters};
use simprof_model::{Mode, Phase, Value};

use crate::memory::MemoryPlan;
use crate::spec::{
    Benchmark, CommandSource, CommandTemplate, Spec, SpecError, StepRule, StepSource, Strictness,
    TemplateError, Values, did_you_mean, nearest,
};

/// Placeholders that every command may use.
pub const BUILTINS: [&str; 3] = ["seed", "simprof", "scratch"];

/// Time limit of each process where none is given: nothing hangs for ever.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// On-CPU samples that make a profile good enough.
const ENOUGH_SAMPLES: u64 = 5_000;

/// A run of the target to be recorded: phases 1 and 3.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// `default`, or the parameters that differ.
    pub name: String,
    /// All parameters.
    pub parameters: Parameters,
}

/// Runs over the values of one parameter: phase 4.
#[derive(Debug, Clone, PartialEq)]
pub struct Sweep {
    /// The parameter.
    pub parameter: String,
    /// How the other parameters differ from the defaults, where the spec has several sweeps of one.
    pub arm: String,
    /// One measurement for each of its values.
    pub planned: Vec<Planned>,
    /// What one process takes on average, seconds, where it differs from the target's estimate.
    pub estimate_s: Option<f64>,
}

impl Sweep {
    fn processes(&self) -> usize {
        self.planned.iter().map(|planned| planned.repeats).sum()
    }

    /// For people.
    fn describe(&self) -> String {
        let repeats = self.planned.first().map_or(0, |planned| planned.repeats);
        let value = |planned: &Planned| planned.parameters[&self.parameter].to_string();
        let values: Vec<String> = self.planned.iter().map(value).collect();
        format!("sweep {} over {} x {repeats} processes", self.name(), values.join(", "))
    }

    /// `agents`, or `agents (world=1000)`.
    pub fn name(&self) -> String {
        if self.arm.is_empty() {
            self.parameter.clone()
        } else {
            format!("{} ({})", self.parameter, self.arm)
        }
    }
}

/// A component benchmark with its points: phase 2.
#[derive(Debug, Clone)]
pub struct BenchmarkPlan {
    /// As the spec has it.
    pub benchmark: Benchmark,
    /// Its command.
    pub command: CommandTemplate,
    /// One measurement for each point; where there are arms, the baseline once more at the end, as a
    /// control: what differs between it and the baseline is noise.
    pub planned: Vec<Planned>,
    /// Whether the last one is the control.
    pub has_control: bool,
}

impl BenchmarkPlan {
    /// For people.
    fn describe(&self) -> String {
        let repeats = self.planned.first().map_or(0, |planned| planned.repeats);
        let points = self.planned.len();
        format!("{}: {points} points x {repeats} processes", self.benchmark.name())
    }
}

/// How long a recording goes on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Samples per second of CPU time.
    pub rate_hz: u32,
    /// A short run is repeated until it has this many on-CPU samples ...
    pub enough_samples: u64,
    /// ... or has taken this long.
    pub enough: Duration,
}

/// The target, resolved.
#[derive(Debug, Clone)]
pub struct Target {
    /// Name for people.
    pub name: String,
    /// Its command.
    pub command: CommandTemplate,
    /// Working folder; the caller's where none.
    pub directory: Option<PathBuf>,
    /// argv of the build command; none where empty.
    pub build: Vec<String>,
    /// Time limit of each process.
    pub timeout: Duration,
    /// How steps are told, where the target does not mark them.
    pub step: Option<StepRule>,
    /// Defaults of all parameters.
    pub defaults: Parameters,
    /// Seconds that one run with the defaults takes, where known.
    pub estimate_s: Option<f64>,
}

/// What a run will measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The target.
    pub target: Target,
    /// The spec that it was made from, with the flags applied.
    pub spec: Spec,
    /// Grids and repeats.
    pub mode: Mode,
    /// Seed of orders and targets.
    pub seed: u64,
    /// The phases to run, in order.
    pub phases: Vec<Phase>,
    /// How to record.
    pub sampling: Sampling,
    /// Phase 1.
    pub cases: Vec<Case>,
    /// Phase 2.
    pub benchmarks: Vec<BenchmarkPlan>,
    /// Phase 3: functions asked for by name.
    pub functions: Vec<String>,
    /// Phase 3: how allocations are recorded; none where they are not.
    pub memory: Option<MemoryPlan>,
    /// Phase 4.
    pub sweeps: Vec<Sweep>,
    /// Phase 4: runs whose resources are followed.
    pub timelines: Vec<Case>,
}

/// What the flags ask for.
#[derive(Debug, Clone)]
pub struct Request {
    /// Grids and repeats.
    pub mode: Mode,
    /// Phases by number; all where empty.
    pub phases: Vec<u8>,
    /// Components of phase 2; all where empty.
    pub components: Vec<String>,
    /// Functions of phase 3 by name.
    pub functions: Vec<String>,
    /// Phase 3: how allocations are recorded; none where they are not.
    pub memory: Option<MemoryPlan>,
    /// Time limit of each process; the spec's where none.
    pub timeout: Option<Duration>,
    /// Samples per second of CPU time.
    pub rate_hz: u32,
    /// Seed.
    pub seed: u64,
    /// Fresh processes a point; by mode where none.
    pub repeats: Option<u32>,
    /// How braces in the target's command are read.
    pub strictness: Strictness,
}

/// Why no plan can be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The spec is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A command of the spec is wrong.
    #[error("{key}: {source}")]
    Template {
        /// Which command.
        key: String,
        /// What is wrong.
        source: TemplateError,
    },
    /// There is nothing to run.
    #[error(
        "no command to profile: give one after `--`, or put `command = [...]` under [target] in simprof.toml"
    )]
    NoCommand,
    /// A component that nothing measures.
    #[error("no component is named `{name}`; there are: {known}")]
    UnknownComponent {
        /// As typed.
        name: String,
        /// What there is.
        known: String,
    },
    /// A parameter that is swept and that the command does not use.
    #[error(
        "parameter `{name}` is swept but the command has no `{{{name}}}`, so the sweep would change nothing; put the placeholder in target.command, target.environment or target.config, or remove the sweep"
    )]
    InertParameter {
        /// The parameter.
        name: String,
    },
    /// A parameter that hides a placeholder of simprof's own.
    #[error("`{name}` is a placeholder of simprof itself and cannot be a parameter; rename it")]
    ReservedParameter {
        /// The parameter.
        name: String,
    },
}

/// Resolves a spec and the flags into a plan.
///
/// # Errors
/// Where the spec or the flags name what is not there.
pub fn plan(spec: Spec, request: &Request) -> Result<Plan, PlanError> {
    spec.check()?;
    let target = target(&spec, request)?;
    check_parameters(&spec, &target.command)?;
    let repeats =
        request.repeats.map_or_else(|| default_repeats(request.mode), |repeats| repeats as usize);
    let defaults = &target.defaults;
    let mut plan = Plan {
        mode: request.mode,
        seed: request.seed,
        phases: phases(&request.phases),
        sampling: sampling(request),
        cases: cases(&spec.phase1.cases, defaults, request.mode),
        benchmarks: benchmarks(&spec, request, repeats)?,
        functions: request.functions.clone(),
        memory: request.memory,
        sweeps: sweeps(&spec, defaults, request.mode, repeats),
        timelines: timelines(&spec.phase4.timelines, defaults, request.mode),
        target,
        spec,
    };
    plan.functions.dedup();
    Ok(plan)
}

/// Fewest pairs that a 95 % signed-rank interval can be had from is 6.
fn default_repeats(mode: Mode) -> usize {
    match mode {
        Mode::Quick => 6,
        Mode::Full => 10,
    }
}

fn phases(numbers: &[u8]) -> Vec<Phase> {
    let asked = |phase: &Phase| numbers.is_empty() || numbers.contains(&phase.number());
    Phase::ALL.into_iter().filter(asked).collect()
}

fn sampling(request: &Request) -> Sampling {
    let (enough_samples, seconds) = match request.mode {
        Mode::Quick => (ENOUGH_SAMPLES, 5),
        Mode::Full => (ENOUGH_SAMPLES, 10),
    };
    Sampling { rate_hz: request.rate_hz, enough_samples, enough: Duration::from_secs(seconds) }
}

fn target(spec: &Spec, request: &Request) -> Result<Target, PlanError> {
    let argv = &spec.target.command;
    let program = argv.first().filter(|program| !program.is_empty()).ok_or(PlanError::NoCommand)?;
    let known: Vec<&str> = spec.parameters.keys().map(String::as_str).chain(BUILTINS).collect();
    let source =
        CommandSource { argv, environment: &spec.target.environment, configs: &spec.target.config };
    let command = command("target.", source, &known, request.strictness)?;
    let file_name = std::path::Path::new(program).file_name().unwrap_or(program.as_ref());
    let limit = spec.target.timeout_s.map(Duration::from_secs_f64);
    Ok(Target {
        name: spec.target.name.clone().unwrap_or_else(|| file_name.to_string_lossy().into_owned()),
        command,
        directory: spec.target.directory.clone(),
        build: spec.target.build.clone(),
        timeout: request.timeout.or(limit).unwrap_or(DEFAULT_TIMEOUT),
        step: spec.target.step.as_ref().map(StepSource::rule).transpose()?,
        defaults: spec.defaults(),
        estimate_s: spec.target.estimate_s,
    })
}

/// Reads a command; `owner` begins the names of its keys in errors.
fn command(
    owner: &str,
    source: CommandSource<'_>,
    known: &[&str],
    strictness: Strictness,
) -> Result<CommandTemplate, PlanError> {
    CommandTemplate::parse(source, known, strictness)
        .map_err(|(key, source)| PlanError::Template { key: format!("{owner}{key}"), source })
}

fn check_parameters(spec: &Spec, command: &CommandTemplate) -> Result<(), PlanError> {
    let used = command.placeholders();
    for (name, parameter) in &spec.parameters {
        if BUILTINS.contains(&name.as_str()) {
            return Err(PlanError::ReservedParameter { name: name.clone() });
        }
        if !parameter.sweep.is_empty() && !used.contains(name.as_str()) {
            return Err(PlanError::InertParameter { name: name.clone() });
        }
    }
    Ok(())
}

fn with(defaults: &Parameters, overrides: &BTreeMap<String, Value>) -> Parameters {
    let mut parameters = defaults.clone();
    parameters.extend(overrides.clone());
    parameters
}

fn cases(extra: &[BTreeMap<String, Value>], defaults: &Parameters, mode: Mode) -> Vec<Case> {
    let extra = if mode == Mode::Full { extra } else { &[] };
    let default = Case { name: "default".into(), parameters: defaults.clone() };
    let named = |case: &BTreeMap<String, Value>| Case {
        name: grid::describe(case),
        parameters: with(defaults, case),
    };
    std::iter::once(default).chain(extra.iter().map(named)).collect()
}

fn timelines(spec: &[BTreeMap<String, Value>], defaults: &Parameters, mode: Mode) -> Vec<Case> {
    if spec.is_empty() {
        return vec![Case { name: "default".into(), parameters: defaults.clone() }];
    }
    let most = if mode == Mode::Quick { 1 } else { spec.len() };
    let case = |case: &BTreeMap<String, Value>| Case {
        name: grid::describe(case),
        parameters: with(defaults, case),
    };
    spec.iter().take(most).map(case).collect()
}

fn sweeps(spec: &Spec, defaults: &Parameters, mode: Mode, repeats: usize) -> Vec<Sweep> {
    let declared = spec.parameters.iter().map(|(name, parameter)| {
        sweep(name, &parameter.values(mode), &with(defaults, &parameter.with), repeats)
    });
    let extra = spec.phase4.sweeps.iter().filter(|_| mode == Mode::Full).map(|extra| Sweep {
        arm: grid::describe(&extra.with),
        estimate_s: extra.estimate_s,
        ..sweep(
            &extra.parameter,
            &extra.values,
            &with(defaults, &extra.with),
            extra.repeats.map_or(repeats, |repeats| repeats as usize),
        )
    });
    declared.chain(extra).filter(|sweep| !sweep.planned.is_empty()).collect()
}

fn sweep(name: &str, values: &[Value], others: &Parameters, repeats: usize) -> Sweep {
    let point = |value: &Value| {
        let mut parameters = others.clone();
        parameters.insert(name.to_owned(), value.clone());
        Planned {
            name: grid::describe(&parameters),
            component: None,
            operation: None,
            parameters,
            repeats,
        }
    };
    Sweep {
        parameter: name.to_owned(),
        arm: String::new(),
        planned: values.iter().map(point).collect(),
        estimate_s: None,
    }
}

fn benchmarks(
    spec: &Spec,
    request: &Request,
    repeats: usize,
) -> Result<Vec<BenchmarkPlan>, PlanError> {
    check_components(spec, &request.components)?;
    spec.benchmark
        .iter()
        .filter(|benchmark| {
            request.components.is_empty() || request.components.contains(&benchmark.component)
        })
        .filter(|benchmark| request.mode == Mode::Full || !benchmark.full_only)
        .map(|benchmark| benchmark_plan(benchmark, request.mode, repeats))
        .collect()
}

fn check_components(spec: &Spec, wanted: &[String]) -> Result<(), PlanError> {
    let mut known: Vec<&str> =
        spec.benchmark.iter().map(|benchmark| benchmark.component.as_str()).collect();
    known.extend(spec.components.keys().map(String::as_str));
    known.sort_unstable();
    known.dedup();
    match wanted.iter().find(|name| !known.contains(&name.as_str())) {
        Some(name) if !known.is_empty() => Err(PlanError::UnknownComponent {
            name: name.clone(),
            known: known.join(", ") + &did_you_mean(nearest(name, &known).as_deref()),
        }),
        Some(name) => Err(PlanError::UnknownComponent {
            name: name.clone(),
            known: "none, since the spec has no [components] and no [[benchmark]]".into(),
        }),
        None => Ok(()),
    }
}

fn benchmark_plan(
    benchmark: &Benchmark,
    mode: Mode,
    repeats: usize,
) -> Result<BenchmarkPlan, PlanError> {
    let known: Vec<&str> = benchmark.baseline.keys().map(String::as_str).chain(BUILTINS).collect();
    let source = CommandSource {
        argv: &benchmark.command,
        environment: &benchmark.environment,
        configs: &benchmark.config,
    };
    let owner = format!("benchmark {} ", benchmark.name());
    let command = command(&owner, source, &known, Strictness::Strict)?;
    let axes = |axes: &BTreeMap<String, Values>| -> Vec<Axis> {
        axes.iter()
            .map(|(name, values)| Axis { name: name.clone(), values: values.of(mode).to_vec() })
            .collect()
    };
    let points = grid::star(&benchmark.baseline, &axes(&benchmark.sweep), &axes(&benchmark.arms));
    let planned = points.into_iter().map(|parameters| Planned {
        name: format!("{} {}", benchmark.name(), grid::describe(&parameters)),
        component: Some(benchmark.component.clone()),
        operation: Some(benchmark.operation.clone()),
        parameters,
        repeats,
    });
    let mut planned: Vec<Planned> = planned.collect();
    let control = planned.iter().find(|planned| planned.parameters == benchmark.baseline).cloned();
    let control = control.filter(|_| !benchmark.arms.is_empty());
    let has_control = control.is_some();
    planned.extend(
        control.map(|baseline| Planned { name: format!("{} control", baseline.name), ..baseline }),
    );
    Ok(BenchmarkPlan { benchmark: benchmark.clone(), command, planned, has_control })
}

impl Plan {
    /// Every point that will be measured: the command and its parameters.
    pub fn points(&self) -> impl Iterator<Item = (&CommandTemplate, &Parameters)> {
        let only_benchmarks = self.phases == [Phase::Component] && !self.benchmarks.is_empty();
        let cases = self.cases.iter().chain(&self.timelines).map(|case| &case.parameters);
        let sweeps = self.sweeps.iter().flat_map(|sweep| &sweep.planned);
        let target = cases.chain(sweeps.map(|planned| &planned.parameters));
        let benchmarks = self.benchmarks.iter().filter(|_| self.phases.contains(&Phase::Component));
        target
            .filter(move |_| !only_benchmarks)
            .map(|parameters| (&self.target.command, parameters))
            .chain(benchmarks.flat_map(|plan| {
                plan.planned.iter().map(|planned| (&plan.command, &planned.parameters))
            }))
    }

    /// Processes of the target that a phase will start; for recordings, at least that many.
    pub fn processes(&self, phase: Phase) -> usize {
        let of = |planned: &[Planned]| planned.iter().map(|planned| planned.repeats).sum::<usize>();
        match phase {
            Phase::Macro => self.cases.len(),
            Phase::Component => {
                self.benchmarks.iter().map(|benchmark| of(&benchmark.planned)).sum()
            }
            Phase::Line => 1 + usize::from(self.memory.is_some()),
            Phase::System => {
                self.sweeps.iter().map(Sweep::processes).sum::<usize>() + self.timelines.len()
            }
        }
    }

    /// Seconds that a phase may take; none where the target's time is not known.
    pub fn estimate_s(&self, phase: Phase) -> Option<f64> {
        let recording = |once: f64| once.max(self.sampling.enough.as_secs_f64()) + 1.0;
        match phase {
            Phase::Macro => Some(self.cases.len() as f64 * recording(self.target.estimate_s?)),
            Phase::Line => {
                let once = self.target.estimate_s?;
                Some(recording(once) + self.memory.map_or(0.0, |_| once + 1.0))
            }
            // Without benchmarks it takes what phase 1 recorded; a sum of nothing would be -0.
            Phase::Component if self.benchmarks.is_empty() => Some(0.0),
            Phase::Component => self.benchmarks.iter().map(benchmark_estimate_s).sum(),
            Phase::System => {
                let once = self.target.estimate_s?;
                let sweep =
                    |sweep: &Sweep| sweep.processes() as f64 * sweep.estimate_s.unwrap_or(once);
                let sweeps: f64 = self.sweeps.iter().map(sweep).sum();
                Some(sweeps + self.timelines.len() as f64 * once.max(2.0))
            }
        }
    }

    /// The plan for people: what would run, how often, and how long it may take.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        let mode = if self.mode == Mode::Quick { "quick" } else { "full" };
        let argv = self.target.command.argv(&self.target.defaults).join(" ");
        let _ = writeln!(text, "target   {} ({argv})", self.target.name);
        self.describe_inputs(&mut text);
        let _ = writeln!(text, "mode     {mode}, seed {}, {} Hz", self.seed, self.sampling.rate_hz);
        for &phase in &self.phases {
            let time = self
                .estimate_s(phase)
                .map_or("time not known before a first run".to_owned(), |seconds| {
                    format!("about {seconds:.0} s")
                });
            let _ = writeln!(text, "\n{phase}: {} processes, {time}", self.processes(phase));
            self.describe_phase(phase, &mut text);
        }
        let total: Option<f64> = self.phases.iter().map(|&phase| self.estimate_s(phase)).sum();
        let _ = match total {
            Some(seconds) => writeln!(text, "\nin all about {seconds:.0} s"),
            None => writeln!(text, "\nhow long it takes in all is not known before a first run"),
        };
        text
    }

    /// What the target is told beside its arguments, with the default parameters.
    fn describe_inputs(&self, text: &mut String) {
        let (command, defaults) = (&self.target.command, &self.target.defaults);
        for (name, value) in command.environment(defaults) {
            let _ = writeln!(text, "         {name}={value}");
        }
        for config in command.configs() {
            let edits: Vec<String> =
                config.edits(defaults).iter().map(ToString::to_string).collect();
            let (name, file) = (&config.placeholder, config.file.display());
            let _ = writeln!(text, "         {{{name}}} is {file} with {}", edits.join(", "));
        }
    }

    fn describe_phase(&self, phase: Phase, text: &mut String) {
        let enough = format!(
            "repeated until {} samples or {} s",
            self.sampling.enough_samples,
            self.sampling.enough.as_secs()
        );
        let lines: Vec<String> = match phase {
            Phase::Macro => {
                self.cases.iter().map(|case| format!("record {} ({enough})", case.name)).collect()
            }
            Phase::Component if self.benchmarks.is_empty() => {
                vec!["no [[benchmark]] in the spec: component shares of the recorded run".into()]
            }
            Phase::Component => self.benchmarks.iter().map(BenchmarkPlan::describe).collect(),
            Phase::Line => {
                let functions = asked(&self.functions);
                let stacks = format!(
                    "record default ({enough}); functions chosen by phases 1 and 2{functions}"
                );
                std::iter::once(stacks).chain(self.memory.map(MemoryPlan::describe)).collect()
            }
            Phase::System => {
                let timeline = |case: &Case| format!("resources over time: {}", case.name);
                let sweeps = self.sweeps.iter().map(Sweep::describe);
                sweeps.chain(self.timelines.iter().map(timeline)).collect()
            }
        };
        for line in lines {
            let _ = writeln!(text, "  {line}");
        }
    }
}

fn asked(functions: &[String]) -> String {
    if functions.is_empty() { String::new() } else { format!(", and {}", functions.join(", ")) }
}

fn benchmark_estimate_s(plan: &BenchmarkPlan) -> Option<f64> {
    let processes: usize = plan.planned.iter().map(|planned| planned.repeats).sum();
    Some(processes as f64 * plan.benchmark.estimate_s?)
}
