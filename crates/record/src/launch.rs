//! One recording of one run of a program.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use regex::Regex;
use simprof_model::{Notice, NoticeId, Steps, Timeline};
use simprof_probe::format::Kind;

use crate::guardian::handle::{self, Handle};
use crate::guardian::protocol::{News, Order, Remains, Target};
use crate::heap::{self, HeapRecording, HeapSampling};
use crate::marks::{Mark, Marked, Marks};
use crate::output::{Match, Output, Written};
use crate::preload::{self, Loadable};
use crate::resources::{Sampled, Sampler};
use crate::sample::{self, SampleError, Samples, Sampling};
use crate::{Cancel, Outcome, Preload, RecordError, clock, program};

/// How often a request to cancel, or the time-out, is looked at, and marks are read: at 40 Hz the
/// memory for marks holds 1.3 million a second.
const TICK: Duration = Duration::from_millis(25);

/// The same where allocations are recorded, whose order among the marks waits for them.
const HEAP_TICK: Duration = Duration::from_millis(5);

/// How long the guardian may take for what takes it milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Variable by which processes of a target are known even where their guardian was killed.
const RUN_VARIABLE: &str = "SIMPROF_RUN";

/// What to run, and what to observe of it.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program and its arguments. A program without a slash is looked up in PATH, one with a
    /// slash is relative to `directory`.
    pub argv: Vec<String>,
    /// Working directory; that of this process where none is given.
    pub directory: Option<PathBuf>,
    /// Variables that are added to, or replace those of, this process's environment.
    pub environment: BTreeMap<String, String>,
    /// File that standard output is written to.
    pub stdout: PathBuf,
    /// File that standard error is written to; may be the same.
    pub stderr: PathBuf,
    /// After this time from its start the target is killed.
    pub timeout: Option<Duration>,
    /// Time between samples of resources, 50 ms by default in the command; none samples none.
    pub resources: Option<Duration>,
    /// How to sample stacks; not at all where none.
    pub sampling: Option<Sampling>,
    /// How to record allocations; not at all where none. Never together with `sampling`, since each would be in the figures
    /// of the other; of what `preload` asks for, the script alone is done then.
    pub heap: Option<HeapSampling>,
    /// What the library that is loaded into the target does there; [`Preload::python`] wherever stacks are sampled, unless
    /// nothing may be loaded.
    pub preload: Preload,
    /// How to start the guardian.
    pub guardian: Guardian,
    /// Whether the target may mark its steps with `simprof-probe`.
    pub marks: bool,
    /// Lines of the output that mark the begin of a step; the first group may be its number.
    pub step_pattern: Option<Regex>,
}

/// An executable that, with these arguments, calls [`guardian::main`](crate::guardian::main).
#[derive(Debug, Clone)]
pub struct Guardian {
    /// Such as `/proc/self/exe`.
    pub exe: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// What was observed of a program that ran.
#[derive(Debug)]
pub struct Recording {
    /// How its main process ended.
    pub outcome: Outcome,
    /// From its exec to the end of its main process, ns.
    pub wall_ns: u64,
    /// Its exec, CLOCK_MONOTONIC ns.
    pub start_ns: u64,
    /// The end of its main process, CLOCK_MONOTONIC ns.
    pub end_ns: u64,
    /// User time of all processes that were waited for, ns.
    pub user_cpu_ns: u64,
    /// System time of all processes that were waited for, ns.
    pub system_cpu_ns: u64,
    /// The larger of the largest resident set of any one process, as the kernel keeps it, and the
    /// largest sum over processes that was seen, bytes. Never below the guardian's own (a few
    /// MiB), which a process keeps as its mark from before its exec.
    pub peak_rss_bytes: u64,
    /// Sampled stacks, where they were asked for and allowed; [`symbolise`](sample::symbolise) turns those of one or
    /// more runs into a profile.
    pub samples: Option<Samples>,
    /// Why stacks were not sampled although they were asked for.
    pub sampling_error: Option<SampleError>,
    /// Allocations, where they were asked for; [`symbolise`](heap::symbolise) turns them into a profile.
    pub heap: Option<HeapRecording>,
    /// Resources over time; empty where they were not asked for.
    pub timeline: Timeline,
    /// CPU time that the sampling of resources took, ns.
    pub resources_cpu_ns: u64,
    /// Steps: by the target's marks where it made any, else by the lines of its output; empty where
    /// neither marks them.
    pub steps: Steps,
    /// Marks that begin a step that does not end, or the reverse; they are in no step.
    pub unmatched_marks: u64,
    /// The last 8 KiB of standard output.
    pub stdout_tail: String,
    /// The last 8 KiB of standard error.
    pub stderr_tail: String,
    /// Processes that outlived the main one and were ended.
    pub leftovers: Vec<Leftover>,
    /// What a reader must know about the recording.
    pub notices: Vec<Notice>,
}

/// A process that outlived the target's main process and was ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Process id.
    pub pid: u32,
    /// Name, at most 15 bytes.
    pub name: String,
}

/// Runs a program to its end and observes it. Blocks; returns when nothing is left of the target.
///
/// # Errors
/// Where the program could not be run, or the guardian was killed. That the target fails, crashes,
/// hangs or is cancelled is no error: what was observed until then is in the recording.
pub fn launch(launch: &Launch, cancel: &Cancel) -> Result<Recording, RecordError> {
    check_passable(launch)?;
    let name = launch.argv.first().ok_or(RecordError::EmptyCommand)?;
    let directory = launch.directory.as_deref();
    let program = program::resolve(name, directory, &launch.environment)?;
    if launch.heap.is_some() {
        check_heap(launch, &program)?;
    }
    let paths = [launch.stdout.as_path(), launch.stderr.as_path()];
    let (mut output, descriptors) = Output::open(paths, launch.step_pattern.as_ref())?;
    // Nobody else listens, and what nobody listens to is not kept.
    let lines = output.matches().filter(|_| launch.heap.is_some());
    let (run_name, run_value) = (RUN_VARIABLE, run_value());
    let marks = launch.marks.then(Marks::create).transpose().map_err(RecordError::Marks)?;
    let mut target = target(launch, &program, &run_value);
    target.environment.extend(marks.iter().map(|marks| (marks_variable(), marks.path())));
    let heap = heap_recorder(launch)?;
    let given = &launch.environment;
    target.environment.extend(heap.iter().flat_map(|heap| heap.environment(given)));
    let (loadable, load_notice) = loadable(launch, &program);
    target.environment.extend(loadable.iter().flat_map(|loadable| loadable.environment(given)));
    let mark = format!("{run_name}={run_value}");
    let handle = Handle::start(&launch.guardian, descriptors, target, mark)?;
    let (ended_by, killed_at) = (None, None);
    let told = Told { marks, lines, by_marks: false };
    let mut run = Run { launch, program, cancel, handle, told, heap, ended_by, killed_at };
    let pid = run.ready()?;
    let stacks = open_stacks(launch, pid, loadable.as_ref());
    let sampler = run.resource_sampler(pid)?;
    let start_ns = run.start()?;
    sampler.iter().for_each(Sampler::begin);
    run.heap.iter().for_each(|heap| heap.watch(run.handle.guardian_pid()));
    let end_ns = run.watch()?;
    let sampled = sampler.map(Sampler::finish).unwrap_or_default();
    run.order(&Order::Release)?;
    let remains = run.remains()?;
    let written = output.finish();
    run.drain_marks();
    let marked = run.told.marks.take().map(Marks::finish).unwrap_or_default();
    let target_cpu_ns = remains.user_ns + remains.system_ns;
    let stacks = stacks.map(|sampler| sampler.and_then(|sampler| sampler.finish(target_cpu_ns)));
    let heap = run.heap.take().map(heap::Recorder::finish).transpose();
    let observed = Observed { remains, sampled, written, marked, stacks };
    let mut recording = run.recording(start_ns, end_ns, observed);
    recording.notices.extend(load_notice);
    recording.add_heap(heap);
    Ok(recording)
}

/// How the target tells of its steps while it runs.
struct Told {
    marks: Option<Marks>,
    /// Lines of its output, where anybody wants to know of them at once.
    lines: Option<Receiver<Match>>,
    /// Whether it has made a mark: then its lines do not count.
    by_marks: bool,
}

impl Told {
    /// Marks that have come; where the target makes none, its lines as such.
    fn take(&mut self) -> Vec<Mark> {
        let mut new = Vec::new();
        if let Some(marks) = &mut self.marks {
            marks.drain_with(|mark| new.push(mark));
        }
        self.by_marks |= !new.is_empty();
        let lines = self.lines.iter().flat_map(Receiver::try_iter).map(boundary);
        if self.by_marks {
            lines.for_each(drop);
        } else {
            new.extend(lines);
        }
        new
    }
}

/// A line of the output as the mark that it stands for. No thread has this number.
fn boundary(line: Match) -> Mark {
    let Match { time_ns, index } = line;
    Mark { kind: Kind::Boundary, thread: 0, time_ns, index, population: 0 }
}

/// One run from its guardian's start on.
struct Run<'a> {
    launch: &'a Launch,
    program: PathBuf,
    cancel: &'a Cancel,
    handle: Handle,
    told: Told,
    heap: Option<heap::Recorder>,
    /// Set when the target was killed on purpose.
    ended_by: Option<Outcome>,
    /// When it was.
    killed_at: Option<Instant>,
}

impl Run<'_> {
    /// Waits until the target waits before its exec: its process id.
    fn ready(&mut self) -> Result<u32, RecordError> {
        match self.next(PATIENCE)? {
            News::Ready { pid } => Ok(pid),
            news => Err(self.unexpected(&news)),
        }
    }

    fn resource_sampler(&self, pid: u32) -> Result<Option<Sampler>, RecordError> {
        let failed = |source| RecordError::System { what: "no thread to sample resources", source };
        let guardian = self.handle.guardian_pid();
        let prepare = |interval| Sampler::prepare(guardian, pid, interval);
        self.launch.resources.map(prepare).transpose().map_err(failed)
    }

    /// Lets the target run: the time of its exec, ns.
    fn start(&mut self) -> Result<u64, RecordError> {
        self.order(&Order::Go)?;
        match self.next(PATIENCE)? {
            News::Started { time_ns } => Ok(time_ns),
            news => Err(self.unexpected(&news)),
        }
    }

    /// Waits for the end of the target, by itself or not: its time, ns.
    fn watch(&mut self) -> Result<u64, RecordError> {
        let deadline = self.launch.timeout.map(|timeout| Instant::now() + timeout);
        let tick = if self.heap.is_some() { HEAP_TICK } else { TICK };
        loop {
            self.drain_marks();
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let wait = left.map_or(tick, |left| left.min(tick));
            match self.handle.news(wait)? {
                Some(News::Ended { time_ns }) => return Ok(time_ns),
                Some(news) => return Err(self.unexpected(&news)),
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

    /// Reads what marks have come, and tells whoever adds up allocations of them.
    fn drain_marks(&mut self) {
        let complete_ns = clock::now_ns();
        let new = self.told.take();
        if let Some(heap) = &self.heap {
            heap.steps(new, complete_ns);
        }
    }

    /// Whether it was killed and has not ended for longer than anything that can.
    fn hangs(&self) -> bool {
        self.killed_at.is_some_and(|killed| killed.elapsed() > PATIENCE)
    }

    fn kill(&mut self, why: Outcome) -> Result<(), RecordError> {
        self.ended_by = Some(why);
        self.killed_at = Some(Instant::now());
        self.order(&Order::Kill)
    }

    fn remains(&mut self) -> Result<Remains, RecordError> {
        match self.next(PATIENCE)? {
            News::Done(remains) => Ok(remains),
            news => Err(self.unexpected(&news)),
        }
    }

    fn order(&mut self, order: &Order) -> Result<(), RecordError> {
        let failed = |source| RecordError::System { what: "no word to the guardian", source };
        self.handle.order(order).map_err(failed)
    }

    /// The next news, which must come.
    fn next(&mut self, patience: Duration) -> Result<News, RecordError> {
        self.handle.news(patience)?.ok_or(RecordError::GuardianSilent)
    }

    /// The error that news stand for which are not those waited for.
    fn unexpected(&self, news: &News) -> RecordError {
        match news {
            News::Refused { stage, errno } => {
                handle::refusal(*stage, *errno, &self.program, self.launch.directory.as_deref())
            }
            News::Ended { .. } => RecordError::KilledBeforeExec { pid: self.handle.pid() },
            _ => RecordError::GuardianLost { pid: self.handle.pid() },
        }
    }

    fn recording(self, start_ns: u64, end_ns: u64, observed: Observed) -> Recording {
        let Observed { remains, sampled, written, marked, stacks } = observed;
        let (samples, sampling_error) = match stacks {
            Some(Ok(samples)) => (Some(samples), None),
            Some(Err(error)) => (None, Some(error)),
            None => (None, None),
        };
        let [stdout_tail, stderr_tail] = written.tails;
        let mut notices = written.notices;
        notices.extend(marked.notices);
        let by_marks = !marked.steps.steps.is_empty();
        notices.extend(stuck_notice(&remains.stuck));
        let leftover = |(pid, name)| Leftover { pid, name };
        let peak_seen_bytes = sampled.timeline.peak_rss_bytes().unwrap_or(0);
        Recording {
            outcome: self.ended_by.unwrap_or(Outcome::from_wait_status(remains.wait_status)),
            wall_ns: end_ns.saturating_sub(start_ns),
            start_ns,
            end_ns,
            user_cpu_ns: remains.user_ns,
            system_cpu_ns: remains.system_ns,
            peak_rss_bytes: remains.peak_rss_bytes.max(peak_seen_bytes),
            samples,
            sampling_error,
            heap: None,
            timeline: sampled.timeline,
            resources_cpu_ns: sampled.cpu_ns,
            steps: written.steps.filter(|_| !by_marks).unwrap_or(marked.steps),
            unmatched_marks: marked.unmatched,
            stdout_tail,
            stderr_tail,
            leftovers: remains.leftovers.into_iter().map(leftover).collect(),
            notices,
        }
    }
}

impl Recording {
    fn add_heap(&mut self, heap: Result<Option<HeapRecording>, String>) {
        match heap {
            Ok(heap) => self.heap = heap,
            Err(sentence) => self.notices.push(Notice::new(NoticeId::MemoryNotRecorded, sentence)),
        }
        if let Some(heap) = &mut self.heap {
            heap.observed(&self.timeline, self.user_cpu_ns + self.system_cpu_ns, self.wall_ns);
        }
    }
}

/// All that was observed, in parts.
struct Observed {
    remains: Remains,
    sampled: Sampled,
    written: Written,
    marked: Marked,
    stacks: Option<Result<Samples, SampleError>>,
}

fn stuck_notice(stuck: &[(u32, String)]) -> Option<Notice> {
    let names: Vec<_> = stuck.iter().map(|(pid, name)| format!("{name} ({pid})")).collect();
    (!names.is_empty()).then(|| {
        let text =
            format!("These processes could not be ended and still run: {}.", names.join(", "));
        Notice::new(NoticeId::ProcessesUnkillable, text)
    })
}

/// Name of the variable by which a probe finds the memory for its marks.
fn marks_variable() -> String {
    simprof_probe::format::VARIABLE.to_string_lossy().into_owned()
}

/// A value that no other run of this machine has at this time.
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
        open_files: sample::original_file_limit(),
    }
}

/// Whether allocations can be recorded as they are asked for.
fn check_heap(launch: &Launch, program: &Path) -> Result<(), RecordError> {
    if launch.sampling.is_some() {
        return Err(RecordError::HeapAndStacks);
    }
    heap::check_path(program)
}

/// What records allocations, where they are asked for.
fn heap_recorder(launch: &Launch) -> Result<Option<heap::Recorder>, RecordError> {
    let start = |sampling| {
        let script = launch.preload.script.clone();
        let has_marks = launch.marks || launch.step_pattern.is_some();
        heap::Recorder::start(sampling, script, launch.directory.as_deref(), has_marks)
    };
    launch.heap.map(start).transpose().map_err(RecordError::Heap)
}

/// What samples stacks of a process that is about to become the target, where that is asked for.
fn open_stacks(
    launch: &Launch,
    pid: u32,
    loadable: Option<&Arc<Loadable>>,
) -> Option<Result<sample::Sampler, sample::SampleError>> {
    let opened = sample::Sampler::open_with(pid, &launch.sampling?, loadable);
    if let (Some(loadable), Err(_)) = (loadable, &opened) {
        loadable.ask_for_nothing_sampled();
    }
    Some(opened)
}

/// Returns what the target has to load, and a notice if it should load something but cannot.
fn loadable(launch: &Launch, program: &Path) -> (Option<Arc<Loadable>>, Option<Notice>) {
    let wanted = launch.preload.with_sampling(launch.sampling.is_some());
    if launch.heap.is_some() || !wanted.is_wanted() {
        return (None, None);
    }
    if program::interpreter(program).is_some_and(|loader| loader.contains("ld-musl")) {
        let text = "The target uses the musl C library, so simprof's library cannot be loaded: Python frames, waits and \
                    scripts are missing. Use an interpreter built for the GNU C library.";
        return (None, Some(Notice::new(NoticeId::LibraryNotLoaded, text)));
    }
    match Loadable::create(&wanted, launch.directory.as_deref()) {
        Ok(loadable) => (Some(Arc::new(loadable)), None),
        Err(error) => {
            let text = format!(
                "simprof's library could not be loaded into the target ({error}): Python frames, waits and scripts are missing."
            );
            (None, Some(Notice::new(NoticeId::LibraryNotLoaded, text)))
        }
    }
}

/// Whether all can be passed to a program.
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
