//! Components by their shares, in sentences.

use super::macro_::{CaseSummary, ComponentCost};
use crate::analysis::OTHER;
use crate::format::share;

impl ComponentCost {
    /// Returns the share as a statement without a full stop: `spatial takes 61.2 % of CPU time inside
    /// steps`.
    pub fn statement(&self) -> String {
        let explanation =
            if self.name == OTHER { " (what no rule of [components] matches)" } else { "" };
        let inside = if self.cpu_ms_per_step.is_some() { " inside steps" } else { "" };
        format!("{}{explanation} takes {} of CPU time{inside}", self.name, share(self.share))
    }
}

/// Share of a component from which it is the whole program.
const WHOLE_PROGRAM: f64 = 0.95;

/// Returns the largest component, unless its share says nothing: without rules of the user's, a program without parts is one component.
pub fn leading_component(summary: &CaseSummary, has_default_names: bool) -> Option<&ComponentCost> {
    let component = *by_share(&summary.components).first()?;
    let first = summary.bottlenecks.first();
    let holds_first = first.is_some_and(|first| first.component == component.name);
    let is_whole = has_default_names && holds_first && component.share >= WHOLE_PROGRAM;
    (!is_whole).then_some(component)
}

/// Returns the components that have a share, the largest first: `other` included, which tables list last.
pub fn by_share(components: &[ComponentCost]) -> Vec<&ComponentCost> {
    let mut found: Vec<&ComponentCost> =
        components.iter().filter(|component| component.share > 0.0).collect();
    found.sort_by(|a, b| b.share.total_cmp(&a.share));
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use simprof_model::Profile;

    use super::leading_component;
    use crate::analysis::ComponentRules;
    use crate::summary::{CaseInput, case_summary};
    use crate::testing::profile;

    /// Returns the first statement of a profile in which half of the rules match nothing.
    fn first_statement(samples: &[(&str, u64)]) -> Option<String> {
        let rules = ComponentRules::new([("ghost", ["never::*"]), ("sim", ["sim::*"])]);
        let summary = case_summary(&input(&profile(samples), &rules.expect("valid")));
        summary.statements.first().cloned()
    }

    fn input<'a>(profile: &'a Profile, rules: &'a ComponentRules) -> CaseInput<'a> {
        CaseInput {
            name: "default",
            profile,
            steps: &[],
            wall_ns: &[1_000_000],
            rules,
            counters: BTreeMap::new(),
            calls: None,
            is_machine_busy: false,
        }
    }

    #[test]
    fn the_first_statement_is_the_largest_share() {
        for (sim, log, first) in [(3, 7, "other "), (7, 3, "sim takes 70 % "), (0, 7, "other ")] {
            let samples = [("main > sim::run", sim), ("main > log", log)];
            // As many samples as are compared.
            let samples: Vec<_> =
                samples.into_iter().filter(|sample| sample.1 > 0).cycle().take(100).collect();
            let statement = first_statement(&samples).expect("a share");
            assert!(statement.starts_with(first), "{statement}");
        }
    }

    #[test]
    fn one_component_by_default_is_no_statement() {
        let rules = ComponentRules::default();
        let samples = [("main > sim::run > sim::look", 60), ("main > sim::run > sim::act", 40)];
        let samples: Vec<_> = samples.into_iter().cycle().take(100).collect();
        let summary = case_summary(&input(&profile(&samples), &rules));
        assert_eq!(summary.components.len(), 1, "{:?}", summary.components);
        assert_eq!(leading_component(&summary, true), None);
        assert!(leading_component(&summary, false).is_some());
        assert!(summary.statements[0].contains("sim::look"), "{:?}", summary.statements);
    }

    #[test]
    fn a_share_of_zero_is_no_statement() {
        let statement = first_statement(&[("main > sim::run", 0)]).unwrap_or_default();
        assert!(!statement.contains("takes 0"), "{statement}");
    }
}
