//! The resource usage of one process of the target.

use std::collections::{HashMap, HashSet};
use std::io;

use procfs::FromRead;
use procfs::process::Stat;

use super::file::{OpenFileLimit, ProcFile, field, numbers};
use crate::{clock, tree};

/// The kernel's `PF_FORKNOEXEC`: the process was forked and has not executed a program since.
const FORKED: u32 = 0x40;

/// The buffer and the limit that all reads share.
#[derive(Debug)]
pub struct Scratch {
    pub buffer: Vec<u8>,
    pub limit: OpenFileLimit,
}

/// The resource usage of one process, without its children.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// User and system time of all its threads, including ended ones, ns.
    pub cpu_ns: u64,
    pub minor_faults: u64,
    pub major_faults: u64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
    pub read_bytes: u64,
    pub written_bytes: u64,
    /// Usage of its reaped children.
    pub waited: Waited,
    /// Resident set, or the last known one if the process has ended, bytes.
    pub rss_bytes: u64,
    /// Part of the resident set that is mapped files and shared memory, bytes.
    pub rss_file_bytes: u64,
    /// Growth of `rss_bytes`, bytes, see `Process::rss_min`.
    pub rss_growth_bytes: u64,
    /// Growth of `rss_file_bytes`, bytes, see `Process::rss_min`.
    pub rss_file_growth_bytes: u64,
    pub threads: u32,
    pub is_zombie: bool,
}

/// Usage of reaped children, including their reaped children. The kernel adds it to the parent.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Waited {
    pub cpu_ns: u64,
    pub minor_faults: u64,
    pub major_faults: u64,
}

/// One process and its threads.
#[derive(Debug)]
pub struct Process {
    pub pid: u32,
    stat: ProcFile,
    statm: ProcFile,
    io: ProcFile,
    rollup: ProcFile,
    clock: Option<libc::clockid_t>,
    threads: HashMap<u32, Thread>,
    /// Voluntary and involuntary context switches of ended threads.
    ended_switches: (u64, u64),
    /// The values that growth is measured from: 0 for a process that executed a program. A forked process starts with its
    /// parent's memory, so for it they are its smallest resident set so far, and the smallest file-backed part of that.
    rss_min: Option<(u64, u64)>,
    /// Usage at the last update.
    pub usage: Usage,
    /// Whether the kernel reports its storage I/O.
    pub reports_io: bool,
}

/// One thread.
#[derive(Debug)]
pub struct Thread {
    schedstat: ProcFile,
    status: ProcFile,
    children: ProcFile,
    /// Last known name.
    pub name: String,
    /// Last known user and system time, ns.
    pub cpu_ns: u64,
    /// Last known time in which it was ready to run without a CPU, ns; `None` if the kernel does not report it.
    pub runnable_ns: Option<u64>,
    switches: (u64, u64),
}

impl Process {
    pub fn new(pid: u32, limit: &OpenFileLimit) -> Self {
        let file = |name: &str| ProcFile::new(format!("/proc/{pid}/{name}"), limit);
        Self {
            pid,
            stat: file("stat"),
            statm: file("statm"),
            io: file("io"),
            rollup: file("smaps_rollup"),
            clock: process_clock(pid),
            threads: HashMap::new(),
            ended_switches: (0, 0),
            rss_min: None,
            usage: Usage::default(),
            reports_io: true,
        }
    }

    /// Reads all usage except storage I/O, threads and children.
    ///
    /// # Errors
    /// Returns an error if the process has gone.
    pub fn update(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        let stat = Stat::from_read(self.stat.read(buffer)?).map_err(io::Error::other)?;
        let tick_ns = 1_000_000_000 / procfs::ticks_per_second().max(1);
        let usage = &mut self.usage;
        usage.is_zombie = matches!(stat.state, 'Z' | 'X');
        // The clock has a resolution of 1 ns instead of 10 ms. It can be read until the zombie is reaped.
        let exact = self.clock.and_then(clock::read_ns);
        let cpu_ns = exact.unwrap_or((stat.utime + stat.stime) * tick_ns);
        usage.cpu_ns = usage.cpu_ns.max(cpu_ns);
        usage.minor_faults = stat.minflt;
        usage.major_faults = stat.majflt;
        usage.waited = Waited {
            cpu_ns: ((stat.cutime + stat.cstime).max(0) as u64) * tick_ns,
            minor_faults: stat.cminflt,
            major_faults: stat.cmajflt,
        };
        usage.threads = if usage.is_zombie { 0 } else { stat.num_threads.max(0) as u32 };
        if !self.usage.is_zombie {
            self.update_resident(&stat, buffer);
        }
        Ok(())
    }

    /// Reads the storage I/O.
    pub fn update_io(&mut self, buffer: &mut Vec<u8>) {
        if !self.reports_io {
            return;
        }
        match self.io.read(buffer) {
            Ok(text) => {
                let bytes = |label| field(text, label).unwrap_or(0);
                self.usage.read_bytes = bytes("read_bytes:");
                self.usage.written_bytes = bytes("write_bytes:");
            }
            Err(error) => self.reports_io = error.kind() != io::ErrorKind::PermissionDenied,
        }
    }

    /// Reads the threads' CPU time and context switches, and their names if `names` is set. Lists
    /// the threads again if `names` is set or if their number has changed.
    ///
    /// Adds threads that have ended to `ended`. Returns the process's children.
    pub fn update_threads(
        &mut self,
        names: bool,
        scratch: &mut Scratch,
        ended: &mut Vec<(u32, Thread)>,
    ) -> Vec<u32> {
        if names || self.usage.threads as usize != self.threads.len() {
            self.list_threads(&scratch.limit, ended);
        }
        let pid = self.pid;
        let mut children = Vec::new();
        for (&tid, thread) in &mut self.threads {
            thread.update(&mut scratch.buffer);
            if names || thread.name.is_empty() {
                thread.update_name(pid, tid);
            }
            children.extend(thread.children(&mut scratch.buffer));
        }
        self.sum_switches();
        children
    }

    fn list_threads(&mut self, limit: &OpenFileLimit, ended: &mut Vec<(u32, Thread)>) {
        let pid = self.pid;
        let live: HashSet<u32> = tree::numbers(&format!("/proc/{pid}/task")).collect();
        for (tid, thread) in self.threads.extract_if(|tid, _| !live.contains(tid)) {
            self.ended_switches.0 += thread.switches.0;
            self.ended_switches.1 += thread.switches.1;
            ended.push((tid, thread));
        }
        for tid in live {
            self.threads.entry(tid).or_insert_with(|| Thread::new(pid, tid, limit));
        }
    }

    fn sum_switches(&mut self) {
        let sum = |switches: fn(&Thread) -> u64| self.threads.values().map(switches).sum::<u64>();
        self.usage.voluntary_switches = self.ended_switches.0 + sum(|thread| thread.switches.0);
        self.usage.involuntary_switches = self.ended_switches.1 + sum(|thread| thread.switches.1);
    }

    /// Returns all known threads with their ids.
    pub fn into_threads(self) -> impl Iterator<Item = (u32, Thread)> {
        self.threads.into_iter()
    }

    /// Returns the number of known threads.
    pub fn thread_count(&self) -> usize {
        self.threads.len()
    }

    fn update_resident(&mut self, stat: &Stat, buffer: &mut Vec<u8>) {
        let bytes = stat.rss * procfs::page_size();
        let file_bytes = self.rss_file_bytes(buffer).min(bytes);
        // A forked process has its parent's memory until it executes another program.
        let initial = if stat.flags & FORKED == 0 { (0, 0) } else { (bytes, file_bytes) };
        let (min, file_min) = self.rss_min.unwrap_or(initial);
        let (min, file_min) = (min.min(bytes), file_min.min(file_bytes));
        self.rss_min = Some((min, file_min));
        let usage = &mut self.usage;
        (usage.rss_bytes, usage.rss_file_bytes) = (bytes, file_bytes);
        (usage.rss_growth_bytes, usage.rss_file_growth_bytes) =
            (bytes - min, file_bytes - file_min);
    }

    /// Reads the resident size of mapped files and shared memory, bytes.
    fn rss_file_bytes(&mut self, buffer: &mut Vec<u8>) -> u64 {
        // In pages: virtual size, resident set, and its file-backed part.
        let pages: Vec<u64> = self.statm.read(buffer).map(numbers).unwrap_or_default();
        pages.get(2).map_or(0, |pages| pages * procfs::page_size())
    }

    /// Reads the proportional set, bytes; `None` if the kernel does not report it. The kernel walks
    /// the page tables for it, which takes about 1 ms per 100 MB.
    pub fn pss_bytes(&mut self, buffer: &mut Vec<u8>) -> Option<u64> {
        field(self.rollup.read(buffer).ok()?, "Pss:").map(|kib| kib * 1024)
    }
}

impl Thread {
    fn new(pid: u32, tid: u32, limit: &OpenFileLimit) -> Self {
        let file = |name: &str| ProcFile::new(format!("/proc/{pid}/task/{tid}/{name}"), limit);
        Self {
            schedstat: file("schedstat"),
            status: file("status"),
            children: file("children"),
            name: String::new(),
            cpu_ns: 0,
            runnable_ns: None,
            switches: (0, 0),
        }
    }

    fn update(&mut self, buffer: &mut Vec<u8>) {
        if let Ok(text) = self.schedstat.read(buffer) {
            // Time on a CPU, time ready to run, ns; all zeros if the kernel does not count them.
            if let [cpu_ns, runnable_ns, ..] = numbers::<u64>(text)[..]
                && cpu_ns > 0
            {
                self.cpu_ns = self.cpu_ns.max(cpu_ns);
                self.runnable_ns = self.runnable_ns.max(Some(runnable_ns));
            }
        }
        if let Ok(text) = self.status.read(buffer) {
            let voluntary = field(text, "voluntary_ctxt_switches:");
            let involuntary = field(text, "nonvoluntary_ctxt_switches:");
            self.switches =
                (voluntary.unwrap_or(self.switches.0), involuntary.unwrap_or(self.switches.1));
        }
    }

    fn update_name(&mut self, pid: u32, tid: u32) {
        if let Ok(name) = std::fs::read(format!("/proc/{pid}/task/{tid}/comm")) {
            self.name = String::from_utf8_lossy(&name).trim_end_matches('\n').to_owned();
        }
    }

    fn children(&mut self, buffer: &mut Vec<u8>) -> Vec<u32> {
        self.children.read(buffer).map(numbers).unwrap_or_default()
    }
}

/// Returns the clock of another process's CPU time.
fn process_clock(pid: u32) -> Option<libc::clockid_t> {
    let mut clock = 0;
    // SAFETY: `clock` is a valid integer to write to.
    let status = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &raw mut clock) };
    (status == 0).then_some(clock)
}
