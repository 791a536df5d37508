//! Where steps come from while the target runs.

use std::sync::mpsc::Receiver;

use simprof_probe::format::Kind;

use crate::marks::{Mark, Marks};
use crate::output::Match;

/// The step marks of the target, and the lines of its output.
pub struct StepSource {
    pub marks: Option<Marks>,
    /// Lines of the output that match the step pattern, if allocations are recorded.
    lines: Option<Receiver<Match>>,
    /// Whether the target has made a mark. From then on, its lines are ignored.
    has_marks: bool,
    /// Whether a line was passed on.
    has_lines: bool,
    /// Whether its first lines came together, so that lines do not tell when steps begin. All are ignored.
    in_groups: bool,
}

impl StepSource {
    pub fn new(marks: Option<Marks>, lines: Option<Receiver<Match>>) -> Self {
        Self { marks, lines, has_marks: false, has_lines: false, in_groups: false }
    }

    /// Takes the new marks. If the target makes no marks, takes the lines of its output as marks, unless they come in groups.
    pub fn take(&mut self) -> Vec<Mark> {
        let mut new = Vec::new();
        if let Some(marks) = &mut self.marks {
            marks.drain_with(|mark| new.push(mark));
        }
        self.has_marks |= !new.is_empty();
        let lines: Vec<Match> = self.lines.iter().flat_map(Receiver::try_iter).collect();
        let is_group = matches!(&lines[..], [first, second, ..] if first.time_ns == second.time_ns);
        self.in_groups |= is_group && !self.has_lines;
        if !self.has_marks && !self.in_groups {
            self.has_lines |= !lines.is_empty();
            new.extend(lines.into_iter().map(boundary));
        }
        new
    }
}

/// Turns a line of the output into a boundary mark, which ends one step and begins the next. Its thread is 0, an id that no
/// thread has.
fn boundary(line: Match) -> Mark {
    let Match { time_ns, index } = line;
    Mark { kind: Kind::Boundary, thread: 0, time_ns, index, population: 0 }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Sends lines that arrived at these times, and returns the times of the marks that they make.
    fn marks_of(times: &[&[u64]]) -> Vec<u64> {
        let (sender, receiver) = mpsc::channel();
        let mut source = StepSource::new(None, Some(receiver));
        let mut seen = Vec::new();
        for group in times {
            for (&time_ns, index) in group.iter().zip(0..) {
                sender.send(Match { time_ns, index }).expect("it is open");
            }
            seen.extend(source.take().iter().map(|mark| mark.time_ns));
        }
        seen
    }

    #[test]
    fn lines_that_come_in_groups_are_no_marks() {
        assert_eq!(marks_of(&[&[1], &[], &[5, 9]]), [1, 5, 9]);
        assert!(marks_of(&[&[], &[7, 7, 7], &[9, 9], &[12]]).is_empty());
    }
}
