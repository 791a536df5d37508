//! Step marks on their way from whoever reads them to the thread that adds up allocations.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use simprof_probe::format::Kind;

use super::tally::Tally;
use crate::marks::Mark;

/// Both ends.
#[derive(Debug, Clone, Default)]
pub struct Feed(Arc<Mutex<Fed>>);

/// What is on its way.
#[derive(Debug, Default)]
struct Fed {
    marks: Vec<Mark>,
    /// All marks before this time have come, ns.
    complete_ns: u64,
}

impl Feed {
    /// Hands over marks; all of those before `complete_ns` have come then.
    pub fn push(&self, marks: Vec<Mark>, complete_ns: u64) {
        let mut fed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        fed.marks.extend(marks);
        fed.complete_ns = fed.complete_ns.max(complete_ns);
    }

    /// Takes what has come, and until when that is all.
    pub fn take(&self, into: &mut Vec<Mark>) -> u64 {
        let mut fed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        into.append(&mut fed.marks);
        fed.complete_ns
    }
}

/// Turns marks into begins and ends of steps.
#[derive(Debug, Default)]
pub struct StepMarks {
    /// Threads with a step that the next boundary ends.
    bounded: BTreeSet<u32>,
}

impl StepMarks {
    /// The next mark.
    pub fn add(&mut self, mark: &Mark, tally: &mut Tally) {
        match mark.kind {
            Kind::Begin => tally.step_begins(mark.time_ns, mark.index),
            Kind::End => tally.step_ends(mark.time_ns, None),
            Kind::EndWithPopulation => tally.step_ends(mark.time_ns, Some(mark.population)),
            Kind::Boundary => {
                if !self.bounded.insert(mark.thread) {
                    tally.step_ends(mark.time_ns, None);
                }
                tally.step_begins(mark.time_ns, mark.index);
            }
        }
    }
}
