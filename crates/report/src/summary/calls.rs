//! Exact calls, counted in a run of their own, beside what sampling says of the same functions.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{CallProfile, FunctionId, Profile};

use super::common::Bounds;
use crate::calls::{Joined, join};
use crate::format;

/// Share of both below which a function is left out of the table, unless the two differ.
const LEAST_SHARE: f64 = 0.001;

/// Distorted functions that are named in words.
const NAMED: usize = 3;

/// A traced run.
#[derive(Debug)]
pub struct CallsInput<'a> {
    /// What its processes counted, together.
    pub profile: &'a CallProfile,
    /// Processes that told their counts.
    pub processes: usize,
    /// Processes that ended before they could.
    pub lost: usize,
    /// Processes that profiled themselves and were not counted for that.
    pub yielded: usize,
    /// Whether the tracer's times are worth nothing.
    pub untimed: bool,
    /// Its wall time, ns.
    pub wall_ns: u64,
}

/// Calls of the default case.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallsSummary {
    /// Calls of all functions, those written in C among them.
    pub calls: u64,
    /// Processes that were counted.
    pub processes: usize,
    /// Processes that ended before they could tell their counts: their calls are missing.
    pub lost: usize,
    /// Processes that profiled themselves, of whose calls none are counted.
    #[serde(default)]
    pub yielded: usize,
    /// Wall time of the traced run, s.
    pub wall_s: f64,
    /// Its wall time over that of a sampled run.
    pub slowdown: f64,
    /// Python functions, by the larger of their shares.
    pub functions: Vec<CallRow>,
    /// What it means, one sentence each.
    pub statements: Vec<String>,
}

/// One Python function, as traced and as sampled. Shares are of the time in Python functions, each with the functions
/// written in C that it calls itself, 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallRow {
    /// Its name.
    pub function: String,
    /// Its source file.
    pub file: String,
    /// Its first line.
    pub line: u32,
    /// All calls in one run, exactly; a generator or coroutine that goes on counts as called.
    pub calls: u64,
    /// Calls made while no other call of it was on the stack.
    pub primitive_calls: u64,
    /// Calls in one run over its steps, those outside of steps included; absent without steps.
    pub calls_per_step: Option<f64>,
    /// Its share by the tracer; absent where the tracer's times are worth nothing.
    pub traced_share: Option<f64>,
    /// Its share by sampling.
    pub sampled_share: f64,
    /// 95 % interval of `sampled_share`.
    pub sampled_interval: Bounds,
    /// `traced_share` over `sampled_share`; absent where either is.
    pub distortion: Option<f64>,
    /// Whether the shares differ by more than 1.5 times and by more than chance explains; of the functions of the program and its
    /// libraries that have 1 % by either.
    pub distorted: bool,
}

/// Calls by function of the sampled profile.
#[derive(Debug, Default)]
pub struct CallCounts(HashMap<FunctionId, (usize, u64)>);

impl CallCounts {
    /// Calls of a function that is made up of these entries of the profile's table; none where it was not traced.
    pub fn of(&self, ids: &[FunctionId]) -> Option<u64> {
        let mut rows: Vec<(usize, u64)> =
            ids.iter().filter_map(|id| self.0.get(id).copied()).collect();
        rows.sort_unstable();
        rows.dedup();
        (!rows.is_empty()).then(|| rows.iter().map(|(_, calls)| calls).sum())
    }
}

/// Joins a traced run with what was sampled; `steps` is the number of steps in one run, `wall_s` the time of one that was
/// sampled.
pub fn calls_summary(
    input: &CallsInput<'_>,
    sampled: &Profile,
    steps: Option<f64>,
    wall_s: f64,
) -> (CallsSummary, CallCounts) {
    let joined = join(input.profile, sampled);
    let traced_s = input.wall_ns as f64 * 1e-9;
    let shown = |row: &&Joined| {
        row.distorted && !input.untimed || row.traced_share.max(row.sampled_share) >= LEAST_SHARE
    };
    let functions: Vec<CallRow> =
        joined.iter().filter(shown).map(|joined| row(joined, input.untimed, steps)).collect();
    let mut summary = CallsSummary {
        calls: input.profile.total_calls(),
        processes: input.processes,
        lost: input.lost,
        yielded: input.yielded,
        wall_s: traced_s,
        slowdown: if wall_s > 0.0 { traced_s / wall_s } else { 0.0 },
        functions,
        statements: Vec::new(),
    };
    summary.statements = statements(&summary, input.untimed);
    (summary, counts(&joined))
}

/// Every Python function that was traced, in the order of the summary, those of no weight among them.
pub fn call_rows(input: &CallsInput<'_>, sampled: &Profile) -> Vec<CallRow> {
    let joined = join(input.profile, sampled);
    joined.iter().map(|joined| row(joined, input.untimed, None)).collect()
}

fn row(joined: &Joined, untimed: bool, steps: Option<f64>) -> CallRow {
    CallRow {
        function: joined.function.clone(),
        file: joined.file.clone(),
        line: joined.line,
        calls: joined.calls,
        primitive_calls: joined.primitive_calls,
        calls_per_step: steps.map(|steps| joined.calls as f64 / steps),
        traced_share: (!untimed).then_some(joined.traced_share),
        sampled_share: joined.sampled_share,
        sampled_interval: joined.sampled_interval,
        distortion: joined.distortion.filter(|_| !untimed),
        distorted: joined.distorted && !untimed,
    }
}

fn counts(joined: &[Joined]) -> CallCounts {
    let rows = joined.iter().enumerate();
    let ids = rows.flat_map(|(at, row)| row.ids.iter().map(move |&id| (id, (at, row.calls))));
    CallCounts(ids.collect())
}

fn statements(summary: &CallsSummary, untimed: bool) -> Vec<String> {
    let all = summary.lost + summary.yielded + summary.processes;
    let lost = (summary.lost > 0).then(|| {
        format!(
            "{} of {all} processes ended before they told their calls (by a signal, or by replacing their program): the calls are too few.",
            summary.lost
        )
    });
    let yielded = (summary.yielded > 0).then(|| {
        format!(
            "{} of {all} processes profiled themselves, and the interpreter takes one profiler only: their calls are missing.",
            summary.yielded
        )
    });
    let untimed = untimed.then(|| {
        "The program has several threads, whose times the tracer of this Python version cannot tell apart: calls are exact, \
         and there are no traced times."
            .to_owned()
    });
    lost.into_iter().chain(yielded).chain(untimed).chain(distortions(summary)).collect()
}

/// The warning that the tracer's times mislead, with the functions where they do so most.
fn distortions(summary: &CallsSummary) -> Option<String> {
    let distorted: Vec<&CallRow> = summary.functions.iter().filter(|row| row.distorted).collect();
    if distorted.is_empty() {
        return None;
    }
    let named = distorted.iter().take(NAMED).map(|row| {
        format!(
            "{} {} by tracing and {} by sampling",
            row.function,
            format::share(row.traced_share.unwrap_or(0.0)),
            format::share(row.sampled_share)
        )
    });
    let more = distorted.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    let number = match distorted.len() {
        1 => "1 function has".to_owned(),
        number => format!("{number} functions have"),
    };
    Some(format!(
        "A tracer would mislead here: {number} another share of the time under it, by more than 1.5 times ({}{more}). It makes \
         calls dear, and takes waiting for work.",
        named.collect::<Vec<_>>().join("; ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, traced: f64, sampled: f64, distorted: bool) -> CallRow {
        CallRow {
            function: name.to_owned(),
            file: "sim.py".to_owned(),
            line: 1,
            calls: 10,
            primitive_calls: 10,
            calls_per_step: None,
            traced_share: Some(traced),
            sampled_share: sampled,
            sampled_interval: [0.0, 1.0],
            distortion: Some(traced / sampled),
            distorted,
        }
    }

    #[test]
    fn what_misleads_is_named_with_both_shares() {
        let mut summary = CallsSummary { processes: 2, ..CallsSummary::default() };
        summary.functions = vec![row("sim.tiny", 0.6, 0.2, true), row("sim.big", 0.4, 0.8, false)];
        let said = statements(&summary, false);
        let [one] = &said[..] else { panic!("{said:?}") };
        assert!(one.contains("1 function has another share"), "{one}");
        assert!(one.contains("sim.tiny 60 % by tracing and 20 % by sampling)"), "{one}");
        summary.functions = vec![row("sim.tiny", 0.6, 0.2, true); 5];
        assert!(statements(&summary, false)[0].contains("5 functions have"));
        assert!(statements(&summary, false)[0].contains(", and 2 more)"));
    }

    #[test]
    fn what_is_missing_is_said() {
        let summary = CallsSummary { processes: 2, lost: 1, yielded: 2, ..CallsSummary::default() };
        let said = statements(&summary, true);
        assert!(said[0].starts_with("1 of 5 processes ended"), "{said:?}");
        assert!(said[1].starts_with("2 of 5 processes profiled themselves"), "{said:?}");
        assert!(said[2].contains("several threads"), "{said:?}");
        assert_eq!(statements(&CallsSummary::default(), false), [""; 0]);
    }

    #[test]
    fn rows_that_share_a_function_count_once() {
        let counts = CallCounts(HashMap::from([
            (FunctionId(1), (0, 10)),
            (FunctionId(2), (0, 10)),
            (FunctionId(3), (1, 5)),
        ]));
        assert_eq!(counts.of(&[FunctionId(1), FunctionId(2)]), Some(10));
        assert_eq!(counts.of(&[FunctionId(1), FunctionId(3), FunctionId(9)]), Some(15));
        assert_eq!(counts.of(&[FunctionId(9)]), None);
    }
}
