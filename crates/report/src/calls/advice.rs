//! Advice drawn from the figures of a call profile, never from names: each with what it could gain at most.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{CalledFunction, CalledId, Caller};

use super::analysis::Facts;
use crate::format;

/// Below this share of all time nothing is worth a word.
const WORTH_SHARE: f64 = 0.02;

/// From this share on a function is expensive.
const EXPENSIVE_SHARE: f64 = 0.05;

/// From this share on a single function written in C is worth a word.
const BUILT_IN_SHARE: f64 = 0.1;

/// So many calls are many.
const MANY_CALLS: u64 = 10_000;

/// A call that costs no more than this many of the cheapest calls has hardly a body ...
const CHEAP_FACTOR: f64 = 5.0;

/// ... and neither must it cost more than this, where even the cheapest are expensive.
const CHEAP_NS_MAX: f64 = 5000.0;

/// One caller is behind a function that makes more of its calls, or takes more of its time, than this.
const MOST: f64 = 0.8;

/// A caller of fewer calls than this share is not worth naming.
const SOME: f64 = 0.1;

/// A caller that makes so many calls for each call of its own could make fewer.
const FAN_OUT: f64 = 10.0;

/// A profile is flat where no function has this share and more than [`FLAT_FUNCTIONS`] make most of the time.
const FLAT_SHARE: f64 = 0.1;

/// See [`FLAT_SHARE`].
const FLAT_FUNCTIONS: usize = 20;

/// At most this many of a kind, the most promising first.
const OF_A_KIND: usize = 3;

/// What kind of finding it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AdviceKind {
    /// The number of calls costs, not the body.
    ManyCalls,
    /// One caller makes most calls of an expensive function.
    OneCaller,
    /// A function that calls itself.
    Recursion,
    /// A function written in C that one caller spends its time in.
    BuiltIn,
    /// How many functions make the time.
    Concentration,
    /// Modules are imported.
    Imports,
}

/// One piece of advice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Advice {
    /// What kind of finding it is.
    pub kind: AdviceKind,
    /// The function that it is about.
    pub function: String,
    /// The caller that it is about.
    pub caller: Option<String>,
    /// Number of calls behind it.
    pub calls: u64,
    /// It in words, with its figures.
    pub statement: String,
    /// Of all time, what could be gained at most: were the cost gone altogether.
    pub share_max: f64,
    /// How many times faster the whole were then (Amdahl 1967); none where nothing else were left.
    pub speedup_max: Option<f64>,
}

/// What the figures suggest, by falling bound.
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
    found.truncate(OF_A_KIND);
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

    /// Whether a call of the function costs hardly more than being called does.
    fn is_cheap(&self, function: &CalledFunction) -> bool {
        let cheapest_ns = self.tracing.per_call(self.profile.is_built_in(function));
        let limit = cheapest_ns.map_or(0.0, |ns| (ns * CHEAP_FACTOR).min(CHEAP_NS_MAX));
        function.calls >= MANY_CALLS && per_call_ns(function) <= limit
    }
}

fn per_call_ns(function: &CalledFunction) -> f64 {
    function.self_s * 1e9 / function.calls.max(1) as f64
}

/// The caller with most calls, other than the function itself.
fn main_caller(at: usize, function: &CalledFunction) -> Option<&Caller> {
    function.callers.iter().find(|caller| caller.function.index() != at)
}

/// A number with its noun.
fn times(number: u64, noun: &str) -> String {
    let end = if number == 1 { "" } else { "s" };
    format!("{} {noun}{end}", format::count(number as f64))
}

fn part(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// A function of many calls whose body is nothing.
fn many_calls(facts: &Facts<'_>) -> Vec<Advice> {
    let worth = |function: &CalledFunction| facts.share(function.self_s) >= WORTH_SHARE;
    let cheap = facts.functions().filter(|(_, f)| worth(f) && facts.is_cheap(f));
    cheap
        .map(|(at, function)| {
            let name = &facts.names[at];
            let mut statement = format!(
                "{name} was called {} at {} in itself: the number of calls costs, not the body.",
                times(function.calls, "time"),
                format::duration_ns(per_call_ns(function))
            );
            let caller = main_caller(at, function)
                .filter(|caller| part(caller.calls, function.calls) >= SOME);
            if let Some(caller) = caller {
                statement += &format!(
                    " {} makes {} of them.",
                    facts.name_of(caller.function),
                    format::share(part(caller.calls, function.calls))
                );
            }
            if let Some(tracer_s) = facts.tracing.within(facts.profile, function, 0) {
                statement += &format!(
                    " Untraced it costs less: up to {} of the time in it is the tracer's.",
                    format::share(tracer_s / function.self_s)
                );
            }
            let caller = caller.map(|caller| facts.name_of(caller.function).to_owned());
            // Fewer calls also make fewer of what it calls in C.
            let built_in = facts.profile.is_built_in(function);
            let time_s = if built_in { function.self_s } else { facts.with_built_in_s[at] };
            Advice { caller, ..facts.advice(AdviceKind::ManyCalls, at, time_s, statement) }
        })
        .collect()
}

/// An expensive function that one of several callers calls most, or that one calls again and again.
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
    let is_main = of_calls > MOST && function.callers.len() > 1;
    if !(is_main || of_calls > MOST && fan_out >= FAN_OUT) {
        return None;
    }
    let time_s = caller.cumulative_s.unwrap_or(function.cumulative_s * of_calls);
    let name = facts.name_of(caller.function);
    let statement = format!(
        "{name} makes {} of the {} calls of {}, {} for each call of its own; they take {} of the time with all that \
         they call.",
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

/// A function that was on the stack already when it was called.
fn recursion(facts: &Facts<'_>) -> Vec<Advice> {
    let recursive = facts.functions().filter(|(_, function)| {
        function.calls > function.primitive_calls && facts.share(function.self_s) >= WORTH_SHARE
    });
    recursive
        .map(|(at, function)| {
            let statement = format!(
                "{} is recursive: called {} from elsewhere and {} in all, {} for each. That takes {} of the time, \
                 each recursion counted once.",
                facts.names[at],
                times(function.primitive_calls, "time"),
                times(function.calls, "time"),
                format::count(part(function.calls, function.primitive_calls)),
                format::share(facts.share(function.cumulative_s))
            );
            facts.advice(AdviceKind::Recursion, at, function.cumulative_s, statement)
        })
        .collect()
}

/// A function written in C that takes much time, nearly all of it for one caller.
fn built_in(facts: &Facts<'_>) -> Vec<Advice> {
    let expensive = facts.functions().filter(|(_, function)| {
        facts.profile.is_built_in(function)
            && facts.share(function.self_s) >= BUILT_IN_SHARE
            && !facts.is_cheap(function)
    });
    expensive
        .filter_map(|(at, function)| {
            let timed = |caller: &&Caller| caller.self_s.is_some_and(|s| s > MOST * function.self_s);
            let caller = function.callers.iter().find(timed)?;
            let (name, time_s) = (facts.name_of(caller.function), caller.self_s?);
            let statement = format!(
                "{} takes {} of the time, computing or waiting, {} of that for {name}: {} of {} each.",
                facts.names[at],
                format::share(facts.share(function.self_s)),
                format::share(time_s / function.self_s),
                times(caller.calls, "call"),
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

/// Time under the function that every import goes through.
fn imports(facts: &Facts<'_>) -> Vec<Advice> {
    let importer = facts.functions().find(|(_, function)| {
        facts.profile.file(function) == "<frozen importlib._bootstrap>"
            && facts.profile.name(function) == "_find_and_load"
    });
    importer
        .filter(|(_, function)| facts.share(function.cumulative_s) >= EXPENSIVE_SHARE)
        .map(|(at, function)| {
            let statement = format!(
                "Importing modules takes {} of the time ({} in {}). It is paid once in each process, however long \
                 that runs.",
                format::share(facts.share(function.cumulative_s)),
                format::duration_ns(function.cumulative_s * 1e9),
                times(function.calls, "import")
            );
            facts.advice(AdviceKind::Imports, at, function.cumulative_s, statement)
        })
        .into_iter()
        .collect()
}

/// How many functions make most of the time, what they call in C with them.
fn concentration(facts: &Facts<'_>) -> Vec<Advice> {
    let mut order: Vec<(usize, f64)> = facts.with_built_in_s.iter().copied().enumerate().collect();
    order.retain(|&(_, time_s)| time_s > 0.0);
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let Some(&(first, first_s)) = order.first() else { return Vec::new() };
    let mut sum = 0.0;
    let most = order.iter().take_while(|&&(_, time_s)| {
        let before = sum;
        sum += time_s;
        before < (MOST - 1e-9) * facts.total_s
    });
    let (most, share) = (most.count(), facts.share(first_s));
    let flat = most > FLAT_FUNCTIONS && share < FLAT_SHARE;
    let statement = format!(
        "{}{most} of {} functions make {} of the time, what they call in C with them; the first of them, {}, makes {}, \
         the most that changing one function can gain.",
        if flat { "The profile is flat: " } else { "" },
        order.len(),
        format::share(MOST),
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
    use crate::testing::calls::{Calls, call};

    fn found(profile: &CallProfile) -> Vec<Advice> {
        advice(&Facts::new(profile, &Modules::new(profile, &|_| false)))
    }

    fn of(profile: &CallProfile, kind: AdviceKind) -> Vec<Advice> {
        found(profile).into_iter().filter(|advice| advice.kind == kind).collect()
    }

    #[test]
    fn calls_that_cost_more_than_their_body() {
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
        let advice = of(&profile(1.08), AdviceKind::ManyCalls);
        let [small] = &advice[..] else { panic!("{advice:?}") };
        assert!(small.statement.contains("called 1.2 M times at 900 ns"), "{}", small.statement);
        assert_eq!((small.calls, small.caller.as_deref()), (1_200_000, Some("sim.main")));
        let share = 1.08 / (0.5 + 0.02 + 1.08);
        assert!((small.share_max - share).abs() < 1e-9);
        assert!((small.speedup_max.expect("known") - 1.0 / (1.0 - share)).abs() < 1e-9);
        let with_a_body = of(&profile(2.4), AdviceKind::ManyCalls);
        assert!(with_a_body.is_empty(), "2 µs are ten times the cheapest: {with_a_body:?}");
    }

    #[test]
    fn callers_and_built_in_functions() {
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
        let advice = of(&profile, AdviceKind::OneCaller);
        let [work] = &advice[..] else { panic!("{advice:?}") };
        assert!(
            work.statement
                .contains("sim.loop makes 90 % of the 1,000 calls of sim.work, 90 for each"),
            "{}",
            work.statement
        );
        assert!((work.share_max - 5.4 / 6.2).abs() < 1e-9);
        let advice = of(&profile, AdviceKind::BuiltIn);
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
        let advice = of(&profile, AdviceKind::Recursion);
        let [fib] = &advice[..] else { panic!("{advice:?}") };
        assert!(
            fib.statement.contains("called 1 time from elsewhere and 177 times in all"),
            "{}",
            fib.statement
        );
        assert!((fib.share_max - 1.0 / 1.1).abs() < 1e-9);
    }

    #[test]
    fn concentrated_and_flat() {
        let mut calls = Calls::new().function("main", 1, 0.0, 3.0, &[]);
        for n in 0..30 {
            calls = calls.function(&format!("f{n}"), 1, 0.1, 0.1, &[call("main", 1, 0.1, 0.1)]);
        }
        let flat = &of(&calls.finish(), AdviceKind::Concentration)[0];
        assert!(
            flat.statement.contains("flat: 24 of 30 functions make 80 %"),
            "{}",
            flat.statement
        );
        let two = Calls::new().function("a", 1, 8.0, 8.0, &[]).function("b", 1, 2.0, 2.0, &[]);
        let steep = &of(&two.finish(), AdviceKind::Concentration)[0];
        assert!(steep.statement.starts_with("1 of 2 functions make 80 %"), "{}", steep.statement);
    }

    #[test]
    fn imports_are_bounded_by_their_share() {
        let profile = Calls::new()
            .function("main", 1, 1.0, 2.0, &[])
            .function("<frozen importlib._bootstrap>:_find_and_load", 3, 1.0, 1.0, &[])
            .finish();
        let imports = &of(&profile, AdviceKind::Imports)[0];
        assert!((imports.share_max - 0.5).abs() < 1e-9, "{imports:?}");
        assert_eq!(imports.calls, 3);
    }

    #[test]
    fn nothing_is_said_of_nothing() {
        assert_eq!(found(&Calls::new().function("main", 1, 0.0, 0.0, &[]).finish()), []);
    }
}
