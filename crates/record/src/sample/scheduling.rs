//! Follows the scheduler's records: when each thread ran, was ready to run, and waited.
//!
//! The kernel reports when a thread gets and leaves a CPU, and whether it left although it could have continued. A sample of its
//! stack precedes some of the records of leaving. Threads of processes that run Python also keep their latest gaps, so that the
//! waits that the preload library records can be divided into waiting and being ready to run.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;

use super::raw_stacks::RawStackId;
use super::state_spans::{Kind, StateSpans};

/// Gaps that are kept per thread of a process that runs Python.
const MAX_GAPS: usize = 4096;

/// Time by state, ns, and number of waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct StateTimes {
    /// On a CPU.
    pub running: u64,
    /// Ready to run, as far as the records show: preempted or just started. The time from a wake-up to the CPU counts as blocked.
    pub runnable: u64,
    /// Waiting.
    pub blocked: u64,
    /// Records are missing.
    pub unknown: u64,
    /// How often it began to wait.
    pub waits: u64,
}

/// The stack of a thread that leaves a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leaving {
    /// Its user frames.
    pub stack: Option<RawStackId>,
    /// Its kernel frames: position in [`super::trace::Trace::kernel_chains`].
    pub kernel: u32,
}

/// A sampled wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RawWait {
    /// Its end, CLOCK_MONOTONIC, ns.
    pub time_ns: u64,
    /// Position in [`super::trace::Trace::threads`].
    pub thread: u32,
    pub duration_ns: u64,
    pub leaving: Leaving,
}

impl RawWait {
    /// Returns its time, ns.
    pub fn range(&self) -> Range<u64> {
        self.time_ns.saturating_sub(self.duration_ns)..self.time_ns
    }
}

/// What the threads did.
#[derive(Debug, Default)]
pub(super) struct Scheduled {
    /// The times of each thread.
    pub states: Vec<(u32, StateTimes)>,
    /// The sampled waits, in order of time.
    pub waits: Vec<RawWait>,
    /// What each thread did over time.
    pub spans: HashMap<u32, StateSpans>,
}

/// What a thread does since its latest record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Runnable,
    Blocked(Option<Leaving>),
    Ended,
}

/// The time from leaving a CPU to getting one.
#[derive(Debug, Clone, Copy)]
struct Gap {
    out_ns: u64,
    in_ns: u64,
    blocked: bool,
}

#[derive(Debug)]
struct Track {
    state: State,
    since_ns: u64,
    times: StateTimes,
    spans: StateSpans,
    gaps: VecDeque<Gap>,
    /// Start of the time that `gaps` covers.
    gaps_from_ns: u64,
}

/// The states of all threads, by their position in [`super::trace::Trace::threads`].
#[derive(Debug, Default)]
pub(super) struct Scheduling {
    tracks: HashMap<u32, Track>,
    /// Processes whose threads keep their gaps.
    followed: HashSet<u32>,
    waits: Vec<RawWait>,
    /// Time of the latest record, ns.
    last_ns: u64,
    /// Whether a thread has left a CPU. Without it, the kernel does not report switches.
    has_switches: bool,
}

impl Scheduling {
    /// A thread was created: it is ready to run.
    pub fn created(&mut self, thread: u32, time_ns: u64) {
        self.enter(thread, time_ns, State::Runnable);
    }

    /// A thread is on a CPU, and was before unless it is new.
    pub fn runs(&mut self, thread: u32, time_ns: u64) {
        if !self.tracks.contains_key(&thread) {
            self.enter(thread, time_ns, State::Running);
        }
    }

    /// A thread of process `pid` gets a CPU.
    pub fn gets_cpu(&mut self, pid: u32, thread: u32, time_ns: u64) {
        let is_followed = self.followed.contains(&pid);
        if let Some(track) = self.tracks.get_mut(&thread) {
            let blocked = matches!(track.state, State::Blocked(_));
            if let State::Blocked(Some(leaving)) = track.state {
                let duration_ns = time_ns.saturating_sub(track.since_ns);
                self.waits.push(RawWait { time_ns, thread, duration_ns, leaving });
            }
            if is_followed && matches!(track.state, State::Blocked(_) | State::Runnable) {
                track.keep(Gap { out_ns: track.since_ns, in_ns: time_ns, blocked });
            }
            if track.state == State::Running {
                track.miss(time_ns);
            }
        }
        self.enter(thread, time_ns, State::Running);
    }

    /// A thread leaves its CPU. `leaving` is its stack if it was sampled, and it is ready to run if `preempted`.
    pub fn leaves_cpu(
        &mut self,
        thread: u32,
        time_ns: u64,
        preempted: bool,
        leaving: Option<Leaving>,
    ) {
        self.has_switches = true;
        match self.tracks.get_mut(&thread) {
            // The last switch of a thread that has ended.
            Some(Track { state: State::Ended, .. }) => return,
            Some(track) if track.state != State::Running => track.miss(time_ns),
            _ => {}
        }
        let track = self.tracks.entry(thread).or_insert_with(|| Track::new(time_ns));
        track.times.waits += u64::from(!preempted);
        let state = if preempted { State::Runnable } else { State::Blocked(leaving) };
        self.enter(thread, time_ns, state);
    }

    /// A thread has ended.
    pub fn ended(&mut self, thread: u32, time_ns: u64) {
        self.enter(thread, time_ns, State::Ended);
    }

    /// Returns the blocked part of the time in which a thread had no CPU within a range, 0 to 1; `None` if it is not known. From
    /// the first call on, threads of process `pid` keep their gaps.
    pub fn blocked_part(&mut self, pid: u32, thread: u32, range: Range<u64>) -> Option<f64> {
        if self.followed.insert(pid) || !self.has_switches {
            return None;
        }
        let track = self.tracks.get(&thread)?;
        let overlap =
            |gap: &Gap| gap.in_ns.min(range.end).saturating_sub(gap.out_ns.max(range.start));
        let within = || track.gaps.iter().rev().take_while(|gap| gap.in_ns > range.start);
        let blocked: u64 = within().filter(|gap| gap.blocked).map(overlap).sum();
        let all: u64 = within().map(overlap).sum();
        match all {
            // The thread had a CPU all the time.
            0 => (track.gaps_from_ns <= range.start).then_some(0.0),
            _ => Some(blocked as f64 / all as f64),
        }
    }

    /// Returns what the threads did up to the latest record. Without records of switches, nothing is known.
    pub fn finish(mut self) -> Scheduled {
        if !self.has_switches {
            return Scheduled::default();
        }
        let last_ns = self.last_ns;
        for (&thread, track) in &self.tracks {
            if let State::Blocked(Some(leaving)) = track.state {
                let duration_ns = last_ns.saturating_sub(track.since_ns);
                self.waits.push(RawWait { time_ns: last_ns, thread, duration_ns, leaving });
            }
        }
        let mut scheduled = Scheduled { waits: self.waits, ..Scheduled::default() };
        for (thread, mut track) in self.tracks {
            track.pass(last_ns);
            scheduled.states.push((thread, track.times));
            scheduled.spans.insert(thread, track.spans);
        }
        scheduled.states.sort_by_key(|&(thread, _)| thread);
        scheduled.waits.sort_by_key(|wait| (wait.time_ns, wait.thread));
        scheduled
    }

    fn enter(&mut self, thread: u32, time_ns: u64, state: State) {
        self.last_ns = self.last_ns.max(time_ns);
        let track = self.tracks.entry(thread).or_insert_with(|| Track::new(time_ns));
        track.pass(time_ns);
        track.state = state;
    }
}

impl Track {
    fn new(time_ns: u64) -> Self {
        Self {
            state: State::Ended,
            since_ns: time_ns,
            times: StateTimes::default(),
            spans: StateSpans::default(),
            gaps: VecDeque::new(),
            gaps_from_ns: time_ns,
        }
    }

    /// Adds the time since the latest record to the state.
    fn pass(&mut self, time_ns: u64) {
        let passed_ns = time_ns.saturating_sub(self.since_ns);
        let kind = match self.state {
            State::Running => {
                self.times.running += passed_ns;
                Some(Kind::Running)
            }
            State::Runnable => {
                self.times.runnable += passed_ns;
                Some(Kind::Runnable)
            }
            State::Blocked(_) => {
                self.times.blocked += passed_ns;
                Some(Kind::Blocked)
            }
            State::Ended => None,
        };
        if let Some(kind) = kind {
            self.spans.add(self.since_ns..time_ns, kind);
        }
        self.since_ns = self.since_ns.max(time_ns);
    }

    /// Counts the time since the latest record as unknown, because a record between is missing.
    fn miss(&mut self, time_ns: u64) {
        self.times.unknown += time_ns.saturating_sub(self.since_ns);
        self.spans.add(self.since_ns..time_ns, Kind::Unknown);
        self.since_ns = self.since_ns.max(time_ns);
    }

    fn keep(&mut self, gap: Gap) {
        if self.gaps.is_empty() {
            self.gaps_from_ns = gap.out_ns;
        }
        if self.gaps.len() == MAX_GAPS
            && let Some(oldest) = self.gaps.pop_front()
        {
            self.gaps_from_ns = oldest.in_ns;
        }
        self.gaps.push_back(gap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAVING: Leaving = Leaving { stack: None, kernel: 0 };

    fn times(scheduling: Scheduling) -> Vec<(u32, StateTimes)> {
        scheduling.finish().states
    }

    #[test]
    fn preempted_and_new_threads_are_ready_to_run_and_others_wait() {
        let mut scheduling = Scheduling::default();
        scheduling.runs(0, 100);
        scheduling.created(1, 110);
        scheduling.leaves_cpu(0, 120, true, None);
        scheduling.gets_cpu(9, 1, 120);
        scheduling.leaves_cpu(1, 150, false, Some(LEAVING));
        scheduling.gets_cpu(9, 0, 150);
        scheduling.gets_cpu(9, 1, 190);
        scheduling.ended(1, 200);
        scheduling.leaves_cpu(1, 201, false, None);
        scheduling.ended(0, 210);
        let waits = [RawWait { time_ns: 190, thread: 1, duration_ns: 40, leaving: LEAVING }];
        let first = StateTimes { running: 80, runnable: 30, ..StateTimes::default() };
        let second = StateTimes { running: 40, runnable: 10, blocked: 40, unknown: 0, waits: 1 };
        let scheduled = scheduling.finish();
        assert_eq!(scheduled.states, [(0, first), (1, second)]);
        assert_eq!(scheduled.waits, waits);
        let spans = scheduled.spans[&1].clone().finish(1.0);
        assert_eq!((spans[0].end_ns, spans[0].blocked_ns, spans.len()), (200, 40, 1));
    }

    #[test]
    fn time_between_contradicting_records_is_unknown() {
        let mut scheduling = Scheduling::default();
        scheduling.runs(0, 0);
        scheduling.gets_cpu(9, 0, 10);
        scheduling.leaves_cpu(0, 30, false, None);
        scheduling.leaves_cpu(0, 60, true, None);
        scheduling.gets_cpu(9, 0, 100);
        let expected = StateTimes { running: 20, runnable: 40, blocked: 0, unknown: 40, waits: 1 };
        assert_eq!(times(scheduling), [(0, expected)]);
    }

    #[test]
    fn without_switches_nothing_is_known() {
        let mut scheduling = Scheduling::default();
        scheduling.created(0, 10);
        scheduling.ended(0, 20);
        assert_eq!(scheduling.blocked_part(9, 0, 0..20), None);
        assert_eq!(scheduling.blocked_part(9, 0, 0..20), None);
        assert_eq!(times(scheduling), []);
    }

    #[test]
    fn a_thread_that_waits_at_the_end_has_a_wait() {
        let mut scheduling = Scheduling::default();
        scheduling.runs(0, 0);
        scheduling.leaves_cpu(0, 10, false, Some(LEAVING));
        scheduling.runs(1, 60);
        let Scheduled { states, waits, .. } = scheduling.finish();
        assert_eq!((states[0].1.blocked, waits[0].duration_ns), (50, 50));
    }

    #[test]
    fn the_blocked_part_of_a_range_is_what_its_gaps_show() {
        let mut scheduling = Scheduling::default();
        scheduling.runs(0, 0);
        assert_eq!(scheduling.blocked_part(9, 0, 0..1), None, "the first call starts to follow");
        for (out_ns, in_ns, preempted) in [(10, 20, true), (30, 60, false), (80, 90, true)] {
            scheduling.leaves_cpu(0, out_ns, preempted, None);
            scheduling.gets_cpu(9, 0, in_ns);
        }
        for (range, expected) in [
            (0..100, Some(0.6)),
            (10..40, Some(0.5)),
            (35..60, Some(1.0)),
            (61..100, Some(0.0)),
            (62..79, Some(0.0)),
            (0..5, None),
        ] {
            assert_eq!(scheduling.blocked_part(9, 0, range.clone()), expected, "{range:?}");
        }
        assert_eq!(scheduling.blocked_part(9, 7, 0..100), None);
    }

    #[test]
    fn only_the_latest_gaps_are_kept() {
        let mut scheduling = Scheduling::default();
        scheduling.runs(0, 0);
        scheduling.blocked_part(9, 0, 0..1);
        for gap in 0..=MAX_GAPS as u64 {
            scheduling.leaves_cpu(0, gap * 10 + 1, false, None);
            scheduling.gets_cpu(9, 0, gap * 10 + 2);
        }
        assert_eq!(scheduling.tracks[&0].gaps.len(), MAX_GAPS);
        assert_eq!(scheduling.blocked_part(9, 0, 0..1), None);
    }
}
