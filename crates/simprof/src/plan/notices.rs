//! What a plan shows beforehand: sweeps that cannot give a law, and benchmarks that compare nothing.

use std::collections::BTreeMap;

use simprof_model::{Notice, NoticeId, Phase, Value};
use simprof_stats::scaling::{SIZES_NEEDED, SPAN_NEEDED};

use super::{BenchmarkPlan, Plan};
use crate::budget;
use crate::earlier::Earlier;

impl Plan {
    /// Returns what the plan cannot measure, by phase.
    pub fn notices(&self) -> Vec<(Phase, Notice)> {
        let sweeps = |phase: Phase| -> Vec<String> {
            match phase {
                Phase::Component => {
                    self.benchmarks.iter().flat_map(BenchmarkPlan::weak_sweeps).collect()
                }
                Phase::System => self.weak_sweeps().collect(),
                Phase::Macro | Phase::Line => Vec::new(),
            }
        };
        let found = self.phases.iter().map(|&phase| (phase, sweeps(phase)));
        found
            .filter(|(_, sweeps)| !sweeps.is_empty())
            .map(|(phase, sweeps)| {
                let text = format!(
                    "These sweeps cannot give a scaling law, which needs {SIZES_NEEDED} values above zero over a range of \
                     {SPAN_NEEDED} times: {}. Add values to the spec.",
                    sweeps.join("; ")
                );
                (phase, Notice::new(NoticeId::SweepCannotGiveLaw, text))
            })
            .collect()
    }

    /// Returns a notice if one process of each phase, as long as in `earlier` runs, takes longer than the budget.
    pub fn budget_notice(&self, earlier: &BTreeMap<Phase, Earlier>) -> Option<Notice> {
        let budget = self.budget?;
        let needed: f64 = earlier.values().filter_map(|earlier| earlier.process_s).sum();
        (needed > budget.as_secs_f64()).then(|| {
            let text = format!(
                "One run of each phase takes {needed:.0} s, as earlier runs show: longer than the budget of {}. Each phase \
                 makes one run nevertheless. For an earlier end, give the target fewer steps or a smaller size.",
                budget::describe(budget)
            );
            Notice::new(NoticeId::BudgetTooShort, text)
        })
    }

    /// Returns the sweeps of phase 4 that cannot give a law.
    fn weak_sweeps(&self) -> impl Iterator<Item = String> + '_ {
        self.sweeps.iter().filter_map(|sweep| {
            let values = sweep.planned.iter().map(|planned| &planned.parameters[&sweep.parameter]);
            Some(format!("{}: {}", sweep.name(), weakness(values)?))
        })
    }
}

impl BenchmarkPlan {
    /// Returns the sweeps of the benchmark that cannot give a law. A single value is not meant as a sweep.
    fn weak_sweeps(&self) -> impl Iterator<Item = String> + '_ {
        self.benchmark.sweep.keys().filter_map(|parameter| {
            let values = self.values(parameter);
            let weakness = weakness(values.iter()).filter(|_| values.len() > 1)?;
            Some(format!("{} {parameter}: {weakness}", self.benchmark.name()))
        })
    }

    /// Returns the distinct planned values of a parameter, in their order.
    fn values(&self, parameter: &str) -> Vec<Value> {
        let mut values = Vec::new();
        for planned in &self.planned {
            let value = &planned.parameters[parameter];
            if !values.contains(value) {
                values.push(value.clone());
            }
        }
        values
    }
}

/// Returns why these values cannot give a law. `None` if they can, or if they are not numbers.
fn weakness<'a>(values: impl Iterator<Item = &'a Value>) -> Option<String> {
    let mut sizes: Vec<f64> = values.map(Value::as_number).collect::<Option<_>>()?;
    sizes.retain(|&size| size > 0.0);
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    let span = sizes.last().unwrap_or(&1.0) / sizes.first().unwrap_or(&1.0);
    if sizes.len() < SIZES_NEEDED {
        let end = if sizes.len() == 1 { "" } else { "s" };
        Some(format!("{} value{end} above zero", sizes.len()))
    } else if span < SPAN_NEEDED * (1.0 - 1e-9) {
        Some(format!("{} to {}, a range of {:.3} times", sizes[0], sizes[sizes.len() - 1], span))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::processes::fake::{plan_for, plan_within};

    #[test]
    fn sweeps_that_cannot_give_a_law_are_named() {
        let plan = |values: &str| {
            plan_for(&format!(
                "[target]\ncommand = [\"./sim\", \"{{n}}\"]\n[parameters]\nn = {{ default = 1, sweep = {values} }}\n\
                 [[benchmark]]\ncomponent = \"c\"\noperation = \"o\"\ncommand = [\"./sim\", \"{{n}}\"]\n\
                 baseline = {{ n = 8 }}\nsweep = {{ n = {values} }}\nmetric = \"t_ns\"\n"
            ))
        };
        for (values, weak) in [
            ("[3, 4, 6, 8, 12]", true),
            ("[1, 10, 100]", true),
            ("[0, 1, 2, 8, 16]", true),
            ("[1, 2, 4, 8, 16]", false),
            ("[0.5, 1, 2, 4, 8]", false),
            ("[\"a\", \"b\"]", false),
        ] {
            let plan = plan(values);
            let phases: Vec<Phase> = plan.notices().iter().map(|(phase, _)| *phase).collect();
            let want: &[Phase] = if weak { &[Phase::Component, Phase::System] } else { &[] };
            assert_eq!(phases, want, "{values}");
        }
        let narrow = plan("[3, 4, 6, 8, 12]").notices();
        assert_eq!(narrow[0].1.id, NoticeId::SweepCannotGiveLaw);
        assert!(narrow[0].1.text.contains("c/o n: 3 to 12"), "{}", narrow[0].1);
    }

    #[test]
    fn a_budget_below_one_run_of_each_phase_is_reported() {
        let minute = Some(Duration::from_secs(60));
        let earlier = |process_s| {
            [Phase::Macro, Phase::Line, Phase::System]
                .map(|phase| (phase, Earlier { seconds: 100.0, run: "r".into(), process_s }))
                .into()
        };
        let spec = "[target]\ncommand = [\"./sim\"]\n";
        for (budget, process_s, is_short) in [
            (minute, Some(21.0), true),
            (minute, Some(19.0), false),
            (minute, None, false),
            (None, Some(21.0), false),
        ] {
            let plan = plan_within(spec, budget);
            let id = plan.budget_notice(&earlier(process_s)).map(|notice| notice.id);
            assert_eq!(
                id,
                is_short.then_some(NoticeId::BudgetTooShort),
                "{budget:?} {process_s:?}"
            );
            assert_eq!(
                plan.describe(&earlier(process_s)).contains("budget   60 s"),
                budget.is_some()
            );
        }
    }
}
