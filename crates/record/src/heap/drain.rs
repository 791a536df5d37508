//! The thread that reads the target's allocation records, sorts them by time, and sums them.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use simprof_preload::heap::format::RECORDS;

use super::HeapSampling;
use super::images::{Image, Images, LibraryMemory};
use super::injection::HeapInjection;
use super::load_check::{LoadCheck, Unrecorded};
use super::profile::HeapRecording;
use super::rings::{HeapEvent, RingReader};
use super::step_marks::{MarkQueue, StepTracker};
use super::tally::{Tally, Totals};
use crate::clock;
use crate::marks::Mark;
use crate::sample::OpenedModules;

/// Minimum age of events when they are summed, ns. Writers read the clock before they write an event, so a younger event may
/// still be missing from another ring buffer.
const MIN_AGE_NS: u64 = 1_000_000;
/// Pause between two passes when few records come.
const PAUSE: Duration = Duration::from_millis(10);
/// From this number of records per pass on, the pause is [`SHORT_PAUSE`].
const MANY_RECORDS: usize = (RECORDS / 256) as usize;
/// Pause between two passes when many records come.
const SHORT_PAUSE: Duration = Duration::from_millis(1);
/// From this number of records per pass on, there is no pause.
const VERY_MANY_RECORDS: usize = (RECORDS / 16) as usize;

/// Records the allocations of one run.
#[derive(Debug)]
pub(crate) struct Recorder {
    thread: Option<JoinHandle<Drained>>,
    stop: Arc<AtomicBool>,
    /// The guardian's process id; 0 until the target runs.
    guardian: Arc<AtomicU32>,
    marks: MarkQueue,
    injection: Arc<HeapInjection>,
    sampling: HeapSampling,
}

/// The result of the thread.
#[derive(Debug)]
pub struct Drained {
    pub totals: Totals,
    pub images: Vec<Image>,
    pub unrecorded: Unrecorded,
    pub library_memory: Vec<LibraryMemory>,
    pub modules: OpenedModules,
    /// Libraries whose allocations are not recorded.
    pub unseen: BTreeSet<String>,
    /// Modules that were never completely written.
    pub unnamed_modules: u64,
    /// Process images that never filled in their slots.
    pub unknown_images: u64,
    pub records: u64,
    /// Records that were lost because a ring buffer was full.
    pub lost: u64,
    /// Records that were never finished.
    pub torn: u64,
    /// CPU time of the thread, ns.
    pub cpu_ns: u64,
}

impl Recorder {
    /// Creates the shared memory and starts the thread.
    ///
    /// `script` is Python text that the target runs before its own program if it runs Python. `has_marks` is whether
    /// [`Recorder::add_marks`] will be called.
    pub fn start(
        sampling: HeapSampling,
        script: Option<String>,
        directory: Option<&std::path::Path>,
        has_marks: bool,
    ) -> io::Result<Self> {
        let injection = Arc::new(HeapInjection::create(sampling, script, directory)?);
        let (stop, marks) = (Arc::new(AtomicBool::new(false)), MarkQueue::default());
        if !has_marks {
            marks.push(Vec::new(), u64::MAX);
        }
        let drain =
            Drain::new(Arc::clone(&injection), marks.clone(), sampling.interval_bytes.max(1));
        let guardian = Arc::clone(&drain.guardian);
        let stopped = Arc::clone(&stop);
        let thread =
            thread::Builder::new().name("heap".to_owned()).spawn(move || drain.run(&stopped))?;
        Ok(Self { thread: Some(thread), stop, guardian, marks, injection, sampling })
    }

    /// Returns the environment variables that make the target load the library.
    pub fn environment(
        &self,
        given: &std::collections::BTreeMap<String, String>,
    ) -> [(String, String); 3] {
        self.injection.environment(given)
    }

    /// Starts to check, now that the target runs, that all descendants of `guardian` have loaded the library.
    pub fn watch(&self, guardian: u32) {
        self.guardian.store(guardian, Ordering::Relaxed);
    }

    /// Adds step marks. The caller states that all marks before `complete_ns` have now been added.
    pub fn add_marks(&self, marks: Vec<Mark>, complete_ns: u64) {
        self.marks.push(marks, complete_ns);
    }

    /// Reads the remaining records and returns the recording. Call it when all processes of the target have ended.
    pub fn finish(mut self) -> Result<HeapRecording, String> {
        let drained = self.end().expect("only `finish` and `drop` take the thread")?;
        Ok(HeapRecording::new(drained, &self.injection, self.sampling))
    }

    fn end(&mut self) -> Option<Result<Drained, String>> {
        let thread = self.thread.take()?;
        self.stop.store(true, Ordering::Release);
        thread.thread().unpark();
        let failed =
            |_| "The thread that records allocations failed, so memory is not recorded.".to_owned();
        Some(thread.join().map_err(failed))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // The recording is discarded, so an error does not matter.
        let _ = self.end();
    }
}

/// The state of the thread.
struct Drain {
    injection: Arc<HeapInjection>,
    guardian: Arc<AtomicU32>,
    marks: MarkQueue,
    rings: RingReader,
    images: Images,
    load_check: LoadCheck,
    modules: OpenedModules,
    /// Modules that were incomplete when later ones were read.
    unfinished: Vec<u32>,
    /// See [`Drained::unseen`].
    unseen: BTreeSet<String>,
    tally: Tally,
    steps: StepTracker,
    /// Events that are not summed yet.
    pending: Vec<HeapEvent>,
    /// Step marks and ends of images that are not applied yet.
    boundaries: Vec<(u64, Boundary)>,
}

/// A step mark, or the end of a process image.
#[derive(Debug, Clone, Copy)]
enum Boundary {
    Mark(Mark),
    ImageEnd(u32),
}

impl Drain {
    fn new(injection: Arc<HeapInjection>, marks: MarkQueue, interval: u64) -> Self {
        Self {
            injection,
            guardian: Arc::default(),
            marks,
            rings: RingReader::default(),
            images: Images::default(),
            load_check: LoadCheck::default(),
            modules: OpenedModules::new(),
            unfinished: Vec::new(),
            unseen: BTreeSet::new(),
            tally: Tally::new(interval, clock::now_ns()),
            steps: StepTracker::default(),
            pending: Vec::new(),
            boundaries: Vec::new(),
        }
    }

    fn run(mut self, stop: &AtomicBool) -> Drained {
        while !stop.load(Ordering::Acquire) {
            match self.pass(clock::now_ns()) {
                records if records >= VERY_MANY_RECORDS => {}
                records if records >= MANY_RECORDS => thread::park_timeout(SHORT_PAUSE),
                _ => thread::park_timeout(PAUSE),
            }
        }
        self.pass(clock::now_ns());
        self.rings.drain(&self.injection.memory, u64::MAX, &mut self.pending);
        self.take_marks();
        self.sum_until(u64::MAX);
        let library_memory = self.images.take_library_memory();
        let (images, unknown_images) = self.images.finish(&self.injection.memory);
        Drained {
            totals: self.tally.finish(),
            images,
            unrecorded: self.load_check.finish(),
            library_memory,
            modules: self.modules,
            unseen: self.unseen,
            unnamed_modules: self.unfinished.len() as u64,
            unknown_images,
            records: self.rings.taken(),
            lost: self.rings.lost(&self.injection.memory),
            torn: self.rings.torn(),
            cpu_ns: clock::thread_cpu_ns(),
        }
    }

    /// Reads new records and sums those that are old enough. Returns the number of new records.
    fn pass(&mut self, now_ns: u64) -> usize {
        let before = self.pending.len();
        self.rings.drain(&self.injection.memory, now_ns, &mut self.pending);
        let records = self.pending.len() - before;
        let ends = self.images.update(&self.injection.memory, clock::now_ns);
        let ends = ends.into_iter().map(|(time_ns, slot)| (time_ns, Boundary::ImageEnd(slot)));
        self.boundaries.extend(ends);
        self.open_modules();
        match self.guardian.load(Ordering::Relaxed) {
            0 => {}
            guardian => self.load_check.update(guardian, now_ns),
        }
        let complete_ns = self.take_marks();
        self.sum_until(complete_ns.min(now_ns.saturating_sub(MIN_AGE_NS)));
        records
    }

    /// Takes new step marks. Returns the time before which no more will come.
    fn take_marks(&mut self) -> u64 {
        let mut marks = Vec::new();
        let complete_ns = self.marks.take(&mut marks);
        self.boundaries.extend(marks.into_iter().map(|mark| (mark.time_ns, Boundary::Mark(mark))));
        complete_ns
    }

    /// Opens the files of new modules while their processes live. Skips a module that is not completely written yet, since its
    /// process may have been killed, and tries it again in the next pass.
    fn open_modules(&mut self) {
        let memory = &self.injection.memory;
        let read = |number| {
            let module = memory.module(number)?;
            let process = memory.process(module.slot);
            Some((process.map_or(0, |process| process.pid.load(Ordering::Relaxed)), module))
        };
        self.unfinished.retain(|&number| {
            let Some((pid, module)) = read(number) else { return true };
            self.modules.open_late(number, pid, &module);
            false
        });
        while self.modules.next() < memory.module_count() {
            match read(self.modules.next()) {
                Some((_, module)) if module.is_unseen => {
                    self.unseen.insert(module.path.to_string_lossy().into_owned());
                    self.modules.skip();
                }
                Some((pid, module)) => self.modules.open(pid, &module),
                None => {
                    self.unfinished.push(self.modules.next());
                    self.modules.skip();
                }
            }
        }
    }

    /// Sums all events before `end_ns` in order of time, and applies the boundaries between them.
    fn sum_until(&mut self, end_ns: u64) {
        // The sort is stable, so each thread's events keep their order. The ring buffers are almost sorted, so it is fast.
        self.pending.sort_by_key(|event| event.time_ns);
        self.boundaries.sort_by_key(|boundary| boundary.0);
        let is_before = |time_ns: u64| time_ns < end_ns || end_ns == u64::MAX;
        let events = self.pending.partition_point(|event| is_before(event.time_ns));
        let boundaries = self.boundaries.partition_point(|boundary| is_before(boundary.0));
        let mut remaining = &self.pending[..events];
        for (time_ns, boundary) in self.boundaries.drain(..boundaries) {
            let earlier = remaining.partition_point(|event| event.time_ns < time_ns);
            let (earlier, later) = remaining.split_at(earlier);
            earlier.iter().for_each(|event| self.tally.add(event));
            remaining = later;
            match boundary {
                Boundary::Mark(mark) => self.steps.add(&mark, &mut self.tally),
                Boundary::ImageEnd(slot) => self.tally.end_image(slot, time_ns),
            }
        }
        remaining.iter().for_each(|event| self.tally.add(event));
        self.pending.drain(..events);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_module_does_not_delay_others() {
        let injection = HeapInjection::create(HeapSampling::default(), None, None).expect("memory");
        let mut drain = Drain::new(Arc::new(injection), MarkQueue::default(), 1);
        let memory = &Arc::clone(&drain.injection).memory;
        memory.set_module_count(3);
        memory.write_module(2, "/second");
        drain.open_modules();
        assert_eq!((drain.modules.next(), drain.unfinished.as_slice()), (4, &[1, 3][..]));
        memory.write_module(1, "/first");
        drain.open_modules();
        assert_eq!(drain.unfinished, [3]);
        let stop = AtomicBool::new(true);
        assert_eq!(drain.run(&stop).unnamed_modules, 1);
    }
}
