//! The summary of phase 1: costs of functions and components, steps and waits.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{FunctionKind, Profile, Provenance, PythonProvenance, Steps};

use super::calls::{CallCounts, CallsInput, CallsSummary, calls_summary};
use super::common::{Bounds, Head};
use super::component_cost::by_share;
use super::python::{TimeShares, WaitingLine, cause_name, time_shares, waiting_lines};
use crate::analysis::{
    ComponentRules, ComponentShare, FunctionCost, OTHER, WithinSteps, bottlenecks, components,
    default_component_names, functions, interpreter_functions, python_module, sort_by_total,
    step_summary, within_steps,
};
use crate::format::duration_ns;

/// phase1_summary.json. The default case is at its top level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MacroSummary {
    /// Fields common to all summaries.
    #[serde(flatten)]
    pub head: Head,
    /// The default case; its fields are at the top level.
    #[serde(flatten)]
    pub default: CaseSummary,
    /// Further cases of the full run.
    pub cases: Vec<CaseSummary>,
}

/// The recording of one set of parameters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CaseSummary {
    /// `default`, or the parameters that differ.
    pub case: String,
    /// How the profile was recorded; `null` if nothing was.
    pub profile: Option<ProfileSummary>,
    /// Functions by total share, from 0.1 % on.
    pub functions: Vec<FunctionSummary>,
    /// The functions to look at first, at most ten.
    pub bottlenecks: Vec<Bottleneck>,
    /// Components by share.
    pub components: Vec<ComponentCost>,
    /// Steps; `null` if the target marks none.
    pub steps: Option<StepSummary>,
    /// How threads spent their time; `null` if nothing runs Python.
    #[serde(default)]
    pub thread_time: Option<TimeShares>,
    /// The lines with the longest waits, at most 20; only of threads that run Python.
    #[serde(default)]
    pub waits: Vec<WaitingLine>,
    /// Wall time of one run, s: the median over runs.
    pub wall_s: f64,
    /// CPU time of one run, s: the mean over runs.
    pub cpu_s: f64,
    /// Work done in one run: the target's own counters.
    pub counters: BTreeMap<String, f64>,
    /// Exact calls of Python functions; `null` if they were not counted.
    pub calls: Option<CallsSummary>,
    /// Findings, one sentence each.
    pub statements: Vec<String>,
}

/// How a profile was recorded, and what is missing from it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileSummary {
    /// The perf event that was used.
    pub event: String,
    /// Requested sampling rate, samples per second of CPU time.
    pub rate_hz: f64,
    /// Achieved sampling rate, samples per second of CPU time.
    pub achieved_hz: f64,
    /// Number of samples.
    pub samples: u64,
    /// Lost samples, which the kernel dropped.
    pub lost: u64,
    /// Samples with a truncated stack.
    pub truncated: u64,
    /// Samples whose leaf has no symbol.
    pub unsymbolised: u64,
    /// Whether it has kernel frames.
    pub kernel: bool,
    /// Runs of the target that were joined.
    pub runs: usize,
    /// The recorder's own CPU time divided by the target's.
    pub recorder_cpu_share: f64,
    /// Events that were tried first and refused, with the reason.
    pub fallbacks: Vec<String>,
    /// How Python frames were obtained, and what is missing from them; `null` if nothing runs Python.
    #[serde(default)]
    pub python: Option<PythonProvenance>,
}

/// The cost of a function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FunctionSummary {
    /// Its name.
    pub name: String,
    /// Native, Python, kernel or unsymbolised.
    pub kind: FunctionKind,
    /// Path of its module; for a Python function the name of the module, such as `sim.model`.
    pub module: Option<String>,
    /// Its source file.
    pub file: Option<String>,
    /// Its line.
    pub line: Option<u32>,
    /// Whether it is part of the Python interpreter; the report's table omits such functions.
    #[serde(default)]
    pub interpreter: bool,
    /// Share of CPU time in it alone, 0 to 1.
    pub self_share: f64,
    /// Share of CPU time in it and its callees, 0 to 1.
    pub total_share: f64,
    /// 95 % interval of `total_share` (binomial over samples).
    pub total_interval: Bounds,
    /// CPU time per step in it and its callees, ms; `null` without steps.
    pub ms_per_step: Option<f64>,
    /// Exact number of calls in one run, counted in a separate run; `null` if calls were not counted.
    pub calls: Option<u64>,
    /// Calls in one run divided by its steps, including calls outside of steps; `null` without steps or calls.
    pub calls_per_step: Option<f64>,
}

/// A function to look at first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bottleneck {
    /// Rank, counted from 1.
    pub rank: usize,
    /// Its name.
    pub name: String,
    /// Its source file.
    pub file: Option<String>,
    /// Its line.
    pub line: Option<u32>,
    /// The component that it belongs to.
    pub component: String,
    /// Share of CPU time that is charged to it, 0 to 1: in it and in the libraries that it calls, but not in other
    /// functions of the author's. Over all functions these sum to 1.
    pub share: f64,
    /// Share of CPU time in it alone, 0 to 1.
    pub self_share: f64,
    /// Share of CPU time in it and its callees, 0 to 1.
    pub total_share: f64,
    /// 95 % interval of `share`.
    pub interval: Bounds,
    /// Charged CPU time per step, ms; `null` without steps.
    pub ms_per_step: Option<f64>,
}

/// The cost of a component.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ComponentCost {
    /// Its name.
    pub name: String,
    /// Share of CPU time, 0 to 1.
    pub share: f64,
    /// 95 % interval of the share.
    pub interval: Bounds,
    /// CPU time per step, ms; `null` without steps.
    pub ms_per_step: Option<f64>,
}

/// Steps and their durations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepSummary {
    /// Steps recorded, over all runs.
    pub count: usize,
    /// Steps per second, without set-up: the median over runs.
    pub per_second: f64,
    /// Median duration, ms.
    pub p50_ms: f64,
    /// 95th percentile of the durations, ms.
    pub p95_ms: f64,
    /// 99th percentile of the durations, ms.
    pub p99_ms: f64,
    /// Leading steps that are warm-up.
    pub warm_up: usize,
    /// Time before the first step, ms: the median over runs.
    pub set_up_ms: f64,
    /// Source of the step marks: `marks` or `output`.
    pub source: String,
}

/// The data of a recorded case.
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
    /// Component rules.
    pub rules: &'a ComponentRules,
    /// Work done in one run.
    pub counters: BTreeMap<String, f64>,
    /// A traced run of the case.
    pub calls: Option<CallsInput<'a>>,
}

/// The steps of one run.
#[derive(Debug, Clone)]
pub struct RunSteps {
    /// Start of the run, CLOCK_MONOTONIC, ns.
    pub start_ns: u64,
    /// Its steps.
    pub steps: Steps,
}

/// Minimum total share of a function in the summary.
const FUNCTION_SHARE_MIN: f64 = 0.001;

/// Maximum number of bottlenecks.
const BOTTLENECKS: usize = 10;

/// Maximum number of waiting lines.
const WAITING_LINES: usize = 20;

/// Share of the threads' time from which waiting is reported as a finding.
const WAIT_SHARE_MIN: f64 = 0.05;

/// Minimum charged share of a bottleneck; less is a sample or two.
const BOTTLENECK_SHARE_MIN: f64 = 0.002;

/// Summarises a recorded case.
pub fn case_summary(input: &CaseInput<'_>) -> CaseSummary {
    let joined = join(input.steps);
    let scale = Scale::new(input.profile, &joined);
    let mut costs = functions(input.profile);
    sort_by_total(&mut costs);
    let steps = step_times(input.steps, &joined);
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
        functions: scale.functions(&costs, &interpreter_functions(input.profile), &counts, per_run),
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

/// Returns the module of a function: the path of the native module, or the name of the Python module.
fn module_of(cost: &FunctionCost) -> Option<String> {
    if cost.kind == FunctionKind::Python {
        Some(python_module(&cost.name, cost.file.as_deref()).to_owned())
    } else {
        cost.module.clone()
    }
}

/// Summarises the provenance of a profile of `runs` runs.
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

/// Returns the 95 % interval of the share `samples / of`.
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

fn step_times(runs: &[RunSteps], joined: &Steps) -> Option<StepSummary> {
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

/// Converts weights and samples into shares, intervals and time per step.
struct Scale {
    samples: u64,
    weight: u64,
    ms_per_step: Option<f64>,
}

impl Scale {
    fn new(profile: &Profile, steps: &Steps) -> Self {
        // Only samples within steps count for the time per step, not those of the set-up.
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
        let shown = costs.iter().filter(|cost| cost.total_share >= FUNCTION_SHARE_MIN);
        let with_calls = shown.map(|cost| (cost, cost.calls.or_else(|| counts.calls(&cost.ids))));
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
            .filter(|cost| cost.charged_share >= BOTTLENECK_SHARE_MIN)
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

    /// Returns the costs of components. Components of the user's rules are listed even without cost.
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
    let component = by_share(&summary.components).first().map(|component| {
        let [low, high] = component.interval;
        let per_step = component.ms_per_step.filter(|&ms| ms > 0.0);
        format!(
            "{} (95 % interval {:.1} to {:.1} %){}.",
            component.statement(),
            low * 100.0,
            high * 100.0,
            per_step.map_or_else(String::new, |ms| format!(", {} per step", duration_ns(ms * 1e6)))
        )
    });
    let function = summary.bottlenecks.first().map(|first| {
        format!(
            "The first function to look at is {}: {:.1} % of CPU time is in it and the libraries that it calls.",
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
        format!("All threads together spend their time as follows: {}.", time.describe())
    });
    let threads =
        summary.thread_time.iter().flat_map(|time| thread_statements(time, &summary.waits));
    let is_idle = summary.wall_s > 0.0 && summary.cpu_s / summary.wall_s < 0.8;
    let idle = (is_idle && summary.thread_time.is_none()).then(|| {
        format!(
            "The target is on a CPU for only {:.0} % of the wall time and waits for the rest. The shares are of CPU time and do \
             not show the reason for waiting.",
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

/// Returns the findings on waiting: for the GIL, and at the line with the longest wait.
fn thread_statements(time: &TimeShares, waits: &[WaitingLine]) -> Vec<String> {
    let gil = (time.gil_share >= WAIT_SHARE_MIN).then(|| {
        format!(
            "Threads wait {:.1} % of their time for the interpreter's lock (GIL): more threads do not make the Python code \
             faster.",
            time.gil_share * 100.0
        )
    });
    let other = |wait: &&WaitingLine| wait.cause != simprof_model::WaitCause::Interpreter;
    let longest =
        waits.iter().find(other).filter(|wait| wait.share >= WAIT_SHARE_MIN).map(|wait| {
            format!(
                "The longest wait is in {}: {:.1} % of the time of all threads, for {}.",
                wait.function,
                wait.share * 100.0,
                cause_name(wait.cause)
            )
        });
    gil.into_iter().chain(longest).collect()
}
