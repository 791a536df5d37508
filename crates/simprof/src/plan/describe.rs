//! The text that `simprof run --plan` prints.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use simprof_measure::campaign::Planned;
use simprof_model::{Mode, Phase};

use super::{AllocationPlan, BenchmarkPlan, Case, Plan, Sweep};
use crate::budget;
use crate::earlier::Earlier;
use crate::spec::written;
use crate::text::counted;

impl Plan {
    /// Describes the plan: what would run, how often, and how long it took in `earlier` runs, or is estimated to take.
    pub fn describe(&self, earlier: &BTreeMap<Phase, Earlier>) -> String {
        let mut text = String::new();
        let mode = if self.mode == Mode::Quick { "quick" } else { "full" };
        let argv = self.target.command.argv(&self.target.defaults).join(" ");
        let _ = writeln!(text, "target   {} ({argv})", self.target.name);
        self.describe_inputs(&mut text);
        let _ = writeln!(text, "mode     {mode}, seed {}, {} Hz", self.seed, self.sampling.rate_hz);
        if let Some(budget) = self.budget {
            let _ = writeln!(
                text,
                "budget   {} for all phases; if it does not suffice, there are fewer repetitions, and the largest sizes are skipped",
                budget::describe(budget)
            );
        }
        let notices = self.notices();
        for &phase in &self.phases {
            let time = match (earlier.get(&phase), self.estimate_s(phase)) {
                (Some(earlier), _) => format!("{}, as in {}", about(earlier.seconds), earlier.run),
                (None, Some(seconds)) => about(seconds),
                (None, None) => "time unknown before the first run".to_owned(),
            };
            let _ =
                writeln!(text, "\n{phase}: {}, {time}", counted(self.processes(phase), "process"));
            self.describe_phase(phase, &mut text);
            for (_, notice) in notices.iter().filter(|(of, _)| *of == phase) {
                let _ = writeln!(text, "  note: {notice}");
            }
        }
        let seconds = |&phase: &Phase| {
            earlier.get(&phase).map(|earlier| earlier.seconds).or_else(|| self.estimate_s(phase))
        };
        let total: Option<f64> = self.phases.iter().map(seconds).sum();
        let _ = match total {
            Some(seconds) => writeln!(text, "\ntotal {}", about(seconds)),
            None => writeln!(text, "\ntotal time unknown before the first run"),
        };
        if let Some(notice) = self.budget_notice(earlier) {
            let _ = writeln!(text, "note: {notice}");
        }
        text
    }

    /// Describes the environment and the configuration files of the target, with the default
    /// parameters.
    fn describe_inputs(&self, text: &mut String) {
        let (command, defaults) = (&self.target.command, &self.target.defaults);
        for (name, value) in command.environment(defaults) {
            let _ = writeln!(text, "         {name}={value}");
        }
        for config in command.configs() {
            let edits: Vec<String> =
                config.edits(defaults).iter().map(ToString::to_string).collect();
            let (name, file) = (&config.placeholder, config.file.display());
            let _ = writeln!(
                text,
                "         {} is a copy of {file} with {}",
                written(name),
                edits.join(", ")
            );
        }
    }

    fn describe_phase(&self, phase: Phase, text: &mut String) {
        let until = format!(
            "repeated until {} samples or {} s",
            self.sampling.enough_samples,
            self.sampling.enough.as_secs()
        );
        let lines: Vec<String> = match phase {
            Phase::Macro => {
                self.cases.iter().map(|case| format!("record {} ({until})", case.name)).collect()
            }
            Phase::Component if self.benchmarks.is_empty() => {
                vec![
                    "the spec has no [[benchmark]]: component shares from the recording of phase 1"
                        .into(),
                ]
            }
            Phase::Component => self.benchmarks.iter().map(BenchmarkPlan::describe).collect(),
            Phase::Line => {
                let functions = also_requested(&self.functions);
                let stacks = format!(
                    "record default ({until}); functions chosen by phases 1 and 2{functions}"
                );
                std::iter::once(stacks).chain(self.memory.map(AllocationPlan::describe)).collect()
            }
            Phase::System => {
                let timeline = |case: &Case| format!("record resources over time: {}", case.name);
                let sweeps = self.sweeps.iter().map(Sweep::describe);
                sweeps.chain(self.timelines.iter().map(timeline)).collect()
            }
        };
        for line in lines {
            let _ = writeln!(text, "  {line}");
        }
    }
}

/// Returns a time for people: `about 7 s`.
fn about(seconds: f64) -> String {
    if seconds < 0.5 { "less than 1 s".to_owned() } else { format!("about {seconds:.0} s") }
}

fn also_requested(functions: &[String]) -> String {
    if functions.is_empty() { String::new() } else { format!(", and {}", functions.join(", ")) }
}

impl Sweep {
    fn describe(&self) -> String {
        let repeats = self.planned.first().map_or(0, |planned| planned.repeats);
        let value = |planned: &Planned| planned.parameters[&self.parameter].to_string();
        let values: Vec<String> = self.planned.iter().map(value).collect();
        format!(
            "sweep {} over {} x {}",
            self.name(),
            values.join(", "),
            counted(repeats, "process")
        )
    }
}

impl BenchmarkPlan {
    fn describe(&self) -> String {
        let repeats = self.planned.first().map_or(0, |planned| planned.repeats);
        let points = counted(self.planned.len(), "point");
        let arms: Vec<&str> = self.benchmark.arms.keys().map(String::as_str).collect();
        let arms = if arms.is_empty() {
            "no arms, so configurations are not compared".to_owned()
        } else {
            format!("arms: {}", arms.join(", "))
        };
        format!("{}: {points} x {}; {arms}", self.benchmark.name(), counted(repeats, "process"))
    }
}
