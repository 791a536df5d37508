//! Runs programs under the sampler, and inspects their profiles.

use simprof_model::{FrameId, Profile, StackSample};
use simprof_record::sample::{Recorder, SampleError, Sampler, Sampling};

use super::Blocked;

/// The default settings of the sampler in these tests.
pub const SAMPLING: Sampling =
    Sampling { rate_hz: 1000, stack_bytes: 16384, kernel: true, recorder: Recorder::Auto };

/// Profiles a program. If this system does not allow sampling, checks and prints the refusal and returns `None`.
pub fn profile_with(sampling: &Sampling, argv: &[&str]) -> Option<Profile> {
    let child = Blocked::new(argv);
    match Sampler::open(child.pid, sampling) {
        Ok(sampler) => {
            let cpu_ns = child.run();
            let samples = sampler.finish(cpu_ns).expect("the recording ends well");
            Some(simprof_record::sample::symbolise(vec![samples]))
        }
        Err(error) => {
            child.run();
            check_refusal(&error);
            None
        }
    }
}

/// Profiles a program with the settings [`SAMPLING`]. See [`profile_with`].
pub fn profile(argv: &[&str]) -> Option<Profile> {
    profile_with(&SAMPLING, argv)
}

/// Asserts that a refusal names every event that was tried, and a fix.
fn check_refusal(error: &SampleError) {
    eprintln!("not sampled here: {error}");
    let SampleError::Refused { refusals, hint, .. } = error else { panic!("{error:?}") };
    assert!(!refusals.is_empty() && !hint.is_empty(), "{error:?}");
    assert!(refusals.iter().all(|refusal| refusal.errno != 0 && !refusal.reason.is_empty()));
}

/// Returns the names of the functions on a sample's stack, from leaf to root.
pub fn names<'p>(profile: &'p Profile, sample: &StackSample) -> Vec<&'p str> {
    frames(profile, sample)
        .map(|frame| profile.function_name(profile.frame(frame).function))
        .collect()
}

/// Returns the frames of a sample's stack, from leaf to root.
pub fn frames(profile: &Profile, sample: &StackSample) -> impl Iterator<Item = FrameId> {
    profile.frames_from_leaf(sample.stack)
}

/// Returns the samples whose stack contains a function.
pub fn samples_with<'p>(profile: &'p Profile, function: &str) -> Vec<&'p StackSample> {
    profile.samples.iter().filter(|sample| names(profile, sample).contains(&function)).collect()
}

/// Describes a profile for the message of a failed assertion: its provenance and most frequent stacks.
pub fn explain(profile: &Profile) -> String {
    let mut counts = std::collections::BTreeMap::<Vec<&str>, usize>::new();
    for sample in &profile.samples {
        *counts.entry(names(profile, sample)).or_default() += 1;
    }
    let mut stacks: Vec<_> = counts.into_iter().collect();
    stacks.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let stacks: Vec<_> = stacks
        .iter()
        .take(20)
        .map(|(stack, count)| format!("{count}: {}", stack.join(" < ")))
        .collect();
    format!("{:#?}\n{}", profile.provenance, stacks.join("\n"))
}
