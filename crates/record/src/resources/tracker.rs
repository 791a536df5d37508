//! All processes of the target together.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use simprof_model::{Notice, NoticeId, ResourceSample, ThreadCpu, Timeline};

use super::cores::Cores;
use super::file::{ProcFile, Room, numbers};
use super::process::{Process, Scratch, Thread, Usage, Waited};
use crate::{clock, tree};

/// With more threads than this, threads are read at every tenth sample only.
const THREADS_CHEAP: usize = 48;

/// Reading the proportional set may take one part in so many of the time.
const PSS_SHARE: u32 = 1000;

/// Most threads whose CPU time is kept after their end.
const ENDED_THREADS_KEPT: usize = 4096;

/// Watches everything that descends from the guardian.
pub struct Tracker {
    guardian: Process,
    /// The guardian has one thread.
    guardian_children: ProcFile,
    /// Storage I/O of the guardian before the target ran, which is not the target's.
    guardian_io: (u64, u64),
    processes: BTreeMap<u32, Process>,
    /// What those had used that have vanished, as far as it was seen.
    vanished: Usage,
    ended_threads: Vec<ThreadCpu>,
    ended_threads_dropped: u64,
    cores: Cores,
    scratch: Scratch,
    count: u64,
    pss_next: Instant,
    lists_children: bool,
    last: ResourceSample,
}

impl Tracker {
    /// Before the target runs.
    pub fn new(guardian: u32, target: u32) -> Self {
        let room = Room::new();
        let mut tracker = Self {
            guardian: Process::new(guardian, &room),
            guardian_children: ProcFile::new(
                format!("/proc/{guardian}/task/{guardian}/children"),
                &room,
            ),
            guardian_io: (0, 0),
            processes: BTreeMap::from([(target, Process::new(target, &room))]),
            vanished: Usage::default(),
            ended_threads: Vec::new(),
            ended_threads_dropped: 0,
            cores: Cores::new(&room),
            scratch: Scratch { buffer: Vec::new(), room },
            count: 0,
            pss_next: Instant::now(),
            lists_children: std::fs::exists("/proc/thread-self/children").unwrap_or(false),
            last: ResourceSample::default(),
        };
        // A guardian that has gone is noticed by who speaks with it.
        tracker.guardian.update_io(&mut tracker.scratch.buffer);
        let usage = &tracker.guardian.usage;
        tracker.guardian_io = (usage.read_bytes, usage.written_bytes);
        tracker
    }

    /// Looks at everything once. `thorough` looks at threads however many there are.
    pub fn sample(&mut self, thorough: bool) -> ResourceSample {
        let time_ns = clock::now_ns();
        let threads: usize = self.processes.values().map(Process::thread_count).sum();
        let tenth = self.count.is_multiple_of(10);
        // Before the processes, so that what one hands on to it while being reaped is not missed.
        let _ = self.guardian.update(&mut self.scratch.buffer);
        if thorough || tenth {
            self.guardian.update_io(&mut self.scratch.buffer);
        }
        self.update_processes();
        if thorough || tenth || threads <= THREADS_CHEAP {
            self.update_threads(thorough || tenth);
        }
        self.count += 1;
        let mut sample = self.totals();
        sample.time_ns = time_ns;
        sample.core_busy = self.cores.busy(&mut self.scratch.buffer);
        sample.pss_bytes = self.pss_bytes();
        self.last = sample.clone();
        sample
    }

    fn update_processes(&mut self) {
        let buffer = &mut self.scratch.buffer;
        let gone: Vec<u32> = self
            .processes
            .values_mut()
            .filter_map(|process| {
                let gone = process.update(buffer).is_err();
                process.update_io(buffer);
                gone.then_some(process.pid)
            })
            .collect();
        for pid in gone {
            if let Some(process) = self.processes.remove(&pid) {
                add(&mut self.vanished, &process.usage);
                for (tid, thread) in process.into_threads() {
                    self.keep(pid, tid, &thread);
                }
            }
        }
    }

    fn update_threads(&mut self, names: bool) {
        let mut queue: Vec<u32> = self.processes.keys().copied().collect();
        queue.extend(self.orphans(names));
        let mut seen = HashSet::new();
        while let Some(pid) = queue.pop() {
            if !seen.insert(pid) {
                continue;
            }
            let Some(mut process) = self.processes.remove(&pid).or_else(|| self.meet(pid)) else {
                continue;
            };
            let mut ended = Vec::new();
            queue.extend(process.update_threads(names, &mut self.scratch, &mut ended));
            ended.iter().for_each(|(tid, thread)| self.keep(pid, *tid, thread));
            self.processes.insert(pid, process);
        }
    }

    /// Children of the guardian, and all that cannot be found through their parents.
    fn orphans(&mut self, all: bool) -> Vec<u32> {
        match (self.lists_children, all) {
            (true, _) => {
                let listed = self.guardian_children.read(&mut self.scratch.buffer);
                listed.map(numbers).unwrap_or_default()
            }
            (false, true) => tree::descendants(self.guardian.pid),
            (false, false) => Vec::new(),
        }
    }

    /// A process that is new here.
    fn meet(&mut self, pid: u32) -> Option<Process> {
        let mut process = Process::new(pid, &self.scratch.room);
        process.update(&mut self.scratch.buffer).ok().map(|()| process)
    }

    fn keep(&mut self, pid: u32, tid: u32, thread: &Thread) {
        if self.ended_threads.len() < ENDED_THREADS_KEPT {
            self.ended_threads.push(thread_cpu(pid, tid, thread));
        } else {
            self.ended_threads_dropped += 1;
        }
    }

    /// Sums over the processes. What has ended is known twice, and never too high: the kernel adds
    /// it to a parent that waits for it (exact even for those that were never seen), and it was
    /// seen here (also where no parent waited). The larger counts.
    fn totals(&self) -> ResourceSample {
        let mut own = Usage::default();
        let mut waited = self.guardian.usage.waited;
        for process in self.processes.values() {
            add(&mut own, &process.usage);
            add_waited(&mut waited, &process.usage.waited);
        }
        let (gone, last) = (&self.vanished, &self.last);
        let total =
            |own: u64, waited: u64, gone: u64, last: u64| (own + waited.max(gone)).max(last);
        ResourceSample {
            cpu_ns: total(own.cpu_ns, waited.cpu_ns, gone.cpu_ns, last.cpu_ns),
            minor_faults: total(
                own.minor_faults,
                waited.minor_faults,
                gone.minor_faults,
                last.minor_faults,
            ),
            major_faults: total(
                own.major_faults,
                waited.major_faults,
                gone.major_faults,
                last.major_faults,
            ),
            voluntary_switches: own.voluntary_switches + gone.voluntary_switches,
            involuntary_switches: own.involuntary_switches + gone.involuntary_switches,
            rss_bytes: own.rss_bytes,
            rss_file_bytes: own.rss_file_bytes,
            rss_growth_bytes: own.rss_growth_bytes,
            rss_file_growth_bytes: own.rss_file_growth_bytes,
            read_bytes: self.io(|usage| usage.read_bytes, self.guardian_io.0, last.read_bytes),
            written_bytes: self.io(
                |usage| usage.written_bytes,
                self.guardian_io.1,
                last.written_bytes,
            ),
            threads: own.threads,
            processes: self.processes.values().filter(|process| !process.usage.is_zombie).count()
                as u32,
            ..ResourceSample::default()
        }
    }

    /// Storage I/O of all; the kernel's figure of a process includes the children that it waited for.
    fn io(&self, bytes: fn(&Usage) -> u64, before: u64, last: Option<u64>) -> Option<u64> {
        let live: u64 = self.processes.values().map(|process| bytes(&process.usage)).sum();
        let handed_on = bytes(&self.guardian.usage).saturating_sub(before);
        let known = self.processes.values().all(|process| process.tells_io);
        known.then(|| (live + handed_on).max(last.unwrap_or(0)))
    }

    /// Proportional set of all processes, where it is time to read it again.
    fn pss_bytes(&mut self) -> Option<u64> {
        let begin = Instant::now();
        if begin < self.pss_next {
            return None;
        }
        let buffer = &mut self.scratch.buffer;
        let mut live =
            self.processes.values_mut().filter(|process| !process.usage.is_zombie).peekable();
        live.peek()?;
        let sum = live.map(|process| process.pss_bytes(buffer)).sum();
        let cost = begin.elapsed();
        self.pss_next = begin + (cost * PSS_SHARE).max(Duration::from_millis(1));
        sum
    }

    /// What is known of threads at the end, and of anything that could not be read.
    pub fn finish(mut self, timeline: &mut Timeline) {
        if self.processes.values().any(|process| !process.tells_io) {
            let text = "The kernel does not report the target's storage I/O.";
            timeline.notices.push(Notice::new(NoticeId::IoNotReported, text));
        }
        if !self.lists_children {
            let text = "The kernel does not list child processes: short-lived ones may be missing.";
            timeline.notices.push(Notice::new(NoticeId::ChildrenNotListed, text));
        }
        if self.ended_threads_dropped > 0 {
            let count = self.ended_threads_dropped;
            let text = format!("{count} threads that ended are not listed.");
            timeline.notices.push(Notice::new(NoticeId::ThreadsNotListed, text));
        }
        timeline.threads.append(&mut self.ended_threads);
        for (pid, process) in self.processes {
            let threads = process.into_threads();
            timeline.threads.extend(threads.map(|(tid, thread)| thread_cpu(pid, tid, &thread)));
        }
        timeline.threads.sort_by_key(|thread| (thread.pid, thread.tid));
    }
}

fn thread_cpu(pid: u32, tid: u32, thread: &Thread) -> ThreadCpu {
    ThreadCpu { pid, tid, name: thread.name.clone(), cpu_ns: thread.cpu_ns }
}

fn add(sum: &mut Usage, one: &Usage) {
    sum.cpu_ns += one.cpu_ns;
    sum.minor_faults += one.minor_faults;
    sum.major_faults += one.major_faults;
    sum.voluntary_switches += one.voluntary_switches;
    sum.involuntary_switches += one.involuntary_switches;
    sum.rss_bytes += one.rss_bytes;
    sum.rss_file_bytes += one.rss_file_bytes;
    sum.rss_growth_bytes += one.rss_growth_bytes;
    sum.rss_file_growth_bytes += one.rss_file_growth_bytes;
    sum.threads += one.threads;
}

fn add_waited(sum: &mut Waited, one: &Waited) {
    sum.cpu_ns += one.cpu_ns;
    sum.minor_faults += one.minor_faults;
    sum.major_faults += one.major_faults;
}
