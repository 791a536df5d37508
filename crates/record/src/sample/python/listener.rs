//! Takes what processes tell, in step with the perf events.

use std::collections::VecDeque;
use std::mem;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use simprof_preload::format::{feature, state};

use super::arming::{Armer, Output};
use super::{Told, ToldProcess, ToldStack, ToldWait};
use crate::preload::{Event, Injection, Record, Records, Tree};
use crate::sample::Sampling;
use crate::sample::event;
use crate::sample::observer::Observer;

/// The recorder's ear for one target.
pub struct Listener {
    loadable: Arc<Injection>,
    armer: Armer,
    records: Records,
    /// Records that were read, in order of time, and not passed yet.
    pending: VecDeque<Record>,
    stacks: Vec<ToldStack>,
    waits: Vec<ToldWait>,
}

impl Listener {
    /// Listens to the target that `launched` is the first process of.
    pub fn new(
        loadable: Arc<Injection>,
        launched: u32,
        outputs: Vec<Output>,
        event: event::Event,
        sampling: &Sampling,
    ) -> Self {
        let armer = Armer::new(Arc::clone(&loadable), launched, outputs, event, sampling);
        Self {
            loadable,
            armer,
            records: Records::default(),
            pending: VecDeque::new(),
            stacks: Vec::new(),
            waits: Vec::new(),
        }
    }

    /// Readable when a process asks to be sampled.
    pub fn fd(&self) -> RawFd {
        self.loadable.request_fd()
    }

    /// Answers the processes that ask.
    pub fn serve(&mut self, observer: &mut Observer) {
        self.armer.serve(observer);
    }

    /// Reads what has come. The memory holds 65,536 records, so that they are only lost where more come between two calls.
    pub fn hear(&mut self) {
        self.records.drain(&self.loadable.memory, &mut self.pending);
        self.pending.make_contiguous().sort_by_key(|record| record.time_ns);
    }

    /// Passes what happened before `time_ns`, while the processes' memory is still known as it was then.
    pub fn advance(&mut self, time_ns: u64, observer: &mut Observer) {
        while let Some(record) = self.pending.pop_front_if(|record| record.time_ns <= time_ns) {
            self.pass(record, observer);
        }
    }

    /// Closes the events of processes that have ended.
    pub fn release(&mut self, observer: &mut Observer) {
        self.armer.release(observer.take_ended());
    }

    /// All that was told, when the target has ended.
    pub fn finish(mut self, observer: &mut Observer) -> Told {
        self.hear();
        self.advance(u64::MAX, observer);
        let memory = &self.loadable.memory;
        Told {
            tree: Tree::read(memory),
            stacks: mem::take(&mut self.stacks),
            waits: mem::take(&mut self.waits),
            processes: self.processes(),
            lost_records: self.records.lost(),
            full: memory.full(),
            processes_lost: memory.processes_lost(),
            frames: memory.features() & feature::FRAMES != 0,
            directory: self.loadable.directory.clone(),
        }
    }

    fn pass(&mut self, record: Record, observer: &mut Observer) {
        let Some(process) = self.loadable.memory.process(record.slot) else { return };
        let pid = process.pid.load(Ordering::Relaxed);
        let Record { time_ns, tid, node, flags, .. } = record;
        let stack = ToldStack { time_ns, pid, tid, node, flags };
        match record.event {
            Event::Sample => self.stacks.push(stack),
            Event::Wait(wait) => {
                let caller = observer.frame_in(pid, wait.caller.wrapping_sub(1));
                let (weight_ns, cause) = (wait.weight_ns, wait.cause);
                self.waits.push(ToldWait { stack, weight_ns, cause, caller });
            }
        }
    }

    fn processes(&self) -> Vec<ToldProcess> {
        let refused = self.armer.refused();
        let told = (0..).zip(self.loadable.memory.processes()).filter_map(|(place, process)| {
            let told = ToldProcess::read(process)?;
            Some(match refused.get(&place) {
                Some(&reason) => ToldProcess { state: state::REFUSED, reason, ..told },
                None => told,
            })
        });
        told.collect()
    }
}
