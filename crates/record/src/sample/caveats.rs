//! What the reader of a profile must know of how it was recorded: each thing once, however many runs it is of.

use std::collections::BTreeSet;

use simprof_model::PythonProvenance;

use super::observer::Trace;
use super::profile::Circumstances;
use super::python::PythonCaveats;

/// Below this share of the rate asked for, the profile says so.
const NOTABLE_SHORTFALL: f64 = 0.8;
/// With fewer samples due than this, a shortfall means nothing.
const NOTABLE_DUE: f64 = 20.0;

/// What was noted, of all runs together.
#[derive(Debug, Default)]
pub(super) struct Caveats {
    /// Sentences of the recorder, in their order.
    said: Vec<String>,
    without_kernel: bool,
    throttled: u64,
    lost_lifecycle: u64,
    malformed: u64,
    unopened: BTreeSet<String>,
    /// Samples that were due for the CPU time.
    due: f64,
    came: u64,
    lost: u64,
    python: PythonCaveats,
}

impl Caveats {
    /// Notes what there is of a run, without what concerns Python.
    pub fn note(&mut self, trace: &Trace, circumstances: &Circumstances) {
        for sentence in &circumstances.warnings {
            if !self.said.contains(sentence) {
                self.said.push(sentence.clone());
            }
        }
        let counts = trace.counts;
        self.without_kernel |= !circumstances.event.kernel;
        self.throttled += counts.throttled;
        self.lost_lifecycle += counts.lost_lifecycle;
        self.malformed += counts.malformed;
        self.lost += counts.lost_samples;
        self.came += trace.samples.len() as u64;
        let seconds = circumstances.target_cpu_ns as f64 / 1e9;
        self.due += seconds * f64::from(circumstances.sampling.rate_hz);
        self.unopened.extend(unopened(trace));
    }

    /// Where what concerns Python is noted.
    pub fn python(&mut self) -> &mut PythonCaveats {
        &mut self.python
    }

    /// One sentence for each; `python` is the account of all runs.
    pub fn sentences(self, python: Option<&PythonProvenance>) -> Vec<String> {
        let mut sentences = self.said.clone();
        sentences.extend(self.of_records());
        if !self.unopened.is_empty() {
            let paths: Vec<_> = self.unopened.iter().map(String::as_str).collect();
            sentences.push(format!("Could not be opened as programs: {}.", paths.join(", ")));
        }
        sentences.extend(self.shortfall());
        sentences.extend(self.python.sentences(python));
        sentences
    }

    fn of_records(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        let mut say = |is: bool, sentence: String| {
            if is {
                sentences.push(sentence);
            }
        };
        say(
            self.without_kernel,
            "Time in the kernel is not sampled: shares are of time in user code.".to_owned(),
        );
        say(
            self.throttled > 0,
            format!("The kernel paused sampling {} times since it came too fast.", self.throttled),
        );
        say(
            self.lost_lifecycle > 0,
            format!(
                "{} records of mappings or processes were lost: some frames may be misnamed.",
                self.lost_lifecycle
            ),
        );
        say(
            self.malformed > 0,
            format!("{} records from the kernel could not be read.", self.malformed),
        );
        sentences
    }

    /// A sentence that explains why much fewer samples came than were due, where that is so.
    ///
    /// Each thread has a timer of its own on each CPU, which starts at a whole period: the first sample of a
    /// thread comes after one period on a CPU, and threads that never run so long are never seen.
    fn shortfall(&self) -> Option<String> {
        let (due, came) = (self.due, self.came as f64);
        if due < NOTABLE_DUE || came >= NOTABLE_SHORTFALL * due {
            return None;
        }
        let reason = if self.lost as f64 > (due - came) / 2.0 {
            "the rest were lost for want of room; a lower rate or a smaller copy of the stack loses less"
        } else if self.without_kernel {
            "time in the kernel gives none, nor do threads and processes that run for less than a period"
        } else {
            "threads and processes that run for less than a period are not seen; a higher rate sees more of them"
        };
        Some(format!("Only {came:.0} of {due:.0} samples that were due came: {reason}."))
    }
}

/// The files that stacks run through but which could not be opened.
fn unopened(trace: &Trace) -> Vec<String> {
    let seen: BTreeSet<_> = trace.stacks.frames().iter().map(|frame| frame.module).collect();
    let is_missing = |path: &str, opened: bool| !opened && path.starts_with('/');
    trace
        .modules
        .iter()
        .filter(|(index, module)| {
            is_missing(&module.path, module.image.is_some()) && seen.contains(index)
        })
        .map(|(_, module)| module.path.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_runs_lack_is_told_once_for_all() {
        assert!(Caveats::default().sentences(None).is_empty());
        let few = Caveats { due: 100.0, came: 50, lost: 30, ..Caveats::default() };
        let sentences = few.sentences(None);
        let [sentence] = &sentences[..] else { panic!("{sentences:?}") };
        assert!(sentence.contains("50 of 100") && sentence.contains("want of room"), "{sentence}");
        for (due, came) in [(19.0, 0), (100.0, 80)] {
            let enough = Caveats { due, came, ..Caveats::default() };
            assert!(enough.sentences(None).is_empty(), "{came} of {due}");
        }
        let unopened = ["/b", "/a"].map(str::to_owned).into();
        let all = Caveats { without_kernel: true, throttled: 3, unopened, ..Caveats::default() };
        let sentences = all.sentences(None);
        assert_eq!(sentences.len(), 3, "{sentences:?}");
        assert!(sentences[1].contains("3 times") && sentences[2].contains("/a, /b"));
    }
}
