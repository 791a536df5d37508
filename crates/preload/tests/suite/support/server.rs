//! Runs a program and answers the requests of its processes for sampling.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use perf_event_open_sys as sys;
use simprof_preload::format::{feature, state};

use super::memory::{Memory, Sample};

/// How a program is recorded.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Samples per second of CPU time.
    pub rate_hz: u64,
    pub features: u64,
    /// Whether the requests of processes are answered.
    pub answers: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { rate_hz: 2000, features: feature::FRAMES, answers: true }
    }
}

/// What was recorded.
pub struct Recording {
    pub memory: Memory,
    pub output: Output,
    /// Every record that could be read.
    pub samples: Vec<Sample>,
    /// Number of records that could not be read.
    pub lost: u64,
    /// Time that the events of all processes counted, ns.
    pub taken: u64,
}

struct Server<'a> {
    memory: &'a Memory,
    library: &'a File,
    options: Options,
    pipe: File,
    events: Vec<OwnedFd>,
    next: u64,
    samples: Vec<Sample>,
    lost: u64,
}

/// Runs `command` with the library until it ends.
pub fn record(mut command: Command, options: Options) -> Recording {
    let (reader, writer) = pipe();
    let notify = format!("/proc/{}/fd/{}", std::process::id(), writer.as_raw_fd());
    let memory = Memory::new(options.features, &notify);
    let library = library();
    command
        .env("LD_PRELOAD", format!("/proc/{}/fd/{}", std::process::id(), library.as_raw_fd()))
        .env("SIMPROF_PRELOAD", memory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().expect("the program can be started");
    let mut server = Server {
        memory: &memory,
        library: &library,
        options,
        pipe: reader,
        events: Vec::new(),
        next: 0,
        samples: Vec::new(),
        lost: 0,
    };
    let ended = AtomicBool::new(false);
    let output = std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let output = child.wait_with_output().expect("it is our child");
            ended.store(true, Ordering::Release);
            output
        });
        server.serve(&ended);
        waiter.join().expect("waiting does not panic")
    });
    server.drain();
    let taken = server.events.iter().map(count).sum();
    let (samples, lost) = (std::mem::take(&mut server.samples), server.lost);
    drop(server);
    drop(writer);
    Recording { memory, output, samples, lost, taken }
}

impl Server<'_> {
    fn serve(&mut self, ended: &AtomicBool) {
        loop {
            let over = ended.load(Ordering::Acquire);
            let mut position = [0_u8; 4];
            while matches!(self.pipe.read(&mut position), Ok(4)) {
                if self.options.answers {
                    self.answer(u32::from_ne_bytes(position) as usize);
                }
            }
            self.drain();
            if over {
                return;
            }
            wait_readable(&self.pipe, Duration::from_millis(20));
        }
    }

    fn drain(&mut self) {
        let (samples, next, lost) = self.memory.records(self.next);
        self.samples.extend(samples);
        self.next = next;
        self.lost += lost;
    }

    /// Opens events on the process at `position` if it still waits for an answer.
    fn answer(&mut self, position: usize) {
        let state = self.memory.state(position);
        let change = |from, to| {
            state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
        };
        if !change(state::ASKS, state::OPENING) {
            return;
        }
        let pid = self.memory.processes()[position].pid.load(Ordering::Relaxed);
        let opened: Vec<OwnedFd> =
            (0..cpus()).filter_map(|cpu| open(pid, cpu, self.options.rate_hz)).collect();
        let answer = if opened.is_empty() { state::REFUSED } else { state::SAMPLED };
        for event in &opened {
            // SAFETY: the descriptor is an event.
            unsafe { sys::ioctls::ENABLE(event.as_raw_fd(), 0) };
        }
        if change(state::OPENING, answer) {
            self.events.extend(opened);
        }
        // SAFETY: the word outlives the call; waking has no other effect.
        unsafe { libc::syscall(libc::SYS_futex, state.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
    }
}

fn open(pid: u32, cpu: i32, rate_hz: u64) -> Option<OwnedFd> {
    let mut attr = sys::bindings::perf_event_attr {
        size: size_of::<sys::bindings::perf_event_attr>() as u32,
        type_: sys::bindings::PERF_TYPE_SOFTWARE,
        config: sys::bindings::PERF_COUNT_SW_CPU_CLOCK.into(),
        ..Default::default()
    };
    // The clock's period, ns.
    attr.__bindgen_anon_1.sample_period = 1_000_000_000 / rate_hz;
    attr.set_disabled(1);
    attr.set_inherit(1);
    attr.set_inherit_thread(1);
    attr.set_remove_on_exec(1);
    attr.set_sigtrap(1);
    attr.set_exclude_hv(1);
    attr.set_exclude_kernel(1);
    let flags = sys::bindings::PERF_FLAG_FD_CLOEXEC.into();
    // SAFETY: the structure is complete.
    let fd = unsafe { sys::perf_event_open(&raw mut attr, pid as i32, cpu, -1, flags) };
    // SAFETY: the descriptor is new.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Returns the time that an event of the clock counted, ns.
fn count(event: &OwnedFd) -> u64 {
    let mut value = [0_u8; 8];
    // SAFETY: the buffer has 8 bytes.
    let read = unsafe { libc::read(event.as_raw_fd(), value.as_mut_ptr().cast(), 8) };
    if read == 8 { u64::from_ne_bytes(value) } else { 0 }
}

fn cpus() -> i32 {
    // SAFETY: sysconf accesses no memory of the caller.
    unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) as i32 }
}

/// Returns the library as a file in memory.
fn library() -> File {
    use std::io::Write;
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"simprof-preload".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0);
    // SAFETY: the descriptor is new.
    let mut file = unsafe { File::from_raw_fd(fd) };
    file.write_all(simprof_preload::LIBRARY).expect("memory suffices");
    file
}

fn pipe() -> (File, File) {
    let mut ends = [0; 2];
    // SAFETY: the array has two elements, one per descriptor.
    assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) }, 0);
    // SAFETY: the descriptors are new.
    unsafe { (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])) }
}

fn wait_readable(file: &File, most: Duration) {
    let mut poll = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: `poll` is one valid entry, and its descriptor is open.
    unsafe { libc::poll(&raw mut poll, 1, most.as_millis() as i32) };
}
