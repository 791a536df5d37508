//! Costs of functions and components of a traced program.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{CallProfile, CalledFunction, CalledId, Caller, Notice};

use super::advice::{self, Advice};
use super::charge::charge;
use super::modules::{Modules, is_generated};
use super::notices::notices;
use super::stand_in::StandIn;
use super::tracing::{Tracing, calls_made};
use crate::analysis::Origin;

/// Format name and version of [`CallAnalysis`].
pub const CALLS_SCHEMA: &str = "simprof.calls/1";

/// From this share of all time on, with what it called, code of the author's is what was profiled.
const AUTHORED: f64 = 0.05;

/// What the calls of a traced program say. Times are the tracer's, its own part included; shares are 0 to 1 of
/// `total_s`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallAnalysis {
    /// Format name and version.
    pub schema: String,
    /// Format of the file that it was read from.
    pub format: String,
    /// Time of all functions without what they called, s: all that was traced.
    pub total_s: f64,
    /// Number of all calls.
    pub calls: u64,
    /// Of these, calls of functions that were not on the stack yet.
    pub primitive_calls: u64,
    /// Every function, by falling time in itself.
    pub functions: Vec<CallCost>,
    /// Packages, by falling share.
    pub components: Vec<CallComponent>,
    /// What the figures suggest, by falling bound of what it could gain.
    pub advice: Vec<Advice>,
    /// What of the times may be the tracer's own.
    pub tracing: Tracing,
    /// What a reader must know, one sentence each.
    pub notices: Vec<Notice>,
}

/// What one function costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallCost {
    /// Module and name, as in `sim.model.step`; the name alone for functions written in C.
    pub name: String,
    /// The module: `sim.model`; `~` for functions written in C.
    pub module: String,
    /// Source file as the program named it; `~` for functions written in C.
    pub file: String,
    /// First line of its definition; 0 where there is none.
    pub line: u32,
    /// Whose code it is: `own`, `library`, `runtime`.
    pub origin: String,
    /// The component that it is of.
    pub component: String,
    /// All calls.
    pub calls: u64,
    /// Calls made while no other call of it was on the stack.
    pub primitive_calls: u64,
    /// Time in it without what it called, s.
    pub self_s: f64,
    /// Time with it on the stack, s; a recursion is counted once.
    pub cumulative_s: f64,
    /// Time that it answers for, s: in it and in the libraries and built-in functions that it called, shared out
    /// among their callers. Sums to all time.
    pub charged_s: f64,
    /// `self_s` of all time.
    pub self_share: f64,
    /// `cumulative_s` of all time.
    pub cumulative_share: f64,
    /// `charged_s` of all time.
    pub charged_share: f64,
    /// Up to this of `self_s` is the tracer's own, s, estimated by the cheapest calls; none where it cannot be told.
    pub tracing_s: Option<f64>,
    /// Who called it, by falling number of calls; its `function` is a position in `functions`.
    pub callers: Vec<Caller>,
}

/// What one component costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallComponent {
    /// Package, module or `[built-in]`.
    pub name: String,
    /// Its functions that were called.
    pub functions: usize,
    /// Share of all time that its functions answer for, with the libraries that they called. Sums to 1.
    pub share: f64,
    /// Share of all time in its functions. Sums to 1.
    pub self_share: f64,
}

/// What the calls say. `format` is the name of the file's format; see [`Modules`] for the names of modules.
pub fn analyse(profile: &CallProfile, format: &str, modules: &Modules<'_>) -> CallAnalysis {
    let facts = Facts::new(profile, modules);
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

/// A profile with all that is derived from it by position in its table.
pub(super) struct Facts<'a> {
    pub(super) profile: &'a CallProfile,
    pub(super) total_s: f64,
    pub(super) names: Vec<String>,
    modules: Vec<String>,
    pub(super) tracing: Tracing,
    /// Time of each function with that of the functions written in C that it called, s.
    pub(super) with_built_in_s: Vec<f64>,
    origins: Vec<Origin>,
    components: Vec<String>,
    charged_s: Vec<f64>,
    calls_made: Vec<u64>,
}

impl<'a> Facts<'a> {
    pub(super) fn new(profile: &'a CallProfile, modules: &Modules<'_>) -> Self {
        let modules: Vec<String> =
            profile.functions.iter().map(|f| modules.name(profile.file(f))).collect();
        let functions = profile.functions.iter().zip(&modules);
        let names: Vec<String> = functions.map(|(f, module)| name(profile, f, module)).collect();
        let is_python: Vec<bool> =
            profile.functions.iter().map(|function| !profile.is_built_in(function)).collect();
        let mut stand_in = StandIn::new(profile, &names);
        let origins = stand_in.origins();
        let authors = authors(profile, &origins);
        let charged_s = charge(profile, &authors);
        Self {
            total_s: charged_s.iter().sum(),
            tracing: Tracing::new(profile),
            with_built_in_s: charge(profile, &is_python),
            components: components(profile, &mut stand_in, &charged_s, &authors),
            calls_made: calls_made(profile),
            profile,
            names,
            modules,
            origins,
            charged_s,
        }
    }

    /// Of all time, 0 to 1.
    pub(super) fn share(&self, time_s: f64) -> f64 {
        if self.total_s > 0.0 { (time_s / self.total_s).clamp(0.0, 1.0) } else { 0.0 }
    }

    /// Costs by falling time in the function, then with callees, then by name.
    fn costs(&self) -> Vec<CallCost> {
        let functions = &self.profile.functions;
        let mut order: Vec<usize> = (0..functions.len()).collect();
        order.sort_by(|&a, &b| {
            let of = |at: usize| (&self.names[at], functions[at].line);
            let (x, y) = (&functions[a], &functions[b]);
            let by_time = y.self_s.total_cmp(&x.self_s);
            by_time.then(y.cumulative_s.total_cmp(&x.cumulative_s)).then_with(|| of(a).cmp(&of(b)))
        });
        let mut places = vec![CalledId(0); order.len()];
        for (place, &at) in (0..).map(CalledId).zip(&order) {
            places[at] = place;
        }
        order.iter().map(|&at| self.cost(at, &places)).collect()
    }

    /// `places` are the positions of functions among the costs.
    fn cost(&self, at: usize, places: &[CalledId]) -> CallCost {
        let function = &self.profile.functions[at];
        let callers = function.callers.iter();
        let callers =
            callers.map(|c| Caller { function: places[c.function.index()], ..c.clone() }).collect();
        CallCost {
            name: self.names[at].clone(),
            module: self.modules[at].clone(),
            callers,
            file: self.profile.file(function).to_owned(),
            line: function.line,
            origin: word(self.origins[at]).to_owned(),
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

    fn components(&self) -> Vec<CallComponent> {
        let mut sums: BTreeMap<&str, (usize, f64, f64)> = BTreeMap::new();
        for (at, function) in self.profile.functions.iter().enumerate() {
            let (functions, charged, own) = sums.entry(&self.components[at]).or_default();
            *functions += 1;
            *charged += self.charged_s[at];
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

/// Component of code that has no file, made at run time by a library as a rule.
const GENERATED: &str = "[generated]";

/// Who answers for time: the author's functions. Where what they called is next to nothing, the program is an
/// installed one, and its libraries answer; where there are none, whatever is not the runtime.
fn authors(profile: &CallProfile, origins: &[Origin]) -> Vec<bool> {
    let of = |origin: Origin, generated: bool| -> Vec<bool> {
        let functions = profile.functions.iter().zip(origins);
        let is_generated = |function| is_generated(profile.file(function));
        functions.map(|(f, &of)| of == origin && (generated || !is_generated(f))).collect()
    };
    let total_s = profile.total_s();
    let matters = |set: &Vec<bool>| {
        let members = profile.functions.iter().zip(set).filter(|(_, is_in)| **is_in);
        members.map(|(function, _)| function.cumulative_s).fold(0.0, f64::max) >= AUTHORED * total_s
    };
    let candidates = [of(Origin::Own, false), of(Origin::Library, false)];
    candidates.into_iter().find(matters).unwrap_or_else(|| of(Origin::Own, true))
}

fn components(
    profile: &CallProfile,
    stand_in: &mut StandIn,
    charged_s: &[f64],
    authors: &[bool],
) -> Vec<String> {
    let mut components = stand_in.components(charged_s);
    for ((component, function), &author) in
        components.iter_mut().zip(&profile.functions).zip(authors)
    {
        if is_generated(profile.file(function)) && !author {
            GENERATED.clone_into(component);
        }
    }
    components
}

/// Module and name of a function.
pub(super) fn name(profile: &CallProfile, function: &CalledFunction, module: &str) -> String {
    let name = profile.name(function);
    if profile.is_built_in(function) || module.is_empty() {
        return name.to_owned();
    }
    format!("{module}.{name}")
}

fn word(origin: Origin) -> &'static str {
    match origin {
        Origin::Own => "own",
        Origin::Library => "library",
        Origin::Runtime => "runtime",
        Origin::Kernel => "kernel",
        Origin::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::calls::{Calls, call};

    fn analysis(profile: &CallProfile) -> CallAnalysis {
        analyse(profile, "pstats", &Modules::new(profile, &|_| false))
    }

    /// Name, share that it answers for, of each component.
    fn shares(profile: &CallProfile) -> Vec<(String, f64)> {
        let components = analysis(profile).components;
        components.into_iter().map(|c| (c.name, (c.share * 100.0).round())).collect()
    }

    #[test]
    fn somebody_always_answers() {
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
    fn costs_are_sorted_and_components_hold_what_they_called() {
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
        let rows: Vec<(&str, &str, &str, f64, f64)> = found
            .functions
            .iter()
            .map(|f| (&*f.name, &*f.origin, &*f.component, f.self_s, f.charged_s))
            .collect();
        assert_eq!(
            rows,
            [
                ("<method 'x' of 'y' objects>", "runtime", "[built-in]", 5.0, 0.0),
                ("json.encoder.encode", "runtime", "json", 2.0, 0.0),
                ("sim.model.run", "own", "sim.model", 1.0, 3.0),
                ("sim.log.write", "own", "sim.log", 1.0, 6.0),
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
