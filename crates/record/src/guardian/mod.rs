//! The guardian: the process between the recorder and the target. It leaves no process of the
//! target behind.
//!
//! It is a child subreaper: every process that the target starts, even a detached one, becomes the
//! guardian's child when its parents end. The guardian kills and reaps all of them when the
//! target's main process ends, when the recorder asks for it, or when the recorder disappears.
//!
//! If the guardian itself is killed, the kernel kills the target's main process. The recorder then
//! finds the other processes by a variable in their environment and kills them.

mod ending;
pub(crate) mod handle;
pub(crate) mod protocol;
mod target;

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::ptr;
use std::time::{Duration, Instant};

use crate::clock;
use protocol::{Channel, Event, FinalReport, Order, Stage, Target, poll_readable};
use target::{Exec, Paused};

/// How long processes that outlive the main process may take to end without being killed: the other
/// half of a pipeline, or a pool's helper that notices its parent's end.
const GRACE: Duration = Duration::from_millis(250);

/// How long the recorder may take to read the last figures of the target.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs a guardian from its start to its end.
///
/// Call it first in `main`, before any thread is started, in the executable that
/// [`Guardian`](crate::Guardian) names. Standard input is the socket to the recorder; standard
/// output and error are those of the target.
pub fn main() -> ExitCode {
    match guard() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn guard() -> io::Result<()> {
    detach()?;
    let mut channel = Channel::new(take_socket()?);
    let signals = signal_fd()?;
    let Some(target) = prepare_order(&mut channel)? else { return Ok(()) };
    let paused = match Paused::fork(&target) {
        Ok(paused) => paused,
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
            return channel.send(&Event::Refused { stage: Stage::Fork, errno });
        }
    };
    // The target has copies of standard output and error. If the guardian kept its own, the pipes to the logs
    // would stay open after the target's end.
    point_at_null(1)?;
    point_at_null(2)?;
    let mut guard =
        Guard { channel, signals, main: paused.pid, recorder_gone: false, killed: false };
    guard.report(&Event::Ready { pid: paused.pid as u32 });
    guard.watch(paused)
}

/// The state of guarding one target.
struct Guard {
    channel: Channel,
    signals: OwnedFd,
    /// The target's main process.
    main: libc::pid_t,
    recorder_gone: bool,
    /// Whether the target was killed, on request or because the recorder has gone.
    killed: bool,
}

impl Guard {
    /// Waits for the end of the target's main process, then ends its descendants.
    fn watch(&mut self, paused: Paused) -> io::Result<()> {
        let mut paused = Some(paused);
        while !self.main_has_ended() {
            let exec_fd = paused.as_ref().map_or(-1, Paused::exec_fd);
            let [ordered, _, exec_known] = self.wait(exec_fd, None)?;
            if exec_known
                && let Some(paused) = paused.take()
                && !self.report_exec(paused)
            {
                return Ok(());
            }
            while ordered && let Some(order) = self.next_order() {
                match order {
                    Order::Go => paused.iter().for_each(Paused::go),
                    Order::Kill => self.kill(),
                    Order::Prepare(_) | Order::Release => {}
                }
            }
        }
        let ended_ns = clock::now_ns();
        // The target may have run and ended before the result of its exec was read.
        if let Some(paused) = paused
            && !self.report_exec(paused)
        {
            return Ok(());
        }
        self.report(&Event::Ended { time_ns: ended_ns });
        self.await_release()?;
        self.finish();
        Ok(())
    }

    /// Reports the result of the exec. Returns false if the target could not be run.
    fn report_exec(&mut self, paused: Paused) -> bool {
        match paused.exec_result() {
            Some(Exec::Ran(time_ns)) => self.report(&Event::Started { time_ns }),
            Some(Exec::Refused(stage, errno)) => {
                self.finish_quietly();
                self.report(&Event::Refused { stage, errno });
                return false;
            }
            // It was killed before its exec. `Event::Ended` will report that.
            None => {}
        }
        true
    }

    /// Waits for the socket, a signal, or `exec_fd`. Returns which of the three are readable.
    fn wait(&mut self, exec_fd: RawFd, timeout: Option<Duration>) -> io::Result<[bool; 3]> {
        let socket = if self.recorder_gone { -1 } else { self.channel.fd() };
        let ready = poll_readable(&[socket, self.signals.as_raw_fd(), exec_fd], timeout)?;
        if ready[1] && self.was_asked_to_end() {
            self.kill();
        }
        if ready[0] && self.channel.fill().is_err() {
            self.recorder_gone = true;
            self.kill();
        }
        Ok(ready)
    }

    /// Empties the queue of signals. Returns true if one of them asks the guardian to end.
    fn was_asked_to_end(&self) -> bool {
        let mut asked = false;
        // SAFETY: zero is a valid value of every field.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = size_of_val(&info);
        // SAFETY: `info` is `size` bytes long; the descriptor does not block.
        while unsafe { libc::read(self.signals.as_raw_fd(), (&raw mut info).cast(), size) }
            == size as isize
        {
            asked |= info.ssi_signo != libc::SIGCHLD as u32;
        }
        asked
    }

    fn next_order(&mut self) -> Option<Order> {
        match self.channel.take() {
            Ok(order) => order,
            Err(_) => {
                self.recorder_gone = true;
                self.kill();
                None
            }
        }
    }

    fn kill(&mut self) {
        self.killed = true;
        ending::kill_descendants();
    }

    /// Reaps all ended children except the main process. Returns whether the main process has ended.
    fn main_has_ended(&self) -> bool {
        loop {
            // SAFETY: zero is a valid value of every field.
            let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
            let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            // SAFETY: `info` is a valid `siginfo_t` to write to.
            let status = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, options) };
            // SAFETY: waitid has filled in the fields of a child, or left them zero.
            let pid = if status == 0 { unsafe { info.si_pid() } } else { self.main };
            if pid == 0 || pid == self.main {
                return pid == self.main;
            }
            // SAFETY: a null status pointer is allowed: no status is written.
            unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
        }
    }

    /// Keeps the main process as a zombie until the recorder has read its last figures.
    fn await_release(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + RELEASE_TIMEOUT;
        loop {
            while let Some(order) = self.next_order() {
                match order {
                    Order::Release => return Ok(()),
                    Order::Kill => self.kill(),
                    Order::Go | Order::Prepare(_) => {}
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if self.recorder_gone || left.is_zero() {
                return Ok(());
            }
            self.wait(-1, Some(left))?;
        }
    }

    /// Reaps the main process, ends its descendants, and reports the resource usage of all.
    fn finish(&mut self) {
        let mut report = FinalReport::default();
        // SAFETY: the status is a valid integer to write to; the process is a child that has ended.
        unsafe { libc::waitpid(self.main, &raw mut report.wait_status, 0) };
        let grace = if self.killed { Duration::ZERO } else { GRACE };
        let [killed, stuck] = ending::end_descendants(grace, |pause| {
            // An error of poll would only shorten the pause.
            let _ = self.wait(-1, Some(pause));
        });
        report.leftovers = if self.killed { Vec::new() } else { killed };
        report.stuck = stuck;
        add_usage(&mut report);
        self.report(&Event::Done(report));
    }

    /// Ends and reaps all descendants without a report.
    fn finish_quietly(&mut self) {
        ending::end_descendants(Duration::ZERO, |pause| {
            let _ = self.wait(-1, Some(pause));
        });
    }

    /// Sends an event. That the recorder has gone is noticed when the socket is read.
    fn report(&mut self, event: &Event) {
        let _ = self.channel.send(event);
    }
}

/// Adds the resource usage of all reaped processes.
fn add_usage(report: &mut FinalReport) {
    // SAFETY: zero is a valid value of every field.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a valid `rusage` to write to.
    if unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) } == 0 {
        let ns =
            |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1000;
        report.user_ns = ns(usage.ru_utime);
        report.system_ns = ns(usage.ru_stime);
        report.peak_rss_bytes = usage.ru_maxrss as u64 * 1024;
    }
}

/// Returns the target of the first order; `None` if the recorder has gone.
fn prepare_order(channel: &mut Channel) -> io::Result<Option<Target>> {
    loop {
        match channel.receive(Duration::from_secs(60)) {
            Ok(Some(Order::Prepare(target))) => return Ok(Some(target)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// Makes this process a guardian: leaves the recorder's terminal and process group, takes a name
/// that a `pkill` of the recorder does not match, becomes a child subreaper, and closes inherited
/// descriptors.
fn detach() -> io::Result<()> {
    // SAFETY: system calls on constants; the name is a C string.
    unsafe {
        libc::setsid();
        libc::prctl(libc::PR_SET_NAME, c"guardian".as_ptr());
        if libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
        if libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) == 0 {
            return Ok(());
        }
    }
    // Kernels before 5.9 have no close_range.
    let open: Vec<u32> = crate::tree::numbers("/proc/self/fd").filter(|&fd| fd > 2).collect();
    for fd in open {
        // SAFETY: no Rust value owns a descriptor yet.
        unsafe { libc::close(fd as RawFd) };
    }
    Ok(())
}

/// Moves the socket away from standard input, which becomes /dev/null.
fn take_socket() -> io::Result<UnixStream> {
    // SAFETY: the call takes no pointers.
    let copy = unsafe { libc::fcntl(0, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    point_at_null(0)?;
    // SAFETY: the copy is a new descriptor that nothing else owns.
    Ok(unsafe { UnixStream::from_raw_fd(copy) })
}

fn point_at_null(fd: RawFd) -> io::Result<()> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    // SAFETY: no Rust value owns the descriptors 0 to 2.
    if unsafe { libc::dup2(null.as_raw_fd(), fd) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Returns a descriptor that is readable when a child has ended or a signal asks the guardian to end.
fn signal_fd() -> io::Result<OwnedFd> {
    // SAFETY: sigemptyset initialises the set before it is used; nothing else owns the descriptor.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
            // If SIGCHLD was inherited as ignored, the kernel would reap children itself.
            libc::signal(signal, libc::SIG_DFL);
            libc::sigaddset(&raw mut set, signal);
        }
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut());
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}
