//! Combines exact call counts with sampled times by function, and finds functions whose traced times are distorted.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use simprof_model::{
    CallProfile, CalledFunction, FunctionId, FunctionKind, Profile, StackId, ThreadId,
};
use simprof_stats::binomial_interval;

use super::charge::charge;
use super::facts::qualified_name;
use super::modules::{Modules, slashes};
use crate::analysis::{Origin, origin_of_file, origins};

/// Ratio of traced to sampled share from which a function is distorted, if chance does not explain it.
const DISTORTION: f64 = 1.5;

/// Functions with a smaller share, both traced and sampled, are not judged.
const NOTABLE: f64 = 0.01;

/// Confidence that all functions that are reported as distorted are distorted.
const CONFIDENCE: f64 = 0.95;

/// One traced function with its samples. In both profiles the time of functions written in C counts for the Python function
/// that called them. Shares are fractions of all time in Python functions, 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Joined {
    /// Name as sampled, with module and class; module and name if it has no samples.
    pub function: String,
    /// Source file as the traced program named it.
    pub file: String,
    /// First line of its definition.
    pub line: u32,
    /// Exact number of calls.
    pub calls: u64,
    /// Calls made while no other call of it was on the stack.
    pub primitive_calls: u64,
    /// Share of the traced time in it and in the functions written in C that it called.
    pub traced_share: f64,
    /// Share of the sampled wall time of threads (CPU time, time ready to run, waiting) in it and in the native functions that it called.
    pub sampled_share: f64,
    /// 95 % interval of `sampled_share`, by the number of samples.
    pub sampled_interval: [f64; 2],
    /// CPU samples in which it was the innermost Python function.
    pub samples: u64,
    /// `traced_share / sampled_share`; `None` if it has no samples.
    pub distortion: Option<f64>,
    /// Whether the shares differ by more than 1.5 times and by more than chance explains: one profile in twenty has a
    /// function that is wrongly marked. Functions of the language's own library are not judged, since they mostly start
    /// the interpreter; nor are functions with both shares below 1 %.
    pub distorted: bool,
    /// Its entries in the sampled profile's table; empty if it has no samples.
    #[serde(skip)]
    pub ids: Vec<FunctionId>,
}

/// Returns every traced Python function with its samples, by decreasing share (the larger of the two).
///
/// Functions match if their first line, the last part of their name and their file are equal. Of the files, one path may be
/// the end of the other, as when the program was started by a relative path. If several files match, the function is not
/// joined.
///
/// Both profiles should be of the same work. By default the tracer measures the wall time of each thread, so the sampled time is that
/// too: CPU time, time ready to run without a CPU, and waiting.
pub fn join(traced: &CallProfile, sampled: &Profile) -> Vec<Joined> {
    let is_python: Vec<bool> = traced.functions.iter().map(|f| !traced.is_built_in(f)).collect();
    let times = charge(traced, &is_python);
    let all_s: f64 = times.iter().sum();
    let index = Index::new(sampled);
    let tallies = Tallies::new(sampled);
    let modules = Modules::new(traced, &|_| false);
    let join_one = |(function, &time_s): (&CalledFunction, &f64)| {
        let ids = index.find(traced, function);
        let own =
            ids.iter().fold(Tally::default(), |sum, id| sum.plus(tallies.by_function[id.index()]));
        let shown = ids.first().map(|&id| sampled.function_name(id).to_owned());
        let share = if all_s > 0.0 { time_s / all_s } else { 0.0 };
        Joined {
            function: shown.unwrap_or_else(|| {
                qualified_name(traced, function, &modules.name(traced.file(function)))
            }),
            file: traced.file(function).to_owned(),
            line: function.line,
            calls: function.calls,
            primitive_calls: function.primitive_calls,
            traced_share: share,
            sampled_share: tallies.share(own),
            sampled_interval: tallies.interval(tallies.share(own), CONFIDENCE),
            samples: own.samples,
            distortion: None,
            distorted: false,
            ids,
        }
    };
    let pairs = traced.functions.iter().zip(&times);
    let python = pairs.zip(&is_python).filter(|(_, is_python)| **is_python).map(|(pair, _)| pair);
    let mut joined: Vec<Joined> = python.map(join_one).collect();
    let each = 1.0 - (1.0 - CONFIDENCE) / joined.len().max(1) as f64;
    let origins = origins(sampled);
    let is_runtime = |row: &Joined| match row.ids.first() {
        Some(id) => origins[id.index()] == Origin::Runtime,
        None => origin_of_file(&row.file) == Origin::Runtime,
    };
    for row in &mut joined {
        judge(row, &tallies, each, is_runtime(row));
    }
    let larger = |row: &Joined| row.traced_share.max(row.sampled_share);
    joined
        .sort_by(|a, b| larger(b).total_cmp(&larger(a)).then_with(|| a.function.cmp(&b.function)));
    joined
}

/// Decides whether a function is distorted (with the correction of Bonferroni 1936 over all functions).
fn judge(row: &mut Joined, tallies: &Tallies, confidence: f64, is_runtime: bool) {
    if row.sampled_share > 0.0 {
        row.distortion = Some(row.traced_share / row.sampled_share);
    }
    if is_runtime || row.traced_share.max(row.sampled_share) < NOTABLE {
        return;
    }
    let ratio = row.distortion.unwrap_or(if row.traced_share > 0.0 { f64::INFINITY } else { 1.0 });
    if !(1.0 / DISTORTION..=DISTORTION).contains(&ratio) {
        let [low, high] = tallies.interval(row.sampled_share, confidence);
        row.distorted = row.traced_share < low || row.traced_share > high;
    }
}

/// Wall time of a function as the innermost Python function of a thread.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    /// CPU time, time ready to run, and waiting, ns.
    wall_ns: f64,
    /// CPU samples.
    samples: u64,
    /// Waiting, ns.
    wait_ns: f64,
}

impl Tally {
    fn plus(self, other: Self) -> Self {
        Self {
            wall_ns: self.wall_ns + other.wall_ns,
            samples: self.samples + other.samples,
            wait_ns: self.wait_ns + other.wait_ns,
        }
    }
}

/// Wall time of each function, and the sum.
struct Tallies {
    by_function: Vec<Tally>,
    all: Tally,
    /// Mean CPU time that a sample represents.
    ns_per_sample: f64,
}

impl Tallies {
    /// Sums the wall time of all threads, since that is what the tracer measures. The time in which a thread was ready to run is
    /// divided among its functions in proportion to their CPU time.
    fn new(profile: &Profile) -> Self {
        let by_function = vec![Tally::default(); profile.functions.len()];
        let samples = profile.samples.len().max(1) as f64;
        let ns_per_sample = profile.total_weight() as f64 / samples;
        let mut tallies = Self { by_function, all: Tally::default(), ns_per_sample };
        let ready = ready_factors(profile);
        for sample in &profile.samples {
            let wall_ns = sample.weight as f64 * ready.get(&sample.thread).unwrap_or(&1.0);
            tallies.add(profile, sample.stack, Tally { wall_ns, samples: 1, wait_ns: 0.0 });
        }
        for wait in &profile.waits {
            let wait_ns = wait.weight_ns as f64;
            let more = Tally { wall_ns: wait_ns, samples: 0, wait_ns };
            tallies.add(profile, wait.stack, more);
        }
        tallies
    }

    fn add(&mut self, profile: &Profile, stack: Option<StackId>, more: Tally) {
        let mut functions =
            profile.frames_from_leaf(stack).map(|frame| profile.frame(frame).function);
        let is_python = |id: &FunctionId| profile.function(*id).kind == FunctionKind::Python;
        if let Some(innermost) = functions.find(is_python) {
            let tally = &mut self.by_function[innermost.index()];
            *tally = tally.plus(more);
            self.all = self.all.plus(more);
        }
    }

    /// Returns `part` as a share of all wall time, 0 to 1.
    fn share(&self, part: Tally) -> f64 {
        if self.all.wall_ns > 0.0 { part.wall_ns / self.all.wall_ns } else { 0.0 }
    }

    /// Returns the interval of a share. Waits are sampled about as densely as CPU time, so they count as that many samples.
    fn interval(&self, share: f64, confidence: f64) -> [f64; 2] {
        let waits = self.all.wait_ns / self.ns_per_sample.max(1.0);
        let of = self.all.samples + waits.round() as u64;
        let samples = (share * of as f64).round() as u64;
        let interval = binomial_interval(samples.min(of), of, confidence);
        let interval =
            interval.expect("samples are at most all samples, and the confidence is valid");
        [interval.lo, interval.hi]
    }
}

/// Returns by which factor the time of each thread in which it ran or was ready to run exceeds its CPU time.
fn ready_factors(profile: &Profile) -> HashMap<ThreadId, f64> {
    let mut cpu_ns: HashMap<ThreadId, u64> = HashMap::new();
    for sample in &profile.samples {
        *cpu_ns.entry(sample.thread).or_default() += sample.weight;
    }
    let mut runnable_ns: HashMap<ThreadId, u64> = HashMap::new();
    for states in &profile.thread_states {
        *runnable_ns.entry(states.thread).or_default() += states.runnable_ns;
    }
    let factor = |(thread, runnable_ns): (ThreadId, u64)| {
        let cpu_ns = *cpu_ns.get(&thread)?;
        (cpu_ns > 0).then(|| (thread, 1.0 + runnable_ns as f64 / cpu_ns as f64))
    };
    runnable_ns.into_iter().filter_map(factor).collect()
}

/// The Python functions of a sampled profile by first line and last part of the name.
struct Index<'a> {
    profile: &'a Profile,
    functions: HashMap<(u32, &'a str), Vec<FunctionId>>,
}

impl<'a> Index<'a> {
    fn new(profile: &'a Profile) -> Self {
        let mut functions: HashMap<_, Vec<FunctionId>> = HashMap::new();
        for (id, function) in (0..).map(FunctionId).zip(&profile.functions) {
            let line = function.line.filter(|_| function.kind == FunctionKind::Python);
            if let Some(line) = line {
                let name = profile.string(function.name);
                let last = name.rsplit('.').next().unwrap_or(name);
                functions.entry((line, last)).or_default().push(id);
            }
        }
        Self { profile, functions }
    }

    fn find(&self, traced: &CallProfile, function: &CalledFunction) -> Vec<FunctionId> {
        let file = &slashes(traced.file(function));
        let named = self.functions.get(&(function.line, traced.name(function)));
        let named = named.map_or(&[][..], Vec::as_slice);
        let of_file = |test: &dyn Fn(&str) -> bool| -> Vec<FunctionId> {
            let found = |id: &FunctionId| self.profile.function_file(*id).is_some_and(test);
            named.iter().copied().filter(found).collect()
        };
        let same = of_file(&|other| other == file);
        if !same.is_empty() {
            return same;
        }
        let alike = of_file(&|other| is_end(file, other) || is_end(other, file));
        let files = alike.iter().map(|&id| self.profile.function_file(id));
        let one = files.collect::<std::collections::HashSet<_>>().len() == 1;
        if one { alike } else { Vec::new() }
    }
}

/// Whether `path` ends with `end`, by whole names.
fn is_end(end: &str, path: &str) -> bool {
    let end = end.trim_start_matches("./");
    !end.is_empty() && path.strip_suffix(end).is_some_and(|rest| rest.ends_with('/'))
}

#[cfg(test)]
mod tests {
    use simprof_model::{Frame, Function, ProfileBuilder, StackSample, WeightKind};

    use super::*;
    use crate::testing::calls::{Calls, call};

    /// Returns a profile with stacks of `file:line:name` for Python functions, or `name` for native ones.
    fn sampled(stacks: &[(&str, u64)]) -> Profile {
        let mut builder = ProfileBuilder::new(WeightKind::CpuNs);
        let thread = builder.thread(1, 1, "");
        for &(text, samples) in stacks {
            let mut stack = None;
            for text in text.split(" > ") {
                let parts: Vec<&str> = text.split(':').collect();
                let (name, file, line, kind) = match parts[..] {
                    [file, line, name] => {
                        (name, Some(file), line.parse().ok(), FunctionKind::Python)
                    }
                    _ => (text, None, None, FunctionKind::Native),
                };
                let (name, file) = (builder.string(name), file.map(|file| builder.string(file)));
                let function = Function { name, module: None, file, line, kind };
                let function = builder.function(function);
                let (line, address, inlined) = (None, 0, false);
                let frame = builder.frame(Frame { function, line, file, address, inlined });
                stack = Some(builder.child(stack, frame));
            }
            for _ in 0..samples {
                builder.sample(StackSample { time_ns: 0, thread, stack, weight: 1000 });
            }
        }
        builder.finish()
    }

    fn traced() -> CallProfile {
        Calls::new()
            .function("sim.py:main", 1, 0.1, 10.0, &[])
            .function("sim.py:tiny", 1_000_000, 5.0, 5.0, &[call("main", 1_000_000, 5.0, 5.0)])
            .function("sim.py:heavy", 10, 1.0, 4.9, &[call("main", 10, 1.0, 4.9)])
            .function("<built-in method dot>", 10, 3.9, 3.9, &[call("heavy", 10, 3.9, 3.9)])
            .finish()
    }

    #[test]
    fn built_in_time_counts_for_the_caller_on_both_sides() {
        let sampled = sampled(&[
            ("_start > /w/sim.py:1:sim.main > /w/sim.py:3:sim.heavy > dgemm > kernel", 800),
            ("_start > /w/sim.py:1:sim.main > /w/sim.py:2:sim.tiny", 190),
            ("_start > /w/sim.py:1:sim.main", 10),
            ("_start > dl_main", 500),
        ]);
        let joined = join(&traced(), &sampled);
        let rows: Vec<_> = joined
            .iter()
            .map(|row| (&*row.function, row.calls, row.samples, row.distorted))
            .collect();
        assert_eq!(
            rows,
            [
                ("sim.heavy", 10, 800, true),
                ("sim.tiny", 1_000_000, 190, true),
                ("sim.main", 1, 10, false),
            ]
        );
        assert!((joined[0].traced_share - 0.49).abs() < 1e-9);
        assert!((joined[0].sampled_share - 0.8).abs() < 1e-9);
        assert!((joined[1].distortion.expect("sampled") - 0.5 / 0.19).abs() < 1e-9);
        let [low, high] = joined[0].sampled_interval;
        assert!(low < 0.8 && 0.8 < high && high - low < 0.06, "{low} {high}");
        assert_eq!(joined[0].ids.len(), 1);
    }

    #[test]
    fn the_standard_library_and_small_functions_are_not_judged() {
        let traced = Calls::new()
            .function("/opt/lib/python3.11/json/decoder.py:decode", 9, 5.0, 5.0, &[])
            .function("sim.py:heavy", 10, 4.95, 4.95, &[])
            .function("sim.py:trifle", 10, 0.05, 0.05, &[])
            .finish();
        let joined = join(&traced, &sampled(&[("sim.py:2:heavy", 10_000)]));
        let rows: Vec<_> = joined.iter().map(|row| (&*row.function, row.distorted)).collect();
        assert_eq!(rows, [("heavy", true), ("json.decoder.decode", false), ("sim.trifle", false)],);
    }

    #[test]
    fn differences_by_chance_are_not_distortions() {
        let few = sampled(&[("sim.py:3:heavy", 3), ("sim.py:2:tiny", 1)]);
        assert!(join(&traced(), &few).iter().all(|row| !row.distorted));
        let none = join(&traced(), &sampled(&[]));
        assert!(none.iter().all(|row| !row.distorted && row.distortion.is_none()), "{none:?}");
        assert_eq!(none.len(), 3);
    }

    #[test]
    fn a_function_without_samples_may_be_distorted() {
        let joined = join(&traced(), &sampled(&[("sim.py:3:heavy", 1000)]));
        let tiny = joined.iter().find(|row| row.function == "sim.tiny").expect("it was traced");
        assert!(tiny.distorted && tiny.distortion.is_none(), "{tiny:?}");
        assert!(tiny.ids.is_empty());
    }

    #[test]
    fn ambiguous_files_are_not_joined() {
        let sampled = sampled(&[
            ("/a/sim.py:3:a.heavy", 5),
            ("/b/sim.py:3:b.heavy", 5),
            ("/a/xsim.py:2:tiny", 5),
            ("/a/sim.py:1:M.main", 5),
        ]);
        let joined = join(&traced(), &sampled);
        let samples = |name: &str| {
            let row = joined.iter().find(|row| row.function.ends_with(name));
            row.expect("it was traced").samples
        };
        assert_eq!((samples("heavy"), samples("tiny"), samples("main")), (0, 0, 5));
    }

    #[test]
    fn wall_time_is_compared_with_wall_time() {
        use simprof_model::{ThreadStates, WaitCause, WaitSample};
        // The tracer sees a second of work and three of sleep; the work used a CPU for half of its second.
        let traced = Calls::new()
            .function("sim.py:work", 60, 1.0, 1.0, &[])
            .function("sim.py:idle", 3, 0.0, 3.0, &[])
            .function("<built-in function sleep>", 9, 3.0, 3.0, &[call("idle", 9, 3.0, 3.0)])
            .finish();
        let mut profile = sampled(&[("/w/sim.py:1:work", 1000)]);
        let idle = sampled(&[("/w/sim.py:1:work", 1), ("/w/sim.py:2:idle", 1)]);
        profile.strings = idle.strings;
        profile.functions = idle.functions;
        profile.frames = idle.frames;
        profile.stacks = idle.stacks;
        let (thread, cause) = (ThreadId(0), WaitCause::Sleep);
        let stack = Some(StackId(1));
        profile.waits = vec![WaitSample { time_ns: 0, thread, stack, weight_ns: 6_000_000, cause }];
        let (running_ns, runnable_ns, blocked_ns, unknown_ns) = (1_000_000, 1_000_000, 0, 0);
        profile.thread_states = vec![ThreadStates {
            thread,
            running_ns,
            runnable_ns,
            blocked_ns,
            unknown_ns,
            spans: vec![],
        }];
        let joined = join(&traced, &profile);
        let rows: Vec<_> = joined
            .iter()
            .map(|row| (&*row.function, row.traced_share, row.sampled_share, row.distorted))
            .collect();
        assert_eq!(rows, [("idle", 0.75, 0.75, false), ("work", 0.25, 0.25, false)]);
    }
}
