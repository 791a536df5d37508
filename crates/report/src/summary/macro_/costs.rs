//! Costs of the program's work: shares, their intervals, and CPU time per step.

use simprof_model::FunctionKind;

use super::{
    Bottleneck, CaseInput, ComponentCost, ComponentPart, FunctionSummary, LibraryCost,
    share_interval,
};
use crate::analysis::{
    ChargedComponents, ComponentShare, FunctionCost, HeavyCallee, OTHER, RunSplit, bottlenecks,
    components, heavy_callee, interpreter_functions, python_module, share,
};
use crate::summary::calls::{CallCounts, CallsPerStep};
use crate::summary::common::Bounds;

/// Minimum total share of a function in the summary.
const FUNCTION_SHARE_MIN: f64 = 0.001;

/// Maximum number of bottlenecks.
const BOTTLENECKS: usize = 10;

/// Minimum charged share of a bottleneck; less is a sample or two.
const BOTTLENECK_SHARE_MIN: f64 = 0.002;

/// Minimum share of a bottleneck's heaviest callee; less is a sample or two.
const CALLEE_SHARE_MIN: f64 = 0.01;

/// Converts weights and samples of the program's work into shares, intervals and time per step.
pub(super) struct Costs<'a> {
    input: &'a CaseInput<'a>,
    split: &'a RunSplit,
    samples: u64,
    weight: u64,
    /// Mean weight of a sample, ns.
    mean_ns: f64,
}

impl<'a> Costs<'a> {
    pub(super) fn new(input: &'a CaseInput<'a>, split: &'a RunSplit) -> Self {
        let all = input.profile.samples.len().max(1) as f64;
        Self {
            input,
            split,
            samples: split.work.samples.len() as u64,
            weight: split.work.total_weight(),
            mean_ns: input.profile.total_weight() as f64 / all,
        }
    }

    /// Returns the 95 % interval of the CPU time per step in ms that a weight of the work stands for. The number of samples
    /// is a count of random events (Poisson).
    pub(super) fn ms_interval(&self, weight: u64) -> Option<Bounds> {
        let steps = Some(self.split.steps as f64).filter(|&steps| steps > 0.0)?;
        let samples = (weight as f64 / self.mean_ns.max(1.0)).round() as u64;
        let interval = simprof_stats::poisson_interval(samples, 0.95).ok()?;
        Some([interval.lo, interval.hi].map(|samples| samples * self.mean_ns * 1e-6 / steps))
    }

    fn interval(&self, weight: u64) -> Bounds {
        let share = weight as f64 / self.weight.max(1) as f64;
        share_interval((share * self.samples as f64).round() as u64, self.samples)
    }

    fn per_step(&self, share: f64) -> Option<f64> {
        self.split.ms_per_step().map(|ms| ms * share)
    }

    pub(super) fn functions(
        &self,
        costs: &[FunctionCost],
        counts: &CallCounts,
        per_step: &CallsPerStep,
    ) -> Vec<FunctionSummary> {
        let interpreter = interpreter_functions(&self.split.work);
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
                calls_per_step: calls.and_then(|calls| per_step.of(calls, &cost.ids)),
            })
            .collect()
    }

    pub(super) fn bottlenecks(&self, costs: &[FunctionCost]) -> Vec<Bottleneck> {
        let components = ChargedComponents::new(&self.split.work, self.input.rules);
        let found = bottlenecks(costs, BOTTLENECKS).by_charged;
        found
            .iter()
            .filter(|cost| cost.charged_share >= BOTTLENECK_SHARE_MIN)
            .enumerate()
            .map(|(index, cost)| (index, cost, ComponentPart::all(components.of(cost))))
            .map(|(index, cost, components)| Bottleneck {
                rank: index + 1,
                name: cost.name.clone(),
                file: cost.file.clone(),
                line: cost.line,
                component: components.first().map_or(OTHER, |part| &part.name).to_owned(),
                components,
                share: cost.charged_share,
                self_share: cost.self_share,
                total_share: cost.total_share,
                interval: self.interval(cost.charged_weight),
                ms_per_step: self.per_step(cost.charged_share),
                heaviest_callee: self.heaviest_callee(cost),
            })
            .collect()
    }

    fn heaviest_callee(&self, cost: &FunctionCost) -> Option<LibraryCost> {
        let HeavyCallee { name, file, line, share } = heavy_callee(&self.split.work, &cost.ids)?;
        (share >= CALLEE_SHARE_MIN).then_some(LibraryCost { name, file, line, share })
    }

    /// Returns the costs of components. Components of the user's rules are listed even without cost.
    pub(super) fn components(&self) -> Vec<ComponentCost> {
        let rules = self.input.rules;
        let is_listed = |share: &&ComponentShare| !rules.is_empty() || share.weight > 0;
        components(&self.split.work, rules)
            .iter()
            .filter(is_listed)
            .map(|share| ComponentCost {
                name: share.name.clone(),
                share: share.share,
                interval: self.interval(share.weight),
                cpu_ms_per_step: self.per_step(share.share),
                cpu_ms_per_step_interval: self.ms_interval(share.weight),
                ms_per_step: self.per_step(share.share),
            })
            .collect()
    }
}

impl ComponentPart {
    /// Returns the parts of a function's time from the weights of components, the largest first.
    fn all(weights: &[(String, u64)]) -> Vec<Self> {
        let whole: u64 = weights.iter().map(|(_, weight)| weight).sum();
        let part = |(name, weight): &(String, u64)| Self {
            name: name.clone(),
            share: share(*weight, whole),
        };
        weights.iter().map(part).collect()
    }
}

/// Returns the module of a function: the path of the native module, or the name of the Python module.
fn module_of(cost: &FunctionCost) -> Option<String> {
    if cost.kind == FunctionKind::Python {
        Some(python_module(&cost.name, cost.file.as_deref()).to_owned())
    } else {
        cost.module.clone()
    }
}
