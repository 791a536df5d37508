//! Analyses sampled stacks that another program recorded: costs of functions and components.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{Notice, NoticeId, Profile};

use crate::analysis::{
    ComponentRules, ComponentShare, FunctionCost, components, functions, sort_by_self,
};
use crate::columns::{columns, one_line};
use crate::format::share;
use crate::markdown::Align::{Left, Right};

/// Format name and version of [`StackAnalysis`].
pub const STACKS_SCHEMA: &str = "simprof.stacks/1";

/// The analysis of an imported profile. Shares are fractions of `weight`, 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StackAnalysis {
    /// Format name and version.
    pub schema: String,
    /// Format of the file that it was read from.
    pub format: String,
    /// Unit of the weights: `ns`, `bytes` or `samples`.
    pub unit: String,
    /// Sum of all weights.
    pub weight: u64,
    /// Stacks in the file, each with its weight. The file may not state how often each was sampled.
    pub stacks: usize,
    /// Every function, by decreasing self weight.
    pub functions: Vec<StackCost>,
    /// Components, by decreasing share.
    pub components: Vec<StackComponent>,
    /// Notices: what to know before relying on the result.
    pub notices: Vec<Notice>,
}

/// The cost of one function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StackCost {
    /// Name, as in the file.
    pub name: String,
    /// Source file, if the imported file has it.
    pub file: Option<String>,
    /// Weight of stacks with it as the leaf.
    pub self_weight: u64,
    /// Weight of stacks with it anywhere, each stack once.
    pub total_weight: u64,
    /// `self_weight` as a fraction of all weight.
    pub self_share: f64,
    /// `total_weight` as a fraction of all weight.
    pub total_share: f64,
}

/// The cost of one component.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StackComponent {
    /// Crate, namespace, package or module.
    pub name: String,
    /// Share of weight charged to it, including the libraries that it called. Sums to 1.
    pub share: f64,
    /// Share of weight with one of its functions as the leaf. Sums to 1.
    pub self_share: f64,
}

/// Analyses imported stacks. `format` is the name of the file's format, `unit` the unit of the weights.
pub fn analyse_stacks(profile: &Profile, format: &str, unit: &str) -> StackAnalysis {
    let mut costs = functions(profile);
    sort_by_self(&mut costs);
    StackAnalysis {
        schema: STACKS_SCHEMA.to_owned(),
        format: format.to_owned(),
        unit: unit.to_owned(),
        weight: profile.total_weight(),
        stacks: profile.samples.len(),
        functions: costs.into_iter().map(StackCost::from).collect(),
        components: components(profile, &ComponentRules::default())
            .into_iter()
            .map(StackComponent::from)
            .collect(),
        notices: vec![Notice::new(
            NoticeId::SamplingUnknown,
            "The file does not record how samples were taken or how many were lost. Stacks do not give call counts.",
        )],
    }
}

impl From<FunctionCost> for StackCost {
    fn from(cost: FunctionCost) -> Self {
        Self {
            name: cost.name,
            file: cost.file,
            self_weight: cost.self_weight,
            total_weight: cost.total_weight,
            self_share: cost.self_share,
            total_share: cost.total_share,
        }
    }
}

impl From<ComponentShare> for StackComponent {
    fn from(component: ComponentShare) -> Self {
        Self { name: component.name, share: component.share, self_share: component.self_share }
    }
}

/// Formats the analysis as text for a terminal, with at most `top` rows per table. `title` names the file.
pub fn describe_stacks(analysis: &StackAnalysis, title: &str, top: usize) -> String {
    let by_self: Vec<&StackCost> = analysis.functions.iter().collect();
    let mut by_total = by_self.clone();
    by_total.sort_by_key(|cost| std::cmp::Reverse(cost.total_weight));
    let (title, StackAnalysis { format, weight, unit, stacks, .. }) = (one_line(title), analysis);
    let mut text = format!("{title}: {format}, {weight} {unit} in {stacks} stacks\n");
    for (weight, order) in [("self", by_self), ("total", by_total)] {
        text += &format!("\nFunctions by {weight} weight\n{}", rows(&order, top));
    }
    text += &format!("\nComponents\n{}\nRead this first\n", components_text(analysis, top));
    text + &analysis.notices.iter().map(|notice| format!("  - {notice}\n")).collect::<String>()
}

fn rows(order: &[&StackCost], top: usize) -> String {
    let row = |cost: &&StackCost| {
        let file = cost.file.as_ref().map_or(String::new(), |file| format!(" ({file})"));
        vec![share(cost.self_share), share(cost.total_share), format!("{}{file}", cost.name)]
    };
    let rows: Vec<Vec<String>> = order.iter().take(top).map(row).collect();
    let headings = [("self", Right), ("total", Right), ("function", Left)];
    columns(&headings, &rows) + &more(order.len(), top)
}

fn components_text(analysis: &StackAnalysis, top: usize) -> String {
    let row = |component: &StackComponent| {
        vec![share(component.share), share(component.self_share), component.name.clone()]
    };
    let rows: Vec<Vec<String>> = analysis.components.iter().take(top).map(row).collect();
    let headings = [("with libraries", Right), ("self", Right), ("component", Left)];
    columns(&headings, &rows) + &more(analysis.components.len(), top)
}

/// Returns a line on the rows that a table omits; empty if it omits none.
pub(crate) fn more(rows: usize, top: usize) -> String {
    match rows.saturating_sub(top) {
        0 => String::new(),
        more => format!("  and {more} more; --top {rows} shows all\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::profile;

    #[test]
    fn functions_and_components_are_listed() {
        let profile = profile(&[("main > sim::step > sim::near", 30), ("main > sim::step", 10)]);
        let analysis = analyse_stacks(&profile, "folded", "samples");
        let rows: Vec<(&str, u64, u64)> = analysis
            .functions
            .iter()
            .map(|cost| (&*cost.name, cost.self_weight, cost.total_weight))
            .collect();
        assert_eq!(rows, [("sim::near", 30, 30), ("sim::step", 10, 40), ("main", 0, 40)]);
        let text = describe_stacks(&analysis, "x", 2);
        assert!(text.starts_with("x: folded, 40 samples in 2 stacks\n"), "{text}");
        assert!(text.contains("\n  75 %   75 %  sim::near (src/sim.rs)\n"), "{text}");
        assert!(text.contains("and 1 more; --top 3"), "{text}");
    }
}
