//! Phase 1: what is slow.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{FunctionKind, Profile, Provenance, PythonProvenance, Steps};

use super::calls::{CallCounts, CallsInput, CallsSummary, calls_summary};
use super::common::{Bounds, Head};
use super::python::{TimeShares, WaitingLine, cause_name, time_shares, waiting_lines};
use crate::analysis::{
    ComponentRules, ComponentShare, FunctionCost, OTHER, WithinSteps, bottlenecks, components,
    default_component_names, functions, of_interpreter, python_module, sort_by_total, step_summary,
    within_steps,
};
use crate::format::duration_ns;

/// phase1_summary.json. The figures at its top are those of the default case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MacroSummary {
    /// What every summary begins with.
    #[serde(flatten)]
    pub head: Head,
    /// The default case; its fields stand at the top level.
    #[serde(flatten)]
    pub default: CaseSummary,
    /// Further cases of the full run.
    pub cases: Vec<CaseSummary>,
}

/// One set of parameters, recorded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CaseSummary {
    /// `default`, or the parameters that differ.
    pub case: String,
    /// How it was recorded; absent where nothing was.
    pub profile: Option<ProfileSummary>,
    /// Functions by total share, those above 0.1 %.
    pub functions: Vec<FunctionSummary>,
    /// What to look at first, at most ten.
    pub bottlenecks: Vec<Bottleneck>,
    /// Shares of named groups of functions, by share.
    pub components: Vec<ComponentCost>,
    /// Steps; absent where the target marks none.
    pub steps: Option<StepSummary>,
    /// What threads did with their time; absent where nothing runs Python.
    #[serde(default)]
    pub thread_time: Option<TimeShares>,
    /// The lines where threads wait longest, at most 20; only of threads that run Python.
    #[serde(default)]
    pub waits: Vec<WaitingLine>,
    /// Wall time of one run, s: the median over runs.
    pub wall_s: f64,
    /// CPU time of one run, s: the mean over runs.
    pub cpu_s: f64,
    /// Work done in one run, by the target's own counters.
    pub counters: BTreeMap<String, f64>,
    /// Exact calls of Python functions; absent where they were not counted.
    pub calls: Option<CallsSummary>,
    /// What it means, one sentence each.
    pub statements: Vec<String>,
}

/// How a profile was recorded and what it lacks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileSummary {
    /// The event really used.
    pub event: String,
    /// Rate asked for, samples per second of CPU time.
    pub rate_hz: f64,
    /// Rate achieved.
    pub achieved_hz: f64,
    /// Samples.
    pub samples: u64,
    /// Samples that the kernel dropped.
    pub lost: u64,
    /// Samples whose stack does not reach its root.
    pub truncated: u64,
    /// Samples whose leaf has no symbol.
    pub unsymbolised: u64,
    /// Whether kernel frames are in it.
    pub kernel: bool,
    /// Runs of the target that were joined.
    pub runs: usize,
    /// The recorder's own CPU time over the target's.
    pub recorder_cpu_share: f64,
    /// Events that were refused before this one, with the reason.
    pub fallbacks: Vec<String>,
    /// How Python frames were obtained, and what they lack; absent where nothing runs Python.
    #[serde(default)]
    pub python: Option<PythonProvenance>,
}

/// What a function costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FunctionSummary {
    /// Its name.
    pub name: String,
    /// Which world it belongs to.
    pub kind: FunctionKind,
    /// The file that it was loaded from; for a Python function the module by its name, such as `sim.model`.
    pub module: Option<String>,
    /// Its source file.
    pub file: Option<String>,
    /// Its line.
    pub line: Option<u32>,
    /// Whether it is a part of the Python interpreter itself: such are not in the report's table.
    #[serde(default)]
    pub interpreter: bool,
    /// Share of CPU time in it alone, 0 to 1.
    pub self_share: f64,
    /// Share of CPU time in it and what it calls, 0 to 1.
    pub total_share: f64,
    /// 95 % interval of `total_share` (binomial over samples).
    pub total_interval: Bounds,
    /// CPU ms per step, itself and what it calls; absent without steps.
    pub ms_per_step: Option<f64>,
    /// Number of calls in one run, exactly, counted in a run of its own; absent where they were not: sampling does not
    /// tell it.
    pub calls: Option<u64>,
    /// Calls in one run over its steps, those outside of steps included; absent without steps or calls.
    pub calls_per_step: Option<f64>,
}

/// A function to look at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bottleneck {
    /// 1 is the first.
    pub rank: usize,
    /// Its name.
    pub name: String,
    /// Its source file.
    pub file: Option<String>,
    /// Its line.
    pub line: Option<u32>,
    /// The component that it belongs to.
    pub component: String,
    /// Share of CPU time that it answers for, 0 to 1: in it and in the libraries that it calls, but
    /// not in other functions of the author's. These sum to 1 over all functions.
    pub share: f64,
    /// Share of CPU time in it alone, 0 to 1.
    pub self_share: f64,
    /// Share of CPU time in it and all that it calls, 0 to 1.
    pub total_share: f64,
    /// 95 % interval of the share.
    pub interval: Bounds,
    /// CPU ms per step; absent without steps.
    pub ms_per_step: Option<f64>,
}

/// What a component costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ComponentCost {
    /// Its name.
    pub name: String,
    /// Share of CPU time, 0 to 1.
    pub share: f64,
    /// 95 % interval of the share.
    pub interval: Bounds,
    /// CPU ms per step; absent without steps.
    pub ms_per_step: Option<f64>,
}

/// Steps and how long they take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepSummary {
    /// Steps seen, over all runs.
    pub count: usize,
    /// Steps per second, set-up left out: the median over runs.
    pub per_second: f64,
    /// Median step, ms.
    pub p50_ms: f64,
    /// 95th percentile, ms.
    pub p95_ms: f64,
    /// 99th percentile, ms.
    pub p99_ms: f64,
    /// Steps at the start that are not steady yet.
    pub warm_up: usize,
    /// Time before the first step, ms: the median over runs.
    pub set_up_ms: f64,
    /// Where the marks come from: `marks` or `output`.
    pub source: String,
}

/// What a recorded case was made of.
#[derive(Debug)]
pub struct CaseInput<'a> {
    /// `default`, or the parameters that differ.
    pub name: &'a str,
    /// All runs, joined.
    pub profile: &'a Profile,
    /// Steps of each run.
    pub steps: &'a [RunSteps],
    /// Wall time of each run, ns.
    pub wall_ns: &'a [u64],
    /// Groups of functions.
    pub rules: &'a ComponentRules,
    /// Work done in one run.
    pub counters: BTreeMap<String, f64>,
    /// A traced run of it.
    pub calls: Option<CallsInput<'a>>,
}

/// The steps of one run.
#[derive(Debug, Clone)]
pub struct RunSteps {
    /// Begin of the run, CLOCK_MONOTONIC, ns.
    pub start_ns: u64,
    /// Its steps.
    pub steps: Steps,
}

/// Share below which a function is left out of the table.
const LEAST_SHARE: f64 = 0.001;

/// How many bottlenecks are named.
const BOTTLENECKS: usize = 10;

/// How many lines that wait are named.
const WAITING_LINES: usize = 20;

/// Share of the time of threads from which waiting for the interpreter is a finding.
const NOTABLE_GIL: f64 = 0.05;

/// Share below which a function is no bottleneck: a sample or two of many.
const LEAST_BOTTLENECK: f64 = 0.002;

/// Reads a recorded case.
pub fn case_summary(input: &CaseInput<'_>) -> CaseSummary {
    let joined = join(input.steps);
    let scale = Scale::new(input.profile, &joined);
    let mut costs = functions(input.profile);
    sort_by_total(&mut costs);
    let steps = step_figures(input.steps, &joined);
    let wall_s = median(input.wall_ns.iter().map(|&ns| ns as f64 * 1e-9));
    let per_run = joined.steps.len() as f64 / input.steps.len().max(1) as f64;
    let per_run = Some(per_run).filter(|&steps| steps > 0.0);
    let traced = input.calls.as_ref();
    let traced = traced.map(|calls| calls_summary(calls, input.profile, per_run, wall_s));
    let (calls, counts) = traced.unzip();
    let counts = counts.unwrap_or_default();
    let mut summary = CaseSummary {
        case: input.name.to_owned(),
        profile: Some(profile_summary(&input.profile.provenance, input.wall_ns.len())),
        functions: scale.functions(&costs, &of_interpreter(input.profile), &counts, per_run),
        bottlenecks: scale.bottlenecks(input, &costs),
        components: scale.components(input),
        steps,
        thread_time: time_shares(input.profile, input.wall_ns.len()),
        waits: waiting_lines(input.profile, input.wall_ns.len(), WAITING_LINES),
        wall_s,
        cpu_s: input.profile.provenance.target_cpu_ns as f64 * 1e-9
            / input.wall_ns.len().max(1) as f64,
        counters: input.counters.clone(),
        calls,
        statements: Vec::new(),
    };
    summary.statements = statements(&summary);
    summary
}

/// The module of a function: the file that was loaded, or the Python module.
fn module_of(cost: &FunctionCost) -> Option<String> {
    let of_python = || Some(python_module(&cost.name, cost.file.as_deref()).to_owned());
    if cost.kind == FunctionKind::Python { of_python() } else { cost.module.clone() }
}

/// The profile's provenance as a summary shows it.
pub fn profile_summary(provenance: &Provenance, runs: usize) -> ProfileSummary {
    let cpu_ns = provenance.target_cpu_ns.max(1) as f64;
    ProfileSummary {
        event: provenance.event.clone(),
        rate_hz: provenance.rate_hz,
        achieved_hz: provenance.achieved_hz,
        samples: provenance.samples,
        lost: provenance.lost,
        truncated: provenance.truncated,
        unsymbolised: provenance.unsymbolised,
        kernel: provenance.kernel,
        runs,
        recorder_cpu_share: provenance.recorder_cpu_ns as f64 / cpu_ns,
        fallbacks: provenance.fallbacks.clone(),
        python: provenance.python.clone(),
    }
}

/// 95 % interval of a share that `samples` of `of` samples gave.
pub fn share_interval(samples: u64, of: u64) -> Bounds {
    simprof_stats::binomial_interval(samples, of, 0.95)
        .map_or([0.0, 1.0], |interval| [interval.lo, interval.hi])
}

fn join(runs: &[RunSteps]) -> Steps {
    let mut joined = Steps::default();
    for run in runs {
        joined.steps.extend(run.steps.steps.iter().copied());
        joined.lost += run.steps.lost;
        joined.source.clone_from(&run.steps.source);
    }
    joined
}

fn step_figures(runs: &[RunSteps], joined: &Steps) -> Option<StepSummary> {
    let whole = step_summary(joined, None);
    let per_run: Vec<_> =
        runs.iter().map(|run| step_summary(&run.steps, Some(run.start_ns))).collect();
    let rates: Vec<f64> = per_run.iter().filter_map(|run| run.per_second).collect();
    let set_up = per_run.iter().filter_map(|run| run.setup_ms);
    if rates.is_empty() {
        return None;
    }
    Some(StepSummary {
        count: joined.steps.len(),
        per_second: median(rates),
        p50_ms: whole.p50_ms?,
        p95_ms: whole.p95_ms?,
        p99_ms: whole.p99_ms?,
        warm_up: per_run.iter().map(|run| run.warm_up_steps).max().unwrap_or(0),
        set_up_ms: median(set_up),
        source: joined.source.clone(),
    })
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    simprof_stats::median(&values.into_iter().collect::<Vec<_>>()).unwrap_or(0.0)
}

/// What turns weights and samples into shares, intervals and time per step.
struct Scale {
    samples: u64,
    weight: u64,
    ms_per_step: Option<f64>,
}

impl Scale {
    fn new(profile: &Profile, steps: &Steps) -> Self {
        // Time per step counts what was sampled within steps: set-up is not theirs.
        let within = within_steps(profile, steps);
        let ms = |within: WithinSteps| {
            let weight = within.profile.total_weight();
            within.per_step(weight) * 1e-6 / within.steps_share.max(f64::MIN_POSITIVE)
        };
        let samples = profile.samples.len() as u64;
        Self { samples, weight: profile.total_weight(), ms_per_step: within.map(ms) }
    }

    fn interval(&self, weight: u64) -> Bounds {
        let share = weight as f64 / self.weight.max(1) as f64;
        share_interval((share * self.samples as f64).round() as u64, self.samples)
    }

    fn per_step(&self, share: f64) -> Option<f64> {
        self.ms_per_step.map(|ms| ms * share)
    }

    fn functions(
        &self,
        costs: &[FunctionCost],
        interpreter: &[bool],
        counts: &CallCounts,
        steps_per_run: Option<f64>,
    ) -> Vec<FunctionSummary> {
        let shown = costs.iter().filter(|cost| cost.total_share >= LEAST_SHARE);
        let with_calls = shown.map(|cost| (cost, cost.calls.or_else(|| counts.of(&cost.ids))));
        with_calls
            .map(|(cost, calls)| FunctionSummary {
                name: cost.name.clone(),
                kind: cost.kind,
                module: module_of(cost),
                file: cost.file.clone(),
                line: cost.line,
                interpreter: cost.ids.first().is_some_and(|id| interpreter[id.index()]),
                self_share: cost.self_share,
                total_share: cost.total_share,
                total_interval: self.interval(cost.total_weight),
                ms_per_step: self.per_step(cost.total_share),
                calls,
                calls_per_step: calls.zip(steps_per_run).map(|(calls, steps)| calls as f64 / steps),
            })
            .collect()
    }

    fn bottlenecks(&self, input: &CaseInput<'_>, costs: &[FunctionCost]) -> Vec<Bottleneck> {
        let default = input.rules.is_empty().then(|| default_component_names(input.profile));
        let component = |cost: &FunctionCost| {
            let by_rule =
                cost.ids.iter().find_map(|&id| input.rules.component_of(input.profile, id));
            let by_default = || Some(default.as_ref()?.get(cost.ids.first()?.index())?.clone());
            by_rule.map(str::to_owned).or_else(by_default).unwrap_or_else(|| OTHER.to_owned())
        };
        let found = bottlenecks(costs, BOTTLENECKS).by_charged;
        found
            .iter()
            .filter(|cost| cost.charged_share >= LEAST_BOTTLENECK)
            .enumerate()
            .map(|(index, cost)| Bottleneck {
                rank: index + 1,
                name: cost.name.clone(),
                file: cost.file.clone(),
                line: cost.line,
                component: component(cost),
                share: cost.charged_share,
                self_share: cost.self_share,
                total_share: cost.total_share,
                interval: self.interval(cost.charged_weight),
                ms_per_step: self.per_step(cost.charged_share),
            })
            .collect()
    }

    /// A component of the rules is listed without any cost too, one that was found is not.
    fn components(&self, input: &CaseInput<'_>) -> Vec<ComponentCost> {
        let is_listed = |share: &&ComponentShare| !input.rules.is_empty() || share.weight > 0;
        components(input.profile, input.rules)
            .iter()
            .filter(is_listed)
            .map(|share| ComponentCost {
                name: share.name.clone(),
                share: share.share,
                interval: self.interval(share.weight),
                ms_per_step: self.per_step(share.share),
            })
            .collect()
    }
}

fn statements(summary: &CaseSummary) -> Vec<String> {
    let component = summary.components.first().map(|component| {
        let [low, high] = component.interval;
        format!(
            "{} takes {:.1} % of CPU time (95 % interval {:.1} to {:.1} %){}.",
            component.name,
            component.share * 100.0,
            low * 100.0,
            high * 100.0,
            component
                .ms_per_step
                .map_or_else(String::new, |ms| format!(", {} of a step", duration_ns(ms * 1e6)))
        )
    });
    let function = summary.bottlenecks.first().map(|first| {
        format!(
            "The first function to look at is {}: {:.1} % of CPU time in it and the libraries that it calls.",
            first.name,
            first.share * 100.0
        )
    });
    let steps = summary.steps.as_ref().map(|steps| {
        format!(
            "{:.0} steps/s; a step takes {} (median), {} (p95), {} (p99), over {} steps.",
            steps.per_second,
            duration_ns(steps.p50_ms * 1e6),
            duration_ns(steps.p95_ms * 1e6),
            duration_ns(steps.p99_ms * 1e6),
            steps.count
        )
    });
    let mix = summary.thread_time.iter().map(|time| {
        format!("The time of all threads, on a CPU or waiting, is {}.", time.describe())
    });
    let threads =
        summary.thread_time.iter().flat_map(|time| thread_statements(time, &summary.waits));
    let is_idle = summary.wall_s > 0.0 && summary.cpu_s / summary.wall_s < 0.8;
    let idle = (is_idle && summary.thread_time.is_none()).then(|| {
        format!(
            "Only {:.0} % of wall time is on a CPU: the rest waits, and these shares do not show for what.",
            100.0 * summary.cpu_s / summary.wall_s
        )
    });
    let calls = summary.calls.iter().flat_map(|calls| calls.statements.clone());
    component
        .into_iter()
        .chain(function)
        .chain(steps)
        .chain(mix)
        .chain(threads)
        .chain(idle)
        .chain(calls)
        .collect()
}

/// What the interpreter's lock costs, and where most is waited for.
fn thread_statements(time: &TimeShares, waits: &[WaitingLine]) -> Vec<String> {
    let gil = (time.gil_share >= NOTABLE_GIL).then(|| {
        format!(
            "Threads wait {:.1} % of their time for the interpreter (GIL): more threads do not make the Python part faster.",
            time.gil_share * 100.0
        )
    });
    let other = |wait: &&WaitingLine| wait.cause != simprof_model::WaitCause::Interpreter;
    let longest = waits.iter().find(other).filter(|wait| wait.share >= NOTABLE_GIL).map(|wait| {
        format!(
            "The longest waiting is in {}: {:.1} % of the time of threads, for {}.",
            wait.function,
            wait.share * 100.0,
            cause_name(wait.cause)
        )
    });
    gil.into_iter().chain(longest).collect()
}
