//! A small recorder: starts a program with the heap library and reads its records while it runs.

#![allow(dead_code)]

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use memmap2::MmapRaw;
use simprof_preload::heap::format::{
    self, EXACT, Header, Kind, LANES, Lane, Module, Node, Origin, Process, Record, flag, offset,
    sequence, state, unstamp, weight,
};

/// How a program is recorded.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// See [`Header::interval`].
    pub interval: u64,
    pub seed: u64,
    /// Whether the records are read.
    pub reads: bool,
}

impl Options {
    /// Records every allocation.
    pub const EXACT: Options = Options { interval: 1, seed: 0, reads: true };

    /// Samples one byte in `interval` bytes on average.
    pub fn sampled(interval: u64, seed: u64) -> Options {
        Options { interval, seed, reads: true }
    }
}

/// A record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    pub kind: Kind,
    pub origin: Origin,
    /// See [`flag`].
    pub flags: u64,
    pub time_ns: u64,
    pub thread: u32,
    pub process: u32,
    pub address: u64,
    pub size: u64,
    /// Node of the native stack, and node of the Python stack in `python`.
    pub node: u32,
    pub python: u32,
    pub made_ns: u64,
}

impl Event {
    pub fn is_realloc(&self) -> bool {
        self.flags & flag::REALLOC != 0
    }
}

/// A frame: the path of its module and the address in that module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StackFrame {
    pub module: String,
    pub address: u64,
    pub exact: bool,
}

/// The shared memory.
pub struct Memory {
    file: File,
    map: MmapRaw,
}

// SAFETY: all fields that are read while a target writes are atomic.
unsafe impl Sync for Memory {}

impl Memory {
    pub fn new(options: Options) -> Memory {
        let file = memfd(c"simprof-heap-memory");
        file.set_len(offset::END as u64).expect("a sparse file has any length");
        let map = MmapRaw::map_raw(&file).expect("the file can be mapped");
        let memory = Memory { file, map };
        // SAFETY: no other process has the memory yet.
        let header = unsafe { &mut *memory.map.as_mut_ptr().cast::<Header>() };
        header.magic = format::MAGIC;
        header.bytes = offset::END as u64;
        header.interval = options.interval;
        header.seed = options.seed;
        let status = std::fs::read("/proc/self/status").expect("this process has a status");
        header.filters = simprof_preload::format::filters_in(&status).into();
        memory
    }

    pub fn path(&self) -> String {
        path_of(&self.file)
    }

    fn part<T>(&self, offset: usize, at: usize) -> &T {
        // SAFETY: within the memory, as the format says; the fields are atomics or constant by now.
        unsafe { &*self.map.as_ptr().add(offset).cast::<T>().add(at) }
    }

    pub fn header(&self) -> &Header {
        self.part(0, 0)
    }

    pub fn lane(&self, lane: usize) -> &Lane {
        self.part(offset::LANES, lane)
    }

    fn record(&self, lane: usize, position: u64) -> &Record {
        self.part(offset::record(lane, position).expect("the lane exists"), 0)
    }

    pub fn processes(&self) -> Vec<&Process> {
        (0..format::PROCESSES)
            .map(|at| self.part::<Process>(offset::PROCESSES, at))
            .filter(|process| process.state.load(Ordering::Acquire) != state::FREE)
            .collect()
    }

    /// Returns the frames of a stack, from the innermost.
    pub fn stack(&self, mut node: u32) -> Vec<StackFrame> {
        let mut frames = Vec::new();
        while node != 0 {
            let found: &Node = self.part(offset::node(node as usize).expect("it exists"), 0);
            let module = found.module.load(Ordering::Acquire);
            frames.push(StackFrame {
                module: self.module(module & !EXACT),
                address: found.address.load(Ordering::Relaxed),
                exact: module & EXACT != 0,
            });
            node = found.parent.load(Ordering::Relaxed);
        }
        frames
    }

    fn module(&self, number: u32) -> String {
        if number == 0 {
            return String::new();
        }
        let at = offset::module(number as usize).expect("it exists");
        let module: &Module = self.part(at, 0);
        assert_eq!(module.written.load(Ordering::Acquire), 1);
        let bytes = &module.path[..module.path_bytes.load(Ordering::Relaxed) as usize];
        let bytes = bytes.iter().map(|byte: &AtomicU8| byte.load(Ordering::Relaxed)).collect();
        String::from_utf8(bytes).expect("tests use no other paths")
    }

    /// Returns the build id of the module with this path.
    pub fn build_id(&self, path: &str) -> Vec<u8> {
        let count = self.header().modules.load(Ordering::Relaxed) as u32;
        let number = (1..=count).find(|&number| self.module(number) == path).expect("it is there");
        let at = offset::module(number as usize).expect("it exists");
        let module: &Module = self.part(at, 0);
        let bytes = &module.build_id[..module.build_id_bytes.load(Ordering::Relaxed) as usize];
        bytes.iter().map(|byte| byte.load(Ordering::Relaxed)).collect()
    }
}

/// Reads the rings.
pub struct Reader<'a> {
    memory: &'a Memory,
    next: [u64; LANES],
    pub lost: u64,
}

impl<'a> Reader<'a> {
    pub fn new(memory: &'a Memory) -> Reader<'a> {
        Reader { memory, next: [0; LANES], lost: 0 }
    }

    /// Takes the complete records. Returns whether there were any. If all writers have `ended`, skips records that are incomplete.
    pub fn drain(&mut self, ended: bool, each: &mut dyn FnMut(Event)) -> bool {
        (0..LANES).map(|lane| u32::from(self.drain_lane(lane, ended, each))).sum::<u32>() > 0
    }

    fn drain_lane(&mut self, number: usize, ended: bool, each: &mut dyn FnMut(Event)) -> bool {
        let lane = self.memory.lane(number);
        let begin = self.next[number];
        loop {
            let position = self.next[number];
            let record = self.memory.record(number, position);
            let stamp = record.stamp.load(Ordering::Acquire);
            if stamp >> format::SEQUENCE_SHIFT == sequence(position) {
                each(read(record, stamp));
            } else if ended && lane.next.load(Ordering::Acquire) > position {
                self.lost += 1;
            } else {
                return position != begin;
            }
            self.next[number] += 1;
            lane.taken.0.store(self.next[number], Ordering::Release);
        }
    }
}

fn read(record: &Record, stamp: u64) -> Event {
    let (kind, origin) = unstamp(stamp).expect("a whole record has a kind and an origin");
    let field = |field: &AtomicU64| field.load(Ordering::Relaxed);
    let (thread, stack) = (field(&record.thread), field(&record.stack));
    Event {
        kind,
        origin,
        flags: stamp & 0xff00,
        time_ns: field(&record.time_ns),
        thread: thread as u32,
        process: (thread >> 32) as u32,
        address: field(&record.address),
        size: field(&record.size),
        node: stack as u32,
        python: (stack >> 32) as u32,
        made_ns: field(&record.made_ns),
    }
}

/// What was recorded.
pub struct Recording {
    pub memory: Memory,
    pub output: Output,
    pub events: Vec<Event>,
    /// Number of records that are incomplete or for which no slot was free.
    pub lost: u64,
}

/// Runs a program with the library until it ends. Returns its records.
pub fn record(command: &mut Command, options: Options) -> Recording {
    record_until(command, options, None)
}

/// Records like [`record`]. If `count` is given, the program must be endless. It is killed after that many of its records were read.
pub fn record_until(command: &mut Command, options: Options, count: Option<usize>) -> Recording {
    let memory = Memory::new(options);
    let (reached, waits) = mpsc::channel();
    let count_read = |events: usize| {
        if count == Some(events) {
            reached.send(()).expect("the killing thread waits for it");
        }
    };
    let kill = move |child: &mut Child| {
        if count.is_some() {
            waits.recv().expect("the program is endless");
            child.kill().expect("it runs until it is killed");
        }
    };
    let mut events = Vec::new();
    count_read(0);
    let (output, lost) = run(command, &memory, options.reads, kill, &mut |event| {
        events.push(event);
        count_read(events.len());
    });
    let lost =
        lost + (0..LANES).map(|at| memory.lane(at).lost.load(Ordering::Relaxed)).sum::<u64>();
    Recording { memory, output, events, lost }
}

/// A program that runs longer than this is assumed to hang and is killed.
const LIMIT: Duration = Duration::from_secs(300);

/// Runs a program with the library. Returns its output and the number of incomplete records.
pub fn run(
    command: &mut Command,
    memory: &Memory,
    reads: bool,
    meanwhile: impl FnOnce(&mut Child) + Send,
    each: &mut dyn FnMut(Event),
) -> (Output, u64) {
    let library = library();
    let others = command.get_envs().find(|(name, _)| *name == "LD_PRELOAD");
    let others = others.and_then(|(_, value)| value?.to_str());
    let loaded = others.map(|others| format!("{}:{others}", path_of(&library)));
    command
        .env("LD_PRELOAD", loaded.unwrap_or_else(|| path_of(&library)))
        .env("SIMPROF_HEAP", memory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program can be started");
    let (id, begun) = (child.id(), Instant::now());
    let ended = AtomicBool::new(false);
    let mut reader = Reader::new(memory);
    let output = std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            meanwhile(&mut child);
            let output = child.wait_with_output().expect("it is our child");
            ended.store(true, Ordering::Release);
            output
        });
        loop {
            let over = ended.load(Ordering::Acquire);
            if !over && begun.elapsed() > LIMIT {
                // SAFETY: it is a child of this process. Only the other thread waits for it, and that thread has not ended.
                unsafe { libc::kill(id as i32, libc::SIGKILL) };
            }
            if !reads || !reader.drain(over, each) {
                if over || !reads {
                    break;
                }
                // In exact mode a ring is full after milliseconds. Samples can be read later, and each wake-up takes CPU time.
                let exact = memory.header().interval <= 1;
                std::thread::sleep(Duration::from_micros(if exact { 500 } else { 10_000 }));
            }
        }
        waiter.join().expect("waiting does not panic")
    });
    (output, reader.lost)
}

/// Runs a program with the library and a path that is not shared memory.
pub fn record_at(command: &mut Command, memory: &str) -> Output {
    let library = library();
    command.env("LD_PRELOAD", path_of(&library)).env("SIMPROF_HEAP", memory);
    command.output().expect("the program can be started")
}

/// Returns the library as a file without a name.
fn library() -> File {
    file_of(simprof_preload::HEAP_LIBRARY)
}

/// Returns a library as a file without a name.
pub fn file_of(library: &[u8]) -> File {
    let mut file = memfd(c"simprof-heap");
    file.write_all(library).expect("the library can be written");
    file
}

pub fn path_of(file: &File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd())
}

fn memfd(name: &std::ffi::CStr) -> File {
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0, "a file in memory can be made");
    // SAFETY: the descriptor is new.
    unsafe { File::from_raw_fd(fd) }
}

/// Sums over some of a recording's events, as estimates.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Totals {
    pub allocated_count: f64,
    pub allocated_bytes: f64,
    pub live_count: f64,
    pub live_bytes: f64,
    pub peak_bytes: f64,
}

impl Recording {
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// Returns the numbers that the program printed as lines `name value`.
    pub fn reported(&self) -> HashMap<String, u64> {
        self.stdout()
            .lines()
            .filter_map(|line| {
                let (name, value) = line.rsplit_once(' ')?;
                Some((name.to_owned(), value.parse().ok()?))
            })
            .collect()
    }

    /// Returns sums over the events that `chosen` accepts, in the order in which they were read.
    pub fn totals(&self, chosen: impl Fn(&Event) -> bool) -> Totals {
        let interval = self.memory.header().interval;
        let mut totals = Totals::default();
        for event in self.events.iter().filter(|event| chosen(event)) {
            let count = weight(event.size, interval);
            let bytes = count * event.size as f64;
            let sign = if event.kind == Kind::Alloc { 1.0 } else { -1.0 };
            if event.kind == Kind::Alloc && event.flags & flag::REMAINDER == 0 {
                totals.allocated_count += count;
                totals.allocated_bytes += bytes;
            }
            totals.live_count += sign * count;
            totals.live_bytes += sign * bytes;
            totals.peak_bytes = totals.peak_bytes.max(totals.live_bytes);
        }
        totals
    }

    /// Returns whether one of the innermost `depth` frames of an event's stack is in a file whose path ends with `file`.
    pub fn is_called_from(&self, event: &Event, file: &str, depth: usize) -> bool {
        let stack = self.memory.stack(event.node);
        stack.iter().take(depth).any(|frame| frame.module.ends_with(file))
    }

    /// Asserts the properties of every recording: each free has its allocation, and times do not decrease within a thread.
    pub fn check(&self) {
        let mut live: HashMap<(u32, u64), Event> = HashMap::new();
        let mut times: HashMap<(u32, u32), u64> = HashMap::new();
        for event in &self.events {
            let last = times.entry((event.process, event.thread)).or_default();
            assert!(event.time_ns >= *last, "{event:?}");
            *last = event.time_ns;
        }
        let mut sorted: Vec<&Event> = self.events.iter().collect();
        sorted.sort_by_key(|event| event.time_ns);
        for event in sorted {
            let key = (event.process, event.address);
            match event.kind {
                Kind::Alloc => {
                    if event.flags & flag::REMAINDER == 0 {
                        assert_eq!(event.made_ns, event.time_ns);
                    }
                    live.insert(key, *event);
                }
                Kind::Free => {
                    let made = live.remove(&key);
                    let made = made.unwrap_or_else(|| panic!("{event:?} has no allocation"));
                    let same = (made.size, made.node, made.python, made.made_ns, made.origin);
                    let own = (event.size, event.node, event.python, event.made_ns, event.origin);
                    assert_eq!(same, own);
                }
            }
        }
    }
}

/// Returns a command whose process is killed when the test ends.
pub fn program(path: &std::path::Path) -> Command {
    let mut command = Command::new(path);
    // SAFETY: prctl may be called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    command
}
