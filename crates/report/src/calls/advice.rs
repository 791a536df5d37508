//! Advice from the numbers of a call profile, never from names, each with an upper bound of its gain.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{CalledFunction, CalledId, Caller};

use super::facts::Facts;
use crate::format::{self, counted};

/// Minimum share of all time for advice.
const NOTABLE_SHARE: f64 = 0.02;

/// Share of all time from which a function is expensive.
const EXPENSIVE_SHARE: f64 = 0.05;

/// Share of all time from which a single function written in C is reported.
const BUILT_IN_SHARE: f64 = 0.1;

/// Minimum number of calls for advice on their number.
const MANY_CALLS: u64 = 10_000;

/// A call is cheap if it costs at most this multiple of the cheapest calls,
const CHEAP_FACTOR: f64 = 5.0;

/// and at most this, ns: even the cheapest calls may be expensive.
const CHEAP_NS_MAX: f64 = 5000.0;

/// Share of a function's calls or time from which one caller is responsible for it.
const MAIN_CALLER_SHARE: f64 = 0.8;

/// Minimum share of a function's calls for naming a caller.
const NAMED_CALLER_SHARE: f64 = 0.1;

/// Share of all time for which the most expensive functions are counted.
const CONCENTRATION_SHARE: f64 = 0.8;

/// Calls per call of the caller from which the caller could make fewer.
const FAN_OUT: f64 = 10.0;

/// A profile is flat if no function has this share, and more than [`FLAT_FUNCTIONS`] have most of the time.
const FLAT_SHARE: f64 = 0.1;

/// See [`FLAT_SHARE`].
const FLAT_FUNCTIONS: usize = 20;

/// Maximum number of findings of one kind.
const PER_KIND: usize = 3;

/// The kind of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AdviceKind {
    /// The number of calls is expensive, not the body of the function.
    ManyCalls,
    /// One caller makes most calls of an expensive function.
    OneCaller,
    /// A function calls itself.
    Recursion,
    /// A caller spends its time in a function written in C.
    BuiltIn,
    /// How many functions take most of the time.
    Concentration,
    /// Importing modules takes time.
    Imports,
}

/// One piece of advice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Advice {
    /// The kind of finding.
    pub kind: AdviceKind,
    /// The function that it is about.
    pub function: String,
    /// The caller that it is about.
    pub caller: Option<String>,
    /// Number of calls that it is about.
    pub calls: u64,
    /// The finding as text, with its numbers.
    pub statement: String,
    /// Share of all time that a change can save at most: the whole cost.
    pub share_max: f64,
    /// Speed-up of the whole if that cost were gone (Amdahl 1967); `None` if nothing else would remain.
    pub speedup_max: Option<f64>,
}

/// Returns the advice for a profile, by decreasing bound.
pub(super) fn advice(facts: &Facts<'_>) -> Vec<Advice> {
    if facts.total_s <= 0.0 {
        return Vec::new();
    }
    let kinds = [many_calls, one_caller, recursion, built_in, imports, concentration];
    let mut advice: Vec<Advice> = kinds.iter().flat_map(|kind| best(kind(facts))).collect();
    advice.sort_by(|a, b| b.share_max.total_cmp(&a.share_max));
    advice
}

fn best(mut found: Vec<Advice>) -> Vec<Advice> {
    found.sort_by(|a, b| b.share_max.total_cmp(&a.share_max));
    found.truncate(PER_KIND);
    found
}

impl Facts<'_> {
    fn functions(&self) -> impl Iterator<Item = (usize, &CalledFunction)> {
        self.profile.functions.iter().enumerate()
    }

    fn name_of(&self, id: CalledId) -> &str {
        &self.names[id.index()]
    }

    fn advice(&self, kind: AdviceKind, at: usize, time_s: f64, statement: String) -> Advice {
        let share_max = self.share(time_s);
        Advice {
            kind,
            function: self.names[at].clone(),
            caller: None,
            calls: self.profile.functions[at].calls,
            statement,
            share_max,
            speedup_max: (share_max < 1.0).then(|| 1.0 / (1.0 - share_max)),
        }
    }

    /// Whether a call of the function costs little more than the call itself.
    fn is_cheap(&self, function: &CalledFunction) -> bool {
        let cheapest_ns = self.tracing.per_call(self.profile.is_built_in(function));
        let limit = cheapest_ns.map_or(0.0, |ns| (ns * CHEAP_FACTOR).min(CHEAP_NS_MAX));
        function.calls >= MANY_CALLS && per_call_ns(function) <= limit
    }
}

fn per_call_ns(function: &CalledFunction) -> f64 {
    function.self_s * 1e9 / function.calls.max(1) as f64
}

/// Returns the caller with the most calls, other than the function itself.
fn main_caller(at: usize, function: &CalledFunction) -> Option<&Caller> {
    function.callers.iter().find(|caller| caller.function.index() != at)
}

fn part(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Functions with many calls and hardly a body.
fn many_calls(facts: &Facts<'_>) -> Vec<Advice> {
    let is_notable = |function: &CalledFunction| facts.share(function.self_s) >= NOTABLE_SHARE;
    let cheap = facts.functions().filter(|(_, f)| is_notable(f) && facts.is_cheap(f));
    cheap
        .map(|(at, function)| {
            let name = &facts.names[at];
            let mut statement = format!(
                "{name} was called {} and takes only {} per call: the number of calls is expensive, not the body.",
                counted(function.calls, "time"),
                format::duration_ns(per_call_ns(function))
            );
            let caller = main_caller(at, function)
                .filter(|caller| part(caller.calls, function.calls) >= NAMED_CALLER_SHARE);
            if let Some(caller) = caller {
                statement += &format!(
                    " {} makes {} of the calls.",
                    facts.name_of(caller.function),
                    format::share(part(caller.calls, function.calls))
                );
            }
            if let Some(tracer_s) = facts.tracing.within(facts.profile, function, 0) {
                statement += &format!(
                    " Without tracing it costs less: up to {} of its time is the tracer's.",
                    format::share(tracer_s / function.self_s)
                );
            }
            let caller = caller.map(|caller| facts.name_of(caller.function).to_owned());
            // Fewer calls also make fewer calls of functions written in C.
            let built_in = facts.profile.is_built_in(function);
            let time_s = if built_in { function.self_s } else { facts.with_built_in_s[at] };
            Advice { caller, ..facts.advice(AdviceKind::ManyCalls, at, time_s, statement) }
        })
        .collect()
}

/// Expensive functions with one main caller among several, or with a caller that calls them repeatedly.
fn one_caller(facts: &Facts<'_>) -> Vec<Advice> {
    let expensive = facts.functions().filter(|&(at, function)| {
        let share = facts.share(facts.with_built_in_s[at]);
        share >= EXPENSIVE_SHARE
            && !facts.profile.is_built_in(function)
            && !facts.is_cheap(function)
    });
    expensive.filter_map(|(at, function)| one_caller_of(facts, at, function)).collect()
}

fn one_caller_of(facts: &Facts<'_>, at: usize, function: &CalledFunction) -> Option<Advice> {
    let caller = main_caller(at, function)?;
    let of_calls = part(caller.calls, function.calls);
    let fan_out = part(caller.calls, facts.profile.function(caller.function).calls);
    let is_main = of_calls > MAIN_CALLER_SHARE && function.callers.len() > 1;
    if !(is_main || of_calls > MAIN_CALLER_SHARE && fan_out >= FAN_OUT) {
        return None;
    }
    let time_s = caller.cumulative_s.unwrap_or(function.cumulative_s * of_calls);
    let name = facts.name_of(caller.function);
    let statement = format!(
        "{name} makes {} of the {} calls of {}: {} per call of {name}. They take {} of the time, including their callees.",
        format::share(of_calls),
        format::count(function.calls as f64),
        facts.names[at],
        format::count(fan_out),
        format::share(facts.share(time_s))
    );
    Some(Advice {
        caller: Some(name.to_owned()),
        calls: caller.calls,
        ..facts.advice(AdviceKind::OneCaller, at, time_s, statement)
    })
}

/// Functions that were called while they were on the stack.
fn recursion(facts: &Facts<'_>) -> Vec<Advice> {
    let recursive = facts.functions().filter(|(_, function)| {
        function.calls > function.primitive_calls && facts.share(function.self_s) >= NOTABLE_SHARE
    });
    recursive
        .map(|(at, function)| {
            let statement = format!(
                "{} is recursive: other functions call it {}, and it runs {} in total, {} per outside call. That takes {} of \
                 the time; each recursion counts once.",
                facts.names[at],
                counted(function.primitive_calls, "time"),
                counted(function.calls, "time"),
                format::count(part(function.calls, function.primitive_calls)),
                format::share(facts.share(function.cumulative_s))
            );
            facts.advice(AdviceKind::Recursion, at, function.cumulative_s, statement)
        })
        .collect()
}

/// Functions written in C that take much time, nearly all of it for one caller.
fn built_in(facts: &Facts<'_>) -> Vec<Advice> {
    let expensive = facts.functions().filter(|(_, function)| {
        facts.profile.is_built_in(function)
            && facts.share(function.self_s) >= BUILT_IN_SHARE
            && !facts.is_cheap(function)
    });
    expensive
        .filter_map(|(at, function)| {
            let timed = |caller: &&Caller| caller.self_s.is_some_and(|s| s > MAIN_CALLER_SHARE * function.self_s);
            let caller = function.callers.iter().find(timed)?;
            let (name, time_s) = (facts.name_of(caller.function), caller.self_s?);
            let statement = format!(
                "{} takes {} of the time, computing or waiting. {} of that is for {name}: {} of {} each.",
                facts.names[at],
                format::share(facts.share(function.self_s)),
                format::share(time_s / function.self_s),
                counted(caller.calls, "call"),
                format::duration_ns(time_s * 1e9 / caller.calls.max(1) as f64)
            );
            Some(Advice {
                caller: Some(name.to_owned()),
                calls: caller.calls,
                ..facts.advice(AdviceKind::BuiltIn, at, time_s, statement)
            })
        })
        .collect()
}

/// The time of the function through which every import is made.
fn imports(facts: &Facts<'_>) -> Vec<Advice> {
    let importer = facts.functions().find(|(_, function)| {
        facts.profile.file(function) == "<frozen importlib._bootstrap>"
            && facts.profile.name(function) == "_find_and_load"
    });
    importer
        .filter(|(_, function)| facts.share(function.cumulative_s) >= EXPENSIVE_SHARE)
        .map(|(at, function)| {
            let statement = format!(
                "Importing modules takes {} of the time ({} for {}). Each process pays this once, however long it runs.",
                format::share(facts.share(function.cumulative_s)),
                format::duration_ns(function.cumulative_s * 1e9),
                counted(function.calls, "import")
            );
            facts.advice(AdviceKind::Imports, at, function.cumulative_s, statement)
        })
        .into_iter()
        .collect()
}

/// The number of functions that take most of the time, including the functions written in C that they call.
fn concentration(facts: &Facts<'_>) -> Vec<Advice> {
    let mut order: Vec<(usize, f64)> = facts.with_built_in_s.iter().copied().enumerate().collect();
    order.retain(|&(_, time_s)| time_s > 0.0);
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let Some(&(first, first_s)) = order.first() else { return Vec::new() };
    let mut sum = 0.0;
    let most = order.iter().take_while(|&&(_, time_s)| {
        let before = sum;
        sum += time_s;
        before < (CONCENTRATION_SHARE - 1e-9) * facts.total_s
    });
    let (most, share) = (most.count(), facts.share(first_s));
    let flat = most > FLAT_FUNCTIONS && share < FLAT_SHARE;
    let statement = format!(
        "{}{most} of {} functions {} {} of the time, including the functions written in C that they call. The most \
         expensive is {} with {}: changing a single function cannot gain more.",
        if flat { "The profile is flat: " } else { "" },
        order.len(),
        if most == 1 { "takes" } else { "take" },
        format::share(CONCENTRATION_SHARE),
        facts.names[first],
        format::share(share)
    );
    vec![facts.advice(AdviceKind::Concentration, first, first_s, statement)]
}

#[cfg(test)]
mod tests {
    use simprof_model::CallProfile;

    use super::super::modules::Modules;
    use super::*;
    use crate::analysis::ComponentRules;
    use crate::testing::calls::{Calls, call};

    fn found(profile: &CallProfile) -> Vec<Advice> {
        advice(&Facts::new(profile, &Modules::new(profile, &|_| false), &ComponentRules::default()))
    }

    fn of_kind(profile: &CallProfile, kind: AdviceKind) -> Vec<Advice> {
        found(profile).into_iter().filter(|advice| advice.kind == kind).collect()
    }

    #[test]
    fn many_calls_of_a_cheap_function_are_reported() {
        let profile = |self_s: f64| {
            Calls::new()
                .function("main", 1, 0.5, 3.0 + self_s, &[])
                .function("tiny", 100_000, 0.02, 0.02, &[call("main", 100_000, 0.02, 0.02)])
                .function(
                    "small",
                    1_200_000,
                    self_s,
                    self_s,
                    &[call("main", 1_200_000, self_s, self_s)],
                )
                .finish()
        };
        let advice = of_kind(&profile(1.08), AdviceKind::ManyCalls);
        let [small] = &advice[..] else { panic!("{advice:?}") };
        let words = "called 1.2 M times and takes only 900 ns per call";
        assert!(small.statement.contains(words), "{}", small.statement);
        assert_eq!((small.calls, small.caller.as_deref()), (1_200_000, Some("sim.main")));
        let share = 1.08 / (0.5 + 0.02 + 1.08);
        assert!((small.share_max - share).abs() < 1e-9);
        assert!((small.speedup_max.expect("known") - 1.0 / (1.0 - share)).abs() < 1e-9);
        let with_a_body = of_kind(&profile(2.4), AdviceKind::ManyCalls);
        assert!(with_a_body.is_empty(), "2 µs is ten times the cheapest call: {with_a_body:?}");
    }

    #[test]
    fn main_callers_and_built_in_functions_are_reported() {
        let profile = Calls::new()
            .function("main", 1, 0.1, 8.0, &[])
            .function("loop", 10, 0.1, 6.0, &[call("main", 10, 0.1, 6.0)])
            .function(
                "work",
                1000,
                1.0,
                6.0,
                &[call("loop", 900, 0.9, 5.4), call("main", 100, 0.1, 0.6)],
            )
            .function("<built-in method x>", 1000, 5.0, 5.0, &[call("work", 1000, 5.0, 5.0)])
            .finish();
        let advice = of_kind(&profile, AdviceKind::OneCaller);
        let [work] = &advice[..] else { panic!("{advice:?}") };
        assert!(
            work.statement
                .contains("sim.loop makes 90 % of the 1,000 calls of sim.work: 90 per call of"),
            "{}",
            work.statement
        );
        assert!((work.share_max - 5.4 / 6.2).abs() < 1e-9);
        let advice = of_kind(&profile, AdviceKind::BuiltIn);
        let [x] = &advice[..] else { panic!("{advice:?}") };
        assert_eq!((x.calls, x.caller.as_deref()), (1000, Some("sim.work")));
        assert!(x.statement.contains("1,000 calls of 5 ms each"), "{}", x.statement);
    }

    #[test]
    fn recursion_counts_once() {
        let profile = Calls::new()
            .function("main", 1, 0.1, 1.1, &[])
            .function(
                "fib",
                177,
                1.0,
                1.0,
                &[call("main", 1, 0.1, 1.0), call("fib", 176, 0.9, 0.9)],
            )
            .primitive(1)
            .finish();
        let advice = of_kind(&profile, AdviceKind::Recursion);
        let [fib] = &advice[..] else { panic!("{advice:?}") };
        assert!(
            fib.statement
                .contains("other functions call it 1 time, and it runs 177 times in total"),
            "{}",
            fib.statement
        );
        assert!((fib.share_max - 1.0 / 1.1).abs() < 1e-9);
    }

    #[test]
    fn concentrated_and_flat_profiles_are_described() {
        let mut calls = Calls::new().function("main", 1, 0.0, 3.0, &[]);
        for n in 0..30 {
            calls = calls.function(&format!("f{n}"), 1, 0.1, 0.1, &[call("main", 1, 0.1, 0.1)]);
        }
        let flat = &of_kind(&calls.finish(), AdviceKind::Concentration)[0];
        assert!(
            flat.statement.contains("flat: 24 of 30 functions take 80 %"),
            "{}",
            flat.statement
        );
        let two = Calls::new().function("a", 1, 8.0, 8.0, &[]).function("b", 1, 2.0, 2.0, &[]);
        let steep = &of_kind(&two.finish(), AdviceKind::Concentration)[0];
        assert!(steep.statement.starts_with("1 of 2 functions takes 80 %"), "{}", steep.statement);
    }

    #[test]
    fn imports_are_reported_with_their_share() {
        let profile = Calls::new()
            .function("main", 1, 1.0, 2.0, &[])
            .function("<frozen importlib._bootstrap>:_find_and_load", 3, 1.0, 1.0, &[])
            .finish();
        let imports = &of_kind(&profile, AdviceKind::Imports)[0];
        assert!((imports.share_max - 0.5).abs() < 1e-9, "{imports:?}");
        assert_eq!(imports.calls, 3);
    }

    #[test]
    fn an_empty_profile_has_no_advice() {
        assert_eq!(found(&Calls::new().function("main", 1, 0.0, 0.0, &[]).finish()), []);
    }
}
