//! Adds to a profile what each thread did, and the waits of threads that do not run Python.
//!
//! The records of switches show when a thread was preempted, but not when one that waited was woken. The kernel counts for each
//! thread how long it was ready to run. The excess over the preempted time is the time from wake-ups to the CPU: it is subtracted
//! from all waits of the thread in proportion.

use std::collections::HashMap;
use std::ops::Range;

use simprof_model::{FrameId, ProfileBuilder, ThreadStates, WaitCause, WaitSample};

use super::native_stacks::NativeStacks;
use super::samples::{RunInfo, Samples};
use super::scheduling::{RawWait, StateTimes};
use super::state_spans;
use super::symbols::Symbols;
use super::trace::Trace;
use super::wait_cause::wait_cause;

/// Share of a thread's waiting time, from which time without a known place is added to the profile.
const NOTABLE_REST: f64 = 0.01;
/// The shortest such time, ns.
const NOTABLE_REST_NS: u64 = 1_000_000;
/// Number of sampled waits from which they represent the others.
const REPRESENTATIVE: u64 = 20;

/// What the threads of a run did.
#[derive(Debug)]
pub(super) struct RunStates {
    /// By position in [`Trace::threads`].
    threads: HashMap<u32, ThreadTimes>,
    /// Positions by process and thread id.
    positions: HashMap<(u32, u32), u32>,
}

#[derive(Debug, Clone, Copy)]
struct ThreadTimes {
    recorded: StateTimes,
    /// The part of the recorded blocked time that was waiting, 0 to 1. The rest is the time from wake-ups to the CPU.
    waiting: f64,
}

impl RunStates {
    pub fn new(trace: &Trace, info: &RunInfo) -> Self {
        let ids = |thread: u32| {
            let thread = &trace.threads[thread as usize];
            (thread.pid, thread.tid)
        };
        let times = |recorded: StateTimes, runnable_ns: Option<&u64>| {
            let woken_ns = runnable_ns.map_or(0, |ns| ns.saturating_sub(recorded.runnable));
            let woken = woken_ns.min(recorded.blocked) as f64 / recorded.blocked.max(1) as f64;
            ThreadTimes { recorded, waiting: 1.0 - woken }
        };
        let threads = trace.scheduled.states.iter().map(|&(thread, recorded)| {
            (thread, times(recorded, info.thread_runnable_ns.get(&ids(thread))))
        });
        let positions =
            (0..).zip(&trace.threads).map(|(at, thread)| ((thread.pid, thread.tid), at));
        Self { threads: threads.collect(), positions: positions.collect() }
    }

    /// Returns the part of a thread's recorded waits in which it was not ready to run, 0 to 1.
    pub fn waiting_part(&self, pid: u32, tid: u32) -> f64 {
        let thread = self.positions.get(&(pid, tid)).and_then(|thread| self.threads.get(thread));
        thread.map_or(1.0, |thread| thread.waiting)
    }

    /// Adds the states of all threads, and the waits of those that have none yet.
    pub fn add(
        &self,
        run: &Samples,
        symbols: &Symbols,
        stacks: &NativeStacks,
        builder: &mut ProfileBuilder,
    ) {
        let trace = &run.trace;
        let scheduled = &trace.scheduled;
        let mut waits: HashMap<u32, Vec<&RawWait>> = HashMap::new();
        for wait in &scheduled.waits {
            waits.entry(wait.thread).or_default().push(wait);
        }
        let causes = Causes { trace, symbols };
        let python = waits_of_python(run, self);
        for &(thread, _) in &scheduled.states {
            let times = self.threads[&thread];
            let mut sampled = waits.remove(&thread).unwrap_or_default();
            let raw = &trace.threads[thread as usize];
            let id = builder.thread(raw.pid, raw.tid, &raw.name);
            let own = causes.take_own(&mut sampled, stacks, builder);
            let own_ns: u64 = own.iter().map(|wait| wait.end - wait.start).sum();
            let mut spans = scheduled.spans[&thread].clone();
            own.iter().for_each(|wait| spans.remove_blocked(wait));
            let blocked_ns = times.recorded.blocked.saturating_sub(own_ns);
            let waiting_ns = (blocked_ns as f64 * times.waiting).round() as u64;
            let states = ThreadStates {
                thread: id,
                running_ns: times.recorded.running,
                runnable_ns: times.recorded.runnable + blocked_ns - waiting_ns,
                blocked_ns: waiting_ns,
                unknown_ns: times.recorded.unknown,
                spans: spans.finish(times.waiting),
            };
            let mut factor = times.waiting;
            let mut located: Vec<(Range<u64>, u64)> = Vec::new();
            if let Some(recorded) = python.get(&thread) {
                // The process may have run another program, such as a shell, before it ran Python.
                sampled.retain(|wait| wait.time_ns <= recorded.began_ns);
                located.clone_from(&recorded.waits);
            } else {
                let recorded = StateTimes { blocked: blocked_ns, ..times.recorded };
                factor *= representation(&sampled, recorded);
            }
            for wait in sampled {
                let stack = wait.leaving.stack.map(|stack| stacks.id(stack));
                let cause = causes.cause(wait, stack, builder);
                let weight_ns = (wait.duration_ns as f64 * factor).round() as u64;
                if weight_ns == 0 {
                    continue;
                }
                let time_ns = wait.time_ns;
                located.push((wait.range(), weight_ns));
                builder.wait(WaitSample { time_ns, thread: id, stack, weight_ns, cause });
            }
            for (time_ns, weight_ns) in rest(&states, &located) {
                let (stack, cause) = (None, WaitCause::Other);
                builder.wait(WaitSample { time_ns, thread: id, stack, weight_ns, cause });
            }
            builder.thread_states(states);
        }
    }
}

/// Returns the waiting time of a thread that `located` does not explain, by time, if it is notable. See [`state_spans::divide`].
fn rest(states: &ThreadStates, located: &[(Range<u64>, u64)]) -> Vec<(u64, u64)> {
    let located_ns: u64 = located.iter().map(|(_, weight_ns)| weight_ns).sum();
    let rest_ns = states.blocked_ns.saturating_sub(located_ns);
    let is_notable =
        rest_ns >= NOTABLE_REST_NS && rest_ns as f64 >= NOTABLE_REST * states.blocked_ns as f64;
    if is_notable { state_spans::divide(&states.spans, rest_ns, located) } else { Vec::new() }
}

/// What the preload library recorded of a thread.
#[derive(Debug, Clone, Default)]
struct PythonWaits {
    /// Its waits, with the waiting time that each represents, ns.
    waits: Vec<(Range<u64>, u64)>,
    /// When its process began to run Python.
    began_ns: u64,
}

/// Returns the threads whose waits the preload library recorded, by position in [`Trace::threads`].
fn waits_of_python(run: &Samples, states: &RunStates) -> HashMap<u32, PythonWaits> {
    let mut sums: HashMap<u32, PythonWaits> = HashMap::new();
    let Some(python) = &run.trace.python else { return sums };
    let began = |pid: u32| {
        let processes = python.processes.iter().filter(|process| process.pid == pid);
        processes.map(|process| process.time_ns).min().unwrap_or(0)
    };
    for wait in &python.waits {
        let ids = (wait.stack.pid, wait.stack.tid);
        if let Some(&thread) = states.positions.get(&ids) {
            let began_ns = || began(ids.0);
            let known = sums.entry(thread);
            let known =
                known.or_insert_with(|| PythonWaits { waits: Vec::new(), began_ns: began_ns() });
            let weight = wait.weight_ns as f64 * states.waiting_part(ids.0, ids.1);
            let (end_ns, weight_ns) = (wait.stack.time_ns, weight.round() as u64);
            known.waits.push((end_ns.saturating_sub(weight_ns)..end_ns, weight_ns));
        }
    }
    sums
}

/// Returns what the durations of the sampled waits of a thread have to be multiplied by, so that they represent all its waits.
///
/// Threads that wait very often are not sampled each time, and their stacks may be dropped. If only a few waits of a thread were sampled, they represent
/// themselves alone.
fn representation(sampled: &[&RawWait], recorded: StateTimes) -> f64 {
    let sampled_ns: u64 = sampled.iter().map(|wait| wait.duration_ns).sum();
    let count = sampled.len() as u64;
    let is_enough = count >= REPRESENTATIVE || 2 * count >= recorded.waits;
    if is_enough && sampled_ns > 0 { recorded.blocked as f64 / sampled_ns as f64 } else { 1.0 }
}

/// Whether a function of simprof's library prepares a process for the recording. It waits until simprof records the process.
fn is_start(function: &str) -> bool {
    ["simprof_preload::start::", "simprof_preload::process::"]
        .iter()
        .any(|module| function.starts_with(module))
}

/// Determines the causes of waits.
struct Causes<'a> {
    trace: &'a Trace,
    symbols: &'a Symbols,
}

impl Causes<'_> {
    /// Removes the waits in which simprof's library waited for simprof. Returns their times, ns.
    fn take_own(
        &self,
        waits: &mut Vec<&RawWait>,
        stacks: &NativeStacks,
        builder: &ProfileBuilder,
    ) -> Vec<Range<u64>> {
        let profile = builder.profile();
        let is_own = |wait: &RawWait| {
            let stack = wait.leaving.stack.map(|stack| stacks.id(stack));
            let mut frames = profile.frames_from_leaf(stack);
            frames.any(|frame| is_start(profile.function_name(profile.frame(frame).function)))
        };
        waits.extract_if(.., |wait| is_own(wait)).map(|wait| wait.range()).collect()
    }

    fn cause(
        &self,
        wait: &RawWait,
        stack: Option<simprof_model::StackId>,
        builder: &ProfileBuilder,
    ) -> WaitCause {
        let profile = builder.profile();
        let name = |frame: FrameId| profile.function_name(profile.frame(frame).function);
        let chain = &self.trace.kernel_chains[wait.leaving.kernel as usize];
        let kernel = chain.iter().filter_map(|&address| self.symbols.kernel.at(address));
        wait_cause(kernel.map(|symbol| symbol.name), profile.frames_from_leaf(stack).map(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::scheduling::Leaving;

    #[test]
    fn only_the_start_of_simprofs_library_is_not_the_targets() {
        for (name, expected) in [
            ("simprof_preload::start::request_sampling", true),
            ("simprof_preload::process::request_sampling", true),
            ("simprof_observed", false),
            ("simprof_preload::waits::call", false),
            ("sim::start", false),
        ] {
            assert_eq!(is_start(name), expected, "{name}");
        }
    }

    #[test]
    fn sampled_waits_represent_the_others_if_there_are_enough() {
        let leaving = Leaving { stack: None, kernel: 0 };
        let wait = RawWait { time_ns: 0, thread: 0, duration_ns: 10, leaving };
        for (sampled, waits, blocked, expected) in [
            (3, 3, 30, 1.0),
            (3, 6, 90, 3.0),
            (3, 7, 90, 1.0),
            (20, 1000, 2000, 10.0),
            (0, 1, 5, 1.0),
        ] {
            let recorded = StateTimes { blocked, waits, ..StateTimes::default() };
            assert_eq!(representation(&vec![&wait; sampled], recorded), expected, "{sampled}");
        }
    }
}
