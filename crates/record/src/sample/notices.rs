//! Collects the notices of a profile: each fact once, for all runs together.

use std::collections::{BTreeMap, BTreeSet};

use simprof_model::{Notice, NoticeId, PythonProvenance, add_notices};

use super::module::ModuleIndex;
use super::python::PythonNotices;
use super::samples::RunInfo;
use super::trace::{RawSample, Trace};

/// If fewer than this share of the samples due arrived, the profile has a notice.
const NOTABLE_SHORTFALL: f64 = 0.8;
/// If fewer samples than this were due, a shortfall is not reported, because it may be random.
const NOTABLE_DUE: f64 = 20.0;

/// If at least this share of the samples is in code without names, the profile has a notice.
const NOTABLE_ANONYMOUS: f64 = 0.01;

/// If threads begin to wait this often per second of CPU time, the profile has a notice. Recording a wait costs about 4 to 10 µs,
/// so these are 2 to 5 % of the CPU time.
const NOTABLE_WAITS: f64 = 5000.0;

/// The facts collected so far.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// Notices of the sampler, in their order.
    sampler: Vec<Notice>,
    without_kernel: bool,
    throttled: u64,
    lost_lifecycle: u64,
    malformed: u64,
    unopened: BTreeSet<String>,
    /// Processes that were forked by a plain system call.
    unsampled_forks: u64,
    missing_files: BTreeMap<String, BTreeSet<String>>,
    /// How often threads began to wait.
    waits: u64,
    /// CPU time of the target, s.
    cpu_s: f64,
    /// Samples that were due for the target's CPU time at the requested rate.
    due: f64,
    arrived: u64,
    lost: u64,
    /// Samples in code that belongs to no file and has no name.
    anonymous: u64,
    python: PythonNotices,
}

impl Notices {
    /// Adds the facts of a run, except those about Python.
    pub fn add_run(&mut self, trace: &Trace, info: &RunInfo) {
        add_notices(&mut self.sampler, info.notices.iter().cloned());
        let counts = trace.counts;
        self.without_kernel |= !info.event.kernel;
        self.throttled += counts.throttled;
        self.lost_lifecycle += counts.lost_lifecycle;
        self.malformed += counts.malformed;
        self.lost += counts.lost_samples;
        self.arrived += trace.samples.len() as u64;
        self.anonymous += anonymous_samples(trace);
        let seconds = info.target_cpu_ns as f64 / 1e9;
        self.cpu_s += seconds;
        self.waits += trace.scheduled.states.iter().map(|(_, times)| times.waits).sum::<u64>();
        self.due += seconds * f64::from(info.sampling.rate_hz);
        self.unopened.extend(unopened(trace));
        self.unsampled_forks += trace.unsampled_forks() as u64;
    }

    /// Adds the files with debug information that are missing, by the program or library that refers to them.
    pub fn add_missing_files(&mut self, missing: &BTreeMap<String, BTreeSet<String>>) {
        self.missing_files.extend(missing.clone());
    }

    /// Returns the collector of facts about Python.
    pub fn python(&mut self) -> &mut PythonNotices {
        &mut self.python
    }

    /// Returns one notice for each fact. `python` has the counts of all runs.
    pub fn finish(self, python: Option<&PythonProvenance>) -> Vec<Notice> {
        let mut notices = self.sampler.clone();
        notices.extend(self.record_notices());
        if !self.unopened.is_empty() {
            let paths: Vec<_> = self.unopened.iter().map(String::as_str).collect();
            let text =
                format!("These files could not be opened for symbols: {}.", paths.join(", "));
            notices.push(Notice::new(NoticeId::ModulesNotOpened, text));
        }
        notices.extend(self.not_sampled());
        notices.extend(missing_debug_files(&self.missing_files));
        notices.extend(self.anonymous_code());
        notices.extend(self.shortfall());
        notices.extend(self.frequent_waits());
        notices.extend(self.python.notices(python));
        notices
    }

    /// Returns notices about the kernel's records.
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

    /// Returns a notice about processes without samples.
    fn not_sampled(&self) -> Option<Notice> {
        let who = match self.unsampled_forks {
            0 => return None,
            1 => "1 process was".to_owned(),
            count => format!("{count} processes were"),
        };
        let text = format!(
            "{who} forked by a plain system call, which simprof's library cannot see, and not sampled: their CPU time is missing, \
             and all shares are of the rest. Use fork() of the C library or of Python's module os."
        );
        Some(Notice::new(NoticeId::ProcessesUnsampled, text))
    }

    /// Returns a notice if much time is in code without names.
    fn anonymous_code(&self) -> Option<Notice> {
        let share = self.anonymous as f64 / self.arrived.max(1) as f64;
        let text = format!(
            "{:.0} % of CPU time is in executable memory without a file and without names: a runtime generated the code, or the \
             program copied it there. It is one row, \"[anonymous code]\". A runtime can name its functions in /tmp/perf-PID.map \
             (node --perf-basic-prof, python -X perf, DOTNET_PerfMapEnabled=1, java -XX:+DumpPerfMapAtExit).",
            share * 100.0
        );
        (share >= NOTABLE_ANONYMOUS).then(|| Notice::new(NoticeId::AnonymousCode, text))
    }

    /// Returns a notice if threads wait so often that recording it costs a notable part of their time.
    fn frequent_waits(&self) -> Option<Notice> {
        if self.cpu_s <= 0.0 || self.without_kernel {
            return None;
        }
        let per_second = self.waits as f64 / self.cpu_s;
        let text = format!(
            "Threads begin to wait {per_second:.0} times per second of CPU time. Recording each wait costs several microseconds in \
             the kernel, which count as the program's: its CPU time and the share of the kernel are too large. Phase 4 does not \
             record waits: compare its CPU time."
        );
        (per_second >= NOTABLE_WAITS).then(|| Notice::new(NoticeId::WaitsFrequent, text))
    }

    /// Returns a notice with the reason if far fewer samples arrived than were due.
    ///
    /// Each thread has a separate timer on each CPU, which starts with a full period. So the first sample of a thread comes after
    /// one period on a CPU, and threads that run for less are never sampled.
    fn shortfall(&self) -> Option<Notice> {
        let (due, arrived) = (self.due, self.arrived as f64);
        if due < NOTABLE_DUE || arrived >= NOTABLE_SHORTFALL * due {
            return None;
        }
        let reason = if self.lost as f64 > (due - arrived) / 2.0 {
            "the rest were lost because buffers were full; use a lower rate"
        } else if self.unsampled_forks > 0 {
            "processes that were forked by a plain system call are not sampled"
        } else if self.without_kernel {
            "time in the kernel is not sampled, nor are threads and processes that run for less than a sampling period"
        } else {
            "threads and processes that run for less than a sampling period are not sampled; use a higher rate"
        };
        let text = format!("Only {arrived:.0} of the {due:.0} samples due arrived: {reason}.");
        Some(Notice::new(NoticeId::SamplesMissing, text))
    }
}

/// Returns the number of samples in code that belongs to no file and has no name.
fn anonymous_samples(trace: &Trace) -> u64 {
    let is_anonymous = |sample: &&RawSample| {
        let Some(stack) = sample.stack else { return false };
        let id = trace.stacks.nodes()[stack.0 as usize].frame;
        let frame = trace.stacks.frames()[id.0 as usize];
        matches!(frame.module, ModuleIndex::ANONYMOUS | ModuleIndex::UNKNOWN)
    };
    trace.samples.iter().filter(is_anonymous).count() as u64
}

/// Number of missing files that a notice names.
const NAMED_FILES: usize = 3;

/// Returns a notice for each program or library that refers to files with debug information that are missing.
pub(super) fn missing_debug_files(
    missing: &BTreeMap<String, BTreeSet<String>>,
) -> impl Iterator<Item = Notice> {
    missing.iter().map(|(module, files)| {
        let named: Vec<_> = files.iter().take(NAMED_FILES).map(String::as_str).collect();
        let more = match files.len().saturating_sub(NAMED_FILES) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let text = format!(
            "Debug information of {module} is in files that were not found: {}{more}. Functions that are inlined there are \
             missing, and their time counts as that of the functions around them. Keep these files where the build wrote them, \
             or beside the program.",
            named.join(", ")
        );
        Notice::new(NoticeId::DebugFilesMissing, text)
    })
}

/// Returns the files that occur in stacks but could not be opened.
fn unopened(trace: &Trace) -> Vec<String> {
    let in_stacks: BTreeSet<_> = trace.stacks.frames().iter().map(|frame| frame.module).collect();
    trace
        .modules
        .iter()
        .filter(|(index, _)| in_stacks.contains(index))
        .map(|(_, module)| module)
        .filter(|module| module.image.is_none() && module.path.starts_with('/'))
        .map(|module| module.path.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fact_of_several_runs_is_one_notice() {
        assert!(Notices::default().finish(None).is_empty());
        let few = Notices { due: 100.0, arrived: 50, lost: 30, ..Notices::default() };
        let notices = few.finish(None);
        let [Notice { id: NoticeId::SamplesMissing, text }] = &notices[..] else {
            panic!("{notices:?}")
        };
        assert!(text.contains("50 of the 100") && text.contains("buffers were full"), "{text}");
        for (due, arrived) in [(19.0, 0), (100.0, 80)] {
            let enough = Notices { due, arrived, ..Notices::default() };
            assert!(enough.finish(None).is_empty(), "{arrived} of {due}");
        }
        for (anonymous, is_notable) in [(0, false), (1, true)] {
            let some = Notices { arrived: 100, anonymous, ..Notices::default() };
            assert_eq!(!some.finish(None).is_empty(), is_notable);
        }
        for (waits, cpu_s, is_notable) in
            [(9_999, 2.0, false), (10_000, 2.0, true), (9, 0.0, false)]
        {
            let some = Notices { waits, cpu_s, ..Notices::default() };
            let ids: Vec<NoticeId> = some.finish(None).iter().map(|notice| notice.id).collect();
            assert_eq!(ids.contains(&NoticeId::WaitsFrequent), is_notable, "{waits} in {cpu_s} s");
        }
        let unopened = ["/b", "/a"].map(str::to_owned).into();
        let forked = Notices { due: 100.0, arrived: 30, unsampled_forks: 2, ..Notices::default() };
        let notices = forked.finish(None);
        let ids: Vec<NoticeId> = notices.iter().map(|notice| notice.id).collect();
        assert_eq!(ids, [NoticeId::ProcessesUnsampled, NoticeId::SamplesMissing]);
        assert!(notices[0].text.starts_with("2 processes were"), "{notices:?}");
        assert!(notices[1].text.contains("plain system call"), "{notices:?}");
        let files = ["a.dwo", "b.dwo", "c.dwo", "d.dwo"].map(str::to_owned).into();
        let missing_files = BTreeMap::from([("/sim".to_owned(), files)]);
        let all = Notices {
            without_kernel: true,
            throttled: 3,
            unopened,
            missing_files,
            ..Notices::default()
        };
        let notices = all.finish(None);
        let ids: Vec<NoticeId> = notices.iter().map(|notice| notice.id).collect();
        let expected = [
            NoticeId::KernelNotSampled,
            NoticeId::SamplingThrottled,
            NoticeId::ModulesNotOpened,
            NoticeId::DebugFilesMissing,
        ];
        assert_eq!(ids, expected);
        assert!(notices[3].text.contains("/sim") && notices[3].text.contains("and 1 more"));
        assert!(notices[1].text.contains("3 times") && notices[2].text.contains("/a, /b"));
    }
}
