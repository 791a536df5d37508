//! What a reader must know before believing the figures of a call profile.

use simprof_model::{CallProfile, CalledFunction};

use super::tracing::Tracing;
use crate::format;

/// From this share on it is said that time is missing.
const MISSING: f64 = 0.01;

/// The sentences, the one on the tracer first.
pub(super) fn warnings(profile: &CallProfile, tracing: &Tracing) -> Vec<String> {
    let mut warnings = vec![tracer(tracing)];
    warnings.push(
        "Times are of the clock that the tracer was given: the wall clock by default, so that waiting counts as time. \
         Threads other than the one that started it are missing up to Python 3.11; from 3.12 on they are in it."
            .to_owned(),
    );
    let of =
        |test: fn(&CalledFunction) -> bool| profile.functions.iter().filter(|f| test(f)).count();
    let missing = missing_s(profile) / profile.total_s().max(f64::MIN_POSITIVE);
    if missing > MISSING {
        warnings.push(format!(
            "Time as long as {} of what is here is missing: where several functions have the same file, line and name, as \
             generated code and lambdas have, the tracer keeps one of them.",
            format::share(missing)
        ));
    }
    let negative = of(|function| function.self_s < 0.0);
    if negative > 0 {
        warnings.push(format!(
            "Functions with a time below 0, which is taken as 0 in shares: {negative}."
        ));
    }
    warnings
}

/// Time under functions that were only called from outside, beyond the time in all functions, s.
fn missing_s(profile: &CallProfile) -> f64 {
    let is_outer = |function: &&CalledFunction| {
        let by_others = function.callers.iter().fold(0_u64, |sum, c| sum.saturating_add(c.calls));
        // Where it is recursive too, the calls from outside hold those from within.
        function.calls.saturating_sub(by_others) >= function.primitive_calls.max(1)
    };
    let under: f64 = profile.functions.iter().filter(is_outer).map(|f| f.cumulative_s).sum();
    (under - profile.total_s()).max(0.0)
}

/// What of the times may be the tracer's own, in a sentence.
fn tracer(tracing: &Tracing) -> String {
    let known = tracing.share.zip(tracing.caller_ns).zip(tracing.per_call(false));
    let Some(((share, caller_ns), callee_ns)) = known else {
        return "Tracing makes each call dearer, so functions with many calls look worse than they are; there are too \
                few calls here to say by how much."
            .to_owned();
    };
    format!(
        "Tracing makes each call dearer, so functions with many calls look worse than they are. By the cheapest calls \
         here it takes up to {} within a function called{} and {} within its caller: from nothing to about {} of the time is \
         the tracer's. An interpreter that also runs slower between calls while it is traced, as CPython 3.11 does, \
         makes it more.",
        format::duration_ns(callee_ns),
        tracing.built_in_ns.map_or(String::new(), |ns| {
            format!(" ({} where that is written in C)", format::duration_ns(ns))
        }),
        format::duration_ns(caller_ns),
        format::share(share)
    )
}

#[cfg(test)]
mod tests {
    use super::super::{Modules, analyse};
    use super::*;
    use crate::testing::calls::{Calls, call};

    fn analysis(profile: &CallProfile) -> super::super::CallAnalysis {
        analyse(profile, "pstats", &Modules::new(profile, &|_| false))
    }

    #[test]
    fn what_cannot_be_right_is_said() {
        let profile = Calls::new()
            .function("main", 3, 1.0, 1.2, &[call("__init__", 2, 0.1, 0.1)])
            .primitive(1)
            .function("__init__", 3, -0.1, 0.1, &[call("main", 3, 0.1, 0.1)])
            .finish();
        let found = analysis(&profile);
        for words in ["33.3 % of what is here is missing", "taken as 0 in shares: 1"] {
            let said = found.warnings.iter().any(|warning| warning.contains(words));
            assert!(said, "{words}: {:?}", found.warnings);
        }
        assert_eq!(found.total_s, 1.0);
        let nothing = Calls::new().function("main", 0, 0.0, 0.0, &[]).finish();
        assert_eq!(analysis(&nothing).functions[0].self_share, 0.0);
    }
}
