//! Estimates the tracer's own time in a call profile, from the profile alone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{CallProfile, CalledFunction};

/// Minimum number of calls for a mean.
const CALLS_MIN: u64 = 1000;

/// Upper bounds of the tracer's own time.
///
/// A tracer takes about the same time for each call, partly within the called function and partly within its caller. No
/// call can be cheaper than that, so the cheapest function is an upper bound. A profile alone gives no lower bound.
///
/// The bounds are not strict: an interpreter may also run slower between calls while it is traced (CPython 3.11 does, 1.4
/// to 2 times), which the profile does not show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tracing {
    /// Maximum tracer time per call within a Python function, ns; `None` if no function has 1000 calls.
    pub python_ns: Option<f64>,
    /// Maximum tracer time per call within a function written in C, ns.
    pub built_in_ns: Option<f64>,
    /// Maximum tracer time per call within the caller, ns.
    pub caller_ns: Option<f64>,
    /// Maximum tracer time as a share of all time; `None` if it is unknown.
    pub share: Option<f64>,
}

impl Tracing {
    /// Estimates the bounds from the cheapest calls of a profile.
    pub(super) fn new(profile: &CallProfile) -> Self {
        let made = calls_made(profile);
        let consistent = consistent(profile);
        let cheapest = |built_in: bool| {
            let functions = profile.functions.iter();
            let kind = functions.filter(|function| profile.is_built_in(function) == built_in);
            smallest(kind.map(|function| (function.self_s, function.calls)))
        };
        let callers = profile.functions.iter().zip(&made).zip(&consistent);
        let callers = callers.filter(|(_, consistent)| **consistent).map(|(caller, _)| caller);
        let mut tracing = Self {
            python_ns: cheapest(false),
            built_in_ns: cheapest(true),
            caller_ns: smallest(callers.map(|(function, &made)| (function.self_s, made))),
            share: None,
        };
        let total = profile.total_s();
        if tracing.caller_ns.is_some() && total > 0.0 {
            let functions = profile.functions.iter().zip(&made);
            let bounds = functions.map(|(function, &made)| tracing.within(profile, function, made));
            tracing.share = bounds.sum::<Option<f64>>().map(|sum| (sum / total).min(1.0));
        }
        tracing
    }

    /// Returns the maximum tracer time within a function's self time, s.
    pub(super) fn within(
        &self,
        profile: &CallProfile,
        function: &CalledFunction,
        calls_made: u64,
    ) -> Option<f64> {
        let per_call = self.per_call(profile.is_built_in(function))?;
        let ns = per_call * function.calls as f64 + self.caller_ns? * calls_made as f64;
        Some((ns * 1e-9).min(function.self_s.max(0.0)))
    }

    /// Returns the bound per call of a function of this kind, or of the other kind if this one has too few calls.
    pub(super) fn per_call(&self, built_in: bool) -> Option<f64> {
        let (python, c) = (self.python_ns, self.built_in_ns);
        if built_in { c.or(python) } else { python.or(c) }
    }
}

/// Returns the number of calls that each function made.
pub(super) fn calls_made(profile: &CallProfile) -> Vec<u64> {
    let mut made = vec![0_u64; profile.functions.len()];
    for caller in profile.functions.iter().flat_map(|function| &function.callers) {
        let made = &mut made[caller.function.index()];
        *made = made.saturating_add(caller.calls);
    }
    made
}

/// Returns for each function whether its callees took no longer than it did. That is not so if several functions have the
/// same file, line and name: the tracer keeps the time of one and the calls of all, so calls seem to take almost no time.
fn consistent(profile: &CallProfile) -> Vec<bool> {
    let mut below_s = vec![0.0; profile.functions.len()];
    for caller in profile.functions.iter().flat_map(|function| &function.callers) {
        below_s[caller.function.index()] += caller.cumulative_s.unwrap_or(0.0);
    }
    let functions = profile.functions.iter().zip(below_s);
    functions
        .map(|(function, below_s)| {
            let recursive = function.calls > function.primitive_calls;
            !recursive && below_s <= (function.cumulative_s - function.self_s) * 1.01 + 1e-6
        })
        .collect()
}

/// Returns the smallest time per call among those with enough calls, ns.
fn smallest(costs: impl Iterator<Item = (f64, u64)>) -> Option<f64> {
    let enough = costs.filter(|&(_, calls)| calls >= CALLS_MIN);
    enough.map(|(time_s, calls)| time_s.max(0.0) * 1e9 / calls as f64).min_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::calls::{Calls, call};

    #[test]
    fn the_cheapest_calls_bound_the_tracers_time() {
        let profile = Calls::new()
            .function("main", 1, 0.001, 0.0115, &[])
            .function("cheap", 10_000, 0.0005, 0.0005, &[call("main", 10_000, 0.0005, 0.0005)])
            .function("dear", 1000, 0.01, 0.01, &[call("main", 1000, 0.01, 0.01)])
            .finish();
        let tracing = Tracing::new(&profile);
        assert_eq!(tracing.python_ns.map(f64::round), Some(50.0));
        assert_eq!(tracing.built_in_ns, None);
        assert_eq!(tracing.caller_ns.map(f64::round), Some(91.0), "11,000 calls in 1 ms");
        // All of main and cheap, and 50 ns for each of the 1000 calls of dear.
        let share = (0.001 + 0.0005 + 0.00005) / 0.0115;
        assert!((tracing.share.expect("known") - share).abs() < 1e-9, "{tracing:?}");
        let dear = tracing.within(&profile, &profile.functions[2], 0).expect("known");
        assert!((dear - 0.00005).abs() < 1e-12);
    }

    /// Two functions `run` share a line, and the tracer kept the shorter one.
    #[test]
    fn a_caller_that_is_several_functions_is_not_a_bound() {
        let profile = Calls::new()
            .function("main", 1, 0.001, 0.1, &[])
            .function("run", 1, 1e-6, 1.1e-5, &[call("main", 1, 1e-6, 1.1e-5)])
            .function("f", 5000, 0.01, 0.01, &[call("run", 5000, 0.01, 0.01)])
            .finish();
        let tracing = Tracing::new(&profile);
        assert_eq!((tracing.caller_ns, tracing.share), (None, None));
        assert!(tracing.python_ns.is_some());
    }

    #[test]
    fn too_few_calls_give_no_bound() {
        let profile = Calls::new().function("main", 1, 1.0, 1.0, &[]).finish();
        assert_eq!(Tracing::new(&profile), Tracing::default());
    }
}
