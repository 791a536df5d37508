//! The target's process from its fork to its exec.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::ptr;

use super::protocol::{Stage, Target};
use crate::clock;

/// A process that was forked and waits before its exec.
pub struct Waiting {
    /// Its process id.
    pub pid: libc::pid_t,
    /// A byte written here lets it go on.
    go: OwnedFd,
    /// Where it tells of its exec.
    news: OwnedFd,
}

/// How an exec went.
pub enum Exec {
    /// It ran, from this moment on (CLOCK_MONOTONIC, ns).
    Ran(u64),
    /// It could not.
    Refused(Stage, i32),
}

/// All that the new process needs, made before the fork since nothing may be allocated after.
struct Prepared {
    program: CString,
    argv: Vec<CString>,
    environment: Vec<CString>,
    directory: Option<CString>,
    open_files: Option<libc::rlimit>,
}

impl Waiting {
    /// Forks. Only for a process with one thread.
    pub fn fork(target: &Target) -> io::Result<Waiting> {
        let prepared = Prepared::new(target)?;
        let argv = pointers(&prepared.argv);
        let environment = pointers(&prepared.environment);
        let (go_reader, go) = pipe()?;
        let (news, news_writer) = pipe()?;
        // SAFETY: getpid has no preconditions.
        let guardian = unsafe { libc::getpid() };
        // SAFETY: this process has one thread, and the child only makes system calls.
        let pid = unsafe { libc::fork() };
        match pid {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                let fds = [go_reader.as_raw_fd(), news_writer.as_raw_fd()];
                // SAFETY: this is the forked child; the arrays end with a null pointer.
                unsafe { become_target(&prepared, &argv, &environment, fds, guardian) }
            }
            pid => Ok(Waiting { pid, go, news }),
        }
    }

    /// Lets it exec.
    pub fn go(&self) {
        // SAFETY: one byte is written from a valid place. It fails only where the process has been
        // killed, which is seen elsewhere.
        unsafe { libc::write(self.go.as_raw_fd(), [0u8].as_ptr().cast(), 1) };
    }

    /// Readable when the exec has succeeded or failed, or the process has died.
    pub fn news_fd(&self) -> RawFd {
        self.news.as_raw_fd()
    }

    /// How the exec went; none where the process died before it. Waits until that is known.
    pub fn outcome(self) -> Option<Exec> {
        let mut text = Vec::new();
        io::Read::read_to_end(&mut std::fs::File::from(self.news), &mut text).ok()?;
        let mut numbers = text.chunks_exact(8).filter_map(|bytes| bytes.try_into().ok());
        let time_ns = u64::from_ne_bytes(numbers.next()?);
        let Some(failure) = numbers.next().map(u64::from_ne_bytes) else {
            return Some(Exec::Ran(time_ns));
        };
        let stage = if failure >> 32 == 0 { Stage::Directory } else { Stage::Exec };
        Some(Exec::Refused(stage, failure as u32 as i32))
    }
}

impl Prepared {
    fn new(target: &Target) -> io::Result<Self> {
        let mut environment: Vec<CString> = std::env::vars_os()
            .filter(|(name, _)| {
                let name = name.to_string_lossy();
                !target.environment.contains_key(&*name)
                    && !target.without.iter().any(|n| *n == name)
            })
            .map(|(name, value)| variable(name, value))
            .collect::<io::Result<_>>()?;
        for (name, value) in &target.environment {
            environment.push(variable(name.into(), value.into())?);
        }
        Ok(Self {
            program: CString::new(target.program.clone())?,
            argv: target
                .argv
                .iter()
                .map(|arg| Ok(CString::new(arg.as_str())?))
                .collect::<io::Result<_>>()?,
            environment,
            directory: target.directory.clone().map(CString::new).transpose()?,
            open_files: target.open_files.and_then(open_files),
        })
    }
}

/// The limit of open files with its soft part changed.
fn open_files(soft: u64) -> Option<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer.
    let status = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    (status == 0).then(|| libc::rlimit { rlim_cur: soft.min(limit.rlim_max), ..limit })
}

fn variable(mut name: OsString, value: OsString) -> io::Result<CString> {
    name.push("=");
    name.push(value);
    Ok(CString::new(name.into_vec())?)
}

/// As `execve` wants them: ended by a null pointer.
fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// A pipe whose ends are closed on exec: reader, writer.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: `fds` has room for two descriptors.
    if unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both were just opened and belong to nobody else.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// In the forked child: takes on a clean state, waits for the word, and becomes the target.
///
/// # Safety
/// Only in a forked child; `argv` and `environment` end with a null pointer.
unsafe fn become_target(
    prepared: &Prepared,
    argv: &[*const libc::c_char],
    environment: &[*const libc::c_char],
    [go, news]: [RawFd; 2],
    guardian: libc::pid_t,
) -> ! {
    // SAFETY: system calls on valid arguments; nothing is allocated and no lock is taken.
    unsafe {
        // A session of its own, so that a target that signals its group does not hit the guardian.
        libc::setsid();
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() != guardian {
            libc::_exit(127);
        }
        restore_signals();
        if let Some(limit) = &prepared.open_files {
            libc::setrlimit(libc::RLIMIT_NOFILE, limit);
        }
        let mut byte = 0u8;
        if libc::read(go, (&raw mut byte).cast(), 1) != 1 {
            libc::_exit(127);
        }
        tell(news, clock::now_ns());
        let entered = prepared.directory.as_ref().is_none_or(|to| libc::chdir(to.as_ptr()) == 0);
        if entered {
            libc::execve(prepared.program.as_ptr(), argv.as_ptr(), environment.as_ptr());
        }
        tell(news, (u64::from(entered) << 32) | u64::from(errno()));
        libc::_exit(127)
    }
}

/// Default dispositions and an empty mask, whatever was inherited.
///
/// # Safety
/// Only in a forked child.
unsafe fn restore_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: it fails harmlessly for the signals that cannot be changed.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: `mask` is initialised by sigemptyset before it is used.
    unsafe {
        let mut mask = std::mem::zeroed();
        libc::sigemptyset(&raw mut mask);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const mask, ptr::null_mut());
    }
}

/// Writes eight bytes; what cannot be written cannot be told.
fn tell(news: RawFd, value: u64) {
    let bytes = value.to_ne_bytes();
    // SAFETY: `bytes` is eight bytes long.
    unsafe { libc::write(news, bytes.as_ptr().cast(), bytes.len()) };
}

fn errno() -> u32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0).unsigned_abs()
}
