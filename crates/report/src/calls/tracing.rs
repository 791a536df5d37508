//! What of a traced profile may be the tracer itself, as far as the profile tells.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{CallProfile, CalledFunction};

/// The mean of fewer calls says too little.
const ENOUGH_CALLS: u64 = 1000;

/// What of the times may be the tracer's own, estimated from above. A tracer takes about the same for each call,
/// part of it within the time of the function called and part within that of its caller. As far as that is so, no call
/// can be cheaper than that part: the cheapest function bounds it. From below a profile alone cannot bound it.
///
/// It is no strict bound: an interpreter may also run slower between calls while it is traced (CPython 3.11 does, 1.4
/// to 2 times), which no figure of the profile shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tracing {
    /// Within the time of a Python function, up to this for each call of it, ns; none where no function has 1000
    /// calls.
    pub python_ns: Option<f64>,
    /// Likewise for functions written in C.
    pub built_in_ns: Option<f64>,
    /// Within the time of a caller, up to this for each call that it makes, ns.
    pub caller_ns: Option<f64>,
    /// Of all time, up to this share is the tracer's; none where it cannot be told.
    pub share: Option<f64>,
}

impl Tracing {
    /// The bounds that the cheapest calls of a profile set.
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

    /// Up to this of a function's time in itself is the tracer's, s.
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

    /// Bound for each call of a function of this kind; of the other kind where this one has too few calls.
    pub(super) fn per_call(&self, built_in: bool) -> Option<f64> {
        let (python, c) = (self.python_ns, self.built_in_ns);
        if built_in { c.or(python) } else { python.or(c) }
    }
}

/// Number of calls that each function made.
pub(super) fn calls_made(profile: &CallProfile) -> Vec<u64> {
    let mut made = vec![0_u64; profile.functions.len()];
    for caller in profile.functions.iter().flat_map(|function| &function.callers) {
        let made = &mut made[caller.function.index()];
        *made = made.saturating_add(caller.calls);
    }
    made
}

/// Whether what a function called took no longer than the function with it. Where several have one file, line and
/// name, the tracer keeps the time of one and the calls by all, and that one seems to call for next to nothing.
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

/// The smallest time per call in ns, over those with enough calls.
fn smallest(costs: impl Iterator<Item = (f64, u64)>) -> Option<f64> {
    let enough = costs.filter(|&(_, calls)| calls >= ENOUGH_CALLS);
    enough.map(|(time_s, calls)| time_s.max(0.0) * 1e9 / calls as f64).min_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::calls::{Calls, call};

    #[test]
    fn the_cheapest_calls_bound_the_tracer() {
        let profile = Calls::new()
            .function("main", 1, 0.001, 0.0115, &[])
            .function("cheap", 10_000, 0.0005, 0.0005, &[call("main", 10_000, 0.0005, 0.0005)])
            .function("dear", 1000, 0.01, 0.01, &[call("main", 1000, 0.01, 0.01)])
            .finish();
        let tracing = Tracing::new(&profile);
        assert_eq!(tracing.python_ns.map(f64::round), Some(50.0));
        assert_eq!(tracing.built_in_ns, None);
        assert_eq!(tracing.caller_ns.map(f64::round), Some(91.0), "11,000 calls in 1 ms");
        // All of main and cheap, and 1000 calls of 50 ns of dear.
        let share = (0.001 + 0.0005 + 0.00005) / 0.0115;
        assert!((tracing.share.expect("known") - share).abs() < 1e-9, "{tracing:?}");
        let dear = tracing.within(&profile, &profile.functions[2], 0).expect("known");
        assert!((dear - 0.00005).abs() < 1e-12);
    }

    /// Two functions `run` of one line, of which the tracer kept the shorter.
    #[test]
    fn a_caller_that_is_several_bounds_nothing() {
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
    fn few_calls_tell_nothing() {
        let profile = Calls::new().function("main", 1, 1.0, 1.0, &[]).finish();
        assert_eq!(Tracing::new(&profile), Tracing::default());
    }
}
