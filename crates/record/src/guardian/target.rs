//! The target's process from its fork to its exec.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::ptr;

use super::protocol::{Stage, Target};
use crate::clock;

/// A forked process that waits before its exec.
pub struct Paused {
    /// Its process id.
    pub pid: libc::pid_t,
    /// A byte written here lets the process go on.
    go: OwnedFd,
    /// Reads the result of its exec.
    result: OwnedFd,
}

/// The result of an exec.
pub enum Exec {
    /// The program runs since this time, CLOCK_MONOTONIC ns.
    Ran(u64),
    /// The program could not be run: the step that failed, and the error number.
    Refused(Stage, i32),
}

/// The arguments of the system calls in the child, prepared before the fork because the child must not allocate.
struct Prepared {
    program: CString,
    argv: Vec<CString>,
    environment: Vec<CString>,
    input: Option<CString>,
    directory: Option<CString>,
    open_files: Option<libc::rlimit>,
}

impl Paused {
    /// Forks. The calling process must have only one thread.
    pub fn fork(target: &Target) -> io::Result<Paused> {
        let prepared = Prepared::new(target)?;
        let argv = pointers(&prepared.argv);
        let environment = pointers(&prepared.environment);
        let (go_reader, go) = pipe()?;
        let (result, result_writer) = pipe()?;
        // SAFETY: getpid has no preconditions.
        let guardian = unsafe { libc::getpid() };
        // SAFETY: this process has one thread, so the child inherits no held lock; it only makes system calls.
        let pid = unsafe { libc::fork() };
        match pid {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                let fds = [go_reader.as_raw_fd(), result_writer.as_raw_fd()];
                // SAFETY: this is the forked child; both arrays end with a null pointer.
                unsafe { become_target(&prepared, &argv, &environment, fds, guardian) }
            }
            pid => Ok(Paused { pid, go, result }),
        }
    }

    /// Lets the process exec.
    pub fn go(&self) {
        // This fails only if the process was killed. `exec_result` reports that.
        // SAFETY: the pointer is to an array of one byte, and one byte is read from it.
        unsafe { libc::write(self.go.as_raw_fd(), [0u8].as_ptr().cast(), 1) };
    }

    /// Returns a descriptor that is readable when the exec has succeeded or failed, or the process has died.
    pub fn exec_fd(&self) -> RawFd {
        self.result.as_raw_fd()
    }

    /// Waits for the result of the exec. Returns `None` if the process died before it.
    pub fn exec_result(self) -> Option<Exec> {
        let mut text = Vec::new();
        io::Read::read_to_end(&mut std::fs::File::from(self.result), &mut text).ok()?;
        let mut numbers = text.chunks_exact(8).filter_map(|bytes| bytes.try_into().ok());
        let time_ns = u64::from_ne_bytes(numbers.next()?);
        let Some(failure) = numbers.next().map(u64::from_ne_bytes) else {
            return Some(Exec::Ran(time_ns));
        };
        let stage = match failure >> 32 {
            0 => Stage::Input,
            1 => Stage::Directory,
            _ => Stage::Exec,
        };
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
            input: target.input.clone().map(CString::new).transpose()?,
            directory: target.directory.clone().map(CString::new).transpose()?,
            open_files: target.open_files.and_then(open_files),
        })
    }
}

/// Returns the limit of open files with the soft limit `soft`, at most the hard limit.
fn open_files(soft: u64) -> Option<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid `rlimit` to write to.
    let status = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    (status == 0).then(|| libc::rlimit { rlim_cur: soft.min(limit.rlim_max), ..limit })
}

fn variable(mut name: OsString, value: OsString) -> io::Result<CString> {
    name.push("=");
    name.push(value);
    Ok(CString::new(name.into_vec())?)
}

/// Returns pointers to the strings, ended by a null pointer, as `execve` takes them.
fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// Creates a pipe whose ends are closed on exec. Returns the reader and the writer.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: `fds` is an array of two descriptors.
    if unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both were just opened, and nothing else owns them.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// Runs in the forked child: resets inherited state, waits for the byte on `go`, and executes the
/// target.
///
/// # Safety
/// The caller must be a forked child. `argv` and `environment` must end with a null pointer.
unsafe fn become_target(
    prepared: &Prepared,
    argv: &[*const libc::c_char],
    environment: &[*const libc::c_char],
    [go, result]: [RawFd; 2],
    guardian: libc::pid_t,
) -> ! {
    // SAFETY: these are system calls on valid arguments; nothing is allocated and no lock is taken.
    unsafe {
        // A new session, so that a target that signals its process group does not hit the guardian.
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
        report(result, clock::now_ns());
        let mut stage = 0_u64;
        if prepared.input.as_ref().is_none_or(|input| read_from(input)) {
            stage += 1;
            if prepared.directory.as_ref().is_none_or(|to| libc::chdir(to.as_ptr()) == 0) {
                stage += 1;
                libc::execve(prepared.program.as_ptr(), argv.as_ptr(), environment.as_ptr());
            }
        }
        report(result, (stage << 32) | u64::from(errno()));
        libc::_exit(127)
    }
}

/// Makes a file standard input. Returns whether it could be opened.
///
/// # Safety
/// The caller must be a forked child.
unsafe fn read_from(path: &CString) -> bool {
    // SAFETY: the path is a C string; both are system calls on descriptors of this process.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NOCTTY);
        file >= 0 && libc::dup2(file, libc::STDIN_FILENO) >= 0
    }
}

/// Sets all signals to their default dispositions and unblocks them.
///
/// # Safety
/// The caller must be a forked child.
unsafe fn restore_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: no handler is installed. For signals that cannot be changed the call only fails.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: sigemptyset initialises `mask` before it is used.
    unsafe {
        let mut mask = std::mem::zeroed();
        libc::sigemptyset(&raw mut mask);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const mask, ptr::null_mut());
    }
}

/// Writes eight bytes. An error is ignored: there is no other way to report it.
fn report(result: RawFd, value: u64) {
    let bytes = value.to_ne_bytes();
    // SAFETY: `bytes` is an array of `bytes.len()` bytes.
    unsafe { libc::write(result, bytes.as_ptr().cast(), bytes.len()) };
}

fn errno() -> u32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0).unsigned_abs()
}
