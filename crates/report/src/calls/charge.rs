//! Charges the time of functions such as those written in C to their callers.

use simprof_model::{CallProfile, CalledFunction, CalledId, Caller};

/// Maximum number of steps up the call graph, which may have cycles.
const MAX_STEPS: usize = 200;

/// Share of all time that may remain uncharged.
const NEGLIGIBLE: f64 = 1e-9;

/// Returns the time charged to each function, s: its self time plus the time of its callees for which `keeps` is false.
/// `keeps` has a value for each function: true if it keeps its time, false if its time is charged to its callers. The
/// result sums to all time; negative self times count as 0.
///
/// The first step up is exact if the tracer timed each caller separately. Further up, a function's time is divided among
/// its callers in proportion to the time of their calls, like gprof (Graham, Kessler and McKusick 1982). That is wrong if
/// calls from different callers do different work. A function's time from calls outside the profile stays with it.
pub(super) fn charge(profile: &CallProfile, keeps: &[bool]) -> Vec<f64> {
    let split = |time: Time| -> Vec<Split> {
        (0..).map(CalledId).zip(&profile.functions).map(|(id, f)| Split::new(id, f, time)).collect()
    };
    let mut settled = vec![0.0; keeps.len()];
    let own: Vec<f64> = profile.functions.iter().map(|f| f.self_s.max(0.0)).collect();
    let all: f64 = own.iter().sum();
    let mut moving = step(&own, keeps, &split(Time::SelfTime), &mut settled);
    let further = split(Time::Cumulative);
    for _ in 0..MAX_STEPS {
        if moving.iter().sum::<f64>() <= all * NEGLIGIBLE {
            break;
        }
        moving = step(&moving, keeps, &further, &mut settled);
    }
    settled.iter().zip(moving).map(|(settled, left)| settled + left).collect()
}

/// Settles the time of functions that keep it, and returns the rest, moved one step up.
fn step(times: &[f64], keeps: &[bool], splits: &[Split], settled: &mut [f64]) -> Vec<f64> {
    let mut next = vec![0.0; times.len()];
    for (index, &time) in times.iter().enumerate().filter(|(_, time)| **time > 0.0) {
        let split = &splits[index];
        if keeps[index] || split.callers.is_empty() {
            settled[index] += time;
            continue;
        }
        settled[index] += time * split.outside;
        for &(caller, share) in &split.callers {
            next[caller] += time * share;
        }
    }
    next
}

/// The time by which a function's time is divided among its callers.
#[derive(Debug, Clone, Copy)]
enum Time {
    SelfTime,
    Cumulative,
}

/// How the time of one function is divided among its callers. The shares and `outside` sum to 1.
struct Split {
    callers: Vec<(usize, f64)>,
    outside: f64,
}

impl Split {
    /// Divides by the times of the calls, or by their number if the times are missing or zero.
    fn new(id: CalledId, function: &CalledFunction, time: Time) -> Self {
        let by_time = match time {
            Time::SelfTime => Self::by(id, function, function.self_s, |caller| caller.self_s),
            Time::Cumulative => {
                Self::by(id, function, function.cumulative_s, |caller| caller.cumulative_s)
            }
        };
        let by_calls = || Self::by(id, function, function.calls as f64, |c| Some(c.calls as f64));
        by_time.or_else(by_calls).unwrap_or(Self { callers: Vec::new(), outside: 1.0 })
    }

    /// Divides by `weight`, or returns `None` if no caller has a weight. Recursive calls are ignored.
    fn by(
        id: CalledId,
        function: &CalledFunction,
        whole: f64,
        weight: impl Fn(&Caller) -> Option<f64>,
    ) -> Option<Self> {
        let weights: Option<Vec<(usize, f64)>> = function
            .callers
            .iter()
            .map(|caller| Some((caller.function.index(), weight(caller)?.max(0.0))))
            .collect();
        let weights = weights?;
        let of_callers: f64 = weights.iter().map(|(_, weight)| weight).sum();
        let by_others = weights.into_iter().filter(|&(caller, _)| caller != id.index());
        let by_others: Vec<(usize, f64)> = by_others.filter(|&(_, weight)| weight > 0.0).collect();
        // Rounding errors of sums are not calls from outside.
        let outside = (whole - of_callers).max(0.0);
        let outside = if outside > whole * 1e-9 { outside } else { 0.0 };
        let sum = by_others.iter().map(|(_, weight)| weight).sum::<f64>() + outside;
        let callers: Vec<_> =
            by_others.into_iter().map(|(caller, weight)| (caller, weight / sum)).collect();
        (!callers.is_empty()).then_some(Self { callers, outside: outside / sum })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::calls::{Calls, call};

    #[test]
    fn time_is_charged_to_callers_that_keep_it() {
        // own1 and own2 call lib, lib calls c; own2's calls of lib are three times as expensive.
        let profile = Calls::new()
            .function("own1", 1, 1.0, 3.0, &[])
            .function("own2", 1, 1.0, 7.0, &[])
            .function("lib", 4, 2.0, 8.0, &[call("own1", 2, 0.5, 2.0), call("own2", 2, 1.5, 6.0)])
            .function("c", 8, 6.0, 6.0, &[call("lib", 8, 6.0, 6.0)])
            .finish();
        let charged = charge(&profile, &[true, true, false, false]);
        assert_eq!(charged, [1.0 + 0.5 + 1.5, 1.0 + 1.5 + 4.5, 0.0, 0.0]);
        assert_eq!(charge(&profile, &[true; 4]), [1.0, 1.0, 2.0, 6.0]);
    }

    #[test]
    fn time_of_calls_from_outside_stays() {
        let profile = Calls::new()
            .function("own", 1, 0.0, 1.0, &[])
            .function("lib", 4, 4.0, 4.0, &[call("own", 1, 1.0, 1.0)])
            .finish();
        assert_eq!(charge(&profile, &[true, false]), [1.0, 3.0]);
    }

    #[test]
    fn calls_without_times_are_divided_by_count() {
        let mut profile = Calls::new()
            .function("a", 1, 0.0, 1.0, &[])
            .function("b", 1, 0.0, 3.0, &[])
            .function("c", 4, 4.0, 4.0, &[call("a", 1, 0.0, 0.0), call("b", 3, 0.0, 0.0)])
            .finish();
        assert_eq!(charge(&profile, &[true, true, false]), [1.0, 3.0, 0.0]);
        for caller in &mut profile.functions[2].callers {
            (caller.self_s, caller.cumulative_s) = (None, None);
        }
        assert_eq!(charge(&profile, &[true, true, false]), [1.0, 3.0, 0.0]);
    }

    #[test]
    fn cycles_terminate() {
        let profile = Calls::new()
            .function("own", 1, 0.0, 4.0, &[])
            .function("a", 10, 2.0, 4.0, &[call("own", 1, 1.0, 4.0), call("b", 9, 1.0, 2.0)])
            .function("b", 10, 2.0, 3.0, &[call("a", 9, 1.0, 2.0), call("b", 1, 1.0, 1.0)])
            .finish();
        let charged = charge(&profile, &[true, false, false]);
        assert!((charged[0] - 4.0).abs() < 1e-6, "{charged:?}");
    }

    proptest! {
        #[test]
        fn total_time_is_preserved(
            times in prop::collection::vec((-0.1_f64..5.0, any::<bool>()), 1..8),
            edges in prop::collection::vec((0_usize..8, 0_usize..8, 0_u64..9, -0.1_f64..3.0, -0.1_f64..9.0), 0..30),
        ) {
            let names: Vec<String> = (0..times.len()).map(|n| format!("f{n}")).collect();
            let mut calls = Calls::new();
            for (callee, &(self_s, _)) in times.iter().enumerate() {
                let callers: Vec<_> = edges
                    .iter()
                    .filter(|edge| edge.0 == callee && edge.1 < times.len())
                    .map(|edge| call(&names[edge.1], edge.2, edge.3, edge.4))
                    .collect();
                calls = calls.function(&names[callee], 9, self_s, self_s * 2.0, &callers);
            }
            let keeps: Vec<bool> = times.iter().map(|time| time.1).collect();
            let charged = charge(&calls.finish(), &keeps);
            let all: f64 = times.iter().map(|time| time.0.max(0.0)).sum();
            prop_assert!((charged.iter().sum::<f64>() - all).abs() <= 1e-9 * all.max(1.0));
            prop_assert!(charged.iter().all(|&time| time >= 0.0));
        }
    }
}
