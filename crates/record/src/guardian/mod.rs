//! The process between the recorder and the target, which leaves nothing of the target behind.
//!
//! It is a child subreaper: whatever the target starts, however it detaches itself, becomes the
//! guardian's child when its parents end. When the main process ends, on request, or when the
//! recorder disappears for whatever reason, it ends all that is left and waits for it. Should the
//! guardian itself be killed, the kernel kills the target's main process, and the recorder ends
//! the rest by a variable in their environment.

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
use protocol::{Channel, News, Order, Remains, Stage, Target, poll_readable};
use target::{Exec, Waiting};

/// What outlives the main process may end by itself for this long: a pipeline's other half, a
/// pool's helper that notices its parent's end.
const GRACE: Duration = Duration::from_millis(250);

/// How long the recorder may take to read the last figures of the target.
const RELEASE_PATIENCE: Duration = Duration::from_secs(5);

/// The whole life of a guardian. Call it first in `main`, before any thread is started, in the
/// executable that [`Guardian`](crate::Guardian) names; standard input is the socket to the
/// recorder, standard output and error are those of the target.
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
    let waiting = match Waiting::fork(&target) {
        Ok(waiting) => waiting,
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
            return channel.send(&News::Refused { stage: Stage::Fork, errno });
        }
    };
    // The target has its own by now; here they would hold the log's pipes open.
    point_at_null(1)?;
    point_at_null(2)?;
    let mut guard = Guard { channel, signals, main: waiting.pid, gone: false, killed: false };
    guard.tell(&News::Ready { pid: waiting.pid as u32 });
    guard.watch(waiting)
}

/// One target being guarded.
struct Guard {
    channel: Channel,
    signals: OwnedFd,
    /// The target's main process.
    main: libc::pid_t,
    /// The recorder has gone.
    gone: bool,
    /// The target was killed on request or since the recorder has gone.
    killed: bool,
}

impl Guard {
    fn watch(&mut self, waiting: Waiting) -> io::Result<()> {
        let mut waiting = Some(waiting);
        while !self.main_has_ended() {
            let news = waiting.as_ref().map_or(-1, Waiting::news_fd);
            let [ordered, _, told] = self.wait(news, None)?;
            if told
                && let Some(waiting) = waiting.take()
                && !self.exec_came_out(waiting)
            {
                return Ok(());
            }
            while ordered && let Some(order) = self.next_order() {
                match order {
                    Order::Go => waiting.iter().for_each(Waiting::go),
                    Order::Kill => self.kill(),
                    Order::Prepare(_) | Order::Release => {}
                }
            }
        }
        let ended_ns = clock::now_ns();
        // It may have run and ended before the news of its exec was looked at.
        if let Some(waiting) = waiting
            && !self.exec_came_out(waiting)
        {
            return Ok(());
        }
        self.tell(&News::Ended { time_ns: ended_ns });
        self.await_release()?;
        self.finish();
        Ok(())
    }

    /// Tells of the exec. False where the target could not be run.
    fn exec_came_out(&mut self, waiting: Waiting) -> bool {
        match waiting.outcome() {
            Some(Exec::Ran(time_ns)) => self.tell(&News::Started { time_ns }),
            Some(Exec::Refused(stage, errno)) => {
                self.finish_quietly();
                self.tell(&News::Refused { stage, errno });
                return false;
            }
            // It was killed before its exec, which its end will tell.
            None => {}
        }
        true
    }

    /// Waits for the socket, a signal, or `news`.
    fn wait(&mut self, news: RawFd, timeout: Option<Duration>) -> io::Result<[bool; 3]> {
        let socket = if self.gone { -1 } else { self.channel.fd() };
        let ready = poll_readable(&[socket, self.signals.as_raw_fd(), news], timeout)?;
        if ready[1] && self.was_asked_to_end() {
            self.kill();
        }
        if ready[0] && self.channel.fill().is_err() {
            self.gone = true;
            self.kill();
        }
        Ok(ready)
    }

    /// Empties the queue of signals. True where one of them asks the guardian to end.
    fn was_asked_to_end(&self) -> bool {
        let mut asked = false;
        // SAFETY: zero is a valid value of every field.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = size_of_val(&info);
        // SAFETY: `info` has room for `size` bytes; the descriptor does not block.
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
                self.gone = true;
                self.kill();
                None
            }
        }
    }

    fn kill(&mut self) {
        self.killed = true;
        ending::kill_descendants();
    }

    /// Reaps what has ended, except the main process: whether that one has ended.
    fn main_has_ended(&self) -> bool {
        loop {
            // SAFETY: zero is a valid value of every field.
            let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
            let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            // SAFETY: `info` is a valid place for the answer.
            let status = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, options) };
            // SAFETY: waitid has filled in the fields of a child, or left them zero.
            let pid = if status == 0 { unsafe { info.si_pid() } } else { self.main };
            if pid == 0 || pid == self.main {
                return pid == self.main;
            }
            // SAFETY: no status is asked for.
            unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
        }
    }

    /// Keeps the main process's remains until the recorder has read them.
    fn await_release(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + RELEASE_PATIENCE;
        loop {
            while let Some(order) = self.next_order() {
                match order {
                    Order::Release => return Ok(()),
                    Order::Kill => self.kill(),
                    Order::Go | Order::Prepare(_) => {}
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if self.gone || left.is_zero() {
                return Ok(());
            }
            self.wait(-1, Some(left))?;
        }
    }

    /// Reaps the main process, ends what is left of the rest, and tells what came of all.
    fn finish(&mut self) {
        let mut remains = Remains::default();
        // SAFETY: the status is a valid place; the process is a child that has ended.
        unsafe { libc::waitpid(self.main, &raw mut remains.wait_status, 0) };
        let grace = if self.killed { Duration::ZERO } else { GRACE };
        let [killed, stuck] = ending::end_descendants(grace, |pause| {
            // An error of poll here would only shorten the pause.
            let _ = self.wait(-1, Some(pause));
        });
        remains.leftovers = if self.killed { Vec::new() } else { killed };
        remains.stuck = stuck;
        add_usage(&mut remains);
        self.tell(&News::Done(remains));
    }

    /// Ends and reaps everything without a word.
    fn finish_quietly(&mut self) {
        ending::end_descendants(Duration::ZERO, |pause| {
            let _ = self.wait(-1, Some(pause));
        });
    }

    /// Sends news. A recorder that has gone is noticed when the socket is read.
    fn tell(&mut self, news: &News) {
        let _ = self.channel.send(news);
    }
}

/// Adds what all processes that were waited for have used.
fn add_usage(remains: &mut Remains) {
    // SAFETY: zero is a valid value of every field.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a valid place for the answer.
    if unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) } == 0 {
        let ns =
            |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1000;
        remains.user_ns = ns(usage.ru_utime);
        remains.system_ns = ns(usage.ru_stime);
        remains.peak_rss_bytes = usage.ru_maxrss as u64 * 1024;
    }
}

/// The first order, which says what to run; none where the recorder has gone.
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

/// Makes this process a guardian: apart from the recorder's terminal and group, by a name that a
/// `pkill` of the recorder misses, parent of all orphans below it, without stray descriptors.
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
    // A kernel before 5.9.
    let open: Vec<u32> = crate::tree::numbers("/proc/self/fd").filter(|&fd| fd > 2).collect();
    for fd in open {
        // SAFETY: nothing here owns a descriptor yet.
        unsafe { libc::close(fd as RawFd) };
    }
    Ok(())
}

/// The socket, moved away from standard input, which becomes empty.
fn take_socket() -> io::Result<UnixStream> {
    // SAFETY: the copy belongs to nobody else.
    let copy = unsafe { libc::fcntl(0, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    point_at_null(0)?;
    // SAFETY: as above.
    Ok(unsafe { UnixStream::from_raw_fd(copy) })
}

fn point_at_null(fd: RawFd) -> io::Result<()> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    // SAFETY: 0 to 2 are owned by nobody in Rust's sense.
    if unsafe { libc::dup2(null.as_raw_fd(), fd) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A descriptor that is readable when a child has changed or someone asks the guardian to end.
fn signal_fd() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before it is used; the descriptor is fresh.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
            // An ignored SIGCHLD, which is inherited, would make children vanish unseen.
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
