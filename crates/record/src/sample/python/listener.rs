//! Reads the preload library's records in step with the perf events, and answers requests to be sampled.

use std::collections::VecDeque;
use std::mem;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use simprof_preload::format::{feature, state};

use super::arming::{Armer, Output};
use super::{PythonProcess, PythonStack, PythonTrace, PythonWait};
use crate::preload::{Event, Injection, Record, Records, Tree};
use crate::sample::Sampling;
use crate::sample::event;
use crate::sample::observer::Observer;

/// The recorder's side of the preload library, for one target.
pub struct Listener {
    injection: Arc<Injection>,
    armer: Armer,
    records: Records,
    /// Records that were read but not handled yet, in order of time.
    pending: VecDeque<Record>,
    stacks: Vec<PythonStack>,
    waits: Vec<PythonWait>,
}

impl Listener {
    /// Serves the target whose first process is `launched`.
    pub fn new(
        injection: Arc<Injection>,
        launched: u32,
        outputs: Vec<Output>,
        event: event::Event,
        sampling: &Sampling,
    ) -> Self {
        let armer = Armer::new(Arc::clone(&injection), launched, outputs, event, sampling);
        Self {
            injection,
            armer,
            records: Records::default(),
            pending: VecDeque::new(),
            stacks: Vec::new(),
            waits: Vec::new(),
        }
    }

    /// Returns a descriptor that is readable when a process requests to be sampled.
    pub fn fd(&self) -> RawFd {
        self.injection.request_fd()
    }

    /// Answers the requests of processes.
    pub fn answer_requests(&mut self, observer: &mut Observer) {
        self.armer.answer_requests(observer);
    }

    /// Reads new records. The shared memory holds 65,536 of them; if more come between two calls, some are lost.
    pub fn read_records(&mut self) {
        self.records.drain(&self.injection.memory, &mut self.pending);
        self.pending.make_contiguous().sort_by_key(|record| record.time_ns);
    }

    /// Handles the records up to `time_ns`. The observer must have handled the perf records up to the same time, since addresses
    /// are looked up in the mappings of that time.
    pub fn advance(&mut self, time_ns: u64, observer: &mut Observer) {
        while let Some(record) = self.pending.pop_front_if(|record| record.time_ns <= time_ns) {
            self.handle(record, observer);
        }
    }

    /// Closes the events of processes that have ended.
    pub fn release(&mut self, observer: &mut Observer) {
        self.armer.release(observer.take_ended());
    }

    /// Returns everything that was recorded, after the target has ended.
    pub fn finish(mut self, observer: &mut Observer) -> PythonTrace {
        self.read_records();
        self.advance(u64::MAX, observer);
        let memory = &self.injection.memory;
        PythonTrace {
            tree: Tree::read(memory),
            stacks: mem::take(&mut self.stacks),
            waits: mem::take(&mut self.waits),
            processes: self.processes(),
            lost_records: self.records.lost(),
            full: memory.full(),
            processes_lost: memory.processes_lost(),
            frames: memory.features() & feature::FRAMES != 0,
            directory: self.injection.directory.clone(),
        }
    }

    fn handle(&mut self, record: Record, observer: &mut Observer) {
        let Some(process) = self.injection.memory.process(record.slot) else { return };
        let pid = process.pid.load(Ordering::Relaxed);
        let Record { time_ns, tid, node, flags, .. } = record;
        let stack = PythonStack { time_ns, pid, tid, node, flags };
        match record.event {
            Event::Sample => self.stacks.push(stack),
            Event::Wait(wait) => {
                let caller = observer.frame_in(pid, wait.caller.wrapping_sub(1));
                let begin_ns = time_ns.saturating_sub(wait.duration_ns);
                let part = observer.blocked_part(pid, tid, begin_ns..time_ns).unwrap_or(1.0);
                let weight_ns = (wait.weight_ns as f64 * part).round() as u64;
                if weight_ns == 0 {
                    return;
                }
                let cause = wait.cause;
                self.waits.push(PythonWait { stack, weight_ns, cause, caller });
            }
        }
    }

    fn processes(&self) -> Vec<PythonProcess> {
        let refused = self.armer.refused();
        let slots = (0..).zip(self.injection.memory.processes());
        let processes = slots.filter_map(|(slot, process)| {
            let process = PythonProcess::read(process)?;
            Some(match refused.get(&slot) {
                Some(&reason) => PythonProcess { state: state::REFUSED, reason, ..process },
                None => process,
            })
        });
        processes.collect()
    }
}
