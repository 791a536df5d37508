//! What of a traced profile may be the tracer itself, as far as the profile tells.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{CallProfile, CalledFunction};

/// The mean of fewer calls says too little.
const ENOUGH_CALLS: u64 = 1000;

/// What of the times may be the tracer's own. A tracer takes about the same for each call, part of it within the time
/// of the function called and part within that of its caller. So no call can be cheaper than that part: the
/// cheapest function bounds it from above. From below it cannot be bounded by the profile alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tracing {
    /// Within the time of a Python function, at most this for each call of it, ns; none where no function has 1000
    /// calls.
    pub python_ns_max: Option<f64>,
    /// Likewise for functions written in C.
    pub built_in_ns_max: Option<f64>,
    /// Within the time of a caller, at most this for each call that it makes, ns.
    pub caller_ns_max: Option<f64>,
    /// Of all time, at most this share is the tracer's; none where it cannot be told.
    pub share_max: Option<f64>,
}

impl Tracing {
    /// The bounds that the cheapest calls of a profile set.
    pub(super) fn new(profile: &CallProfile) -> Self {
        let made = calls_made(profile);
        let cheapest = |built_in: bool| {
            let functions = profile.functions.iter();
            let kind = functions.filter(|function| profile.is_built_in(function) == built_in);
            smallest(kind.map(|function| (function.self_s, function.calls)))
        };
        let callers = profile.functions.iter().zip(&made);
        let mut tracing = Self {
            python_ns_max: cheapest(false),
            built_in_ns_max: cheapest(true),
            caller_ns_max: smallest(callers.map(|(function, &made)| (function.self_s, made))),
            share_max: None,
        };
        let total = profile.total_s();
        if tracing.caller_ns_max.is_some() && total > 0.0 {
            let functions = profile.functions.iter().zip(&made);
            let bounds = functions.map(|(function, &made)| tracing.within(profile, function, made));
            tracing.share_max = bounds.sum::<Option<f64>>().map(|sum| (sum / total).min(1.0));
        }
        tracing
    }

    /// At most this of a function's time in itself is the tracer's, s.
    pub(super) fn within(
        &self,
        profile: &CallProfile,
        function: &CalledFunction,
        calls_made: u64,
    ) -> Option<f64> {
        let per_call = self.per_call(profile.is_built_in(function))?;
        let ns = per_call * function.calls as f64 + self.caller_ns_max? * calls_made as f64;
        Some((ns * 1e-9).min(function.self_s.max(0.0)))
    }

    /// Bound for each call of a function of this kind; of the other kind where this one has too few calls.
    pub(super) fn per_call(&self, built_in: bool) -> Option<f64> {
        let (python, c) = (self.python_ns_max, self.built_in_ns_max);
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
        assert_eq!(tracing.python_ns_max.map(f64::round), Some(50.0));
        assert_eq!(tracing.built_in_ns_max, None);
        assert_eq!(tracing.caller_ns_max.map(f64::round), Some(91.0), "11,000 calls in 1 ms");
        // All of main and cheap, and 1000 calls of 50 ns of dear.
        let share = (0.001 + 0.0005 + 0.00005) / 0.0115;
        assert!((tracing.share_max.expect("known") - share).abs() < 1e-9, "{tracing:?}");
        let dear = tracing.within(&profile, &profile.functions[2], 0).expect("known");
        assert!((dear - 0.00005).abs() < 1e-12);
    }

    #[test]
    fn few_calls_tell_nothing() {
        let profile = Calls::new().function("main", 1, 1.0, 1.0, &[]).finish();
        assert_eq!(Tracing::new(&profile), Tracing::default());
    }
}
