//! How threads spend their time: on a CPU in user code, in the kernel or spinning; ready to run without a CPU; waiting.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use simprof_model::{FunctionId, Profile, StackId, ThreadId, WaitCause, WaitSample};

use super::origin::{Origin, origins};
use super::python::{CodeKind, CodeKinds, CpuPart, runs_python};
use super::spin_loops::SpinKind;
use super::spinning::is_marker;
use super::wait_places::{UnknownPlace, WaitPlace, WaitPlaces};
use super::weights::{by_stack, share};

/// Largest share of an idle thread's time on a CPU.
const IDLE_CPU_SHARE: f64 = 0.05;
/// Largest share of an idle thread's time for waits in which it needs what another thread holds or a device does.
const IDLE_NEED_SHARE: f64 = 0.05;
/// Smallest share of an idle thread's time for other waits, except for the GIL.
const IDLE_WAIT_SHARE: f64 = 0.5;
/// Idle threads are set apart if the others are busy for at least this share of the longest thread's time.
const ACTIVE_SHARE: f64 = 0.2;

/// How threads spent their time, ns. CPU time is sampled; the rest is wall time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ThreadTime {
    /// CPU time in the Python interpreter: bytecode, and functions of the interpreter's module.
    pub interpreter_ns: u64,
    /// CPU time in other user code.
    pub native_ns: u64,
    /// CPU time in the kernel.
    pub kernel_ns: u64,
    /// CPU time in known loops in which threads spin.
    pub spinning_ns: BTreeMap<SpinKind, u64>,
    /// Time in which threads were ready to run but had no CPU.
    pub runnable_ns: u64,
    /// Waiting, by cause; [`WaitCause::Interpreter`] is waiting for the interpreter's lock (GIL).
    pub waits_ns: BTreeMap<WaitCause, u64>,
    /// Time for which the scheduler's records are missing.
    pub unknown_ns: u64,
}

impl ThreadTime {
    /// Returns the time of all parts together.
    pub fn total_ns(&self) -> u64 {
        self.cpu_ns() + self.runnable_ns + self.blocked_ns() + self.unknown_ns
    }

    /// Returns the time on a CPU.
    pub fn cpu_ns(&self) -> u64 {
        let spinning_ns: u64 = self.spinning_ns.values().sum();
        self.interpreter_ns + self.native_ns + self.kernel_ns + spinning_ns
    }

    /// Returns the time spent waiting.
    pub fn blocked_ns(&self) -> u64 {
        self.waits_ns.values().sum()
    }

    /// Returns the time spent waiting for the GIL.
    pub fn gil_ns(&self) -> u64 {
        self.waits_ns.get(&WaitCause::Interpreter).copied().unwrap_or(0)
    }

    /// Returns the time spent waiting for anything but the GIL.
    pub fn waiting_ns(&self) -> u64 {
        self.blocked_ns() - self.gil_ns()
    }

    /// Returns `part_ns` as a fraction of the total, 0 to 1.
    pub fn share(&self, part_ns: u64) -> f64 {
        share(part_ns, self.total_ns())
    }

    pub(crate) fn add_cpu(&mut self, part: CpuPart, weight: u64) {
        *match part {
            CpuPart::Code(CodeKind::Interpreter) => &mut self.interpreter_ns,
            CpuPart::Code(CodeKind::Native) => &mut self.native_ns,
            CpuPart::Kernel => &mut self.kernel_ns,
            CpuPart::Spinning(kind) => self.spinning_ns.entry(kind).or_default(),
        } += weight;
    }

    pub(crate) fn add_wait(&mut self, cause: WaitCause, weight_ns: u64) {
        *self.waits_ns.entry(cause).or_default() += weight_ns;
    }

    fn add(&mut self, other: &ThreadTime) {
        self.interpreter_ns += other.interpreter_ns;
        self.native_ns += other.native_ns;
        self.kernel_ns += other.kernel_ns;
        self.runnable_ns += other.runnable_ns;
        self.unknown_ns += other.unknown_ns;
        for (&kind, ns) in &other.spinning_ns {
            *self.spinning_ns.entry(kind).or_default() += ns;
        }
        for (&cause, ns) in &other.waits_ns {
            *self.waits_ns.entry(cause).or_default() += ns;
        }
    }

    /// Returns whether a thread with this time is idle: it hardly runs, and mostly waits for time to pass, for events or for other threads.
    fn is_idle(&self) -> bool {
        let needs = [WaitCause::Io, WaitCause::Child, WaitCause::Lock];
        let idles =
            [WaitCause::Sleep, WaitCause::Events, WaitCause::Synchronisation, WaitCause::Barrier];
        let sum = |causes: &[WaitCause]| -> u64 {
            causes.iter().filter_map(|cause| self.waits_ns.get(cause)).sum()
        };
        self.share(self.cpu_ns()) < IDLE_CPU_SHARE
            && self.share(sum(&needs)) < IDLE_NEED_SHARE
            && self.share(sum(&idles)) >= IDLE_WAIT_SHARE
    }
}

/// How the threads of a profile spent their time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ThreadTimes {
    /// The threads that are not idle, together.
    pub active: ThreadTime,
    /// The idle threads, together.
    pub idle: ThreadTime,
    /// The threads, in groups.
    pub groups: Vec<ThreadGroup>,
    /// The idle threads.
    pub idle_threads: BTreeSet<ThreadId>,
}

/// Threads with the same name and the same start function.
#[derive(Debug, Clone, PartialEq)]
pub struct ThreadGroup {
    /// Their name.
    pub name: String,
    /// The outermost function of the author's on their stacks; empty if there is none.
    pub function: String,
    /// Whether they are the first threads of their processes.
    pub is_main: bool,
    /// Whether they are idle.
    pub is_idle: bool,
    /// Number of threads.
    pub threads: usize,
    /// Their time.
    pub time: ThreadTime,
}

/// Returns the time of the threads of a profile; `None` if neither the scheduler's records nor waits are known, and nothing runs
/// Python.
pub fn thread_times(profile: &Profile) -> Option<ThreadTimes> {
    if profile.thread_states.is_empty() && !runs_python(profile) {
        return None;
    }
    let by_thread = times_by_thread(profile);
    let idle_threads = idle_threads(profile, &by_thread);
    let mut times = ThreadTimes::default();
    let starts = start_functions(profile);
    let mut groups: BTreeMap<(bool, bool, String, String), ThreadGroup> = BTreeMap::new();
    for (&thread, time) in &by_thread {
        let is_idle = idle_threads.contains(&thread);
        if is_idle {
            times.idle.add(time)
        } else {
            times.active.add(time)
        }
        let named = &profile.threads[thread.index()];
        let is_main = named.pid == named.tid;
        let function = starts.get(&thread).map_or("", |&id| profile.function_name(id)).to_owned();
        let key = (is_idle, is_main, named.name.clone(), function);
        let group = groups.entry(key).or_insert_with_key(|(_, _, name, function)| ThreadGroup {
            name: name.clone(),
            function: function.clone(),
            is_main,
            is_idle,
            threads: 0,
            time: ThreadTime::default(),
        });
        group.threads += 1;
        group.time.add(time);
    }
    times.groups = groups.into_values().collect();
    times.groups.sort_by_key(|group| {
        (group.is_idle, !group.is_main, std::cmp::Reverse(group.time.total_ns()))
    });
    add_unsampled_kernel(profile, &mut times.active);
    times.idle_threads = idle_threads;
    Some(times)
}

/// Adds the time in the kernel as the kernel itself counts it, if samples do not include it.
fn add_unsampled_kernel(profile: &Profile, time: &mut ThreadTime) {
    if !profile.provenance.kernel {
        time.kernel_ns = time.kernel_ns.max(profile.provenance.target_system_ns);
    }
}

/// Returns the time of all threads that are not idle, or `None` as [`thread_times`].
pub fn thread_time(profile: &Profile) -> Option<ThreadTime> {
    thread_times(profile).map(|times| times.active)
}

fn times_by_thread(profile: &Profile) -> BTreeMap<ThreadId, ThreadTime> {
    let kinds = CodeKinds::new(profile);
    let mut parts: BTreeMap<Option<StackId>, CpuPart> = BTreeMap::new();
    for entry in by_stack(profile) {
        parts.insert(entry.stack, kinds.classify(profile, entry.stack).part);
    }
    let mut times: BTreeMap<ThreadId, ThreadTime> = BTreeMap::new();
    for sample in &profile.samples {
        times.entry(sample.thread).or_default().add_cpu(parts[&sample.stack], sample.weight);
    }
    for wait in &profile.waits {
        times.entry(wait.thread).or_default().add_wait(wait.cause, wait.weight_ns);
    }
    for states in &profile.thread_states {
        let time = times.entry(states.thread).or_default();
        time.runnable_ns += states.runnable_ns;
        time.unknown_ns += states.unknown_ns;
    }
    times
}

/// Returns the threads that are idle while others work.
fn idle_threads(profile: &Profile, times: &BTreeMap<ThreadId, ThreadTime>) -> BTreeSet<ThreadId> {
    let is_main = |thread: ThreadId| {
        let thread = &profile.threads[thread.index()];
        thread.pid == thread.tid
    };
    let idle: BTreeSet<ThreadId> = times
        .iter()
        .filter(|(thread, time)| !is_main(**thread) && time.is_idle())
        .map(|(&thread, _)| thread)
        .collect();
    let others = times.iter().filter(|(thread, _)| !idle.contains(thread));
    let busy_ns: u64 = others.map(|(_, time)| time.cpu_ns() + time.runnable_ns).sum();
    let longest_ns = times.values().map(ThreadTime::total_ns).max().unwrap_or(0);
    if share(busy_ns, longest_ns) >= ACTIVE_SHARE { idle } else { BTreeSet::new() }
}

/// Returns the outermost function of the author's on the stacks of each thread.
fn start_functions(profile: &Profile) -> BTreeMap<ThreadId, FunctionId> {
    let origins = origins(profile);
    let start = |stack: Option<StackId>| {
        let own = |&id: &FunctionId| {
            origins[id.index()] == Origin::Own && !is_marker(profile, profile.function(id))
        };
        let functions = profile.frames_from_leaf(stack).map(|frame| profile.frame(frame).function);
        functions.filter(own).last()
    };
    let samples = profile.samples.iter().map(|sample| (sample.thread, sample.stack));
    let waits = profile.waits.iter().map(|wait| (wait.thread, wait.stack));
    let mut counts: BTreeMap<ThreadId, BTreeMap<FunctionId, u64>> = BTreeMap::new();
    let mut known: BTreeMap<Option<StackId>, Option<FunctionId>> = BTreeMap::new();
    for (thread, stack) in samples.chain(waits) {
        if let Some(function) = *known.entry(stack).or_insert_with(|| start(stack)) {
            *counts.entry(thread).or_default().entry(function).or_default() += 1;
        }
    }
    let most = |counts: BTreeMap<FunctionId, u64>| {
        counts.into_iter().max_by_key(|&(_, count)| count).map(|(function, _)| function)
    };
    counts.into_iter().filter_map(|(thread, counts)| Some((thread, most(counts)?))).collect()
}

/// Waiting at one line for one cause.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Waiting {
    /// The author's function nearest the leaf; else the function or library nearest the leaf that is not the C library;
    /// [`super::UNKNOWN`] if there is none.
    pub function: String,
    /// Source file of the line.
    pub file: Option<String>,
    /// The line of the function that waits, directly or in a callee.
    pub line: Option<u32>,
    /// The function that the line calls and that waits, directly or in a callee; `None` if it is the function itself.
    pub call: Option<String>,
    /// Why the place is unknown; `None` if it is known.
    pub unknown: Option<UnknownPlace>,
    /// What the thread waits for.
    pub cause: WaitCause,
    /// Number of threads that wait there.
    pub threads: usize,
    /// Duration, ns.
    pub weight_ns: u64,
}

/// Returns the first `limit` lines that wait, by decreasing time, without the waits of `excluded` threads.
pub fn waiting(profile: &Profile, excluded: &BTreeSet<ThreadId>, limit: usize) -> Vec<Waiting> {
    let places = WaitPlaces::new(profile);
    let mut sums: BTreeMap<(WaitPlace<'_>, WaitCause), (u64, BTreeSet<ThreadId>)> = BTreeMap::new();
    // Waits for something unknown at an unknown place are in the sums of threads, but they are no line.
    let is_known = |wait: &WaitSample| wait.stack.is_some() || wait.cause != WaitCause::Other;
    let included = |wait: &&WaitSample| !excluded.contains(&wait.thread) && is_known(wait);
    for wait in profile.waits.iter().filter(included) {
        let (weight_ns, threads) = sums.entry((places.at(wait.stack), wait.cause)).or_default();
        *weight_ns += wait.weight_ns;
        threads.insert(wait.thread);
    }
    let mut found: Vec<Waiting> = sums
        .into_iter()
        .map(|((place, cause), (weight_ns, threads))| Waiting {
            function: place.function.to_owned(),
            file: place.file.map(str::to_owned),
            line: place.line,
            call: place.call.map(str::to_owned),
            unknown: place.unknown,
            cause,
            threads: threads.len(),
            weight_ns,
        })
        .collect();
    // The keys are in order, and the sort is stable.
    found.sort_by_key(|waiting| std::cmp::Reverse(waiting.weight_ns));
    found.truncate(limit);
    found
}

/// Waits of one stack for one cause, summed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StackWait {
    pub(crate) stack: Option<StackId>,
    pub(crate) cause: WaitCause,
    pub(crate) weight_ns: u64,
}

/// Returns the waits of a profile, summed by stack and cause.
pub(crate) fn waits_by_stack(profile: &Profile) -> Vec<StackWait> {
    let mut sums: BTreeMap<(Option<StackId>, WaitCause), u64> = BTreeMap::new();
    for wait in &profile.waits {
        *sums.entry((wait.stack, wait.cause)).or_default() += wait.weight_ns;
    }
    sums.into_iter()
        .map(|((stack, cause), weight_ns)| StackWait { stack, cause, weight_ns })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Sketch;

    #[test]
    fn time_is_split_and_adds_up() {
        let profile = Sketch::new()
            .sample("p:sim.step", 30)
            .sample("p:sim.step > dot~/opt/numpy.so", 20)
            .sample("p:sim.load > k:copy_to_user", 15)
            .wait("p:sim.step", WaitCause::Interpreter, 40)
            .wait("p:sim.idle", WaitCause::Sleep, 7)
            .wait("p:sim.idle", WaitCause::Io, 3)
            .states(5, 50, 1)
            .finish();
        let time = thread_time(&profile).expect("it runs Python");
        assert_eq!((time.interpreter_ns, time.native_ns, time.kernel_ns), (30, 20, 15));
        assert_eq!((time.runnable_ns, time.unknown_ns), (5, 1));
        assert_eq!((time.gil_ns(), time.waiting_ns(), time.total_ns()), (40, 10, 121));
        assert_eq!(time.share(time.gil_ns()), 40.0 / 121.0);
    }

    #[test]
    fn a_native_program_has_thread_time_if_the_scheduler_was_recorded() {
        let sketch = || Sketch::new().sample("main", 20);
        assert_eq!(thread_time(&sketch().finish()), None);
        let profile = sketch().states(80, 0, 0).finish();
        let time = thread_time(&profile).expect("it is known");
        assert_eq!((time.native_ns, time.runnable_ns, time.blocked_ns()), (20, 80, 0));
    }

    #[test]
    fn kernel_time_that_is_not_sampled_is_what_the_kernel_counts() {
        let mut sketch = Sketch::new().sample("main", 20).states(0, 0, 0);
        sketch.builder().provenance().target_system_ns = 7;
        let time = thread_time(&sketch.finish()).expect("it is known");
        assert_eq!((time.native_ns, time.kernel_ns), (20, 7));
    }

    #[test]
    fn idle_threads_are_set_apart_if_others_work() {
        let background = |sketch: Sketch, cause| {
            let sketch = sketch.on_thread(2, "pool").wait("work@3", cause, 990).states(1, 990, 0);
            sketch.on_thread(3, "pool").wait("work@3", cause, 990).states(1, 990, 0)
        };
        let busy = || Sketch::new().sample("main", 900).states(50, 0, 0);
        let times = thread_times(&background(busy(), WaitCause::Sleep).finish()).expect("known");
        assert_eq!((times.active.total_ns(), times.idle.blocked_ns()), (950, 1980));
        let groups: Vec<_> =
            times.groups.iter().map(|g| (&*g.name, &*g.function, g.is_idle, g.threads)).collect();
        assert_eq!(groups, [("main", "main", false, 1), ("pool", "work", true, 2)]);
        // Threads that queue for a lock, or wait for something unknown, are not idle.
        for cause in [WaitCause::Lock, WaitCause::Io, WaitCause::Other] {
            let times = thread_times(&background(busy(), cause).finish()).expect("known");
            assert!(times.idle_threads.is_empty(), "{cause:?}");
        }
        // Nor is any thread if the whole program waits.
        let waiting = Sketch::new().sample("main", 9).wait("main@1", WaitCause::Io, 900);
        let waiting = background(waiting.states(0, 900, 0), WaitCause::Sleep).finish();
        assert!(thread_times(&waiting).expect("known").idle_threads.is_empty());
    }

    #[test]
    fn waits_are_charged_to_the_authors_lines() {
        let library = "p:queue.get%/opt/lib/python3.11/queue.py@171";
        let libc = "/usr/lib/libc.so.6";
        let profile = Sketch::new()
            .wait(&format!("p:sim.work@5 > {library}"), WaitCause::Synchronisation, 5)
            .wait("p:sim.work@5", WaitCause::Synchronisation, 4)
            .wait("p:sim.work@9", WaitCause::Sleep, 7)
            .wait(library, WaitCause::Synchronisation, 2)
            .wait("", WaitCause::Io, 1)
            .wait("", WaitCause::Other, 3)
            .wait(&format!("save@3 > fdatasync~{libc} > ?x~{libc}"), WaitCause::Io, 8)
            .on_thread(2, "other")
            .wait(&format!("save@3 > fdatasync~{libc} > ?y~{libc}"), WaitCause::Io, 8)
            .finish();
        let found: Vec<_> = waiting(&profile, &BTreeSet::new(), 9)
            .into_iter()
            .map(|w| {
                (
                    w.function,
                    w.line.unwrap_or(0),
                    w.call.unwrap_or_default(),
                    w.threads,
                    w.weight_ns,
                )
            })
            .collect();
        let row = |function: &str, line, call: &str, threads, ns| {
            (function.to_owned(), line, call.to_owned(), threads, ns)
        };
        assert_eq!(
            found,
            [
                row("save", 3, "fdatasync", 2, 16),
                row("sim.work", 9, "", 1, 7),
                row("sim.work", 5, "queue.get", 1, 5),
                row("sim.work", 5, "", 1, 4),
                row("queue.get", 171, "", 1, 2),
                row("[unknown]", 0, "", 1, 1),
            ]
        );
        assert_eq!(waiting(&profile, &BTreeSet::from([ThreadId(0)]), 9).len(), 1);
    }
}
