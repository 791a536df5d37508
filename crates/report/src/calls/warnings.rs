//! What a reader must know before believing the figures of a call profile.

use simprof_model::{CallProfile, CalledFunction};

use super::tracing::Tracing;
use crate::format;

/// The sentences, the one on the tracer first.
pub(super) fn warnings(profile: &CallProfile, tracing: &Tracing) -> Vec<String> {
    let mut warnings = vec![tracer(tracing)];
    warnings.push(
        "Times are of the clock that the tracer was given: the wall clock by default, so that waiting counts as time. \
         Only threads in which it was started are in it."
            .to_owned(),
    );
    let of =
        |test: fn(&CalledFunction) -> bool| profile.functions.iter().filter(|f| test(f)).count();
    let merged = of(|function| called(function) > function.calls);
    if merged > 0 {
        warnings.push(format!(
            "Functions whose callers called them more often than they count: {merged}. Where several have the same file, \
             line and name, the tracer keeps one of them; calls and times of these are too small."
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

fn called(function: &CalledFunction) -> u64 {
    function.callers.iter().fold(0, |sum, caller| caller.calls.saturating_add(sum))
}

/// What of the times may be the tracer's own, in a sentence.
fn tracer(tracing: &Tracing) -> String {
    let known = tracing.share_max.zip(tracing.caller_ns_max).zip(tracing.per_call(false));
    let Some(((share, caller_ns), callee_ns)) = known else {
        return "Tracing makes each call dearer, so functions with many calls look worse than they are; there are too \
                few calls here to say by how much."
            .to_owned();
    };
    format!(
        "Tracing makes each call dearer, so functions with many calls look worse than they are. By the cheapest calls \
         here it takes at most {} within a function called{} and {} within its caller: 0 to {} of the time is the tracer's.",
        format::duration_ns(callee_ns),
        tracing.built_in_ns_max.map_or(String::new(), |ns| {
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
            .function("main", 1, 1.0, 1.0, &[])
            .function("__init__", 3, -0.1, 0.0, &[call("main", 5, 0.1, 0.1)])
            .finish();
        let found = analysis(&profile);
        for words in ["more often than they count: 1", "taken as 0 in shares: 1"] {
            assert!(
                found.warnings.iter().any(|w| w.contains(words)),
                "{words}: {:?}",
                found.warnings
            );
        }
        assert_eq!(found.total_s, 1.0);
        let nothing = Calls::new().function("main", 0, 0.0, 0.0, &[]).finish();
        assert_eq!(analysis(&nothing).functions[0].self_share, 0.0);
    }
}
