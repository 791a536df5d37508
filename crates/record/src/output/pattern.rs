//! Steps from the lines of the target's output that match a pattern.

use std::sync::mpsc::Sender;

use regex::Regex;
use simprof_model::{Notice, NoticeId, Step, Steps};

/// Number of bytes of a line that are compared with the pattern. The rest of the line is ignored.
const MAX_LINE_BYTES: usize = 4096;

/// Maximum number of matches that are kept. Later ones are counted as lost.
const MAX_MATCHES: usize = 1 << 22;

/// Splits one stream into lines.
#[derive(Debug, Default)]
pub struct Lines {
    line: Vec<u8>,
}

impl Lines {
    /// Splits new bytes at line feeds and carriage returns, which progress displays use. Calls
    /// `pass` with each complete line, of which at most [`MAX_LINE_BYTES`] are kept.
    pub fn feed(&mut self, mut bytes: &[u8], mut pass: impl FnMut(&str)) {
        while let Some(end) = bytes.iter().position(|&byte| matches!(byte, b'\n' | b'\r')) {
            self.keep(&bytes[..end]);
            self.end(&mut pass);
            bytes = &bytes[end + 1..];
        }
        self.keep(bytes);
    }

    /// Ends the current line, if it is not empty, and calls `pass` with it.
    pub fn end(&mut self, mut pass: impl FnMut(&str)) {
        if !self.line.is_empty() {
            pass(&String::from_utf8_lossy(&self.line));
            self.line.clear();
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let space = MAX_LINE_BYTES - self.line.len();
        self.line.extend_from_slice(&bytes[..bytes.len().min(space)]);
    }
}

/// A line that matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// When it was read, CLOCK_MONOTONIC, ns.
    pub time_ns: u64,
    /// Index of the step that it begins.
    pub index: u64,
}

/// Collects the lines that match the pattern.
#[derive(Debug)]
pub struct Marker {
    pattern: Regex,
    matches: Vec<Match>,
    /// Gets each match at once. Its receiver may be closed.
    listener: Sender<Match>,
    lost: u64,
    /// Matches that came in the same read as the previous one.
    crowded: usize,
    /// Whether the target writes to a terminal.
    terminal: bool,
}

impl Marker {
    /// Creates a marker. The pattern's first group is the step's index if it matches a number.
    pub fn new(pattern: Regex, listener: Sender<Match>, terminal: bool) -> Self {
        Self { pattern, matches: Vec::new(), listener, lost: 0, crowded: 0, terminal }
    }

    /// Adds a line that was read at `time_ns`.
    pub fn line(&mut self, line: &str, time_ns: u64) {
        let Some(found) = self.pattern.captures(line) else { return };
        if self.matches.len() == MAX_MATCHES {
            self.lost += 1;
            return;
        }
        let next = self.matches.last().map_or(0, |last| last.index.wrapping_add(1));
        let index = found.get(1).and_then(|group| group.as_str().parse().ok()).unwrap_or(next);
        self.crowded +=
            usize::from(self.matches.last().is_some_and(|last| last.time_ns == time_ns));
        let found = Match { time_ns, index };
        // An error only means that the receiver is closed.
        let _ = self.listener.send(found);
        self.matches.push(found);
    }

    /// Returns whether so many lines came together that times between lines are not times of steps: from a third of them on.
    /// Through a terminal, from two thirds on, because separate writes also come together if simprof reads them late.
    fn is_untimed(&self) -> bool {
        let thirds = if self.terminal { 2 } else { 1 };
        self.crowded > 0 && self.crowded * 3 >= (self.matches.len() - 1) * thirds
    }

    /// Returns the steps. Each step lasts from one match to the next. The last match only ends a
    /// step, since it is unknown when a step that it begins would end. Steps that cannot be timed are none.
    pub fn steps(&self) -> Steps {
        if self.is_untimed() {
            return Steps::default();
        }
        let step = |pair: &[Match]| {
            let Match { index, time_ns } = pair[0];
            let (begin_ns, end_ns) = (time_ns, pair[1].time_ns);
            Step { index, begin_ns, end_ns, population: None, thread: None }
        };
        let steps = self.matches.windows(2).map(step).collect();
        Steps { steps, lost: self.lost, source: "output".to_owned() }
    }

    /// Returns a notice if there are no steps: no line matched, only one did, or steps cannot be timed.
    pub fn notice(&self) -> Option<Notice> {
        let Self { pattern, crowded, .. } = self;
        let (id, text) = match self.matches.len() {
            0 => (
                NoticeId::StepPatternNotMatched,
                format!("target.step: no line of the output matches the step pattern `{pattern}`."),
            ),
            1 => (
                NoticeId::StepSeenOnce,
                format!(
                    "target.step: there are no steps, because only one line of the output matches the step pattern `{pattern}` and \
                     a step lasts from one line to the next."
                ),
            ),
            count if self.is_untimed() => {
                let terminal = if self.terminal {
                    ""
                } else {
                    ", or write `terminal = true` under [target], so that the C library and Python do so"
                };
                (
                    NoticeId::StepOutputBuffered,
                    format!(
                        "target.step: {crowded} of {count} step lines arrived together with the line before, because the target \
                         does not flush its output after each line. Its steps cannot be timed, so there are no figures per \
                         step. Let the target flush after each line{terminal}."
                    ),
                )
            }
            _ => return None,
        };
        Some(Notice::new(id, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.feed(chunk, |line| seen.push(line.to_owned()));
        }
        lines.end(|line| seen.push(line.to_owned()));
        seen
    }

    #[test]
    fn lines_are_complete_for_any_chunks() {
        assert_eq!(lines(&[b"on", b"e\r\ntwo\rthr", b"ee"]), ["one", "two", "three"]);
        assert_eq!(lines(&[b"\xff\xfe\n\0"]), ["\u{fffd}\u{fffd}", "\0"]);
        assert_eq!(lines(&[]), Vec::<String>::new());
    }

    #[test]
    fn long_lines_are_truncated() {
        let long = vec![b'x'; 3000];
        let seen = lines(&[&long, &long, &long, b"\nnext"]);
        assert_eq!(seen.iter().map(String::len).collect::<Vec<_>>(), [MAX_LINE_BYTES, 4]);
    }

    fn marker(lines: &[(&str, u64)]) -> Marker {
        marker_and_sent(lines).0
    }

    /// Returns the marker after these lines, and what it sent to its listener.
    fn marker_and_sent(lines: &[(&str, u64)]) -> (Marker, Vec<Match>) {
        let (sender, sent) = std::sync::mpsc::channel();
        let mut marker =
            Marker::new(Regex::new(r"^step ?(\w*)").expect("a pattern"), sender, false);
        lines.iter().for_each(|(line, time)| marker.line(line, *time));
        (marker, sent.try_iter().collect())
    }

    #[test]
    fn every_match_is_sent_to_the_listener() {
        let (_, sent) = marker_and_sent(&[("step 7", 10), ("else", 15), ("step", 20)]);
        let expected = [(10, 7), (20, 8)].map(|(time_ns, index)| Match { time_ns, index });
        assert_eq!(sent, expected);
    }

    #[test]
    fn a_match_begins_a_step_and_ends_the_previous_one() {
        let marker =
            marker(&[("step 7", 10), ("else", 15), ("step", 20), ("step x", 25), ("step 3", 50)]);
        let steps = marker.steps();
        let seen: Vec<_> = steps.steps.iter().map(|s| (s.index, s.begin_ns, s.end_ns)).collect();
        assert_eq!(seen, [(7, 10, 20), (8, 20, 25), (9, 25, 50)]);
    }

    #[test]
    fn lines_that_come_together_make_no_steps() {
        for (times, id) in [
            (&[][..], Some(NoticeId::StepPatternNotMatched)),
            (&[5], Some(NoticeId::StepSeenOnce)),
            (&[5, 5], Some(NoticeId::StepOutputBuffered)),
            (&[5, 5, 5], Some(NoticeId::StepOutputBuffered)),
            (&[5, 5, 8, 8, 12, 12, 13], Some(NoticeId::StepOutputBuffered)),
            (&[5, 5, 8, 9, 12, 13], None),
            (&[5, 6], None),
            (&[1, 2, 3, 4, 5, 6, 7, 8], None),
        ] {
            let lines: Vec<_> = times.iter().map(|&time| ("step", time)).collect();
            let marker = marker(&lines);
            assert_eq!(marker.notice().map(|notice| notice.id), id, "{times:?}");
            assert_eq!(marker.steps().steps.is_empty(), id.is_some(), "{times:?}");
        }
    }

    #[test]
    fn a_target_on_a_terminal_is_not_asked_to_use_one() {
        let mut marker = marker(&[("step", 5), ("step", 5)]);
        let has_key =
            |marker: &Marker| marker.notice().expect("one").text.contains("terminal = true");
        assert!(has_key(&marker));
        marker.terminal = true;
        assert!(!has_key(&marker));
        let mut late = self::marker(&[("step", 5), ("step", 5), ("step", 8), ("step", 9)]);
        assert!(late.notice().is_some());
        late.terminal = true;
        assert_eq!(late.notice(), None);
    }
}
