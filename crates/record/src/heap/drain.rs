//! The thread that reads what the target tells of its allocations, puts it in order of time and adds it up.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use simprof_preload::heap::format::RECORDS;

use super::HeapSampling;
use super::absent::{Absent, Unrecorded};
use super::feed::{Feed, StepMarks};
use super::images::{Image, Images, OwnMemory};
use super::lanes::{Event, Lanes};
use super::loadable::Loadable;
use super::profile::HeapRecording;
use super::tally::{Tallied, Tally};
use crate::clock;
use crate::marks::Mark;
use crate::sample::OpenedModules;

/// Writers take the time of an event somewhat before they write it: events are handed on when they are this old, so that those of all
/// lanes are there, ns.
const SLACK_NS: u64 = 1_000_000;
/// How long the thread rests where little happens.
const REST: Duration = Duration::from_millis(10);
/// Where more than this came since it last looked, it looks again at once.
const BUSY: usize = (RECORDS / 16) as usize;
/// Where at least this much came, it rests but shortly.
const LIVELY: usize = (RECORDS / 256) as usize;
/// A short rest.
const SHORT_REST: Duration = Duration::from_millis(1);

/// Records the allocations of one run.
#[derive(Debug)]
pub(crate) struct Recorder {
    thread: Option<JoinHandle<Drained>>,
    stop: Arc<AtomicBool>,
    /// The process that all of the target descends from; 0 until the target runs.
    guardian: Arc<AtomicU32>,
    feed: Feed,
    loadable: Arc<Loadable>,
    sampling: HeapSampling,
}

/// What the thread brings.
#[derive(Debug)]
pub struct Drained {
    pub tallied: Tallied,
    pub images: Vec<Image>,
    pub unrecorded: Unrecorded,
    pub own: Vec<OwnMemory>,
    pub modules: OpenedModules,
    /// Modules that were never wholly told of.
    pub unnamed_modules: u64,
    /// Process images that never said what they are.
    pub unknown_images: u64,
    pub records: u64,
    /// Records for which there was no room.
    pub lost: u64,
    /// Records that were begun, and never finished.
    pub torn: u64,
    pub cpu_ns: u64,
}

impl Recorder {
    /// Makes the memory and starts the thread. `script` is a Python text that the target runs first, where it runs Python. `has_marks` tells whether step marks will be handed over.
    pub fn start(
        sampling: HeapSampling,
        script: Option<String>,
        directory: Option<&std::path::Path>,
        has_marks: bool,
    ) -> io::Result<Self> {
        let loadable = Arc::new(Loadable::create(sampling, script, directory)?);
        let (stop, feed) = (Arc::new(AtomicBool::new(false)), Feed::default());
        if !has_marks {
            feed.push(Vec::new(), u64::MAX);
        }
        let drain = Drain::new(Arc::clone(&loadable), feed.clone(), sampling.interval_bytes.max(1));
        let guardian = Arc::clone(&drain.guardian);
        let stopped = Arc::clone(&stop);
        let thread =
            thread::Builder::new().name("heap".to_owned()).spawn(move || drain.run(&stopped))?;
        Ok(Self { thread: Some(thread), stop, guardian, feed, loadable, sampling })
    }

    /// The variables that make the target load the library.
    pub fn environment(
        &self,
        given: &std::collections::BTreeMap<String, String>,
    ) -> [(String, String); 3] {
        self.loadable.environment(given)
    }

    /// The target runs: watches that the library is in all that descends from `guardian`.
    pub fn watch(&self, guardian: u32) {
        self.guardian.store(guardian, Ordering::Relaxed);
    }

    /// Hands over step marks; all of those before `complete_ns` have come then.
    pub fn steps(&self, marks: Vec<Mark>, complete_ns: u64) {
        self.feed.push(marks, complete_ns);
    }

    /// Reads what is left, when all processes of the target have ended.
    pub fn finish(mut self) -> Result<HeapRecording, String> {
        let drained = self.end().expect("only this and drop take the thread")?;
        Ok(HeapRecording::new(drained, &self.loadable, self.sampling))
    }

    fn end(&mut self) -> Option<Result<Drained, String>> {
        let thread = self.thread.take()?;
        self.stop.store(true, Ordering::Release);
        thread.thread().unpark();
        let failed = |_| "the thread that records allocations has failed".to_owned();
        Some(thread.join().map_err(failed))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // There is nobody to tell: what was recorded is not wanted any more.
        let _ = self.end();
    }
}

/// The state of the thread.
struct Drain {
    loadable: Arc<Loadable>,
    guardian: Arc<AtomicU32>,
    feed: Feed,
    lanes: Lanes,
    images: Images,
    absent: Absent,
    modules: OpenedModules,
    /// Modules that were not wholly told of when others already were.
    unfinished: Vec<u32>,
    tally: Tally,
    step_marks: StepMarks,
    /// Events that are not handed on yet.
    pending: Vec<Event>,
    /// Step marks and ends of images, likewise.
    moments: Vec<(u64, Moment)>,
}

/// Something other than an event.
#[derive(Debug, Clone, Copy)]
enum Moment {
    Mark(Mark),
    ImageEnds(u32),
}

impl Drain {
    fn new(loadable: Arc<Loadable>, feed: Feed, interval: u64) -> Self {
        Self {
            loadable,
            guardian: Arc::default(),
            feed,
            lanes: Lanes::default(),
            images: Images::default(),
            absent: Absent::default(),
            modules: OpenedModules::new(),
            unfinished: Vec::new(),
            tally: Tally::new(interval, clock::now_ns()),
            step_marks: StepMarks::default(),
            pending: Vec::new(),
            moments: Vec::new(),
        }
    }

    fn run(mut self, stop: &AtomicBool) -> Drained {
        while !stop.load(Ordering::Acquire) {
            match self.pass(clock::now_ns()) {
                came if came >= BUSY => {}
                came if came >= LIVELY => thread::park_timeout(SHORT_REST),
                _ => thread::park_timeout(REST),
            }
        }
        self.pass(clock::now_ns());
        self.lanes.drain(&self.loadable.memory, u64::MAX, &mut self.pending);
        self.take_marks();
        self.hand_on(u64::MAX);
        let own = self.images.take_own();
        let (images, unknown_images) = self.images.finish(&self.loadable.memory);
        Drained {
            tallied: self.tally.finish(),
            images,
            unrecorded: self.absent.finish(),
            own,
            modules: self.modules,
            unnamed_modules: self.unfinished.len() as u64,
            unknown_images,
            records: self.lanes.taken(),
            lost: self.lanes.lost(&self.loadable.memory),
            torn: self.lanes.torn(),
            cpu_ns: clock::thread_cpu_ns(),
        }
    }

    /// Takes what has come and hands on what is old enough: how much has come.
    fn pass(&mut self, now_ns: u64) -> usize {
        let before = self.pending.len();
        self.lanes.drain(&self.loadable.memory, now_ns, &mut self.pending);
        let came = self.pending.len() - before;
        let ends = self.images.look(&self.loadable.memory, clock::now_ns);
        let ends = ends.into_iter().map(|(time_ns, place)| (time_ns, Moment::ImageEnds(place)));
        self.moments.extend(ends);
        self.open_modules();
        match self.guardian.load(Ordering::Relaxed) {
            0 => {}
            guardian => self.absent.look(guardian, now_ns),
        }
        let complete_ns = self.take_marks();
        self.hand_on(complete_ns.min(now_ns.saturating_sub(SLACK_NS)));
        came
    }

    fn take_marks(&mut self) -> u64 {
        let mut marks = Vec::new();
        let complete_ns = self.feed.take(&mut marks);
        self.moments.extend(marks.into_iter().map(|mark| (mark.time_ns, Moment::Mark(mark))));
        complete_ns
    }

    /// Opens the modules that were told of since, while their processes live. Who is killed while it tells of one holds up no others.
    fn open_modules(&mut self) {
        let memory = &self.loadable.memory;
        let told = |number| {
            let told = memory.module(number)?;
            let process = memory.process(told.place);
            Some((process.map_or(0, |process| process.pid.load(Ordering::Relaxed)), told))
        };
        self.unfinished.retain(|&number| {
            let Some((pid, told)) = told(number) else { return true };
            self.modules.open_late(number, pid, told.path, &told.build_id);
            false
        });
        while self.modules.next() < memory.module_count() {
            match told(self.modules.next()) {
                Some((pid, told)) => self.modules.open(pid, told.path, &told.build_id),
                None => {
                    self.unfinished.push(self.modules.next());
                    self.modules.skip();
                }
            }
        }
    }

    /// Adds up all that is older than `horizon_ns`, in order of time.
    fn hand_on(&mut self, horizon_ns: u64) {
        // Stable: a thread's events keep their order. Lanes are in order almost everywhere, which makes it quick.
        self.pending.sort_by_key(|event| event.time_ns);
        self.moments.sort_by_key(|moment| moment.0);
        let is_old = |time_ns: u64| time_ns < horizon_ns || horizon_ns == u64::MAX;
        let events = self.pending.partition_point(|event| is_old(event.time_ns));
        let moments = self.moments.partition_point(|moment| is_old(moment.0));
        let mut rest = &self.pending[..events];
        for (time_ns, moment) in self.moments.drain(..moments) {
            let (earlier, later) = rest.split_at(rest.partition_point(|e| e.time_ns < time_ns));
            earlier.iter().for_each(|event| self.tally.event(event));
            rest = later;
            match moment {
                Moment::Mark(mark) => self.step_marks.add(&mark, &mut self.tally),
                Moment::ImageEnds(place) => self.tally.image_ends(place, time_ns),
            }
        }
        rest.iter().for_each(|event| self.tally.event(event));
        self.pending.drain(..events);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_is_never_whole_holds_up_no_other() {
        let loadable = Loadable::create(HeapSampling::default(), None, None).expect("memory");
        let mut drain = Drain::new(Arc::new(loadable), Feed::default(), 1);
        let memory = &Arc::clone(&drain.loadable).memory;
        memory.tell_modules(3);
        memory.tell_module(2, "/second");
        drain.open_modules();
        assert_eq!((drain.modules.next(), drain.unfinished.as_slice()), (4, &[1, 3][..]));
        memory.tell_module(1, "/first");
        drain.open_modules();
        assert_eq!(drain.unfinished, [3]);
        let stop = AtomicBool::new(true);
        assert_eq!(drain.run(&stop).unnamed_modules, 1);
    }
}
