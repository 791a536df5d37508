//! How threads spend their time, as part of the summaries.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{Profile, WaitCause};

use crate::analysis::{self, SpinKind, ThreadGroup, ThreadTime, ThreadTimes, UnknownPlace};
use crate::format;

/// How threads spent their time. The shares are fractions of the time of all threads together that are not idle, and sum to 1;
/// `spinning` and `causes` have the parts of theirs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TimeShares {
    /// Their time in one run, summed over threads, s: the mean over runs.
    pub thread_s: f64,
    /// CPU time in the Python interpreter: bytecode and functions of the interpreter's module.
    pub interpreter_share: f64,
    /// CPU time in other user code; the C library counts with its callers.
    pub native_share: f64,
    /// CPU time in the kernel.
    #[serde(default)]
    pub kernel_share: f64,
    /// CPU time in known loops in which threads spin, by kind.
    #[serde(default)]
    pub spinning: Vec<SpinShare>,
    /// Time in which threads were ready to run but had no CPU.
    #[serde(default)]
    pub runnable_share: f64,
    /// Time for which the scheduler's records are missing.
    #[serde(default)]
    pub unknown_share: f64,
    /// Waiting for the interpreter's lock (GIL).
    pub gil_share: f64,
    /// Other waiting.
    pub waiting_share: f64,
    /// The parts of `waiting_share`, by share.
    pub causes: Vec<CauseShare>,
}

/// Spinning for one reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SpinShare {
    /// What the threads spin for.
    pub kind: SpinKind,
    /// Share of the same time as the other shares.
    pub share: f64,
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
    /// The author's function nearest to the wait; else the function or the library that called the C library; `[unknown]` if
    /// `unknown_place` has a reason.
    pub function: String,
    /// Its source file.
    pub file: Option<String>,
    /// Its line that waits, directly or in a callee.
    pub line: Option<u32>,
    /// The function that the line calls and that waits, directly or in a callee; `null` if it is the function itself.
    #[serde(default)]
    pub call: Option<String>,
    /// Why the place is unknown; `null` if it is known.
    #[serde(default)]
    pub unknown_place: Option<UnknownPlace>,
    /// What the threads wait for.
    pub cause: WaitCause,
    /// Number of threads in one run that wait there: the mean over runs.
    #[serde(default)]
    pub threads: f64,
    /// Share of the time of all threads that are not idle, 0 to 1.
    pub share: f64,
    /// Waiting in one run, summed over threads, s: the mean over runs.
    pub wait_s: f64,
}

/// A line where threads spin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SpinningLine {
    /// What they spin for.
    pub kind: SpinKind,
    /// The function that the line belongs to; empty if it is unknown.
    pub function: String,
    /// Its source file.
    pub file: Option<String>,
    /// The line of the program that waits. For a worker thread of OpenMP it is the parallel region that was sampled last.
    pub line: Option<u32>,
    /// File name of the library that spins, if no line of the program is known.
    #[serde(default)]
    pub library: Option<String>,
    /// Share of CPU time, 0 to 1.
    pub cpu_share: f64,
}

/// Threads that are idle while others work: they run for less than 5 % of their time, and wait for sleeps, events or other threads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IdleThreads {
    /// Number of threads in one run: the mean over runs.
    pub threads: f64,
    /// Their time.
    pub time: TimeShares,
}

/// Threads with the same name and the same start function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ThreadSummary {
    /// Their name.
    pub name: String,
    /// The outermost function of the program on their stacks; empty if there is none.
    pub function: String,
    /// Whether they are the first threads of their processes.
    pub main: bool,
    /// Whether they are idle, see [`IdleThreads`].
    pub idle: bool,
    /// Number of threads in one run: the mean over runs.
    pub threads: f64,
    /// Their time; the shares are fractions of it.
    pub time: TimeShares,
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
            kernel_share: time.share(time.kernel_ns),
            spinning: time
                .spinning_ns
                .iter()
                .map(|(&kind, &ns)| SpinShare { kind, share: time.share(ns) })
                .collect(),
            runnable_share: time.share(time.runnable_ns),
            unknown_share: time.share(time.unknown_ns),
            gil_share: time.share(time.gil_ns()),
            waiting_share: time.share(time.waiting_ns()),
            causes,
        })
    }

    /// Returns the share of spinning of all kinds.
    pub fn spinning_share(&self) -> f64 {
        self.spinning.iter().fold(0.0, |sum, part| sum + part.share)
    }

    /// Returns the name of the part `native_share`.
    pub fn native_name(&self) -> &'static str {
        let is_python = self.interpreter_share > 0.0 || self.gil_share > 0.0;
        if is_python { "native" } else { "user code" }
    }

    /// Returns the parts, largest first: `62 % interpreter, 30 % native, 5 % waiting (GIL)`.
    pub fn describe(&self) -> String {
        let waiting = |cause| format!("waiting ({})", cause_name(cause));
        let mut parts = vec![
            (self.interpreter_share, "interpreter".to_owned()),
            (self.native_share, self.native_name().to_owned()),
            (self.kernel_share, "kernel".to_owned()),
            (self.runnable_share, "ready to run without a CPU".to_owned()),
            (self.unknown_share, "unknown".to_owned()),
            (self.gil_share, waiting(WaitCause::Interpreter)),
        ];
        let spinning = self.spinning.iter();
        parts.extend(spinning.map(|part| (part.share, part.kind.describe().to_owned())));
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
        WaitCause::Lock => "lock",
        WaitCause::Barrier => "barrier",
        WaitCause::Other => "unknown cause",
    }
}

/// What the threads of a profile did.
#[derive(Debug, Default)]
pub(super) struct Threads {
    pub time: Option<TimeShares>,
    pub idle: Option<IdleThreads>,
    pub groups: Vec<ThreadSummary>,
    pub waits: Vec<WaitingLine>,
}

impl Threads {
    /// Summarises the threads of `runs` runs, with at most `limit` waiting lines. Everything is empty if it is not known, see
    /// [`analysis::thread_times`].
    pub fn new(profile: &Profile, runs: usize, limit: usize) -> Self {
        let Some(times) = analysis::thread_times(profile) else { return Self::default() };
        let per_run = |count: usize| count as f64 / runs.max(1) as f64;
        let group = |group: &ThreadGroup| {
            Some(ThreadSummary {
                name: group.name.clone(),
                function: group.function.clone(),
                main: group.is_main,
                idle: group.is_idle,
                threads: per_run(group.threads),
                time: TimeShares::new(&group.time, runs)?,
            })
        };
        let idle = TimeShares::new(&times.idle, runs);
        let threads = per_run(times.idle_threads.len());
        Self {
            time: TimeShares::new(&times.active, runs),
            idle: idle.map(|time| IdleThreads { threads, time }),
            groups: times.groups.iter().filter_map(group).collect(),
            waits: lines_of(profile, &times, runs, limit),
        }
    }
}

/// Returns the lines where threads spin, by decreasing CPU time.
pub(super) fn spinning_lines(profile: &Profile) -> Vec<SpinningLine> {
    let whole = profile.total_weight();
    let line = |line: analysis::SpinLine| SpinningLine {
        kind: line.kind,
        function: line.function,
        file: line.file,
        line: line.line,
        library: line.library,
        cpu_share: analysis::share(line.weight, whole),
    };
    analysis::spin_lines(profile).into_iter().map(line).collect()
}

/// Returns the `limit` lines with the longest waits, without those of idle threads.
pub fn waiting_lines(profile: &Profile, runs: usize, limit: usize) -> Vec<WaitingLine> {
    let times = analysis::thread_times(profile);
    times.map(|times| lines_of(profile, &times, runs, limit)).unwrap_or_default()
}

fn lines_of(profile: &Profile, times: &ThreadTimes, runs: usize, limit: usize) -> Vec<WaitingLine> {
    let line = |found: analysis::Waiting| WaitingLine {
        function: found.function,
        file: found.file,
        line: found.line,
        call: found.call,
        unknown_place: found.unknown,
        cause: found.cause,
        threads: found.threads as f64 / runs.max(1) as f64,
        share: times.active.share(found.weight_ns),
        wait_s: found.weight_ns as f64 * 1e-9 / runs.max(1) as f64,
    };
    analysis::waiting(profile, &times.idle_threads, limit).into_iter().map(line).collect()
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
            .sample("p:sim.step > k:copy_to_user", 4_000_000_000)
            .states(2_000_000_000, 3_000_000_000, 0)
            .wait("p:sim.step@3", WaitCause::Interpreter, 1_500_000_000)
            .wait("p:sim.step@4", WaitCause::Sleep, 1_499_000_000)
            .wait("p:sim.step@4", WaitCause::Io, 1_000_000)
            .finish();
        let threads = Threads::new(&profile, 2, 2);
        let shares = threads.time.expect("it runs Python");
        assert_eq!(shares.thread_s, 8.0);
        let sum = shares.interpreter_share
            + shares.native_share
            + shares.kernel_share
            + shares.spinning_share()
            + shares.runnable_share
            + shares.unknown_share
            + shares.gil_share
            + shares.waiting_share;
        assert!((sum - 1.0).abs() < 1e-12);
        assert_eq!(
            shares.describe(),
            "31 % native, 25 % kernel, 13 % interpreter, 13 % ready to run without a CPU, 9 % waiting (GIL), 9 % waiting (sleep)"
        );
        let lines = threads.waits;
        assert_eq!((lines[0].line, lines[0].wait_s, lines[0].share), (Some(3), 0.75, 0.09375));
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn without_the_schedulers_records_a_native_program_has_no_thread_time() {
        let threads = Threads::new(&Sketch::new().sample("main", 1).finish(), 1, 9);
        assert!(threads.time.is_none() && threads.waits.is_empty() && threads.groups.is_empty());
    }

    #[test]
    fn groups_of_threads_have_their_own_shares() {
        let profile = Sketch::new()
            .sample("main@3", 900)
            .states(100, 0, 0)
            .on_thread(2, "pool")
            .wait("work@9 > usleep~/usr/lib/libc.so.6", WaitCause::Sleep, 500)
            .states(0, 500, 0)
            .finish();
        let threads = Threads::new(&profile, 1, 9);
        let [main, pool] = &threads.groups[..] else { panic!("{:?}", threads.groups) };
        assert_eq!((main.time.native_share, main.time.runnable_share), (0.9, 0.1));
        assert!(main.main && !main.idle && pool.idle);
        assert_eq!((pool.time.waiting_share, pool.threads), (1.0, 1.0));
        assert_eq!(threads.idle.map(|idle| idle.threads), Some(1.0));
        assert_eq!(main.time.describe(), "90 % user code, 10 % ready to run without a CPU");
        assert!(threads.waits.is_empty());
    }
}
