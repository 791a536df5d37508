//! Components by their shares, in sentences.

use super::macro_::ComponentCost;
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

    use crate::analysis::ComponentRules;
    use crate::summary::{CaseInput, case_summary};
    use crate::testing::profile;

    /// Returns the first statement of a profile in which half of the rules match nothing.
    fn first_statement(samples: &[(&str, u64)]) -> Option<String> {
        let rules = ComponentRules::new([("ghost", ["never::*"]), ("sim", ["sim::*"])]);
        let input = CaseInput {
            name: "default",
            profile: &profile(samples),
            steps: &[],
            wall_ns: &[1_000_000],
            rules: &rules.expect("valid"),
            counters: BTreeMap::new(),
            calls: None,
            is_machine_busy: false,
        };
        case_summary(&input).statements.first().cloned()
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
    fn a_share_of_zero_is_no_statement() {
        let statement = first_statement(&[("main > sim::run", 0)]).unwrap_or_default();
        assert!(!statement.contains("takes 0"), "{statement}");
    }
}
