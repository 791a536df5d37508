//! Runs a program once and records it.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use regex::Regex;
use simprof_model::{Notice, NoticeId, Steps, Timeline, has_notice};

use crate::guardian::handle::{self, Handle};
use crate::guardian::protocol::{Event, FinalReport, Order, Target};
use crate::heap::{self, HeapRecording, HeapSampling};
use crate::library_limits::{self, TargetLimits};
use crate::machine::Throttling;
use crate::marks::{MarkedSteps, Marks};
use crate::output::{Output, Written};
use crate::preload::{self, Injection};
use crate::resources::{Sampled, Sampler};
use crate::sample::{self, SampleError, Samples, Sampling};
use crate::step_source::StepSource;
use crate::{Cancel, Outcome, Preload, RecordError, clock, program};

/// How often to check for a request to cancel and for the time-out, and to read marks. At 40 Hz,
/// the ring buffer for marks suffices for 1.3 million marks per second.
const POLL_INTERVAL: Duration = Duration::from_millis(25);

/// Like [`POLL_INTERVAL`], for runs that record allocations. It is shorter because allocations can be summed only after the
/// marks before them were read.
const HEAP_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// How long to wait for an answer of the guardian, which normally takes milliseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Environment variable that identifies the target's processes, even after their guardian was killed.
const RUN_VARIABLE: &str = "SIMPROF_RUN";

/// What to run and what to record.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program and its arguments. A program without a slash is looked up in PATH, one with a
    /// slash is relative to `directory`.
    pub argv: Vec<String>,
    /// Working directory; `None` for that of this process.
    pub directory: Option<PathBuf>,
    /// Environment variables that are added to those of this process, or replace them.
    pub environment: BTreeMap<String, String>,
    /// File that the target reads as standard input; `None` for an empty one.
    pub input: Option<PathBuf>,
    /// How much is kept of standard output, and of standard error, bytes.
    pub keep_output: u64,
    /// File that standard output is written to.
    pub stdout: PathBuf,
    /// File that standard error is written to; may be the same file.
    pub stderr: PathBuf,
    /// Time after the start at which the target is killed.
    pub timeout: Option<Duration>,
    /// Interval between samples of resources; `None` for no samples. The command's default is 50 ms.
    pub resources: Option<Duration>,
    /// How to sample stacks; `None` to sample none.
    pub sampling: Option<Sampling>,
    /// How to record allocations; `None` to record none. Not allowed together with `sampling`, since each would distort the
    /// other's figures. If allocations are recorded, only the script of `preload` applies.
    pub heap: Option<HeapSampling>,
    /// The features of the preload library for Python. Use [`Preload::python`] when sampling stacks, unless no library may be
    /// loaded into the target.
    pub preload: Preload,
    /// How to start the guardian.
    pub guardian: Guardian,
    /// Whether to read step marks, which the target makes with `simprof-probe`.
    pub marks: bool,
    /// Matches the lines of the output that begin a step. The first group may be the step's index.
    pub step_pattern: Option<Regex>,
    /// Whether standard output is a pseudo-terminal, so that the C library and Python flush it after each line.
    pub terminal: bool,
}

/// How to start a guardian: an executable that calls [`guardian::main`](crate::guardian::main) if run with these arguments.
#[derive(Debug, Clone)]
pub struct Guardian {
    /// Path of the executable, such as `/proc/self/exe`.
    pub exe: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// The recording of a program that ran.
#[derive(Debug)]
pub struct Recording {
    /// How the main process ended.
    pub outcome: Outcome,
    /// Time from the exec to the end of the main process, ns.
    pub wall_ns: u64,
    /// Time of the exec, CLOCK_MONOTONIC ns.
    pub start_ns: u64,
    /// Time of the end of the main process, CLOCK_MONOTONIC ns.
    pub end_ns: u64,
    /// User time of all reaped processes, ns.
    pub user_cpu_ns: u64,
    /// System time of all reaped processes, ns.
    pub system_cpu_ns: u64,
    /// Peak resident set, bytes: the larger of the kernel's peak of any one process and the largest
    /// sampled sum over all processes. Never below the guardian's own resident set (a few MiB),
    /// since the kernel's peak of a process includes the time before its exec.
    pub peak_rss_bytes: u64,
    /// Sampled stacks; `None` if they were not requested or not possible.
    /// [`symbolise`](sample::symbolise) turns those of one or more runs into a profile.
    pub samples: Option<Samples>,
    /// Why stacks were not sampled although they were requested.
    pub sampling_error: Option<SampleError>,
    /// Allocations; `None` if they were not requested. [`symbolise`](heap::symbolise) turns them into a profile.
    pub heap: Option<HeapRecording>,
    /// Resources over time; empty if they were not requested.
    pub timeline: Timeline,
    /// CPU time that sampling of resources took, ns.
    pub resources_cpu_ns: u64,
    /// Steps by the target's marks, or by the lines of its output if it made no marks.
    pub steps: Steps,
    /// Number of marks that have no counterpart and are in no step.
    pub unmatched_marks: u64,
    /// The last 8 KiB of standard output.
    pub stdout_tail: String,
    /// The last 8 KiB of standard error.
    pub stderr_tail: String,
    /// Processes that outlived the main process and were killed.
    pub leftovers: Vec<Leftover>,
    /// Notices about the recording.
    pub notices: Vec<Notice>,
}

/// A process that outlived the target's main process and was killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Process id.
    pub pid: u32,
    /// Name, at most 15 bytes.
    pub name: String,
}

/// Runs a program to its end and records it. Blocks until no process of the target is left.
///
/// # Errors
/// Returns an error if the program could not be run or if the guardian was killed. If the target
/// fails, crashes, hangs or is cancelled, that is not an error: the recording contains everything
/// until then.
pub fn launch(launch: &Launch, cancel: &Cancel) -> Result<Recording, RecordError> {
    check_passable(launch)?;
    let name = launch.argv.first().ok_or(RecordError::EmptyCommand)?;
    let directory = launch.directory.as_deref();
    let program = program::resolve(name, directory, &launch.environment)?;
    if launch.heap.is_some() {
        check_heap(launch, &program)?;
    }
    let paths = [launch.stdout.as_path(), launch.stderr.as_path()];
    let (mut output, descriptors) =
        Output::open(paths, launch.keep_output, launch.step_pattern.as_ref(), launch.terminal)?;
    // Only the recording of allocations needs the lines during the run. Otherwise the receiver is
    // dropped, so that matches do not pile up in the channel.
    let lines = output.matches().filter(|_| launch.heap.is_some());
    let (run_name, run_value) = (RUN_VARIABLE, run_value());
    let marks = launch.marks.then(Marks::create).transpose().map_err(RecordError::Marks)?;
    let mut target = target(launch, &program, &run_value);
    target.environment.extend(marks.iter().map(|marks| (marks_variable(), marks.path())));
    let heap = heap_recorder(launch)?;
    let given = &launch.environment;
    target.environment.extend(heap.iter().flat_map(|heap| heap.environment(given)));
    let (injection, injection_notice) = injection(launch, &program);
    target.environment.extend(injection.iter().flat_map(|injection| injection.environment(given)));
    let mark = format!("{run_name}={run_value}");
    let handle = Handle::start(&launch.guardian, descriptors, target, mark)?;
    let (ended_by, killed_at) = (None, None);
    let steps = StepSource::new(marks, lines);
    let mut run = Run { launch, program, cancel, handle, steps, heap, ended_by, killed_at };
    let pid = run.ready()?;
    let stacks = open_stacks(launch, pid, injection.as_ref());
    let sampler = run.resource_sampler(pid)?;
    let throttled_before = Throttling::now();
    let start_ns = run.start()?;
    log::info!("started {} as process {pid}", run.program.display());
    sampler.iter().for_each(Sampler::begin);
    run.heap.iter().for_each(|heap| heap.watch(run.handle.guardian_pid()));
    let end_ns = run.watch(&mut output)?;
    let resources = sampler.map(Sampler::finish).unwrap_or_default();
    let limits = TargetLimits::of(pid);
    run.order(&Order::Release)?;
    let end = run.final_report()?;
    let written = output.finish();
    run.drain_marks();
    let marked = run.steps.marks.take().map(Marks::finish).unwrap_or_default();
    let target_cpu_ns = end.user_ns + end.system_ns;
    let stacks = stacks.map(|sampler| sampler.and_then(|sampler| sampler.finish(target_cpu_ns)));
    let heap = run.heap.take().map(heap::Recorder::finish).transpose();
    let observed = Observed { end, resources, written, marked, stacks };
    let mut recording = run.recording(start_ns, end_ns, observed);
    recording.notices.extend(injection_notice);
    if injection.is_some() || launch.heap.is_some() {
        let notice = library_limits::notice(&recording.outcome, limits, launch.heap.is_some());
        recording.notices.extend(notice);
    }
    recording.notices.extend(library_limits::output_notice(&recording.outcome));
    recording.notices.extend(Throttling::now().notice_since(throttled_before));
    recording.add_heap(heap);
    let wall_ms = recording.wall_ns as f64 * 1e-6;
    log::info!("process {pid} ended after {wall_ms:.1} ms: {}", recording.outcome);
    Ok(recording)
}

/// One run, from the start of its guardian on.
struct Run<'a> {
    launch: &'a Launch,
    program: PathBuf,
    cancel: &'a Cancel,
    handle: Handle,
    steps: StepSource,
    heap: Option<heap::Recorder>,
    /// Why the target was killed, if it was.
    ended_by: Option<Outcome>,
    killed_at: Option<Instant>,
}

impl Run<'_> {
    /// Waits until the target's process is forked and ready for its exec. Returns its process id.
    fn ready(&mut self) -> Result<u32, RecordError> {
        match self.next(ANSWER_TIMEOUT)? {
            Event::Ready { pid } => Ok(pid),
            event => Err(self.unexpected(&event)),
        }
    }

    fn resource_sampler(&self, pid: u32) -> Result<Option<Sampler>, RecordError> {
        let failed = |source| RecordError::System {
            what: "the thread that samples resources could not be started",
            source,
        };
        let guardian = self.handle.guardian_pid();
        let prepare = |interval| Sampler::prepare(guardian, pid, interval);
        self.launch.resources.map(prepare).transpose().map_err(failed)
    }

    /// Lets the target exec. Returns the time of the exec, ns.
    fn start(&mut self) -> Result<u64, RecordError> {
        self.order(&Order::Go)?;
        match self.next(ANSWER_TIMEOUT)? {
            Event::Started { time_ns } => Ok(time_ns),
            event => Err(self.unexpected(&event)),
        }
    }

    /// Waits for the end of the target, and kills it on a time-out or on request. Returns the time of the end, ns.
    fn watch(&mut self, output: &mut Output) -> Result<u64, RecordError> {
        let deadline = self.launch.timeout.map(|timeout| Instant::now() + timeout);
        let interval = if self.heap.is_some() { HEAP_POLL_INTERVAL } else { POLL_INTERVAL };
        loop {
            self.drain_marks();
            output.bound();
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let wait = left.map_or(interval, |left| left.min(interval));
            match self.handle.receive(wait)? {
                Some(Event::Ended { time_ns }) => return Ok(time_ns),
                Some(event) => return Err(self.unexpected(&event)),
                None if self.hangs() => {
                    return Err(RecordError::Unkillable { pid: self.handle.pid() });
                }
                None if self.ended_by.is_some() => {}
                None if self.cancel.is_cancelled() => self.kill(Outcome::Cancelled)?,
                None if left.is_some_and(|left| left.is_zero()) => self.kill(Outcome::TimedOut)?,
                None => {}
            }
        }
    }

    /// Reads new marks and passes them to the recording of allocations.
    fn drain_marks(&mut self) {
        let complete_ns = clock::now_ns();
        let new = self.steps.take();
        if let Some(heap) = &self.heap {
            heap.add_marks(new, complete_ns);
        }
    }

    /// Returns whether the target was killed but has not ended within [`ANSWER_TIMEOUT`].
    fn hangs(&self) -> bool {
        self.killed_at.is_some_and(|killed| killed.elapsed() > ANSWER_TIMEOUT)
    }

    fn kill(&mut self, why: Outcome) -> Result<(), RecordError> {
        self.ended_by = Some(why);
        self.killed_at = Some(Instant::now());
        self.order(&Order::Kill)
    }

    fn final_report(&mut self) -> Result<FinalReport, RecordError> {
        match self.next(ANSWER_TIMEOUT)? {
            Event::Done(report) => Ok(report),
            event => Err(self.unexpected(&event)),
        }
    }

    fn order(&mut self, order: &Order) -> Result<(), RecordError> {
        let failed =
            |source| RecordError::System { what: "the guardian cannot be reached", source };
        self.handle.order(order).map_err(failed)
    }

    /// Waits for the guardian's next message. Returns an error if none comes within `timeout`.
    fn next(&mut self, timeout: Duration) -> Result<Event, RecordError> {
        self.handle.receive(timeout)?.ok_or(RecordError::GuardianSilent)
    }

    /// Turns a message other than the expected one into an error.
    fn unexpected(&self, event: &Event) -> RecordError {
        match event {
            Event::Refused { stage, errno } => {
                let [directory, input] = [&self.launch.directory, &self.launch.input];
                let paths = [directory, input].map(Option::as_deref);
                handle::start_error(*stage, *errno, &self.program, paths)
            }
            Event::Ended { .. } => RecordError::KilledBeforeExec { pid: self.handle.pid() },
            _ => RecordError::GuardianLost { pid: self.handle.pid() },
        }
    }

    fn recording(self, start_ns: u64, end_ns: u64, observed: Observed) -> Recording {
        let Observed { end, resources, written, marked, stacks } = observed;
        let (samples, sampling_error) = match stacks {
            Some(Ok(mut samples)) => {
                samples.add_observed(end.system_ns, &resources.timeline.threads);
                (Some(samples), None)
            }
            Some(Err(error)) => (None, Some(error)),
            None => (None, None),
        };
        let [stdout_tail, stderr_tail] = written.tails;
        let has_marked_steps = !marked.steps.steps.is_empty();
        let mut notices = written.notices;
        // What the output shows does not matter to a target that marks its steps.
        notices.retain(|notice| !has_marked_steps || !notice.id.is_about_steps_as_specified());
        notices.extend(marked.notices);
        notices.extend(stuck_notice(&end.stuck));
        let leftover = |(pid, name)| Leftover { pid, name };
        let peak_sampled_bytes = resources.timeline.peak_rss_bytes().unwrap_or(0);
        Recording {
            outcome: self.ended_by.unwrap_or(Outcome::from_wait_status(end.wait_status)),
            wall_ns: end_ns.saturating_sub(start_ns),
            start_ns,
            end_ns,
            user_cpu_ns: end.user_ns,
            system_cpu_ns: end.system_ns,
            peak_rss_bytes: end.peak_rss_bytes.max(peak_sampled_bytes),
            samples,
            sampling_error,
            heap: None,
            timeline: resources.timeline,
            resources_cpu_ns: resources.cpu_ns,
            steps: written.steps.filter(|_| !has_marked_steps).unwrap_or(marked.steps),
            unmatched_marks: marked.unmatched,
            stdout_tail,
            stderr_tail,
            leftovers: end.leftovers.into_iter().map(leftover).collect(),
            notices,
        }
    }
}

impl Recording {
    fn add_heap(&mut self, heap: Result<Option<HeapRecording>, String>) {
        match heap {
            Ok(heap) => self.heap = heap,
            Err(text) => self.notices.push(Notice::new(NoticeId::MemoryNotRecorded, text)),
        }
        if let Some(heap) = &mut self.heap {
            if has_notice(&self.notices, NoticeId::StepOutputBuffered) {
                heap.forget_steps();
            }
            heap.add_observed(&self.timeline, self.user_cpu_ns + self.system_cpu_ns, self.wall_ns);
        }
    }
}

/// The parts of a recording.
struct Observed {
    end: FinalReport,
    resources: Sampled,
    written: Written,
    marked: MarkedSteps,
    stacks: Option<Result<Samples, SampleError>>,
}

fn stuck_notice(stuck: &[(u32, String)]) -> Option<Notice> {
    let names: Vec<_> = stuck.iter().map(|(pid, name)| format!("{name} ({pid})")).collect();
    (!names.is_empty()).then(|| {
        let text =
            format!("These processes could not be killed and still run: {}.", names.join(", "));
        Notice::new(NoticeId::ProcessesUnkillable, text)
    })
}

/// Returns the name of the variable by which a probe finds the memory for its marks.
fn marks_variable() -> String {
    simprof_probe::format::VARIABLE.to_string_lossy().into_owned()
}

/// Returns a value that no other run on this machine has at this time.
fn run_value() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{}.{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn target(launch: &Launch, program: &Path, run_value: &str) -> Target {
    let mut environment = launch.environment.clone();
    environment.insert(RUN_VARIABLE.to_owned(), run_value.to_owned());
    Target {
        program: program.as_os_str().as_bytes().to_vec(),
        argv: launch.argv.clone(),
        directory: launch.directory.as_ref().map(|path| path.as_os_str().as_bytes().to_vec()),
        without: vec![marks_variable(), preload::variable(), heap::variable()],
        environment,
        input: launch.input.as_ref().map(|path| path.as_os_str().as_bytes().to_vec()),
        open_files: sample::original_file_limit(),
    }
}

/// Checks that allocations can be recorded as requested.
fn check_heap(launch: &Launch, program: &Path) -> Result<(), RecordError> {
    if launch.sampling.is_some() {
        return Err(RecordError::HeapAndStacks);
    }
    heap::check_path(program)
}

/// Starts the recording of allocations if it is requested.
fn heap_recorder(launch: &Launch) -> Result<Option<heap::Recorder>, RecordError> {
    let start = |sampling| {
        let script = launch.preload.script.clone();
        let has_marks = launch.marks || launch.step_pattern.is_some();
        heap::Recorder::start(sampling, script, launch.directory.as_deref(), has_marks)
    };
    launch.heap.map(start).transpose().map_err(RecordError::Heap)
}

/// Opens the sampler of stacks for the target's process before its exec; `None` if stacks are not requested.
fn open_stacks(
    launch: &Launch,
    pid: u32,
    injection: Option<&Arc<Injection>>,
) -> Option<Result<sample::Sampler, sample::SampleError>> {
    let opened = sample::Sampler::open_with(pid, &launch.sampling?, injection);
    if let (Some(injection), Err(_)) = (injection, &opened) {
        injection.disable_sampling();
    }
    Some(opened)
}

/// Creates the preload library for Python if it is needed, or a notice if it cannot be loaded into the target.
fn injection(launch: &Launch, program: &Path) -> (Option<Arc<Injection>>, Option<Notice>) {
    let features = launch.preload.with_sampling(launch.sampling.is_some());
    if launch.heap.is_some() || !features.is_any_enabled() {
        return (None, None);
    }
    if program::interpreter(program).is_some_and(|loader| loader.contains("ld-musl")) {
        let text = "The target uses the musl C library, so simprof's library cannot be loaded: Python frames, waits and \
                    scripts are missing. Use an interpreter built for the GNU C library.";
        return (None, Some(Notice::new(NoticeId::LibraryNotLoaded, text)));
    }
    match Injection::create(&features, launch.directory.as_deref()) {
        Ok(injection) => {
            log::debug!("loading simprof's library into the target");
            (Some(Arc::new(injection)), None)
        }
        Err(error) => {
            let text = format!(
                "simprof's library could not be loaded into the target ({error}): Python frames, waits and scripts are missing."
            );
            (None, Some(Notice::new(NoticeId::LibraryNotLoaded, text)))
        }
    }
}

/// Checks that all arguments and variables can be passed to a program.
fn check_passable(launch: &Launch) -> Result<(), RecordError> {
    let argument = launch.argv.iter().find(|argument| argument.contains('\0'));
    let variable = launch.environment.iter().find_map(|(name, value)| {
        let bad = name.is_empty() || name.contains(['=', '\0']) || value.contains('\0');
        bad.then_some(name)
    });
    match argument.or(variable) {
        Some(what) => Err(RecordError::Unpassable { what: format!("{what:?}") }),
        None => Ok(()),
    }
}
