//! What the reader of a profile must know of how it was recorded: each thing once, however many runs it is of.

use std::collections::BTreeSet;

use simprof_model::{Notice, NoticeId, PythonProvenance, add_notices};

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
    /// Notices of the recorder, in their order.
    recorder: Vec<Notice>,
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
        add_notices(&mut self.recorder, circumstances.notices.iter().cloned());
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

    /// Returns one notice for each; `python` is the account of all runs.
    pub fn notices(self, python: Option<&PythonProvenance>) -> Vec<Notice> {
        let mut notices = self.recorder.clone();
        notices.extend(self.record_notices());
        if !self.unopened.is_empty() {
            let paths: Vec<_> = self.unopened.iter().map(String::as_str).collect();
            let text =
                format!("These files could not be opened for symbols: {}.", paths.join(", "));
            notices.push(Notice::new(NoticeId::ModulesNotOpened, text));
        }
        notices.extend(self.shortfall());
        notices.extend(self.python.notices(python));
        notices
    }

    fn record_notices(&self) -> Vec<Notice> {
        let table = [
            (
                self.without_kernel,
                NoticeId::KernelNotSampled,
                "Time in the kernel is not sampled: shares are of time in user code.".to_owned(),
            ),
            (
                self.throttled > 0,
                NoticeId::SamplingThrottled,
                format!(
                    "The kernel throttled sampling {} times: the rate was too high.",
                    self.throttled
                ),
            ),
            (
                self.lost_lifecycle > 0,
                NoticeId::LifecycleRecordsLost,
                format!(
                    "{} records of mappings or processes were lost: some frames may have wrong names.",
                    self.lost_lifecycle
                ),
            ),
            (
                self.malformed > 0,
                NoticeId::RecordsMalformed,
                format!("{} records from the kernel could not be parsed.", self.malformed),
            ),
        ];
        let applicable = table.into_iter().filter(|(applies, ..)| *applies);
        applicable.map(|(_, id, text)| Notice::new(id, text)).collect()
    }

    /// Returns a notice that explains why far fewer samples arrived than were due.
    ///
    /// Each thread has a timer of its own on each CPU, which starts at a whole period: the first sample of a
    /// thread comes after one period on a CPU, and threads that never run so long are never seen.
    fn shortfall(&self) -> Option<Notice> {
        let (due, came) = (self.due, self.came as f64);
        if due < NOTABLE_DUE || came >= NOTABLE_SHORTFALL * due {
            return None;
        }
        let reason = if self.lost as f64 > (due - came) / 2.0 {
            "the rest were lost because buffers were full; use a lower rate"
        } else if self.without_kernel {
            "time in the kernel is not sampled, nor are threads and processes that run for less than a sampling period"
        } else {
            "threads and processes that run for less than a sampling period are not sampled; use a higher rate"
        };
        let text = format!("Only {came:.0} of the {due:.0} samples due arrived: {reason}.");
        Some(Notice::new(NoticeId::SamplesMissing, text))
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
    fn each_fact_of_several_runs_is_one_notice() {
        assert!(Caveats::default().notices(None).is_empty());
        let few = Caveats { due: 100.0, came: 50, lost: 30, ..Caveats::default() };
        let notices = few.notices(None);
        let [Notice { id: NoticeId::SamplesMissing, text }] = &notices[..] else {
            panic!("{notices:?}")
        };
        assert!(text.contains("50 of the 100") && text.contains("buffers were full"), "{text}");
        for (due, came) in [(19.0, 0), (100.0, 80)] {
            let enough = Caveats { due, came, ..Caveats::default() };
            assert!(enough.notices(None).is_empty(), "{came} of {due}");
        }
        let unopened = ["/b", "/a"].map(str::to_owned).into();
        let all = Caveats { without_kernel: true, throttled: 3, unopened, ..Caveats::default() };
        let notices = all.notices(None);
        let ids: Vec<NoticeId> = notices.iter().map(|notice| notice.id).collect();
        let expected =
            [NoticeId::KernelNotSampled, NoticeId::SamplingThrottled, NoticeId::ModulesNotOpened];
        assert_eq!(ids, expected);
        assert!(notices[1].text.contains("3 times") && notices[2].text.contains("/a, /b"));
    }
}
