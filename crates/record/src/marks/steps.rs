//! Pairs marks to steps.

use std::collections::HashMap;

use simprof_model::{Notice, NoticeId, Step, Steps};
use simprof_probe::format::Kind;

use super::ring::Mark;

/// Most steps kept, which bounds the memory to 400 MB; what comes after is counted as lost.
const STEPS: usize = 1 << 23;

/// Steps that one thread may have open at the same time; the oldest is given up beyond.
const OPEN: usize = 256;

/// What the marks of a run came to.
#[derive(Debug, Default)]
pub struct Marked {
    pub steps: Steps,
    /// Marks without a counterpart.
    pub unmatched: u64,
    /// What is wrong with them, one sentence each.
    pub notices: Vec<Notice>,
}

/// Steps so far, and those that are open.
#[derive(Debug, Default)]
pub struct Pairing {
    steps: Vec<Step>,
    open: HashMap<u32, Vec<Open>>,
    unmatched: u64,
    /// Steps that found no room.
    dropped: u64,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    index: u64,
    begin_ns: u64,
    /// Began with a boundary, so that the next boundary ends it.
    by_boundary: bool,
}

impl Pairing {
    /// The next mark of its thread.
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
        if open.len() == OPEN {
            open.remove(0);
            self.unmatched += 1;
        }
        open.push(Open { index: mark.index, begin_ns: mark.time_ns, by_boundary });
    }

    /// Ends the step of that index which this thread began last.
    fn end(&mut self, mark: &Mark, population: Option<u64>) {
        let open = self.open.entry(mark.thread).or_default();
        match open.iter().rposition(|open| open.index == mark.index) {
            Some(position) => {
                let open = open.remove(position);
                self.close(open, mark.time_ns, population);
            }
            None => self.unmatched += 1,
        }
    }

    fn end_by_boundary(&mut self, mark: &Mark) {
        let open = self.open.entry(mark.thread).or_default();
        if let Some(position) = open.iter().rposition(|open| open.by_boundary) {
            let open = open.remove(position);
            self.close(open, mark.time_ns, None);
        }
    }

    fn close(&mut self, open: Open, end_ns: u64, population: Option<u64>) {
        if self.steps.len() == STEPS {
            self.dropped += 1;
            return;
        }
        let Open { index, begin_ns, .. } = open;
        self.steps.push(Step { index, begin_ns, end_ns, population });
    }

    /// The steps in order of time, and what is wrong with them. A step that a boundary began and
    /// nothing ended is no fault: it is the last.
    pub fn finish(mut self, lost: u64) -> Marked {
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
                format!("{dropped} steps after the first {STEPS} are ignored."),
            ),
        ];
        let notices = notices.into_iter().filter(|(count, ..)| *count > 0);
        let notices = notices.map(|(_, id, text)| Notice::new(id, text)).collect();
        self.steps.sort_by_key(|step| (step.begin_ns, step.end_ns));
        let source = if self.steps.is_empty() { "" } else { "marks" }.to_owned();
        let lost = lost.saturating_add(self.dropped);
        Marked { steps: Steps { steps: self.steps, lost, source }, unmatched, notices }
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
    fn what_has_no_counterpart_is_counted_and_left_out() {
        let marks =
            [(Kind::End, 1, 1), (Kind::Begin, 1, 2), (Kind::Begin, 1, 3), (Kind::End, 1, 3)];
        let (steps, notices) = paired(&marks);
        assert_eq!(steps, [(3, 2, 3)]);
        assert!(has_notice(&notices, NoticeId::StepMarksUnpaired), "{notices:?}");
    }

    #[test]
    fn a_step_inside_a_step_is_its_own() {
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
        let step = Step { index: 8, begin_ns: 3, end_ns: 9, population: Some(500) };
        assert_eq!(pairing.finish(0).steps.steps, [step]);
    }
}
