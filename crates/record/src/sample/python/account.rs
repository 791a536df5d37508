//! How the Python frames of a recording were obtained, and what a reader must know of them.

use std::collections::{BTreeMap, BTreeSet};

use simprof_model::{Notice, NoticeId, PythonProvenance};
use simprof_preload::format::{flag, reason, state};
use simprof_preload::supported::{CPYTHON, PYTHON_FRAMES_LINUX};

use super::join::Attached;
use super::merge::Fit;
use super::mixed::Merged;
use super::{Told, ToldProcess};
use crate::preload::PythonMemory;

/// Above this share of lost or torn Python stacks, the profile says so.
const NOTABLE_LOSS: f64 = 0.01;
/// What it means that a process is not armed.
const CONSEQUENCE: &str = "its stacks are those of the interpreter at most, without Python frames";

/// Counts samples by what came of their Python stacks.
#[derive(Debug, Clone, Default)]
pub struct Account {
    counts: PythonProvenance,
}

impl Account {
    /// Counts a sample, and its merged stack where there is one.
    pub fn count(&mut self, attached: Attached, merged: Option<&Merged>) {
        let counts = &mut self.counts;
        let flags = match attached {
            Attached::None => return,
            Attached::Lost => flag::FULL,
            Attached::Stack { flags, .. } => flags,
        };
        counts.samples += 1;
        if flags & flag::FULL != 0 {
            counts.lost += 1;
            return;
        }
        let is_native = matches!(attached, Attached::Stack { node: 0, .. });
        let is_unreadable = flags & flag::UNREADABLE != 0 || merged.is_some_and(|m| m.unreadable);
        counts.native += u64::from(is_native && !is_unreadable);
        counts.unreadable += u64::from(is_unreadable);
        counts.cut += u64::from(flags & flag::CUT != 0);
        counts.unmerged += u64::from(merged.is_some_and(|merged| merged.fit == Fit::Unmerged));
    }

    /// Counts a sample of the profiler's own work, which comes to nothing.
    pub fn count_own(&mut self, attached: Attached) {
        self.counts.own += 1;
        self.counts.samples += u64::from(attached != Attached::None);
    }

    /// The account; none where no process ran Python.
    pub fn provenance(&self, told: &Told) -> Option<PythonProvenance> {
        let versions = told.processes.iter().filter(|process| process.version != 0);
        let names: BTreeSet<String> = versions.map(interpreter).collect();
        let interpreters = names.into_iter().collect();
        (!told.processes.is_empty())
            .then(|| PythonProvenance { interpreters, ..self.counts.clone() })
    }
}

/// What a reader must know of Python, of all runs together.
#[derive(Debug, Clone, Default)]
pub struct PythonCaveats {
    /// Why processes could not be armed, each with how many.
    refusals: BTreeMap<String, u64>,
    /// Processes that run Python but did not ask.
    unloaded: u64,
    processes_lost: u64,
    full: u64,
    lost_records: u64,
}

impl PythonCaveats {
    /// Notes what was told in a run, in which so many processes ran Python without telling anything.
    pub fn note(&mut self, told: &Told, unloaded: usize) {
        for text in told.processes.iter().filter_map(|process| refusal(process, told.frames)) {
            *self.refusals.entry(text).or_default() += 1;
        }
        self.unloaded += unloaded as u64;
        self.processes_lost += told.processes_lost;
        self.full += told.full;
        self.lost_records += told.lost_records;
    }

    /// Returns one notice for each; `counts` is the account of all runs.
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
        if self.processes_lost > 0 {
            let text = format!(
                "{} processes that run Python were too many to follow: {CONSEQUENCE}.",
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
            "The Python frames of {:.1} % of {} samples are missing or torn: {why}.",
            100.0 * share,
            counts.samples
        );
        Some(Notice::new(NoticeId::PythonFramesLost, text))
    }
}

/// What a reader must know of the Python stacks of a recording without samples, which were told through `memory`.
pub(crate) fn unsampled_notices(memory: &PythonMemory) -> Vec<Notice> {
    let told: Vec<ToldProcess> = memory.processes().filter_map(ToldProcess::read).collect();
    // Two libraries may have told of one process.
    let mut seen = BTreeSet::new();
    let is_first = |process: &ToldProcess| seen.insert((process.pid, process.version));
    let told = Told {
        processes: told.into_iter().filter(is_first).collect(),
        processes_lost: memory.processes_lost(),
        ..Told::default()
    };
    let mut caveats = PythonCaveats::default();
    caveats.note(&told, 0);
    let mut notices = caveats.notices(None);
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

/// Why a process has no Python frames, what that means and what would mend it; none where it has them.
fn refusal(process: &ToldProcess, frames: bool) -> Option<String> {
    let name = interpreter(process);
    let why = match (process.state, process.reason) {
        (state::UNSUPPORTED, reason::VERSION) => {
            format!(
                "{name} is not a supported version: {CONSEQUENCE}; run the target with {CPYTHON}"
            )
        }
        (state::UNSUPPORTED, reason::FREE_THREADED) => {
            format!(
                "{name} is a free-threaded build that cannot be read: {CONSEQUENCE}; use the ordinary build"
            )
        }
        (state::UNSUPPORTED, reason::SIGNAL) => {
            format!(
                "The program handles SIGTRAP, which sampling Python needs: {CONSEQUENCE}; let it leave that signal alone"
            )
        }
        (state::UNSUPPORTED, _) => {
            format!(
                "{name} does not describe its memory as that version does: {CONSEQUENCE}; use a build as python.org releases it"
            )
        }
        // It ended, or executed another program, before it could be armed.
        (state::REFUSED, 0) => return None,
        (state::REFUSED, errno) => refused(errno),
        (state::UNSAMPLED, _) if frames => format!(
            "A process of {name} was not answered in time: {CONSEQUENCE}; run fewer threads than the machine has cores"
        ),
        _ => return None,
    };
    Some(why)
}

/// What the kernel's refusal means.
fn refused(errno: u32) -> String {
    let number = i32::try_from(errno).unwrap_or(0);
    let (why, mend) = match number {
        libc::EINVAL | libc::E2BIG => (
            "This kernel cannot signal samples to the sampled process".to_owned(),
            format!("use {PYTHON_FRAMES_LINUX}"),
        ),
        libc::EACCES | libc::EPERM => (
            "The system does not allow to signal samples to a process".to_owned(),
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
        _ => (
            format!(
                "A process that runs Python could not be sampled ({})",
                std::io::Error::from_raw_os_error(number)
            ),
            String::new(),
        ),
    };
    let mend = if mend.is_empty() { String::new() } else { format!("; {mend}") };
    format!("{why}: {CONSEQUENCE}{mend}")
}

/// Name and version of a process's interpreter.
fn interpreter(process: &ToldProcess) -> String {
    interpreter_name(process.version, process.free_threaded)
}

/// Name and version of an interpreter, such as `CPython 3.11.7`, from its `PY_VERSION_HEX`.
pub(crate) fn interpreter_name(version: u32, free_threaded: bool) -> String {
    let [major, minor, micro, level] = version.to_be_bytes();
    if version == 0 {
        return "CPython".to_owned();
    }
    let serial = level & 15;
    let stage = match level >> 4 {
        0xa => format!("a{serial}"),
        0xb => format!("b{serial}"),
        0xc => format!("rc{serial}"),
        _ => String::new(),
    };
    let build = if free_threaded { " (free-threaded)" } else { "" };
    format!("CPython {major}.{minor}.{micro}{stage}{build}")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    fn process(state: u32, reason: u32) -> ToldProcess {
        ToldProcess { state, pid: 7, version: 0x030b_07f0, reason, free_threaded: false }
    }

    fn told(processes: Vec<ToldProcess>) -> Told {
        Told { processes, frames: true, ..Told::default() }
    }

    /// Returns the texts of the notices on `runs`, in each of which `unloaded` processes ran Python without the library.
    fn sentences(runs: &[Told], unloaded: usize, counts: Option<&PythonProvenance>) -> Vec<String> {
        let mut caveats = PythonCaveats::default();
        runs.iter().for_each(|told| caveats.note(told, unloaded));
        caveats.notices(counts).into_iter().map(|notice| notice.text).collect()
    }

    #[test]
    fn every_refusal_says_what_it_means_and_what_mends_it() {
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
            (process(state::UNSAMPLED, 0), "not answered"),
        ];
        for (process, expected) in table {
            let sentences = sentences(&[told(vec![process])], 0, None);
            let [sentence] = sentences.as_slice() else { panic!("{sentences:?}") };
            assert!(sentence.contains(expected) && sentence.contains(CONSEQUENCE), "{sentence}");
        }
        for state in [state::SAMPLED, state::EXECUTING, state::ASKS, state::OPENING] {
            let told = told(vec![process(state, 0)]);
            assert!(sentences(&[told], 0, None).is_empty());
        }
    }

    #[test]
    fn what_lacks_python_frames_is_told_without_samples() {
        let memory = PythonMemory::create(0, 0, "", "").expect("memory");
        assert!(unsampled_notices(&memory).is_empty());
        let places = [state::UNSUPPORTED, state::UNSAMPLED, state::UNSUPPORTED];
        for (process, (state, pid)) in memory.processes().zip(places.into_iter().zip([7, 8, 7])) {
            process.pid.store(pid, Ordering::Relaxed);
            process.version.store(0x030b_07f0, Ordering::Relaxed);
            process.reason.store(reason::LAYOUT, Ordering::Relaxed);
            process.state.store(state, Ordering::Release);
        }
        let notices = unsampled_notices(&memory);
        let [Notice { id: NoticeId::PythonFramesMissing, text }] = notices.as_slice() else {
            panic!("{notices:?}")
        };
        assert!(text.starts_with("CPython 3.11.7") && !text.contains("processes)"), "{text}");
    }

    #[test]
    fn the_same_reason_is_told_once() {
        let told = told(vec![process(state::UNSUPPORTED, 1); 3]);
        let sentences = sentences(&[told.clone(), told], 2, None);
        assert_eq!(sentences.len(), 2, "{sentences:?}");
        assert!(sentences[0].ends_with("(6 processes)."), "{sentences:?}");
        assert!(sentences[1].starts_with("4 processes run Python"), "{sentences:?}");
    }

    #[test]
    fn samples_are_counted_by_what_came_of_them() {
        let merged = |fit, unreadable| Merged { stack: None, whole: true, fit, unreadable };
        let stack = |node, flags| Attached::Stack { node, flags };
        let mut account = Account::default();
        account.count(Attached::None, None);
        account.count(Attached::Lost, None);
        account.count(stack(0, flag::FULL), None);
        account.count(stack(0, flag::NO_PYTHON), None);
        account.count(stack(4, 0), Some(&merged(Fit::Whole, false)));
        account.count(stack(4, flag::CUT), Some(&merged(Fit::Unmerged, false)));
        account.count(stack(4, 0), Some(&merged(Fit::Completed, true)));
        account.count_own(stack(4, 0));
        assert_eq!(account.provenance(&told(Vec::new())), None);
        let told = Told { lost_records: 2, ..told(vec![process(state::SAMPLED, 0)]) };
        let expected = PythonProvenance {
            interpreters: vec!["CPython 3.11.7".to_owned()],
            samples: 7,
            native: 1,
            lost: 2,
            unreadable: 1,
            cut: 1,
            unmerged: 1,
            own: 1,
        };
        let provenance = account.provenance(&told);
        assert_eq!(provenance.as_ref(), Some(&expected));
        let sentences = sentences(&[told], 0, provenance.as_ref());
        let [sentence] = &sentences[..] else { panic!("{sentences:?}") };
        assert!(sentence.contains("42.9 % of 7") && sentence.contains("lower rate"), "{sentence}");
    }

    #[test]
    fn versions_are_named_as_their_releases() {
        let name = |version, free_threaded| {
            interpreter(&ToldProcess { version, free_threaded, ..process(0, 0) })
        };
        assert_eq!(name(0x030d_00f0, false), "CPython 3.13.0");
        assert_eq!(name(0x030e_00c2, true), "CPython 3.14.0rc2 (free-threaded)");
        assert_eq!(name(0, false), "CPython");
    }
}
