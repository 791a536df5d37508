//! Exact call counts from a separate traced run, with the sampled times of the same functions.

use std::collections::{HashMap, HashSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{CallProfile, FunctionId, Profile};

use super::common::Bounds;
use crate::analysis::FunctionCost;
use crate::calls::{Joined, join};
use crate::format;

/// Functions with smaller shares, both traced and sampled, are omitted unless they are distorted.
const SHARE_MIN: f64 = 0.001;

/// Maximum number of distorted functions that a statement names.
const NAMED: usize = 3;

/// A traced run.
#[derive(Debug)]
pub struct CallsInput<'a> {
    /// The call counts of all its processes.
    pub profile: &'a CallProfile,
    /// Processes that reported their counts.
    pub processes: usize,
    /// Processes that ended before they reported.
    pub lost: usize,
    /// Processes that were not counted because they profiled themselves.
    pub yielded: usize,
    /// Whether the tracer's times are unusable.
    pub untimed: bool,
    /// Wall time of the run, ns.
    pub wall_ns: u64,
}

/// Call counts of the default case.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallsSummary {
    /// Calls of all functions, including those written in C.
    pub calls: u64,
    /// Processes that were counted.
    pub processes: usize,
    /// Processes that ended before they reported their counts; their calls are missing.
    pub lost: usize,
    /// Processes that profiled themselves; their calls are missing.
    #[serde(default)]
    pub yielded: usize,
    /// Wall time of the traced run, s.
    pub wall_s: f64,
    /// Wall time of the traced run divided by that of a sampled run.
    pub slowdown: f64,
    /// Python functions, by the larger of their two shares.
    pub functions: Vec<CallRow>,
    /// Findings, one sentence each.
    pub statements: Vec<String>,
}

/// One Python function as traced and as sampled. Shares are fractions of the wall time of threads in all Python functions, 0 to 1,
/// which includes waiting; the time of a function includes functions written in C that it calls directly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallRow {
    /// Name of the function.
    pub function: String,
    /// Source file.
    pub file: String,
    /// First line of its definition.
    pub line: u32,
    /// Exact number of calls in one run; a resumed generator or coroutine counts as a call.
    pub calls: u64,
    /// Calls made while no other call of it was on the stack.
    pub primitive_calls: u64,
    /// Calls in one run divided by its steps; `null` without steps, or unless samples show the function only inside steps,
    /// because calls are counted over the whole run.
    pub calls_per_step: Option<f64>,
    /// Traced share; `null` if the tracer's times are unusable.
    pub traced_share: Option<f64>,
    /// Sampled share.
    pub sampled_share: f64,
    /// 95 % interval of `sampled_share`.
    pub sampled_interval: Bounds,
    /// `traced_share` divided by `sampled_share`; `null` if either is missing.
    pub distortion: Option<f64>,
    /// Whether the shares differ by more than 1.5 times and by more than chance explains. Functions of Python's standard
    /// library, and functions with both shares below 1 %, are not judged.
    pub distorted: bool,
}

/// Exact calls of the functions of a sampled profile.
#[derive(Debug, Default)]
pub(super) struct CallCounts(HashMap<FunctionId, (usize, u64)>);

impl CallCounts {
    /// Returns the calls of the function with these entries in the profile's table, or `None` if it was not traced.
    pub(super) fn calls(&self, ids: &[FunctionId]) -> Option<u64> {
        let mut rows: Vec<(usize, u64)> =
            ids.iter().filter_map(|id| self.0.get(id).copied()).collect();
        rows.sort_unstable();
        rows.dedup();
        (!rows.is_empty()).then(|| rows.iter().map(|(_, calls)| calls).sum())
    }
}

/// Divides the calls of a run, which the tracer counts as a whole, by its steps. That is meaningful only for functions that
/// are called inside steps alone.
#[derive(Debug, Default)]
pub(super) struct CallsPerStep {
    /// Steps of one run; 0 without steps.
    pub(super) steps: f64,
    /// Functions that samples show, and show inside steps only.
    inside: HashSet<FunctionId>,
}

impl CallsPerStep {
    /// `all` are the functions of whole runs, `work` those of the steps.
    pub(super) fn new(
        all: &[FunctionCost],
        work: &[FunctionCost],
        steps: usize,
        runs: usize,
    ) -> Self {
        let weights: HashMap<FunctionId, u64> =
            work.iter().filter_map(|cost| Some((*cost.ids.first()?, cost.total_weight))).collect();
        let is_inside = |cost: &&FunctionCost| {
            cost.ids.first().and_then(|id| weights.get(id)) == Some(&cost.total_weight)
        };
        let inside = all.iter().filter(is_inside).flat_map(|cost| cost.ids.iter().copied());
        Self { steps: steps as f64 / runs.max(1) as f64, inside: inside.collect() }
    }

    /// Returns the calls per step of the function with these entries in the profile's table.
    pub(super) fn of(&self, calls: u64, ids: &[FunctionId]) -> Option<f64> {
        let is_inside = !ids.is_empty() && ids.iter().all(|id| self.inside.contains(id));
        (self.steps > 0.0 && is_inside).then(|| calls as f64 / self.steps)
    }
}

/// Joins a traced run with a sampled profile. `wall_s` is the wall time of a sampled run.
pub(super) fn calls_summary(
    input: &CallsInput<'_>,
    sampled: &Profile,
    per_step: &CallsPerStep,
    wall_s: f64,
) -> (CallsSummary, CallCounts) {
    let joined = join(input.profile, sampled);
    let traced_s = input.wall_ns as f64 * 1e-9;
    let shown = |row: &&Joined| {
        row.distorted && !input.untimed || row.traced_share.max(row.sampled_share) >= SHARE_MIN
    };
    let functions: Vec<CallRow> =
        joined.iter().filter(shown).map(|joined| row(joined, input.untimed, per_step)).collect();
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

/// Returns every traced Python function, in the order of the summary, including those with small shares.
pub fn call_rows(input: &CallsInput<'_>, sampled: &Profile) -> Vec<CallRow> {
    let joined = join(input.profile, sampled);
    let without_steps = CallsPerStep::default();
    joined.iter().map(|joined| row(joined, input.untimed, &without_steps)).collect()
}

fn row(joined: &Joined, untimed: bool, per_step: &CallsPerStep) -> CallRow {
    CallRow {
        function: joined.function.clone(),
        file: joined.file.clone(),
        line: joined.line,
        calls: joined.calls,
        primitive_calls: joined.primitive_calls,
        calls_per_step: per_step.of(joined.calls, &joined.ids),
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
            "{} of {all} processes ended before they reported their calls, by a signal or by replacing their program: their \
             calls are missing.",
            summary.lost
        )
    });
    let yielded = (summary.yielded > 0).then(|| {
        format!(
            "{} of {all} processes profiled themselves, and an interpreter supports only one profiler: their calls are missing.",
            summary.yielded
        )
    });
    let untimed = untimed.then(|| {
        "The program has several threads, and the tracer of this Python version mixes up their times: call counts are exact, \
         but there are no traced times."
            .to_owned()
    });
    lost.into_iter().chain(yielded).chain(untimed).chain(distortions(summary)).collect()
}

/// Returns the statement that traced times are distorted, with the most distorted functions.
fn distortions(summary: &CallsSummary) -> Option<String> {
    let distorted: Vec<&CallRow> = summary.functions.iter().filter(|row| row.distorted).collect();
    if distorted.is_empty() {
        return None;
    }
    let named = distorted.iter().take(NAMED).map(|row| {
        format!(
            "{}: {} traced, {} sampled",
            row.function,
            format::share(row.traced_share.unwrap_or(0.0)),
            format::share(row.sampled_share)
        )
    });
    let more = distorted.len().saturating_sub(NAMED);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let number = match distorted.len() {
        1 => "1 function differ".to_owned(),
        number => format!("{number} functions differ"),
    };
    Some(format!(
        "Do not trust the traced times: the shares of {number} by more than 1.5 times from the sampled ones ({}{more}). \
         Tracing adds time to each call.",
        named.collect::<Vec<_>>().join("; ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::functions;
    use crate::testing::profile;

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
    fn distorted_functions_are_named_with_both_shares() {
        let mut summary = CallsSummary { processes: 2, ..CallsSummary::default() };
        summary.functions = vec![row("sim.tiny", 0.6, 0.2, true), row("sim.big", 0.4, 0.8, false)];
        let found = statements(&summary, false);
        let [one] = &found[..] else { panic!("{found:?}") };
        assert!(one.contains("the shares of 1 function differ "), "{one}");
        assert!(one.contains("(sim.tiny: 60 % traced, 20 % sampled)"), "{one}");
        summary.functions = vec![row("sim.tiny", 0.6, 0.2, true); 5];
        assert!(statements(&summary, false)[0].contains("5 functions differ"));
        assert!(statements(&summary, false)[0].contains("; and 2 more)"));
    }

    #[test]
    fn missing_processes_and_times_are_reported() {
        let summary = CallsSummary { processes: 2, lost: 1, yielded: 2, ..CallsSummary::default() };
        let found = statements(&summary, true);
        assert!(found[0].starts_with("1 of 5 processes ended"), "{found:?}");
        assert!(found[1].starts_with("2 of 5 processes profiled themselves"), "{found:?}");
        assert!(found[2].contains("several threads"), "{found:?}");
        assert_eq!(statements(&CallsSummary::default(), false), [""; 0]);
    }

    #[test]
    fn calls_per_step_are_of_functions_that_run_only_inside_steps() {
        let all = profile(&[("main > load > near", 2), ("main > step > act", 5)]);
        let work = profile(&[("main > load > near", 0), ("main > step > act", 5)]);
        let per_step = CallsPerStep::new(&functions(&all), &functions(&work), 20, 2);
        for (name, expected) in [("near", None), ("main", None), ("act", Some(3.0))] {
            let costs = functions(&all);
            let cost = costs.iter().find(|cost| cost.name == name).expect("it has samples");
            assert_eq!(per_step.of(30, &cost.ids), expected, "{name}");
        }
        assert_eq!(per_step.of(30, &[]), None);
        assert_eq!(CallsPerStep::default().of(30, &[FunctionId(0)]), None);
    }

    #[test]
    fn entries_of_one_row_count_once() {
        let counts = CallCounts(HashMap::from([
            (FunctionId(1), (0, 10)),
            (FunctionId(2), (0, 10)),
            (FunctionId(3), (1, 5)),
        ]));
        assert_eq!(counts.calls(&[FunctionId(1), FunctionId(2)]), Some(10));
        assert_eq!(counts.calls(&[FunctionId(1), FunctionId(3), FunctionId(9)]), Some(15));
        assert_eq!(counts.calls(&[FunctionId(9)]), None);
    }
}
