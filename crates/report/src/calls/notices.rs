//! Notices about a call profile: limits of its times.

use simprof_model::{CallProfile, CalledFunction, Notice, NoticeId};

use super::tracing::Tracing;
use crate::format;

/// Share of missing time from which it is reported.
const MISSING: f64 = 0.01;

/// Returns the notices, the one on the tracer's own cost first.
pub(super) fn notices(profile: &CallProfile, tracing: &Tracing) -> Vec<Notice> {
    let mut notices = vec![
        Notice::new(NoticeId::TracerOverhead, tracer(tracing)),
        Notice::new(
            NoticeId::TracerClock,
            "Times come from the tracer's clock: the wall clock by default, so waiting counts as time. Up to Python 3.11 \
             only the thread that started the tracer is included; from 3.12 on all threads are.",
        ),
    ];
    let missing = missing_s(profile) / profile.total_s().max(f64::MIN_POSITIVE);
    if missing > MISSING {
        let text = format!(
            "Time equal to {} of the total is missing: of several functions with the same file, line and name (generated \
             code, lambdas) the tracer keeps only one.",
            format::share(missing)
        );
        notices.push(Notice::new(NoticeId::TracedTimeMissing, text));
    }
    let is_negative = |function: &&CalledFunction| function.self_s < 0.0;
    let negative = profile.functions.iter().filter(is_negative).count();
    if negative > 0 {
        let text = format!("Functions with a negative time, counted as 0 in shares: {negative}.");
        notices.push(Notice::new(NoticeId::TracedTimeNegative, text));
    }
    notices
}

/// Returns the cumulative time of functions that were only called from outside, minus the self time of all functions, s.
fn missing_s(profile: &CallProfile) -> f64 {
    let is_outer = |function: &&CalledFunction| {
        let by_others = function.callers.iter().fold(0_u64, |sum, c| sum.saturating_add(c.calls));
        // If it is also recursive, its calls from outside include the recursive ones.
        function.calls.saturating_sub(by_others) >= function.primitive_calls.max(1)
    };
    let cumulative: f64 = profile.functions.iter().filter(is_outer).map(|f| f.cumulative_s).sum();
    (cumulative - profile.total_s()).max(0.0)
}

/// Describes how much of the times may be the tracer's own cost.
fn tracer(tracing: &Tracing) -> String {
    let known = tracing.share.zip(tracing.caller_ns).zip(tracing.per_call(false));
    let Some(((share, caller_ns), callee_ns)) = known else {
        return "Tracing makes each call slower, so functions with many calls look slower than they are. This profile has too \
                few calls to estimate by how much."
            .to_owned();
    };
    format!(
        "Tracing makes each call slower, so functions with many calls look slower than they are. Judged by the cheapest \
         calls here, it adds up to {} in the called function{} and {} in its caller. So between 0 and about {} of the time is \
         the tracer's. It is more on interpreters that also run slower between calls while traced, such as CPython 3.11.",
        format::duration_ns(callee_ns),
        tracing.built_in_ns.map_or(String::new(), |ns| {
            format!(" ({} if it is written in C)", format::duration_ns(ns))
        }),
        format::duration_ns(caller_ns),
        format::share(share)
    )
}

#[cfg(test)]
mod tests {
    use super::super::{Modules, analyse};
    use super::*;
    use crate::analysis::ComponentRules;
    use crate::testing::calls::{Calls, call};

    fn analysis(profile: &CallProfile) -> super::super::CallAnalysis {
        analyse(profile, "pstats", &Modules::new(profile, &|_| false), &ComponentRules::default())
    }

    #[test]
    fn impossible_times_are_reported() {
        let profile = Calls::new()
            .function("main", 3, 1.0, 1.2, &[call("__init__", 2, 0.1, 0.1)])
            .primitive(1)
            .function("__init__", 3, -0.1, 0.1, &[call("main", 3, 0.1, 0.1)])
            .finish();
        let found = analysis(&profile);
        for (id, number) in
            [(NoticeId::TracedTimeMissing, "33.3 %"), (NoticeId::TracedTimeNegative, ": 1.")]
        {
            let notice = found.notices.iter().find(|notice| notice.id == id);
            assert!(notice.is_some_and(|n| n.text.contains(number)), "{:?}", found.notices);
        }
        assert_eq!(found.total_s, 1.0);
        let nothing = Calls::new().function("main", 0, 0.0, 0.0, &[]).finish();
        assert_eq!(analysis(&nothing).functions[0].self_share, 0.0);
    }
}
