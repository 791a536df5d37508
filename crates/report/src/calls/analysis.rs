//! The analysis of a call profile: costs of functions and components.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{CallProfile, CalledId, Caller, Notice};

use super::advice::{self, Advice};
use super::facts::Facts;
use super::modules::Modules;
use super::notices::notices;
use super::tracing::Tracing;
use crate::analysis::{ComponentRules, Origin};

/// Format name and version of [`CallAnalysis`].
pub const CALLS_SCHEMA: &str = "simprof.calls/1";

/// The analysis of a call profile. Times are the tracer's and include its own overhead; shares are fractions of `total_s`,
/// 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallAnalysis {
    /// Format name and version.
    pub schema: String,
    /// Format of the file that it was read from.
    pub format: String,
    /// Sum of the self times of all functions, s.
    pub total_s: f64,
    /// Number of all calls.
    pub calls: u64,
    /// Calls of functions that were not on the stack yet.
    pub primitive_calls: u64,
    /// Every function, by decreasing self time.
    pub functions: Vec<CallCost>,
    /// Components, by decreasing share.
    pub components: Vec<CallComponent>,
    /// Advice, by decreasing upper bound of its gain.
    pub advice: Vec<Advice>,
    /// Upper bounds of the tracer's own time.
    pub tracing: Tracing,
    /// Notices: what to know before relying on the result.
    pub notices: Vec<Notice>,
}

/// The cost of one function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallCost {
    /// Module and name, as in `sim.model.step`; the name alone for functions written in C.
    pub name: String,
    /// The module: `sim.model`; `~` for functions written in C.
    pub module: String,
    /// Source file as the program named it; `~` for functions written in C.
    pub file: String,
    /// First line of its definition; 0 for functions written in C.
    pub line: u32,
    /// Its origin.
    pub origin: Origin,
    /// Its component.
    pub component: String,
    /// Number of calls.
    pub calls: u64,
    /// Calls made while no other call of it was on the stack.
    pub primitive_calls: u64,
    /// Self time: without its callees, s.
    pub self_s: f64,
    /// Time with it on the stack, s; recursive calls count once.
    pub cumulative_s: f64,
    /// Time charged to it, s: its self time plus the time of libraries and built-in functions, divided among their
    /// callers. Sums to all time.
    pub charged_s: f64,
    /// `self_s` as a fraction of all time.
    pub self_share: f64,
    /// `cumulative_s` as a fraction of all time.
    pub cumulative_share: f64,
    /// `charged_s` as a fraction of all time.
    pub charged_share: f64,
    /// Upper bound of the tracer's time within `self_s`, s, estimated from the cheapest calls; `None` if it is unknown.
    pub tracing_s: Option<f64>,
    /// Its callers, by decreasing number of calls; their `function` is an index of `functions`.
    pub callers: Vec<Caller>,
}

/// The cost of one component.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallComponent {
    /// Package, module or `[built-in]`.
    pub name: String,
    /// Number of its functions that were called.
    pub functions: usize,
    /// Share of all time charged to its functions, including the libraries that they called. Sums to 1.
    pub share: f64,
    /// Self time of its functions as a share of all time. Sums to 1.
    pub self_share: f64,
}

/// Analyses a call profile. `format` is the name of the file's format; `modules` names its modules; `rules` are the user's
/// components.
pub fn analyse(
    profile: &CallProfile,
    format: &str,
    modules: &Modules<'_>,
    rules: &ComponentRules,
) -> CallAnalysis {
    let facts = Facts::new(profile, modules, rules);
    CallAnalysis {
        schema: CALLS_SCHEMA.to_owned(),
        format: format.to_owned(),
        total_s: facts.total_s,
        calls: profile.total_calls(),
        primitive_calls: profile.primitive_calls(),
        functions: facts.costs(),
        components: facts.components(),
        advice: advice::advice(&facts),
        tracing: facts.tracing,
        notices: notices(profile, &facts.tracing),
    }
}

impl Facts<'_> {
    /// Returns the costs by decreasing self time, then cumulative time, then name.
    fn costs(&self) -> Vec<CallCost> {
        let functions = &self.profile.functions;
        let mut order: Vec<usize> = (0..functions.len()).collect();
        order.sort_by(|&a, &b| {
            let name = |at: usize| (&self.names[at], functions[at].line);
            let (x, y) = (&functions[a], &functions[b]);
            let by_time = y.self_s.total_cmp(&x.self_s);
            let by_time = by_time.then(y.cumulative_s.total_cmp(&x.cumulative_s));
            by_time.then_with(|| name(a).cmp(&name(b)))
        });
        let mut new_ids = vec![CalledId(0); order.len()];
        for (id, &at) in (0..).map(CalledId).zip(&order) {
            new_ids[at] = id;
        }
        order.iter().map(|&at| self.cost(at, &new_ids)).collect()
    }

    /// Returns the cost of one function. `new_ids` are the indices of functions in the sorted costs.
    fn cost(&self, at: usize, new_ids: &[CalledId]) -> CallCost {
        let function = &self.profile.functions[at];
        let callers = function.callers.iter();
        let new_id = |caller: &Caller| new_ids[caller.function.index()];
        let callers = callers.map(|c| Caller { function: new_id(c), ..c.clone() }).collect();
        CallCost {
            name: self.names[at].clone(),
            module: self.modules[at].clone(),
            callers,
            file: self.profile.file(function).to_owned(),
            line: function.line,
            origin: self.origins[at],
            component: self.components[at].clone(),
            calls: function.calls,
            primitive_calls: function.primitive_calls,
            self_s: function.self_s,
            cumulative_s: function.cumulative_s,
            charged_s: self.charged_s[at],
            self_share: self.share(function.self_s),
            cumulative_share: self.share(function.cumulative_s),
            charged_share: self.share(self.charged_s[at]),
            tracing_s: self.tracing.within(self.profile, function, self.calls_made[at]),
        }
    }

    /// Returns the components by decreasing share.
    fn components(&self) -> Vec<CallComponent> {
        let mut sums: BTreeMap<&str, (usize, f64, f64)> = BTreeMap::new();
        for (at, function) in self.profile.functions.iter().enumerate() {
            let (functions, charged, own) = sums.entry(&self.components[at]).or_default();
            *functions += 1;
            *charged += self.component_s[at];
            *own += function.self_s.max(0.0);
        }
        let mut components: Vec<CallComponent> = sums
            .into_iter()
            .map(|(name, (functions, charged, own))| CallComponent {
                name: name.to_owned(),
                functions,
                share: self.share(charged),
                self_share: self.share(own),
            })
            .collect();
        components.sort_by(|a, b| {
            let by_share = b.share.total_cmp(&a.share);
            by_share.then(b.self_share.total_cmp(&a.self_share))
        });
        components
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::calls::{Calls, call};

    fn analyse_with(profile: &CallProfile, rules: &ComponentRules) -> CallAnalysis {
        analyse(profile, "pstats", &Modules::new(profile, &|_| false), rules)
    }

    fn analysis(profile: &CallProfile) -> CallAnalysis {
        analyse_with(profile, &ComponentRules::default())
    }

    /// Returns the name and charged share of each component.
    fn shares(profile: &CallProfile) -> Vec<(String, f64)> {
        let components = analysis(profile).components;
        components.into_iter().map(|c| (c.name, (c.share * 100.0).round())).collect()
    }

    #[test]
    fn all_time_is_charged_to_some_component() {
        for (file, component) in [
            ("/w/run.py", "run"),
            ("/p/lib/python3.11/site-packages/pip/main.py", "pip"),
            ("<string>", "<string>"),
        ] {
            let profile = Calls::new()
                .function("<string>:m", 1, 0.0, 4.0, &[])
                .function(&format!("{file}:go"), 1, 1.0, 4.0, &[call("m", 1, 1.0, 4.0)])
                .function("<method 'x' of 'y' objects>", 1, 3.0, 3.0, &[call("go", 1, 3.0, 3.0)])
                .finish();
            assert_eq!(shares(&profile)[0], (component.to_owned(), 100.0), "{file}");
        }
    }

    #[test]
    fn costs_are_sorted_and_components_include_what_they_called() {
        let json = "/p/lib/python3.11/json/encoder.py:encode";
        let profile = Calls::new()
            .function("sim/model.py:run", 1, 1.0, 9.0, &[])
            .function("sim/log.py:write", 4, 1.0, 6.0, &[call("run", 4, 1.0, 6.0)])
            .function(json, 4, 2.0, 5.0, &[call("write", 4, 2.0, 5.0)])
            .function(
                "<method 'x' of 'y' objects>",
                9,
                5.0,
                5.0,
                &[call("encode", 6, 3.0, 3.0), call("run", 3, 2.0, 2.0)],
            )
            .finish();
        let found = analysis(&profile);
        let rows: Vec<(&str, Origin, &str, f64, f64)> = found
            .functions
            .iter()
            .map(|f| (&*f.name, f.origin, &*f.component, f.self_s, f.charged_s))
            .collect();
        assert_eq!(
            rows,
            [
                ("<method 'x' of 'y' objects>", Origin::Runtime, "[built-in]", 5.0, 0.0),
                ("json.encoder.encode", Origin::Runtime, "json", 2.0, 0.0),
                ("sim.model.run", Origin::Own, "sim.model", 1.0, 3.0),
                ("sim.log.write", Origin::Own, "sim.log", 1.0, 6.0),
            ]
        );
        let components: Vec<(&str, f64, f64)> = found
            .components
            .iter()
            .map(|c| (&*c.name, c.share * 9.0, c.self_share * 9.0))
            .collect();
        assert_eq!(
            components,
            [
                ("sim.log", 6.0, 1.0),
                ("sim.model", 3.0, 1.0),
                ("[built-in]", 0.0, 5.0),
                ("json", 0.0, 2.0),
            ]
        );
        assert_eq!((found.calls, found.total_s), (18, 9.0));
    }
}
