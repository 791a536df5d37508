//! The resource usage of all processes of the target.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use simprof_model::{CpuReading, Notice, NoticeId, ResourceSample, ThreadCpu, Timeline};

use super::cores::Cores;
use super::file::{OpenFileLimit, ProcFile, numbers};
use super::process::{Process, Scratch, Thread, Usage, Waited};
use crate::{clock, tree};

/// With more threads than this, threads are read only with every tenth sample.
const MANY_THREADS: usize = 48;

/// Reading the proportional set may take at most 1 / PSS_SHARE of the time.
const PSS_SHARE: u32 = 1000;

/// Maximum number of threads whose CPU time is kept after their end.
const MAX_ENDED_THREADS: usize = 4096;

/// Reads the usage of all descendants of the guardian.
pub struct Tracker {
    guardian: Process,
    /// Lists the children of the guardian's only thread.
    guardian_children: ProcFile,
    /// Bytes that the guardian itself had read and written before the target ran.
    guardian_io: (u64, u64),
    processes: BTreeMap<u32, Process>,
    /// Last known usage of processes that have gone.
    vanished: Usage,
    ended_threads: Vec<ThreadCpu>,
    ended_threads_dropped: u64,
    /// Whether the last sample found a process that was not known before.
    has_found: bool,
    cores: Cores,
    scratch: Scratch,
    count: u64,
    pss_next: Instant,
    lists_children: bool,
    last: ResourceSample,
}

impl Tracker {
    /// Creates a tracker. Call it before the target runs.
    pub fn new(guardian: u32, target: u32) -> Self {
        let limit = OpenFileLimit::new();
        let mut tracker = Self {
            guardian: Process::new(guardian, &limit),
            guardian_children: ProcFile::new(
                format!("/proc/{guardian}/task/{guardian}/children"),
                &limit,
            ),
            guardian_io: (0, 0),
            processes: BTreeMap::from([(target, Process::new(target, &limit))]),
            vanished: Usage::default(),
            ended_threads: Vec::new(),
            ended_threads_dropped: 0,
            has_found: false,
            cores: Cores::new(&limit),
            scratch: Scratch { buffer: Vec::new(), limit },
            count: 0,
            pss_next: Instant::now(),
            lists_children: std::fs::exists("/proc/thread-self/children").unwrap_or(false),
            last: ResourceSample::default(),
        };
        // If the guardian has gone, the main thread notices it.
        tracker.guardian.update_io(&mut tracker.scratch.buffer);
        let usage = &tracker.guardian.usage;
        tracker.guardian_io = (usage.read_bytes, usage.written_bytes);
        tracker
    }

    /// Reads everything once. `thorough` reads the threads even if there are many.
    pub fn sample(&mut self, thorough: bool) -> ResourceSample {
        let time_ns = clock::now_ns();
        let threads: usize = self.processes.values().map(Process::thread_count).sum();
        let tenth = self.count.is_multiple_of(10);
        // Read the guardian before the processes. A process that is reaped in between then counts at its last known usage.
        let _ = self.guardian.update(&mut self.scratch.buffer);
        if thorough || tenth {
            self.guardian.update_io(&mut self.scratch.buffer);
        }
        self.update_processes(true);
        self.has_found = false;
        if thorough || tenth || threads <= MANY_THREADS {
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

    /// Reads only the CPU time, of the processes that are known.
    pub fn cpu_reading(&mut self) -> CpuReading {
        let time_ns = clock::now_ns();
        let _ = self.guardian.update(&mut self.scratch.buffer);
        self.update_processes(false);
        let totals = self.totals();
        // A later total must not be smaller, as for a sample.
        self.last.cpu_ns = totals.cpu_ns;
        CpuReading { time_ns, cpu_ns: totals.cpu_ns, threads: totals.threads }
    }

    /// Returns whether the last sample found a process that was not known before. CPU readings since the sample before that may
    /// then be too low.
    pub fn has_found_processes(&self) -> bool {
        self.has_found
    }

    fn update_processes(&mut self, io: bool) {
        let buffer = &mut self.scratch.buffer;
        let vanished: Vec<u32> = self
            .processes
            .values_mut()
            .filter_map(|process| {
                let has_vanished = process.update(buffer).is_err();
                if io || has_vanished {
                    process.update_io(buffer);
                }
                has_vanished.then_some(process.pid)
            })
            .collect();
        for pid in vanished {
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
            let Some(mut process) = self.processes.remove(&pid).or_else(|| self.new_process(pid))
            else {
                continue;
            };
            let mut ended = Vec::new();
            queue.extend(process.update_threads(names, &mut self.scratch, &mut ended));
            ended.iter().for_each(|(tid, thread)| self.keep(pid, *tid, thread));
            self.processes.insert(pid, process);
        }
    }

    /// Returns the guardian's children. If the kernel lists no children, returns all its descendants, but only if `all` is set.
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

    /// Opens a process that is not known yet; `None` if it has already gone.
    fn new_process(&mut self, pid: u32) -> Option<Process> {
        let mut process = Process::new(pid, &self.scratch.limit);
        process.update(&mut self.scratch.buffer).ok()?;
        self.has_found = true;
        Some(process)
    }

    fn keep(&mut self, pid: u32, tid: u32, thread: &Thread) {
        if self.ended_threads.len() < MAX_ENDED_THREADS {
            self.ended_threads.push(thread_cpu(pid, tid, thread));
        } else {
            self.ended_threads_dropped += 1;
        }
    }

    /// Sums the usage of all processes.
    ///
    /// There are two sources for the usage of ended processes, and neither is too high. The kernel adds
    /// it to the parent that reaps the process; this is exact even for processes that were never
    /// sampled. The tracker keeps the last known usage, also if no parent reaped the process. The
    /// larger of the two counts.
    fn totals(&self) -> ResourceSample {
        let mut own = Usage::default();
        let mut waited = self.guardian.usage.waited;
        for process in self.processes.values() {
            add(&mut own, &process.usage);
            add_waited(&mut waited, &process.usage.waited);
        }
        let (vanished, last) = (&self.vanished, &self.last);
        let total = |own: u64, waited: u64, vanished: u64, last: u64| {
            (own + waited.max(vanished)).max(last)
        };
        ResourceSample {
            cpu_ns: total(own.cpu_ns, waited.cpu_ns, vanished.cpu_ns, last.cpu_ns),
            minor_faults: total(
                own.minor_faults,
                waited.minor_faults,
                vanished.minor_faults,
                last.minor_faults,
            ),
            major_faults: total(
                own.major_faults,
                waited.major_faults,
                vanished.major_faults,
                last.major_faults,
            ),
            voluntary_switches: own.voluntary_switches + vanished.voluntary_switches,
            involuntary_switches: own.involuntary_switches + vanished.involuntary_switches,
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

    /// Sums the storage I/O of all processes. The kernel's count of a process includes its reaped children.
    fn io(&self, bytes: fn(&Usage) -> u64, before: u64, last: Option<u64>) -> Option<u64> {
        let live: u64 = self.processes.values().map(|process| bytes(&process.usage)).sum();
        let reaped = bytes(&self.guardian.usage).saturating_sub(before);
        let known = self.processes.values().all(|process| process.reports_io);
        known.then(|| (live + reaped).max(last.unwrap_or(0)))
    }

    /// Reads the proportional set of all processes, or returns `None` if it is too early to read it again.
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

    /// Adds the threads, and notices about everything that could not be read.
    pub fn finish(mut self, timeline: &mut Timeline) {
        if self.processes.values().any(|process| !process.reports_io) {
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
    ThreadCpu {
        pid,
        tid,
        name: thread.name.clone(),
        cpu_ns: thread.cpu_ns,
        runnable_ns: thread.runnable_ns,
    }
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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_found_once() {
        let shell = "read line; sleep 60 & read line; kill $!";
        let mut target =
            Command::new("sh").args(["-c", shell]).stdin(Stdio::piped()).spawn().expect("sh runs");
        let mut input = target.stdin.take().expect("a pipe");
        let mut tracker = Tracker::new(std::process::id(), target.id());
        assert_eq!((tracker.sample(true).processes, tracker.has_found_processes()), (1, false));
        input.write_all(b"\n").expect("sh reads");
        let begin = Instant::now();
        while tracker.sample(true).processes < 2 {
            assert!(!tracker.has_found_processes());
            assert!(begin.elapsed() < Duration::from_secs(60), "sh starts no process");
        }
        assert!(tracker.has_found_processes());
        tracker.sample(true);
        assert!(!tracker.has_found_processes());
        input.write_all(b"\n").expect("sh reads");
        target.wait().expect("it ends");
    }
}
