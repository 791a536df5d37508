//! Pairs step marks to steps.

use std::collections::HashMap;

use simprof_model::{Notice, NoticeId, Step, Steps};
use simprof_probe::format::Kind;

use super::ring::Mark;

/// Maximum number of steps that are kept, which bounds the memory to 400 MB. Later ones are counted as lost.
const MAX_STEPS: usize = 1 << 23;

/// Maximum number of open steps of one thread. If more begin, the oldest is dropped.
const MAX_OPEN: usize = 256;

/// The steps that the marks of a run make.
#[derive(Debug, Default)]
pub struct MarkedSteps {
    pub steps: Steps,
    /// Number of marks without a counterpart.
    pub unmatched: u64,
    pub notices: Vec<Notice>,
}

/// The finished steps so far, and the open ones.
#[derive(Debug, Default)]
pub struct Pairing {
    steps: Vec<Step>,
    open: HashMap<u32, Vec<Open>>,
    unmatched: u64,
    /// Number of steps dropped because there were too many.
    dropped: u64,
}

/// A step that has not ended.
#[derive(Debug, Clone, Copy)]
struct Open {
    index: u64,
    begin_ns: u64,
    /// Whether a boundary mark began it, so that the next boundary mark ends it.
    by_boundary: bool,
}

impl Pairing {
    /// Adds a mark. The marks of a thread must come in order.
    pub fn add(&mut self, mark: Mark) {
        match mark.kind {
            Kind::Begin => self.begin(&mark, false),
            Kind::End => self.end(&mark, None),
            Kind::EndWithPopulation => self.end(&mark, Some(mark.population)),
            Kind::Boundary => {
                self.end_by_boundary(&mark);
                self.begin(&mark, true);
            }
        }
    }

    fn begin(&mut self, mark: &Mark, by_boundary: bool) {
        let open = self.open.entry(mark.thread).or_default();
        if open.len() == MAX_OPEN {
            open.remove(0);
            self.unmatched += 1;
        }
        open.push(Open { index: mark.index, begin_ns: mark.time_ns, by_boundary });
    }

    /// Ends the step with the mark's index that this thread began last.
    fn end(&mut self, mark: &Mark, population: Option<u64>) {
        let open = self.open.entry(mark.thread).or_default();
        match open.iter().rposition(|open| open.index == mark.index) {
            Some(position) => {
                let open = open.remove(position);
                self.close(open, mark, population);
            }
            None => self.unmatched += 1,
        }
    }

    fn end_by_boundary(&mut self, mark: &Mark) {
        let open = self.open.entry(mark.thread).or_default();
        if let Some(position) = open.iter().rposition(|open| open.by_boundary) {
            let open = open.remove(position);
            self.close(open, mark, None);
        }
    }

    fn close(&mut self, open: Open, end: &Mark, population: Option<u64>) {
        if self.steps.len() == MAX_STEPS {
            self.dropped += 1;
            return;
        }
        let Open { index, begin_ns, .. } = open;
        let (end_ns, thread) = (end.time_ns, Some(end.thread));
        self.steps.push(Step { index, begin_ns, end_ns, population, thread });
    }

    /// Returns the steps in order of time. An open step that a boundary mark began is no error: it
    /// is the last one.
    pub fn finish(mut self, lost: u64) -> MarkedSteps {
        let open = self.open.values().flatten().filter(|open| !open.by_boundary).count() as u64;
        let unmatched = self.unmatched + open;
        let dropped = self.dropped;
        let notices = [
            (
                unmatched,
                NoticeId::StepMarksUnpaired,
                format!("{unmatched} step marks have no counterpart and are ignored."),
            ),
            (
                lost,
                NoticeId::StepMarksLost,
                format!(
                    "{lost} step marks were lost: the target wrote them faster than they were read."
                ),
            ),
            (
                dropped,
                NoticeId::StepsDropped,
                format!("{dropped} steps after the first {MAX_STEPS} are ignored."),
            ),
        ];
        let notices = notices.into_iter().filter(|(count, ..)| *count > 0);
        let notices = notices.map(|(_, id, text)| Notice::new(id, text)).collect();
        self.steps.sort_by_key(|step| (step.begin_ns, step.end_ns));
        let source = if self.steps.is_empty() { "" } else { "marks" }.to_owned();
        let lost = lost.saturating_add(self.dropped);
        MarkedSteps { steps: Steps { steps: self.steps, lost, source }, unmatched, notices }
    }
}

#[cfg(test)]
mod tests {
    use simprof_model::has_notice;

    use super::*;

    /// (kind, thread, index), one ns apart.
    fn paired(marks: &[(Kind, u32, u64)]) -> (Vec<(u64, u64, u64)>, Vec<Notice>) {
        let mut pairing = Pairing::default();
        for (time_ns, &(kind, thread, index)) in (0..).zip(marks) {
            pairing.add(Mark { kind, thread, time_ns, index, population: 42 });
        }
        let marked = pairing.finish(0);
        let steps = marked.steps.steps.iter().map(|s| (s.index, s.begin_ns, s.end_ns)).collect();
        (steps, marked.notices)
    }

    #[test]
    fn begin_and_end_are_paired_per_thread() {
        let marks =
            [(Kind::Begin, 1, 5), (Kind::Begin, 2, 5), (Kind::End, 1, 5), (Kind::End, 2, 5)];
        assert_eq!(paired(&marks), (vec![(5, 0, 2), (5, 1, 3)], vec![]));
    }

    #[test]
    fn boundaries_end_the_step_before() {
        let marks = [(Kind::Boundary, 1, 0), (Kind::Boundary, 1, 1), (Kind::Boundary, 1, 2)];
        assert_eq!(paired(&marks), (vec![(0, 0, 1), (1, 1, 2)], vec![]));
        let marks = [(Kind::Boundary, 1, 0), (Kind::Boundary, 1, 1), (Kind::End, 1, 1)];
        assert_eq!(paired(&marks), (vec![(0, 0, 1), (1, 1, 2)], vec![]));
    }

    #[test]
    fn unmatched_marks_are_counted_and_ignored() {
        let marks =
            [(Kind::End, 1, 1), (Kind::Begin, 1, 2), (Kind::Begin, 1, 3), (Kind::End, 1, 3)];
        let (steps, notices) = paired(&marks);
        assert_eq!(steps, [(3, 2, 3)]);
        assert!(has_notice(&notices, NoticeId::StepMarksUnpaired), "{notices:?}");
    }

    #[test]
    fn nested_steps_are_separate() {
        let marks =
            [(Kind::Begin, 1, 1), (Kind::Begin, 1, 1), (Kind::End, 1, 1), (Kind::End, 1, 1)];
        assert_eq!(paired(&marks).0, [(1, 0, 3), (1, 1, 2)]);
    }

    #[test]
    fn open_steps_are_bounded() {
        let marks: Vec<_> = (0..300).map(|index| (Kind::Begin, 1, index)).collect();
        let (steps, notices) = paired(&marks);
        assert_eq!(steps, []);
        assert!(has_notice(&notices, NoticeId::StepMarksUnpaired), "{notices:?}");
        assert!(notices[0].text.starts_with("300 "), "{notices:?}");
    }

    #[test]
    fn a_population_belongs_to_its_step() {
        let mut pairing = Pairing::default();
        let mark = Mark { kind: Kind::Begin, thread: 1, time_ns: 3, index: 8, population: 0 };
        pairing.add(mark);
        pairing.add(Mark { kind: Kind::EndWithPopulation, time_ns: 9, population: 500, ..mark });
        let step =
            Step { index: 8, begin_ns: 3, end_ns: 9, population: Some(500), thread: Some(1) };
        assert_eq!(pairing.finish(0).steps.steps, [step]);
    }
}
