//! What threads did during a part of a run, as the scheduler reports it.

use std::collections::HashMap;

use simprof_model::{Profile, StackSample, StateSpan, ThreadId, ThreadStates, WaitSample};

use super::step_spans::StepSpans;
use super::weights::share;

/// Returns what the threads did in a part of the run without times, whose samples are given: in proportion to each thread's CPU
/// time, or to that of all threads if it has no sample.
pub(super) fn in_proportion(profile: &Profile, samples: &[StackSample]) -> Vec<ThreadStates> {
    let parts = Parts::new(&profile.samples, samples);
    let states = profile.thread_states.iter();
    states.map(|states| scaled(states, parts.of(states.thread))).collect()
}

/// Returns what the threads did inside steps. `work` has the samples and waits of the work inside steps, and `in_steps` are all
/// samples inside steps.
///
/// It is the sum over the spans of the scheduler's times, each in proportion to its overlap with steps. Without spans it is
/// estimated as in [`in_proportion`]. Time inside steps that is not work, such as imports, is removed in proportion to CPU
/// time. The result is limited so that with the samples and waits it is at most the time that the steps took while the thread
/// existed. Threads that were not inside steps have no entry.
pub(super) fn inside_steps(
    profile: &Profile,
    work: &Profile,
    in_steps: &[StackSample],
    spans: &StepSpans,
) -> Vec<ThreadStates> {
    let once = Parts::new(in_steps, &work.samples);
    let whole = Parts::new(&profile.samples, &work.samples);
    let lives = lives(profile);
    let used = used_ns(work);
    let of = |states: &ThreadStates| {
        let thread = states.thread;
        let inside = |begin, end| spans.inside_ns(profile, thread, begin, end);
        let (states, limit_ns) = if states.spans.is_empty() {
            let life_ns = lives.get(&thread).map_or(0, |&(begin, end)| inside(begin, end));
            (scaled(states, whole.of(thread)), life_ns)
        } else {
            let limit_ns = states.spans.iter().map(|span| inside(span.begin_ns, span.end_ns)).sum();
            (scaled(&overlapping(states, inside), once.of(thread)), limit_ns)
        };
        limited(states, limit_ns, used.get(&thread).copied().unwrap_or(0))
    };
    let is_there = |states: &ThreadStates| sum_ns(states) > 0;
    profile.thread_states.iter().map(of).filter(is_there).collect()
}

/// The part of each thread's CPU time that some samples have, 0 to 1.
struct Parts {
    all: HashMap<ThreadId, u64>,
    some: HashMap<ThreadId, u64>,
    /// That of all threads together.
    whole: f64,
}

impl Parts {
    fn new(all: &[StackSample], some: &[StackSample]) -> Self {
        let (all, some) = (cpu_ns(all), cpu_ns(some));
        let whole =
            if all.is_empty() { 1.0 } else { share(some.values().sum(), all.values().sum()) };
        Self { all, some, whole }
    }

    fn of(&self, thread: ThreadId) -> f64 {
        match self.all.get(&thread) {
            Some(&all) if all > 0 => share(self.some.get(&thread).copied().unwrap_or(0), all),
            _ => self.whole,
        }
    }
}

fn cpu_ns(samples: &[StackSample]) -> HashMap<ThreadId, u64> {
    let mut sums: HashMap<ThreadId, u64> = HashMap::new();
    for sample in samples {
        *sums.entry(sample.thread).or_default() += sample.weight;
    }
    sums
}

/// Returns the time of each thread that samples and waits account for, ns.
fn used_ns(work: &Profile) -> HashMap<ThreadId, u64> {
    let mut sums = cpu_ns(&work.samples);
    for wait in &work.waits {
        *sums.entry(wait.thread).or_default() += wait.weight_ns;
    }
    sums
}

/// Returns when each thread was seen first and last, ns.
fn lives(profile: &Profile) -> HashMap<ThreadId, (u64, u64)> {
    let sampled = |sample: &StackSample| {
        (sample.thread, sample.time_ns.saturating_sub(sample.weight), sample.time_ns)
    };
    let waited = |wait: &WaitSample| {
        (wait.thread, wait.time_ns.saturating_sub(wait.weight_ns), wait.time_ns)
    };
    let seen = profile.samples.iter().map(sampled).chain(profile.waits.iter().map(waited));
    let mut lives: HashMap<ThreadId, (u64, u64)> = HashMap::new();
    for (thread, begin_ns, end_ns) in seen {
        let life = lives.entry(thread).or_insert((begin_ns, end_ns));
        *life = (life.0.min(begin_ns), life.1.max(end_ns));
    }
    lives
}

/// Returns what a thread did inside steps. `inside` returns the time of a range that is inside steps, ns.
fn overlapping(states: &ThreadStates, inside: impl Fn(u64, u64) -> u64) -> ThreadStates {
    let mut sum = [0.0; 4];
    for span in &states.spans {
        let part =
            share(inside(span.begin_ns, span.end_ns), span.end_ns.saturating_sub(span.begin_ns));
        sum.iter_mut().zip(times(span)).for_each(|(sum, ns)| *sum += ns as f64 * part);
    }
    // Rounded down, so that they do not exceed the time inside steps.
    let [running_ns, runnable_ns, blocked_ns, unknown_ns] = sum.map(|ns| ns as u64);
    let thread = states.thread;
    ThreadStates { thread, running_ns, runnable_ns, blocked_ns, unknown_ns, spans: Vec::new() }
}

fn times(span: &StateSpan) -> [u64; 4] {
    [span.running_ns, span.runnable_ns, span.blocked_ns, span.unknown_ns]
}

fn scaled(states: &ThreadStates, part: f64) -> ThreadStates {
    let scaled = |ns: u64| (ns as f64 * part).round() as u64;
    ThreadStates {
        thread: states.thread,
        running_ns: scaled(states.running_ns),
        runnable_ns: scaled(states.runnable_ns),
        blocked_ns: scaled(states.blocked_ns),
        unknown_ns: scaled(states.unknown_ns),
        spans: Vec::new(),
    }
}

fn sum_ns(states: &ThreadStates) -> u64 {
    states.running_ns + states.runnable_ns + states.blocked_ns + states.unknown_ns
}

/// Limits what a thread did to `limit_ns`. Reports add sampled CPU time, waits, and time that only the scheduler reports. The sum
/// must not exceed `limit_ns`, so the last is limited to `limit_ns - used_ns`.
fn limited(states: ThreadStates, limit_ns: u64, used_ns: u64) -> ThreadStates {
    let running_ns = states.running_ns.min(limit_ns);
    let blocked_ns = states.blocked_ns.min(limit_ns - running_ns);
    let left_ns = (limit_ns - running_ns - blocked_ns).min(limit_ns.saturating_sub(used_ns));
    let runnable_ns = states.runnable_ns.min(left_ns);
    let unknown_ns = states.unknown_ns.min(left_ns - runnable_ns);
    ThreadStates { running_ns, runnable_ns, blocked_ns, unknown_ns, ..states }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use simprof_model::{Step, Steps, WaitCause};

    use super::super::run_parts::split_run;
    use super::super::step_spans::RunSteps;
    use super::*;
    use crate::testing::Sketch;

    fn run(spans: &[(u64, u64)]) -> RunSteps {
        let step = |(index, &(begin_ns, end_ns))| Step {
            index,
            begin_ns,
            end_ns,
            population: None,
            thread: None,
        };
        let steps = (0..).zip(spans).map(step).collect();
        RunSteps { start_ns: 0, steps: Steps { steps, lost: 0, source: "marks".into() } }
    }

    /// A span in which a thread was on a CPU, ready to run, waited, and was unknown.
    fn span(begin_ns: u64, end_ns: u64, times: [u64; 4]) -> StateSpan {
        let [running_ns, runnable_ns, blocked_ns, unknown_ns] = times;
        StateSpan { begin_ns, end_ns, running_ns, runnable_ns, blocked_ns, unknown_ns }
    }

    /// Returns the thread, the time ready to run, and the unknown time.
    fn inside(profile: &Profile, steps: &[(u64, u64)]) -> Vec<(u32, u64, u64)> {
        let split = split_run(profile, &[run(steps)]);
        let states = split.work.thread_states.iter();
        states.map(|states| (states.thread.0, states.runnable_ns, states.unknown_ns)).collect()
    }

    #[test]
    fn time_outside_of_steps_is_not_inside_them() {
        let before = vec![span(0, 100, [0, 90, 10, 0])];
        let both = vec![span(20, 100, [10, 70, 0, 0]), span(100, 200, [40, 20, 10, 30])];
        let profile = Sketch::new()
            .on_process(1, 1)
            .states_in(90, 10, 0, before)
            .on_process(2, 2)
            .at(120)
            .sample("main > step", 10)
            .states_in(90, 10, 30, both)
            .finish();
        assert_eq!(inside(&profile, &[(100, 200)]), [(1, 20, 30)]);
        assert_eq!(inside(&profile, &[(100, 150)]), [(1, 10, 15)]);
        assert_eq!(inside(&profile, &[(300, 350)]), []);
    }

    #[test]
    fn without_times_the_share_of_cpu_time_is_limited_to_the_steps() {
        let profile = Sketch::new()
            .on_process(1, 1)
            .states(500, 0, 0)
            .on_process(2, 2)
            .at(90)
            .sample("main > load", 20)
            .at(150)
            .sample("main > step", 40)
            .states(90, 0, 0)
            .finish();
        // The thread was seen from 70 to 150. Of the 50 ns in steps it had a CPU for 40.
        assert_eq!(inside(&profile, &[(100, 200)]), [(1, 10, 0)]);
    }

    #[test]
    fn imports_inside_steps_are_not_work() {
        let import = "p:importlib._bootstrap._find_and_load%<frozen importlib._bootstrap>";
        let profile = Sketch::new()
            .on_process(1, 1)
            .at(110)
            .sample(&format!("main > {import}"), 10)
            .sample("main > step", 30)
            .states_in(20, 0, 0, vec![span(100, 200, [40, 20, 0, 0])])
            .finish();
        assert_eq!(inside(&profile, &[(100, 200)]), [(0, 15, 0)]);
    }

    proptest! {
        #[test]
        fn threads_never_spend_more_time_in_steps_than_the_steps_take(
            lengths in prop::collection::vec((1..40_u64, prop::array::uniform4(0..10_u64)), 1..30),
            steps in prop::collection::vec((0..60_u64, 1..60_u64), 1..10),
            samples in prop::collection::vec((0..600_u64, 1..9_u64), 0..10),
            wait in 0..50_u64,
        ) {
            let mut spans = Vec::new();
            let mut now_ns = 50;
            for (length_ns, parts) in lengths {
                let sum = parts.iter().sum::<u64>().max(1);
                let times = parts.map(|part| part * length_ns / sum);
                spans.push(span(now_ns, now_ns + length_ns, times));
                now_ns += length_ns + parts[0];
            }
            let mut begin_ns = 0;
            let mut ranges = Vec::new();
            for (gap_ns, length_ns) in steps {
                begin_ns += gap_ns;
                ranges.push((begin_ns, begin_ns + length_ns));
                begin_ns += length_ns;
            }
            let limit_ns: u64 = spans
                .iter()
                .flat_map(|span| ranges.iter().map(move |&(begin, end)| {
                    span.end_ns.min(end).saturating_sub(span.begin_ns.max(begin))
                }))
                .sum();
            let sum = |of: usize| spans.iter().map(|span| times(span)[of]).sum::<u64>();
            let mut sketch = Sketch::new()
                .on_process(1, 1)
                .states_in(sum(1), sum(2), sum(3), spans.clone())
                .at(300)
                .wait("main > read", WaitCause::Io, wait);
            for (time_ns, weight) in samples {
                sketch = sketch.at(time_ns).sample("main > step", weight);
            }
            let work = split_run(&sketch.finish(), &[run(&ranges)]).work;
            let used = used_ns(&work).into_values().sum::<u64>();
            for states in &work.thread_states {
                prop_assert!(sum_ns(states) <= limit_ns);
                prop_assert!(states.runnable_ns + states.unknown_ns <= limit_ns.saturating_sub(used));
            }
        }
    }
}
