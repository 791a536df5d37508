//! Collects the notices about Python frames, for all runs together.

use std::collections::{BTreeMap, BTreeSet};

use simprof_model::{Notice, NoticeId, PythonProvenance};
use simprof_preload::format::{MAX_FRAMES, reason, state};
use simprof_preload::supported::{CPYTHON, PYTHON_FRAMES_LINUX};

use super::interpreter::interpreter;
use super::{PythonProcess, PythonTrace};
use crate::preload::PythonMemory;

/// If more than this share of the Python stacks is lost or could not be read completely, the profile has a notice.
const NOTABLE_LOSS: f64 = 0.01;
/// The consequence if a process is not armed.
const CONSEQUENCE: &str =
    "the stacks of such a process have no Python frames, at most the interpreter's own functions";

/// The facts collected so far.
#[derive(Debug, Clone, Default)]
pub struct PythonNotices {
    /// Reasons why processes were not armed, with the number of processes.
    refusals: BTreeMap<String, u64>,
    /// Processes that run Python without the preload library.
    unloaded: u64,
    processes_lost: u64,
    full: u64,
    lost_records: u64,
}

impl PythonNotices {
    /// Adds the facts of a run, in which `unloaded` processes ran Python without the preload library.
    pub fn add_run(&mut self, python: &PythonTrace, unloaded: usize) {
        let processes = python.processes.iter();
        for text in processes.filter_map(|process| refusal(process, python.frames)) {
            *self.refusals.entry(text).or_default() += 1;
        }
        self.unloaded += unloaded as u64;
        self.processes_lost += python.processes_lost;
        self.full += python.full;
        self.lost_records += python.lost_records;
    }

    /// Returns one notice for each fact. `counts` are those of all runs.
    pub fn notices(&self, counts: Option<&PythonProvenance>) -> Vec<Notice> {
        let refused = self.refusals.iter().map(|(text, count)| {
            let text = match count {
                1 => format!("{text}."),
                count => format!("{text} ({count} processes)."),
            };
            Notice::new(NoticeId::PythonFramesMissing, text)
        });
        let mut notices: Vec<Notice> = refused.collect();
        notices.extend(counts.and_then(|counts| self.loss(counts)));
        notices.extend(counts.and_then(left_out));
        notices.extend(counts.and_then(unmerged));
        if self.processes_lost > 0 {
            let text = format!(
                "{} processes that run Python exceeded the number that simprof can follow: {CONSEQUENCE}.",
                self.processes_lost
            );
            notices.push(Notice::new(NoticeId::PythonProcessesLost, text));
        }
        notices.extend(self.not_loaded());
        notices
    }

    fn not_loaded(&self) -> Option<Notice> {
        let who = match self.unloaded {
            0 => return None,
            1 => "1 process runs Python but did".to_owned(),
            count => format!("{count} processes run Python but did"),
        };
        let text = format!(
            "{who} not load simprof's library: {CONSEQUENCE}. Programs that are linked statically, that gain privileges \
             at start (setuid) or that clear LD_PRELOAD do not load it."
        );
        Some(Notice::new(NoticeId::PythonLibraryNotLoaded, text))
    }

    /// Returns a notice with the share of lost frames and the reason, if the share is notable.
    fn loss(&self, counts: &PythonProvenance) -> Option<Notice> {
        let share = counts.lost_share();
        if share <= NOTABLE_LOSS {
            return None;
        }
        let why = if self.full > 0 {
            "the table of distinct Python stacks is full; profile a shorter run"
        } else if self.lost_records > 0 {
            "they were written faster than they were read; use a lower rate"
        } else {
            "threads blocked the sampling signal, or ended before it arrived"
        };
        let text = format!(
            "The Python frames of {:.1} % of {} samples are missing or incomplete: {why}.",
            100.0 * share,
            counts.samples
        );
        Some(Notice::new(NoticeId::PythonFramesLost, text))
    }
}

/// Returns a notice if many stacks are so deep that frames in their middle are missing.
fn left_out(counts: &PythonProvenance) -> Option<Notice> {
    let share = notable(counts.left_out, counts)?;
    let text = format!(
        "{share} of {} samples have more than {MAX_FRAMES} Python frames: those in the middle are left out, so total times of \
         functions that are only there are too small.",
        counts.samples
    );
    Some(Notice::new(NoticeId::PythonFramesLeftOut, text))
}

/// Returns a notice if the two halves of many stacks contradict each other.
fn unmerged(counts: &PythonProvenance) -> Option<Notice> {
    let share = notable(counts.unmerged, counts)?;
    let text = format!(
        "The Python and native frames of {share} of {} samples do not match: native functions that call Python are missing \
         there, so their total times are too small.",
        counts.samples
    );
    Some(Notice::new(NoticeId::PythonFramesUnmerged, text))
}

/// Returns a share of the samples as text; `None` if it is not notable.
fn notable(part: u64, counts: &PythonProvenance) -> Option<String> {
    let share = part as f64 / counts.samples.max(1) as f64;
    (share > NOTABLE_LOSS).then(|| format!("{:.1} %", 100.0 * share))
}

/// Returns the notices about the Python stacks of a recording without samples. `memory` is shared with the preload library.
pub(crate) fn unsampled_notices(memory: &PythonMemory) -> Vec<Notice> {
    let processes = memory.processes().filter_map(PythonProcess::read);
    // A process that loads both libraries has two slots.
    let mut seen = BTreeSet::new();
    let is_first = |process: &PythonProcess| seen.insert((process.pid, process.version));
    let python = PythonTrace {
        processes: processes.filter(is_first).collect(),
        processes_lost: memory.processes_lost(),
        ..PythonTrace::default()
    };
    let mut collected = PythonNotices::default();
    collected.add_run(&python, 0);
    let mut notices = collected.notices(None);
    let full = memory.full();
    if full > 0 {
        let text = format!(
            "The tables were full for {full} Python stacks or functions: their allocations have no Python frames. Use a \
             larger --memory-interval."
        );
        notices.push(Notice::new(NoticeId::PythonTablesFull, text));
    }
    notices
}

/// Returns why a process has no Python frames, the consequence and the fix; `None` if it has them. `frames` is whether Python
/// frames of samples were requested.
fn refusal(process: &PythonProcess, frames: bool) -> Option<String> {
    let name = interpreter(process);
    let (why, fix) = match (process.state, process.reason) {
        (state::UNSUPPORTED, reason) => unsupported(&name, reason),
        // The process ended or executed another program before it could be armed.
        (state::REFUSED, 0) => return None,
        (state::REFUSED, errno) => refused(errno),
        (state::UNSAMPLED, _) if frames => (
            format!("A process of {name} did not get an answer to its request in time"),
            "run fewer threads than the machine has cores".to_owned(),
        ),
        _ => return None,
    };
    let fix = if fix.is_empty() { String::new() } else { format!("; {fix}") };
    Some(format!("{why}: {CONSEQUENCE}{fix}"))
}

/// Returns why the preload library does not support an interpreter, and the fix.
fn unsupported(name: &str, reason: u32) -> (String, String) {
    match reason {
        reason::VERSION => {
            (format!("{name} is not a supported version"), format!("run the target with {CPYTHON}"))
        }
        reason::FREE_THREADED => (
            format!("{name} is a free-threaded build, which is not supported"),
            "use the ordinary build".to_owned(),
        ),
        reason::SIGNAL => (
            "The program handles SIGTRAP, which simprof needs to sample Python".to_owned(),
            "change the program so that it does not handle that signal".to_owned(),
        ),
        reason::FILTER => (
            format!(
                "A process of {name} runs under a seccomp filter that may forbid system calls of simprof's library"
            ),
            "record it without the filter".to_owned(),
        ),
        reason::LIMITED => (
            format!(
                "A limit leaves a process of {name} too little address space for simprof's library"
            ),
            "raise the limit (`ulimit -v`), or remove it".to_owned(),
        ),
        _ => (
            format!("The memory layout of {name} is not that of its version"),
            "use a build of an unmodified release from python.org".to_owned(),
        ),
    }
}

/// Returns why the kernel refused the events of a process, and the fix, which may be empty.
fn refused(errno: u32) -> (String, String) {
    let number = i32::try_from(errno).unwrap_or(0);
    match number {
        libc::EINVAL | libc::E2BIG => (
            "This kernel cannot signal samples to the sampled process".to_owned(),
            format!("use {PYTHON_FRAMES_LINUX}"),
        ),
        libc::EACCES | libc::EPERM => (
            "The system does not allow signalling samples to a process".to_owned(),
            "run simprof as the target's user, or with CAP_PERFMON and CAP_KILL".to_owned(),
        ),
        libc::EMFILE | libc::ENFILE => (
            "Too many files were open to sample another process".to_owned(),
            "raise the hard limit of open files (`ulimit -Hn`)".to_owned(),
        ),
        libc::ESRCH => (
            "A process that runs Python could not be found".to_owned(),
            "run simprof in the same container as the target".to_owned(),
        ),
        _ => {
            let error = std::io::Error::from_raw_os_error(number);
            (format!("A process that runs Python could not be sampled ({error})"), String::new())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    fn process(state: u32, reason: u32) -> PythonProcess {
        let (pid, time_ns, free_threaded) = (7, 0, false);
        PythonProcess { state, pid, time_ns, version: 0x030b_07f0, reason, free_threaded }
    }

    fn trace(processes: Vec<PythonProcess>) -> PythonTrace {
        PythonTrace { processes, frames: true, ..PythonTrace::default() }
    }

    /// Returns the texts of the notices on `runs`, in each of which `unloaded` processes ran Python without the library.
    fn texts(
        runs: &[PythonTrace],
        unloaded: usize,
        counts: Option<&PythonProvenance>,
    ) -> Vec<String> {
        let mut notices = PythonNotices::default();
        runs.iter().for_each(|python| notices.add_run(python, unloaded));
        notices.notices(counts).into_iter().map(|notice| notice.text).collect()
    }

    #[test]
    fn every_refusal_has_a_consequence_and_a_fix() {
        let table = [
            (process(state::UNSUPPORTED, reason::VERSION), "CPython 3.11.7 is not"),
            (process(state::UNSUPPORTED, reason::FREE_THREADED), "ordinary build"),
            (process(state::UNSUPPORTED, reason::LAYOUT), "python.org"),
            (process(state::UNSUPPORTED, reason::SIGNAL), "SIGTRAP"),
            (process(state::REFUSED, libc::EINVAL as u32), PYTHON_FRAMES_LINUX),
            (process(state::REFUSED, libc::E2BIG as u32), PYTHON_FRAMES_LINUX),
            (process(state::REFUSED, libc::EMFILE as u32), "ulimit -Hn"),
            (process(state::REFUSED, libc::EACCES as u32), "CAP_PERFMON"),
            (process(state::REFUSED, libc::ESRCH as u32), "container"),
            (process(state::UNSAMPLED, 0), "in time"),
        ];
        for (process, expected) in table {
            let texts = texts(&[trace(vec![process])], 0, None);
            let [text] = texts.as_slice() else { panic!("{texts:?}") };
            assert!(text.contains(expected) && text.contains(CONSEQUENCE), "{text}");
        }
        for state in [state::SAMPLED, state::EXECUTING, state::ASKS, state::OPENING] {
            let python = trace(vec![process(state, 0)]);
            assert!(texts(&[python], 0, None).is_empty());
        }
    }

    #[test]
    fn missing_python_frames_are_reported_without_samples() {
        let memory = PythonMemory::create(0, 0, "", "").expect("memory");
        assert!(unsampled_notices(&memory).is_empty());
        let slots = [state::UNSUPPORTED, state::UNSAMPLED, state::UNSUPPORTED];
        for (process, (state, pid)) in memory.processes().zip(slots.into_iter().zip([7, 8, 7])) {
            process.pid.store(pid, Ordering::Relaxed);
            process.version.store(0x030b_07f0, Ordering::Relaxed);
            process.reason.store(reason::LAYOUT, Ordering::Relaxed);
            process.state.store(state, Ordering::Release);
        }
        let notices = unsampled_notices(&memory);
        let [Notice { id: NoticeId::PythonFramesMissing, text }] = notices.as_slice() else {
            panic!("{notices:?}")
        };
        assert!(text.contains("CPython 3.11.7") && !text.contains("processes)"), "{text}");
    }

    #[test]
    fn equal_reasons_are_one_notice() {
        let python = trace(vec![process(state::UNSUPPORTED, reason::VERSION); 3]);
        let texts = texts(&[python.clone(), python], 2, None);
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(texts[0].ends_with("(6 processes)."), "{texts:?}");
        assert!(texts[1].starts_with("4 processes run Python"), "{texts:?}");
    }

    #[test]
    fn deep_and_contradicting_stacks_are_reported_if_notable() {
        for (left_out, unmerged, expected) in [(0, 0, 0), (1, 1, 0), (2, 0, 1), (0, 90, 1)] {
            let samples = 100;
            let counts =
                PythonProvenance { samples, left_out, unmerged, ..PythonProvenance::default() };
            let texts = texts(&[trace(Vec::new())], 0, Some(&counts));
            assert_eq!(texts.len(), expected, "{texts:?}");
        }
    }

    #[test]
    fn a_notable_loss_has_its_share_and_a_reason() {
        let counts =
            PythonProvenance { samples: 7, lost: 2, unreadable: 1, ..PythonProvenance::default() };
        let python = PythonTrace { lost_records: 2, ..trace(vec![process(state::SAMPLED, 0)]) };
        let texts = texts(&[python], 0, Some(&counts));
        let [text] = &texts[..] else { panic!("{texts:?}") };
        assert!(text.contains("42.9 % of 7") && text.contains("lower rate"), "{text}");
    }
}
