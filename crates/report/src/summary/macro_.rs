//! The summary of phase 1: the parts of a run, costs of functions and components, steps and waits.
//!
//! Shares, and figures per step, are of the program's work: what happens inside steps, or without steps everything but the
//! start and the end of its processes and imports.

mod costs;
mod statements;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{FunctionKind, Profile, Provenance, PythonProvenance, Steps};

use costs::Costs;
use statements::statements;

use super::calls::{CallsInput, CallsPerStep, CallsSummary, calls_summary};
use super::common::{Bounds, Head};
use super::parts::{OutsideSteps, PartSummary};
use super::thread_time::{
    IdleThreads, SpinningLine, ThreadSummary, Threads, TimeShares, WaitingLine, spinning_lines,
};
use crate::analysis::{
    ComponentRules, RunSplit, RunSteps, functions, sort_by_total, split_run, step_summary,
};
use crate::format::share;

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
    /// The parts of a run in order of time. Their CPU times sum to that of a run as sampled.
    #[serde(default)]
    pub parts: Vec<PartSummary>,
    /// Samples of the program's work, on which shares and figures per step are based.
    #[serde(default)]
    pub work_samples: u64,
    /// What happens outside of steps; `null` without steps.
    #[serde(default)]
    pub outside_steps: Option<OutsideSteps>,
    /// Functions by total share, from 0.1 % on.
    pub functions: Vec<FunctionSummary>,
    /// The functions to look at first, at most ten.
    pub bottlenecks: Vec<Bottleneck>,
    /// Components by share.
    pub components: Vec<ComponentCost>,
    /// Steps; `null` if the target marks none.
    pub steps: Option<StepSummary>,
    /// How the threads that are not idle spent their time; `null` if it is unknown.
    #[serde(default)]
    pub thread_time: Option<TimeShares>,
    /// The idle threads; `null` if there are none.
    #[serde(default)]
    pub idle_threads: Option<IdleThreads>,
    /// All threads, in groups.
    #[serde(default)]
    pub threads: Vec<ThreadSummary>,
    /// The lines with the longest waits of threads that are not idle, at most 20.
    #[serde(default)]
    pub waits: Vec<WaitingLine>,
    /// The lines where threads spin.
    #[serde(default)]
    pub spinning: Vec<SpinningLine>,
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
    /// Calls in one run divided by its steps; `null` without steps or calls, or if samples show the function outside of
    /// steps, because calls are counted over the whole run.
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
    /// The component that most of its charged time counts for.
    pub component: String,
    /// All components that its charged time counts for, the largest first.
    #[serde(default)]
    pub components: Vec<ComponentPart>,
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
    /// The library function that most of its calls lead to: from the bottleneck on, each callee takes at least half of its
    /// caller's time. `null` if no library function takes half of `share`, or if it takes less than 1 %.
    #[serde(default)]
    pub heaviest_callee: Option<LibraryCost>,
}

/// The cost of a library function in a bottleneck.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LibraryCost {
    /// Its name.
    pub name: String,
    /// Its source file.
    pub file: Option<String>,
    /// Its line.
    pub line: Option<u32>,
    /// Share of CPU time in it and its callees, 0 to 1, as far as it is charged to the bottleneck.
    pub share: f64,
}

/// The part of a function's charged time that counts for one component.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ComponentPart {
    /// Name of the component.
    pub name: String,
    /// Share of the function's charged time, 0 to 1.
    pub share: f64,
}

/// The cost of a component.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ComponentCost {
    /// Its name.
    pub name: String,
    /// Share of the CPU time of the program's work, 0 to 1.
    pub share: f64,
    /// 95 % interval of the share.
    pub interval: Bounds,
    /// CPU time per step, ms; `null` without steps.
    pub cpu_ms_per_step: Option<f64>,
    /// 95 % interval of `cpu_ms_per_step`, for the uncertainty from sampling.
    #[serde(default)]
    pub cpu_ms_per_step_interval: Option<Bounds>,
    /// The same as `cpu_ms_per_step`.
    pub ms_per_step: Option<f64>,
}

impl Bottleneck {
    /// Returns the component, or the components with their shares if there are several: `spatial 80 %, movement 20 %`. Parts
    /// below 1 % are omitted.
    pub fn component_parts(&self) -> String {
        let parts = self.components.iter().filter(|part| part.share >= COMPONENT_PART_MIN);
        let parts: Vec<&ComponentPart> = parts.collect();
        match parts.as_slice() {
            [] | [_] => self.component.clone(),
            parts => {
                let part = |part: &&ComponentPart| format!("{} {}", part.name, share(part.share));
                parts.iter().map(part).collect::<Vec<_>>().join(", ")
            }
        }
    }
}

/// Smallest share of a function's charged time with which reports name a component.
const COMPONENT_PART_MIN: f64 = 0.01;

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
    /// Mean duration, ms.
    #[serde(default)]
    pub wall_ms_per_step: f64,
    /// CPU time per step of all processes, ms, as sampled. It is without imports and compilation that happen once.
    #[serde(default)]
    pub cpu_ms_per_step: f64,
    /// 95 % interval of `cpu_ms_per_step`, for the uncertainty from sampling.
    #[serde(default)]
    pub cpu_ms_per_step_interval: Bounds,
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
    /// Whether other programs used the machine.
    pub is_machine_busy: bool,
}

/// Maximum number of waiting lines.
const WAITING_LINES: usize = 20;

/// Number of samples of the program's work below which its parts cannot be compared.
pub const FEW_SAMPLES: u64 = 50;

/// Summarises a recorded case.
pub fn case_summary(input: &CaseInput<'_>) -> CaseSummary {
    let runs = input.wall_ns.len().max(1);
    let split = split_run(input.profile, input.steps);
    let costs = Costs::new(input, &split);
    let mut by_total = functions(&split.work);
    sort_by_total(&mut by_total);
    let wall_s = median(input.wall_ns.iter().map(|&ns| ns as f64 * 1e-9));
    let all = functions(input.profile);
    let per_run = CallsPerStep::new(&all, &by_total, split.steps, input.steps.len());
    let traced = input.calls.as_ref();
    let traced = traced.map(|calls| calls_summary(calls, input.profile, &per_run, wall_s));
    let (calls, counts) = traced.unzip();
    let counts = counts.unwrap_or_default();
    let threads = Threads::new(&split.work, runs, WAITING_LINES);
    let mut summary = CaseSummary {
        case: input.name.to_owned(),
        profile: Some(profile_summary(&input.profile.provenance, input.wall_ns.len())),
        parts: PartSummary::all(&split, runs),
        work_samples: split.work.samples.len() as u64,
        outside_steps: OutsideSteps::new(&split, runs),
        functions: costs.functions(&by_total, &counts, &per_run),
        bottlenecks: costs.bottlenecks(&by_total),
        components: costs.components(),
        steps: step_times(input.steps, &split, &costs),
        thread_time: threads.time,
        idle_threads: threads.idle,
        threads: threads.groups,
        waits: threads.waits,
        spinning: spinning_lines(&split.work),
        wall_s,
        cpu_s: input.profile.provenance.target_cpu_ns as f64 * 1e-9 / runs as f64,
        counters: input.counters.clone(),
        calls,
        statements: Vec::new(),
    };
    summary.statements = statements(&summary, per_run.steps, input);
    summary
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

fn step_times(runs: &[RunSteps], split: &RunSplit, costs: &Costs<'_>) -> Option<StepSummary> {
    let joined = join(runs);
    let whole = step_summary(&joined, None);
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
        wall_ms_per_step: whole.mean_ms?,
        cpu_ms_per_step: split.ms_per_step()?,
        cpu_ms_per_step_interval: costs.ms_interval(split.work.total_weight())?,
        warm_up: per_run.iter().map(|run| run.warm_up_steps).max().unwrap_or(0),
        set_up_ms: median(set_up),
        source: joined.source.clone(),
    })
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    simprof_stats::median(&values.into_iter().collect::<Vec<_>>()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests;
