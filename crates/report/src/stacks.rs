//! Analyses sampled stacks that another program recorded: costs of functions and components.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Number;
use simprof_model::{Notice, NoticeId, Profile};

use crate::analysis::{
    ComponentRules, ComponentShare, FunctionCost, SpinKind, components, functions, mark_spinning,
    share as weight_share, sort_by_self, spin_callers,
};
use crate::columns::{columns, one_line};
use crate::format::{grouped, share};
use crate::markdown::Align::{Left, Right};

/// Format name and version of [`StackAnalysis`].
pub const STACKS_SCHEMA: &str = "simprof.stacks/2";

/// An imported profile, and how to analyse it.
pub struct StackInput<'a> {
    /// The stacks.
    pub profile: &'a Profile,
    /// Name of the file's format.
    pub format: &'a str,
    /// Unit of the weights: `ns`, `bytes` or `samples`.
    pub unit: &'a str,
    /// How many units of the profile's weights are one of the file's. Above 1 if the file has fractions.
    pub units: u64,
    /// What the import reported.
    pub notices: &'a [Notice],
    /// The user's components.
    pub rules: &'a ComponentRules,
}

/// A weight in the file's unit. It is written as a whole number unless it has a fraction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct FileWeight(Number);

impl FileWeight {
    /// Converts a weight of a profile with so many units in one of the file's.
    fn new(weight: u64, units: u64) -> Self {
        if weight.is_multiple_of(units.max(1)) {
            return Self((weight / units.max(1)).into());
        }
        let fraction = Number::from_f64(weight as f64 / units as f64);
        Self(fraction.expect("the quotient of two whole numbers above 0 is finite"))
    }
}

impl fmt::Display for FileWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

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
    pub weight: FileWeight,
    /// Stacks in the file, each with its weight. The file may not state how often each was sampled.
    pub stacks: usize,
    /// Every function, by decreasing self weight.
    pub functions: Vec<StackCost>,
    /// Components, by decreasing share.
    pub components: Vec<StackComponent>,
    /// Time in known loops in which threads spin, by decreasing share. `functions` and `components` have it under names such as
    /// `[spinning at a barrier]`. Empty if weights are bytes.
    #[serde(default)]
    pub spinning: Vec<StackSpinning>,
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
    pub self_weight: FileWeight,
    /// Weight of stacks with it anywhere, each stack once.
    pub total_weight: FileWeight,
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

/// Spinning that one function caused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StackSpinning {
    /// What the threads spin for.
    pub kind: SpinKind,
    /// The function that called the spinning code; `null` for a thread of a library, such as a worker.
    pub function: Option<String>,
    /// Share of weight.
    pub share: f64,
}

/// Returns the profile with its spinning marked. Weights in bytes are no time.
fn marked(input: &StackInput<'_>) -> Profile {
    let mut profile = input.profile.clone();
    if input.unit != "bytes" {
        mark_spinning(&mut profile);
    }
    profile
}

/// Analyses imported stacks.
pub fn analyse_stacks(input: &StackInput<'_>) -> StackAnalysis {
    let (profile, units) = (&marked(input), input.units);
    let spinning = spin_callers(profile).into_iter().map(|caller| StackSpinning {
        kind: caller.kind,
        function: caller.function,
        share: weight_share(caller.weight, profile.total_weight()),
    });
    let mut costs = functions(profile);
    sort_by_self(&mut costs);
    let mut notices = input.notices.to_vec();
    notices.push(Notice::new(
        NoticeId::SamplingUnknown,
        "The file does not record how samples were taken or how many were lost. Stacks do not give call counts.",
    ));
    StackAnalysis {
        schema: STACKS_SCHEMA.to_owned(),
        format: input.format.to_owned(),
        unit: input.unit.to_owned(),
        weight: FileWeight::new(profile.total_weight(), units),
        stacks: profile.samples.len(),
        functions: costs.into_iter().map(|cost| StackCost::new(cost, units)).collect(),
        components: components(profile, input.rules)
            .into_iter()
            .map(StackComponent::from)
            .collect(),
        spinning: spinning.collect(),
        notices,
    }
}

impl StackCost {
    fn new(cost: FunctionCost, units: u64) -> Self {
        Self {
            name: cost.name,
            file: cost.file,
            self_weight: FileWeight::new(cost.self_weight, units),
            total_weight: FileWeight::new(cost.total_weight, units),
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
    by_total.sort_by(|a, b| b.total_share.total_cmp(&a.total_share));
    let (title, StackAnalysis { format, weight, unit, stacks, .. }) = (one_line(title), analysis);
    let mut text = format!("{title}: {format}, {} in {stacks} stacks\n", weight_text(weight, unit));
    for (weight, order) in [("self", by_self), ("total", by_total)] {
        text += &format!("\nFunctions by {weight} weight\n{}", rows(&order, top));
    }
    text += &format!("\nComponents\n{}", components_text(analysis, top));
    if !analysis.spinning.is_empty() {
        text += &format!("\nSpinning: CPU time without work\n{}", spinning_text(analysis, top));
    }
    text += "\nRead this first\n";
    text + &analysis.notices.iter().map(|notice| format!("  - {notice}\n")).collect::<String>()
}

/// Returns a weight with its unit. `samples` is also the unit of files that state none, so it is not printed.
fn weight_text(weight: &FileWeight, unit: &str) -> String {
    match (unit, weight.0.as_u64()) {
        ("samples", Some(whole)) => format!("weight {}", grouped(whole as f64)),
        ("samples", None) => format!("weight {weight}"),
        _ => format!("{weight} {unit}"),
    }
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

fn spinning_text(analysis: &StackAnalysis, top: usize) -> String {
    let row = |spinning: &StackSpinning| {
        let function = spinning.function.as_deref().unwrap_or("a thread of the library");
        vec![share(spinning.share), spinning.kind.describe().to_owned(), function.to_owned()]
    };
    let rows: Vec<Vec<String>> = analysis.spinning.iter().take(top).map(row).collect();
    let headings = [("share", Right), ("", Left), ("called by", Left)];
    columns(&headings, &rows) + &more(analysis.spinning.len(), top)
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

    fn input<'a>(profile: &'a Profile, units: u64, rules: &'a ComponentRules) -> StackInput<'a> {
        StackInput { profile, format: "folded", unit: "samples", units, notices: &[], rules }
    }

    #[test]
    fn functions_and_components_are_listed() {
        let profile = profile(&[("main > sim::step > sim::near", 30), ("main > sim::step", 10)]);
        let analysis = analyse_stacks(&input(&profile, 1, &ComponentRules::default()));
        let rows: Vec<(&str, String, String)> = analysis
            .functions
            .iter()
            .map(|cost| (&*cost.name, cost.self_weight.to_string(), cost.total_weight.to_string()))
            .collect();
        let row = |name, own: &str, total: &str| (name, own.to_owned(), total.to_owned());
        let expected =
            [row("sim::near", "30", "30"), row("sim::step", "10", "40"), row("main", "0", "40")];
        assert_eq!(rows, expected);
        let text = describe_stacks(&analysis, "x", 2);
        assert!(text.starts_with("x: folded, weight 40 in 2 stacks\n"), "{text}");
        assert!(text.contains("\n  75 %   75 %  sim::near (src/sim.rs)\n"), "{text}");
        assert!(text.contains("and 1 more; --top 3"), "{text}");
    }

    #[test]
    fn a_weight_has_a_unit_only_if_it_is_known() {
        let weight = FileWeight::new(1_518_556_000, 1);
        assert_eq!(weight_text(&weight, "samples"), "weight 1,518,556,000");
        assert_eq!(weight_text(&weight, "ns"), "1518556000 ns");
        assert_eq!(weight_text(&FileWeight::new(5, 2), "samples"), "weight 2.5");
    }

    #[test]
    fn weights_are_in_the_unit_of_the_file() {
        let profile = profile(&[("main > a", 25), ("main > b", 75)]);
        let analysis = analyse_stacks(&input(&profile, 10, &ComponentRules::default()));
        let json = serde_json::to_value(&analysis).expect("JSON");
        assert_eq!(
            (&json["weight"], &json["functions"][0]["self_weight"]),
            (&10.into(), &7.5.into())
        );
        assert_eq!(json["functions"][1]["self_share"], 0.25);
    }

    #[test]
    fn spinning_is_set_apart_by_names_alone() {
        use SpinKind::{Barrier, Lock};

        let mut sketch = crate::testing::Sketch::new();
        for (stack, weight) in [
            ("main;relax;relax._omp_fn.0", 10),
            ("main;relax;GOMP_parallel;gomp_team_barrier_wait_end", 30),
            ("start_thread;gomp_thread_start;gomp_team_barrier_wait_end", 40),
            ("main;work;pthread_spin_lock", 20),
        ] {
            let names: Vec<String> = stack.split(';').map(str::to_owned).collect();
            sketch = sketch.stack(&names, weight);
        }
        let profile = sketch.finish();
        let rules = ComponentRules::default();
        let analysis = analyse_stacks(&input(&profile, 1, &rules));
        let found: Vec<_> =
            analysis.spinning.iter().map(|s| (s.kind, s.function.as_deref(), s.share)).collect();
        assert_eq!(
            found,
            [(Barrier, None, 0.4), (Barrier, Some("relax"), 0.3), (Lock, Some("work"), 0.2)]
        );
        assert_eq!(analysis.functions[0].name, "[spinning at a barrier]");
        assert_eq!(analysis.functions[0].self_share, 0.7);
        let bytes = StackInput { unit: "bytes", ..input(&profile, 1, &rules) };
        assert_eq!(analyse_stacks(&bytes).spinning, []);
    }

    #[test]
    fn components_follow_the_rules() {
        let profile = profile(&[("main > sim::near", 30), ("main > io", 10)]);
        let rules = ComponentRules::new([("space", ["sim::*"])]).expect("valid");
        let components = analyse_stacks(&input(&profile, 1, &rules)).components;
        let shares: Vec<_> = components.iter().map(|c| (&*c.name, c.share)).collect();
        assert_eq!(shares, [("space", 0.75), ("other", 0.25)]);
    }
}
