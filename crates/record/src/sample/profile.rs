//! Turns recordings into a profile: stacks with names, sample weights, provenance.

use std::time::Instant;

use simprof_model::{Profile, ProfileBuilder, Provenance, StackSample, WeightKind, add_notices};

use super::Refusal;
use super::event::{Clock, signals_wait_for_system_calls};
use super::native_frames::NativeFrames;
use super::native_stacks::NativeStacks;
use super::notices::Notices;
use super::python::PythonBuilder;
use super::samples::{RunInfo, Samples};
use super::symbols::Symbols;
use super::thread_states::RunStates;
use super::trace::{RawSample, Trace};

/// Symbolises the samples of one or more runs of a target and joins them into one profile.
///
/// The debug information of each module is read once for all runs. Without runs the profile is empty.
pub fn symbolise(runs: Vec<Samples>) -> Profile {
    let started = Instant::now();
    let traces: Vec<&Trace> = runs.iter().map(|run| &run.trace).collect();
    let symbols = Symbols::for_traces(&traces);
    let mut builder = ProfileBuilder::new(WeightKind::CpuNs);
    let mut notices = Notices::default();
    notices.add_missing_files(&symbols.missing_files);
    for run in &runs {
        add_run(run, &symbols, &mut notices, &mut builder);
    }
    symbols.add_loops(&mut builder);
    let provenance = builder.provenance();
    // Joining the provenance of runs adds notices too.
    let joining = std::mem::take(&mut provenance.notices);
    provenance.notices = notices.finish(provenance.python.as_ref());
    add_notices(&mut provenance.notices, joining);
    provenance.symbolise_ns = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
    builder.finish()
}

/// Adds the samples, waits and provenance of a run to the profile, and its facts to `notices`.
fn add_run(run: &Samples, symbols: &Symbols, notices: &mut Notices, builder: &mut ProfileBuilder) {
    let Samples { trace, info } = run;
    let mut frames = NativeFrames::new(trace, symbols);
    let stacks = NativeStacks::build(trace, &mut frames, builder);
    let mut python = PythonBuilder::new(trace, frames);
    let threads: Vec<_> = trace
        .threads
        .iter()
        .map(|thread| builder.thread(thread.pid, thread.tid, &thread.name))
        .collect();
    let weights = weights(&trace.samples, info.event.clock, sampled_ns(info));
    let mut truncated = 0;
    for (sample, weight) in trace.samples.iter().zip(weights) {
        if python.as_mut().is_some_and(|python| python.skips(sample)) {
            continue;
        }
        let is_truncated = stacks.is_truncated(sample);
        let merged = python.as_mut().and_then(|python| python.stack(sample, is_truncated, builder));
        let (stack, is_truncated) = match merged {
            Some(merged) => (merged.stack, !merged.reaches_root),
            None => (sample.stack.map(|stack| stacks.id(stack)), is_truncated),
        };
        truncated += u64::from(is_truncated);
        let thread = threads[sample.thread as usize];
        builder.sample(StackSample { time_ns: sample.time_ns, thread, stack, weight });
    }
    notices.add_run(trace, info);
    let states = RunStates::new(trace, info);
    let mut provenance = Provenance { truncated, ..provenance(run, &stacks) };
    if let Some(mut python) = python {
        python.add_waits(&states, builder);
        provenance.python = python.finish(notices.python());
        provenance.kernel &= signals_wait_for_system_calls();
    }
    states.add(run, symbols, &stacks, builder);
    builder.provenance().absorb(&provenance);
}

/// Returns the CPU time of the target that is sampled, ns.
fn sampled_ns(info: &RunInfo) -> u64 {
    let system_ns = if info.event.kernel { 0 } else { info.target_system_ns };
    info.target_cpu_ns.saturating_sub(system_ns)
}

/// Returns the weight of each sample in nanoseconds of CPU time.
///
/// Periods of the CPU clock are nanoseconds already. Cycles are scaled so that their sum is the CPU time that is sampled, which
/// is exact as long as the clock frequency does not change.
fn weights(samples: &[RawSample], clock: Clock, sampled_ns: u64) -> Vec<u64> {
    match clock {
        Clock::CpuClock => samples.iter().map(|sample| sample.period).collect(),
        Clock::Cycles => scaled(samples.iter().map(|sample| sample.period), sampled_ns),
    }
}

/// Scales counts so that their sum is `total`. Rounding errors do not accumulate.
fn scaled(counts: impl Iterator<Item = u64> + Clone, total: u64) -> Vec<u64> {
    let sum: u128 = counts.clone().map(u128::from).sum();
    let (mut count_so_far, mut total_so_far) = (0_u128, 0_u128);
    counts
        .map(|count| {
            count_so_far += u128::from(count);
            let due = count_so_far * u128::from(total) / sum.max(1);
            let weight = due - total_so_far;
            total_so_far = due;
            u64::try_from(weight).expect("a part of a total that fits")
        })
        .collect()
}

/// Returns the provenance of a run without truncated stacks, Python counts and notices.
fn provenance(run: &Samples, stacks: &NativeStacks) -> Provenance {
    let Samples { trace, info } = run;
    let samples = trace.samples.len() as u64;
    let seconds = info.target_cpu_ns as f64 / 1e9;
    let achieved_hz = if seconds > 0.0 { samples as f64 / seconds } else { 0.0 };
    let is_named = |sample: &&RawSample| sample.stack.is_some_and(|stack| stacks.is_named(stack));
    let named = trace.samples.iter().filter(is_named).count() as u64;
    Provenance {
        event: info.event.name(),
        fallbacks: info.refusals.iter().map(Refusal::to_string).collect(),
        rate_hz: info.sampling.rate_hz.into(),
        achieved_hz,
        samples,
        lost: trace.counts.lost_samples,
        truncated: 0,
        unsymbolised: samples - named,
        kernel: info.event.kernel,
        stack_bytes: info.sampling.stack_bytes,
        recorder_cpu_ns: info.recorder_cpu_ns,
        symbolise_ns: 0,
        target_cpu_ns: info.target_cpu_ns,
        target_system_ns: info.target_system_ns,
        python: None,
        notices: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use simprof_model::{NoticeId, has_notice};

    use super::*;
    use crate::sample::event::Event;
    use crate::sample::module::ModuleIndex;
    use crate::sample::python::Attached;
    use crate::sample::raw_stacks::{RawFrame, RawStacks};
    use crate::sample::trace::RawThread;
    use crate::sample::unwind::WalkEnd;
    use crate::sample::{Recorder, Sampling};

    /// A run with one sample, whose stack has these addresses from the root.
    fn run(clock: Clock, addresses: [u64; 2]) -> Samples {
        let mut stacks = RawStacks::default();
        let stack = addresses.into_iter().fold(None, |parent, address| {
            let frame = stacks.frame(RawFrame { module: ModuleIndex::UNKNOWN, address });
            Some(stacks.child(parent, frame))
        });
        let (end, python) = (WalkEnd::Root, Attached::None);
        let sample =
            RawSample { time_ns: 1, period: 10, thread: 0, stack, end, in_kernel: false, python };
        let trace = Trace {
            stacks,
            samples: vec![sample],
            threads: vec![RawThread { pid: 1, tid: 1, name: "main".to_owned() }],
            ..Trace::default()
        };
        let recorder = Recorder::Auto;
        let info = RunInfo {
            sampling: Sampling { rate_hz: 1000, stack_bytes: 0, kernel: false, recorder },
            event: Event { clock, kernel: false, precise: 0 },
            refusals: Vec::new(),
            notices: Vec::new(),
            target_cpu_ns: 10,
            target_system_ns: 0,
            thread_runnable_ns: HashMap::new(),
            recorder_cpu_ns: 1,
        };
        Samples { trace, info }
    }

    #[test]
    fn runs_share_tables_and_provenance() {
        let runs = vec![run(Clock::CpuClock, [16, 32]), run(Clock::CpuClock, [16, 48])];
        let profile = symbolise(runs);
        let sizes = (profile.functions.len(), profile.stacks.len(), profile.threads.len());
        assert_eq!((profile.total_weight(), sizes), (20, (1, 3, 1)));
        let leaf = |index: usize| {
            let leaf = profile.frames_from_leaf(profile.samples[index].stack).next();
            profile.function_name(profile.frame(leaf.expect("a leaf")).function)
        };
        assert_eq!([leaf(0), leaf(1)], ["[unknown code]"; 2], "their addresses differ");
        assert_eq!((profile.provenance.samples, profile.provenance.target_cpu_ns), (2, 20));
        assert!(!has_notice(&profile.provenance.notices, NoticeId::EventsDiffer));
    }

    #[test]
    fn runs_with_different_events_have_a_notice() {
        let profile = symbolise(vec![run(Clock::Cycles, [16, 32]), run(Clock::CpuClock, [16, 32])]);
        assert!(has_notice(&profile.provenance.notices, NoticeId::EventsDiffer));
    }

    #[test]
    fn scaled_weights_add_up_to_the_total() {
        let table: [(&[u64], u64); 5] = [
            (&[1, 1, 1], 100),
            (&[], 7),
            (&[0, 0], 7),
            (&[1 << 60, 1, 1 << 60], u64::MAX),
            (&[3], 0),
        ];
        for (counts, total) in table {
            let weights = scaled(counts.iter().copied(), total);
            let sum: u128 = weights.iter().copied().map(u128::from).sum();
            let expected = if counts.iter().any(|&count| count > 0) { total } else { 0 };
            assert_eq!(sum, u128::from(expected), "{counts:?}");
        }
        assert_eq!(scaled([1, 3].into_iter(), 400), [100, 300]);
    }
}
