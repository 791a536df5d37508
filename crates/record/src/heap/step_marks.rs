//! Step marks on their way from the thread that reads them to the thread that sums allocations.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use simprof_probe::format::Kind;

use super::tally::Tally;
use crate::marks::Mark;

/// A queue of step marks. Its clones are the same queue.
#[derive(Debug, Clone, Default)]
pub struct MarkQueue(Arc<Mutex<Queued>>);

#[derive(Debug, Default)]
struct Queued {
    marks: Vec<Mark>,
    /// All marks before this time are or were in the queue, ns.
    complete_ns: u64,
}

impl MarkQueue {
    /// Adds marks. The caller states that all marks before `complete_ns` have now been added.
    pub fn push(&self, marks: Vec<Mark>, complete_ns: u64) {
        let mut queued = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queued.marks.extend(marks);
        queued.complete_ns = queued.complete_ns.max(complete_ns);
    }

    /// Moves all marks into `into`. Returns the time before which no more marks will come, ns.
    pub fn take(&self, into: &mut Vec<Mark>) -> u64 {
        let mut queued = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        into.append(&mut queued.marks);
        queued.complete_ns
    }
}

/// Turns step marks into begins and ends of steps.
#[derive(Debug, Default)]
pub struct StepTracker {
    /// Threads with an open step that their next boundary mark ends.
    bounded: BTreeSet<u32>,
}

impl StepTracker {
    /// Applies the next mark to `tally`.
    pub fn add(&mut self, mark: &Mark, tally: &mut Tally) {
        match mark.kind {
            Kind::Begin => tally.begin_step(mark.time_ns, mark.index),
            Kind::End => tally.end_step(mark.time_ns, None),
            Kind::EndWithPopulation => tally.end_step(mark.time_ns, Some(mark.population)),
            Kind::Boundary => {
                if !self.bounded.insert(mark.thread) {
                    tally.end_step(mark.time_ns, None);
                }
                tally.begin_step(mark.time_ns, mark.index);
            }
        }
    }
}
