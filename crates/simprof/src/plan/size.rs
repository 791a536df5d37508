//! How much a plan will run: its points, its processes, and an estimate of the time.

use simprof_measure::campaign::Planned;
use simprof_measure::grid::Parameters;
use simprof_model::Phase;

use super::{BenchmarkPlan, Plan, Sweep};
use crate::spec::CommandTemplate;

/// Time of a process of which nothing is known, in seconds.
const GUESSED_PROCESS_S: f64 = 0.25;

impl Plan {
    /// Returns every point that will be measured: the command and its parameters.
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

    /// Returns the number of processes that a phase will start. A recording of a short run starts
    /// more.
    pub fn processes(&self, phase: Phase) -> usize {
        let count =
            |planned: &[Planned]| planned.iter().map(|planned| planned.repeats).sum::<usize>();
        match phase {
            Phase::Macro => self.cases.len(),
            Phase::Component => {
                self.benchmarks.iter().map(|benchmark| count(&benchmark.planned)).sum()
            }
            Phase::Line => 1 + usize::from(self.memory.is_some()),
            Phase::System => {
                self.sweeps.iter().map(Sweep::processes).sum::<usize>() + self.timelines.len()
            }
        }
    }

    /// Returns the time in seconds by which the budget is divided among phases: the estimate, or without one a guess from the number
    /// of processes.
    pub fn weight_s(&self, phase: Phase) -> f64 {
        let recording = self.sampling.enough.as_secs_f64();
        let guess = match phase {
            Phase::Macro | Phase::Line => self.processes(phase) as f64 * recording,
            Phase::Component | Phase::System => self.processes(phase) as f64 * GUESSED_PROCESS_S,
        };
        self.estimate_s(phase).unwrap_or(guess)
    }

    /// Estimates the time of a phase in seconds. Returns `None` if the time of the target is not
    /// known.
    pub fn estimate_s(&self, phase: Phase) -> Option<f64> {
        let recording = |once: f64| once.max(self.sampling.enough.as_secs_f64()) + 1.0;
        match phase {
            Phase::Macro => Some(self.cases.len() as f64 * recording(self.target.estimate_s?)),
            Phase::Line => {
                let once = self.target.estimate_s?;
                Some(recording(once) + self.memory.map_or(0.0, |_| once + 1.0))
            }
            // Without benchmarks the phase uses the recording of phase 1. The sum over an empty
            // iterator would be -0.
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
}

fn benchmark_estimate_s(plan: &BenchmarkPlan) -> Option<f64> {
    let processes: usize = plan.planned.iter().map(|planned| planned.repeats).sum();
    Some(processes as f64 * plan.benchmark.estimate_s?)
}
