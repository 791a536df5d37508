//! What a run will measure, resolved from the spec and the flags before any process starts.

pub mod allocations;
mod describe;
mod name;
mod notices;
mod series;
mod size;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use simprof_measure::campaign::Planned;
use simprof_measure::grid::{self, Axis, Parameters};
use simprof_model::{Mode, Phase, Value};

use crate::budget;
use crate::spec::{
    BUILT_IN, Benchmark, CommandSource, CommandTemplate, Spec, SpecError, StepRule, StepSource,
    Strictness, TemplateError, Values, written,
};
use crate::text::{did_you_mean, nearest};

pub use allocations::{AllocationPlan, DEFAULT_INTERVAL_BYTES};

/// Time limit of each process by default, so that no run hangs forever.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// Number of on-CPU samples that are enough for a recording.
const ENOUGH_SAMPLES: u64 = 5_000;

/// A run of the target with one set of parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// `default`, or the parameters that differ from the defaults.
    pub name: String,
    /// All parameters.
    pub parameters: Parameters,
}

/// The values of one parameter that phase 4 measures.
#[derive(Debug, Clone, PartialEq)]
pub struct Sweep {
    /// The swept parameter.
    pub parameter: String,
    /// How the other parameters differ from the defaults. Empty for the sweep of the parameter's own `sweep` values.
    pub arm: String,
    /// One measurement for each value.
    pub planned: Vec<Planned>,
    /// Mean time of one process in seconds, if it differs from the target's estimate.
    pub estimate_s: Option<f64>,
}

impl Sweep {
    fn processes(&self) -> usize {
        self.planned.iter().map(|planned| planned.repeats).sum()
    }

    /// Returns the name of the sweep: `agents`, or `agents (world=1000)`.
    pub fn name(&self) -> String {
        if self.arm.is_empty() {
            self.parameter.clone()
        } else {
            format!("{} ({})", self.parameter, self.arm)
        }
    }
}

/// A component benchmark of phase 2 with its points.
#[derive(Debug, Clone)]
pub struct BenchmarkPlan {
    /// The benchmark in the spec.
    pub benchmark: Benchmark,
    /// Its command.
    pub command: CommandTemplate,
    /// One measurement for each point. If there are arms, the baseline is measured once more at the
    /// end, as a control: differences between the two are noise.
    pub planned: Vec<Planned>,
    /// True if the last measurement is the control.
    pub has_control: bool,
}

/// When a recording ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Samples per second of CPU time.
    pub rate_hz: u32,
    /// A short run is repeated until there are this many on-CPU samples,
    pub enough_samples: u64,
    /// or until this much time has passed.
    pub enough: Duration,
}

/// The target, resolved.
#[derive(Debug, Clone)]
pub struct Target {
    /// Name in reports.
    pub name: String,
    /// Its command.
    pub command: CommandTemplate,
    /// Working folder; the current folder if `None`.
    pub directory: Option<PathBuf>,
    /// File that the spec names as standard input.
    pub input: Option<PathBuf>,
    /// How much is kept of each output stream of a process, bytes.
    pub keep_output: u64,
    /// Argument vector of the build command; empty if there is none.
    pub build: Vec<String>,
    /// Time limit of each process.
    pub timeout: Duration,
    /// How steps are recognised if the target does not mark them.
    pub step: Option<StepRule>,
    /// Whether standard output is a pseudo-terminal.
    pub terminal: bool,
    /// Defaults of all parameters.
    pub defaults: Parameters,
    /// Seconds that one run with the defaults takes, if known.
    pub estimate_s: Option<f64>,
}

/// What a run will measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The target.
    pub target: Target,
    /// The spec, with the flags applied.
    pub spec: Spec,
    /// Which grids and repeats to use.
    pub mode: Mode,
    /// Time that all phases together may take; `None` if it is not limited.
    pub budget: Option<Duration>,
    /// Seed for the order of processes, and for targets that use one.
    pub seed: u64,
    /// The phases to run, in order.
    pub phases: Vec<Phase>,
    /// When recordings end.
    pub sampling: Sampling,
    /// Phase 1: the runs to record.
    pub cases: Vec<Case>,
    /// Phase 2: the component benchmarks.
    pub benchmarks: Vec<BenchmarkPlan>,
    /// Phase 3: functions requested by name.
    pub functions: Vec<String>,
    /// Phase 3: how to record allocations; `None` if they are not recorded.
    pub memory: Option<AllocationPlan>,
    /// Phase 4: the sweeps.
    pub sweeps: Vec<Sweep>,
    /// Phase 4: runs whose resources are recorded over time.
    pub timelines: Vec<Case>,
}

/// What the flags request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which grids and repeats to use.
    pub mode: Mode,
    /// Time that all phases together may take; a default for the mode if `None`.
    pub budget: Option<Duration>,
    /// Numbers of the phases to run; all if empty.
    pub phases: Vec<u8>,
    /// Components that phase 2 measures; all if empty.
    pub components: Vec<String>,
    /// Functions that phase 3 annotates, by name.
    pub functions: Vec<String>,
    /// Phase 3: how to record allocations; `None` if they are not recorded.
    pub memory: Option<AllocationPlan>,
    /// Time limit of each process; the spec's if `None`.
    pub timeout: Option<Duration>,
    /// Whether the target runs on a pseudo-terminal even if the spec does not say so.
    pub terminal: bool,
    /// How much is kept of each output stream of a process, bytes.
    pub keep_output: u64,
    /// Samples per second of CPU time.
    pub rate_hz: u32,
    /// Seed for the order of processes, and for targets that use one.
    pub seed: u64,
    /// Fresh processes for each point; a default for the mode if `None`.
    pub repeats: Option<u32>,
    /// How braces in the target's command are read.
    pub strictness: Strictness,
}

/// Why a plan cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The spec is invalid.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A command of the spec is invalid.
    #[error("{key}: {source}")]
    Template {
        /// The key in the spec.
        key: String,
        /// The problem.
        source: TemplateError,
    },
    /// There is no program to run.
    #[error(
        "no command to profile: append one after `--`, or set `command = [...]` under [target] in simprof.toml"
    )]
    NoCommand,
    /// A component that the spec does not have.
    #[error("there is no component `{name}`; components of this spec: {known}")]
    UnknownComponent {
        /// The name, as typed.
        name: String,
        /// The components that exist.
        known: String,
    },
    /// A parameter is swept, but the command does not use it.
    #[error(
        "parameter `{name}` is swept, but the command does not contain `{}`, so the sweep would change nothing; put the placeholder into target.command, target.environment or target.config, or remove the sweep",
        written(.name)
    )]
    InertParameter {
        /// The parameter.
        name: String,
    },
    /// A parameter has the name of a built-in placeholder.
    #[error("`{name}` is a built-in placeholder and cannot be a parameter; rename the parameter")]
    ReservedParameter {
        /// The parameter.
        name: String,
    },
}

/// Resolves a spec and the flags into a plan.
///
/// # Errors
/// Returns an error if the spec is invalid, or if the spec or the flags name something that does
/// not exist.
pub fn plan(spec: Spec, request: &Request) -> Result<Plan, PlanError> {
    spec.check()?;
    let target = target(&spec, request)?;
    check_parameters(&spec, &target.command)?;
    let repeats =
        request.repeats.map_or_else(|| default_repeats(request.mode), |repeats| repeats as usize);
    let defaults = &target.defaults;
    let mut plan = Plan {
        mode: request.mode,
        budget: request.budget.or((request.mode == Mode::Quick).then_some(budget::QUICK)),
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

/// Six pairs are the fewest that give a 95 % signed-rank interval.
fn default_repeats(mode: Mode) -> usize {
    match mode {
        Mode::Quick => 6,
        Mode::Full => 10,
    }
}

fn phases(numbers: &[u8]) -> Vec<Phase> {
    let requested = |phase: &Phase| numbers.is_empty() || numbers.contains(&phase.number());
    Phase::ALL.into_iter().filter(requested).collect()
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
    if argv.first().is_none_or(String::is_empty) {
        return Err(PlanError::NoCommand);
    }
    let known: Vec<&str> = spec.parameters.keys().map(String::as_str).chain(BUILT_IN).collect();
    let source =
        CommandSource { argv, environment: &spec.target.environment, configs: &spec.target.config };
    let command = command("target.", source, &known, request.strictness)?;
    let limit = spec.target.timeout_s.map(Duration::from_secs_f64);
    Ok(Target {
        name: spec.target.name.clone().unwrap_or_else(|| name::program_name(argv)),
        command,
        directory: spec.target.directory.clone(),
        input: spec.target.input.clone(),
        keep_output: request.keep_output,
        build: spec.target.build.clone(),
        timeout: request.timeout.or(limit).unwrap_or(DEFAULT_TIMEOUT),
        step: spec.target.step.as_ref().map(StepSource::rule).transpose()?,
        terminal: spec.target.terminal || request.terminal,
        defaults: spec.defaults(),
        estimate_s: spec.target.estimate_s,
    })
}

/// Parses a command. `owner` is the prefix of its keys in errors.
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
        if BUILT_IN.contains(&name.as_str()) {
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
            series: format!("{name} {}", grid::describe(others)),
            rank: series::rank(value, values),
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
            known: "none, because it has no [components] and no [[benchmark]]".into(),
        }),
        None => Ok(()),
    }
}

fn benchmark_plan(
    benchmark: &Benchmark,
    mode: Mode,
    repeats: usize,
) -> Result<BenchmarkPlan, PlanError> {
    let known: Vec<&str> = benchmark.baseline.keys().map(String::as_str).chain(BUILT_IN).collect();
    let source = CommandSource {
        argv: &benchmark.command,
        environment: &benchmark.environment,
        configs: &benchmark.config,
    };
    let owner = format!("benchmark {} ", benchmark.name());
    let command = command(&owner, source, &known, Strictness::Strict)?;
    let axes = |axes: &BTreeMap<String, Values>| -> Vec<Axis> {
        axes.iter()
            .map(|(name, values)| Axis {
                name: name.clone(),
                values: values.for_mode(mode).to_vec(),
            })
            .collect()
    };
    let (sweeps, arms) = (axes(&benchmark.sweep), axes(&benchmark.arms));
    let points = grid::star(&benchmark.baseline, &sweeps, &arms);
    let planned = points.into_iter().map(|parameters| {
        let (series, rank) = series::of_point(benchmark, &parameters, &sweeps);
        Planned {
            name: format!("{} {}", benchmark.name(), grid::describe(&parameters)),
            component: Some(benchmark.component.clone()),
            operation: Some(benchmark.operation.clone()),
            parameters,
            repeats,
            series,
            rank,
        }
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
