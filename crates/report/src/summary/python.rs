//! How threads that run Python spend their time, as part of the summaries.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{Profile, WaitCause};

use crate::analysis::{self, ThreadTime};
use crate::format;

/// How threads spent their time: CPU time and waiting of all threads together. The four shares are fractions of that time
/// and sum to 1.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TimeShares {
    /// CPU time and waiting in one run, summed over threads, s: the mean over runs.
    pub thread_s: f64,
    /// CPU time in the interpreter: bytecode and functions of the interpreter's module.
    pub interpreter_share: f64,
    /// CPU time in other native code; the C library counts with its callers.
    pub native_share: f64,
    /// Waiting for the interpreter's lock (GIL).
    pub gil_share: f64,
    /// Other waiting.
    pub waiting_share: f64,
    /// The parts of `waiting_share`, by share.
    pub causes: Vec<CauseShare>,
}

/// Waiting for one cause.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CauseShare {
    /// What the threads wait for.
    pub cause: WaitCause,
    /// Share of the same time as the other shares.
    pub share: f64,
}

/// A line where threads wait.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WaitingLine {
    /// The author's function nearest to the wait.
    pub function: String,
    /// Its source file.
    pub file: Option<String>,
    /// Its line that waits, directly or in a callee.
    pub line: Option<u32>,
    /// What the threads wait for.
    pub cause: WaitCause,
    /// Share of the CPU time and waiting of all threads, 0 to 1.
    pub share: f64,
    /// Waiting in one run, summed over threads, s: the mean over runs.
    pub wait_s: f64,
}

impl TimeShares {
    /// Returns the shares of `time`, which is the sum over `runs` runs; `None` if it is zero.
    pub fn new(time: &ThreadTime, runs: usize) -> Option<TimeShares> {
        let waits = time.waits_ns.iter().filter(|&(&cause, _)| cause != WaitCause::Interpreter);
        let mut causes: Vec<CauseShare> =
            waits.map(|(&cause, &ns)| CauseShare { cause, share: time.share(ns) }).collect();
        causes.sort_by(|a, b| b.share.total_cmp(&a.share).then(a.cause.cmp(&b.cause)));
        (time.total_ns() > 0).then(|| TimeShares {
            thread_s: time.total_ns() as f64 * 1e-9 / runs.max(1) as f64,
            interpreter_share: time.share(time.interpreter_ns),
            native_share: time.share(time.native_ns),
            gil_share: time.share(time.gil_ns()),
            waiting_share: time.share(time.waiting_ns()),
            causes,
        })
    }

    /// Returns the parts, largest first: `62 % interpreter, 30 % native, 5 % waiting (GIL)`.
    pub fn describe(&self) -> String {
        let waiting = |cause| format!("waiting ({})", cause_name(cause));
        let mut parts = vec![
            (self.interpreter_share, "interpreter".to_owned()),
            (self.native_share, "native".to_owned()),
            (self.gil_share, waiting(WaitCause::Interpreter)),
        ];
        parts.extend(self.causes.iter().map(|part| (part.share, waiting(part.cause))));
        parts.retain(|(share, _)| *share >= DESCRIBED_MIN);
        parts.sort_by(|a, b| b.0.total_cmp(&a.0));
        let parts: Vec<String> =
            parts.iter().map(|(share, name)| format!("{} {name}", whole_percent(*share))).collect();
        parts.join(", ")
    }
}

/// Share below which a part is omitted from the description.
const DESCRIBED_MIN: f64 = 0.005;

fn whole_percent(share: f64) -> String {
    format::share((share * 100.0).round() / 100.0)
}

/// Returns what a thread waits for, in a word or two.
pub fn cause_name(cause: WaitCause) -> &'static str {
    match cause {
        WaitCause::Interpreter => "GIL",
        WaitCause::Synchronisation => "other threads",
        WaitCause::Sleep => "sleep",
        WaitCause::Events => "events",
        WaitCause::Io => "I/O",
        WaitCause::Child => "child processes",
    }
}

/// Returns how all threads of a profile spent their time, or `None` if nothing runs Python.
pub(super) fn time_shares(profile: &Profile, runs: usize) -> Option<TimeShares> {
    TimeShares::new(&analysis::thread_time(profile)?, runs)
}

/// Returns the `limit` lines with the longest waits.
pub fn waiting_lines(profile: &Profile, runs: usize, limit: usize) -> Vec<WaitingLine> {
    let Some(time) = analysis::thread_time(profile) else { return Vec::new() };
    let line = |found: analysis::Waiting| WaitingLine {
        function: found.function,
        file: found.file,
        line: found.line,
        cause: found.cause,
        share: time.share(found.weight_ns),
        wait_s: found.weight_ns as f64 * 1e-9 / runs.max(1) as f64,
    };
    analysis::waiting(profile, limit).into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Sketch;

    #[test]
    fn shares_sum_to_one_and_are_described_largest_first() {
        let profile = Sketch::new()
            .sample("p:sim.step", 2_000_000_000)
            .sample("p:sim.step > dot~/opt/np.so", 5_000_000_000)
            .wait("p:sim.step@3", WaitCause::Interpreter, 1_500_000_000)
            .wait("p:sim.step@4", WaitCause::Sleep, 1_499_000_000)
            .wait("p:sim.step@4", WaitCause::Io, 1_000_000)
            .finish();
        let shares = time_shares(&profile, 2).expect("it runs Python");
        assert_eq!(shares.thread_s, 5.0);
        let sum = shares.interpreter_share
            + shares.native_share
            + shares.gil_share
            + shares.waiting_share;
        assert!((sum - 1.0).abs() < 1e-12);
        assert_eq!(
            shares.describe(),
            "50 % native, 20 % interpreter, 15 % waiting (GIL), 15 % waiting (sleep)"
        );
        let lines = waiting_lines(&profile, 2, 2);
        assert_eq!((lines[0].line, lines[0].wait_s, lines[0].share), (Some(3), 0.75, 0.15));
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn a_native_program_has_no_thread_time() {
        let profile = Sketch::new().sample("main", 1).finish();
        assert_eq!((time_shares(&profile, 1), waiting_lines(&profile, 1, 9)), (None, vec![]));
    }
}
