//! How a target ended.

use std::fmt;

/// How a target ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It exited with this status.
    Exited(i32),
    /// A signal killed it.
    Signalled {
        /// The signal's number.
        signal: i32,
        /// Whether the kernel wrote a core file.
        core_dumped: bool,
    },
    /// It was killed because it took longer than allowed.
    TimedOut,
    /// It was killed on request.
    Cancelled,
}

impl Outcome {
    /// Returns whether it exited with status 0.
    pub fn is_success(self) -> bool {
        self == Outcome::Exited(0)
    }

    /// Parses a status of `wait`.
    pub(crate) fn from_wait_status(status: i32) -> Self {
        if libc::WIFSIGNALED(status) {
            let core_dumped = libc::WCOREDUMP(status);
            return Outcome::Signalled { signal: libc::WTERMSIG(status), core_dumped };
        }
        Outcome::Exited(libc::WEXITSTATUS(status))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Exited(status) => write!(f, "exited with status {status}"),
            Outcome::Signalled { signal, core_dumped } => {
                let core = if *core_dumped { " (core dumped)" } else { "" };
                match signal_name(*signal) {
                    Some(name) => write!(f, "killed by {name}{core}"),
                    None => write!(f, "killed by signal {signal}{core}"),
                }
            }
            Outcome::TimedOut => write!(f, "timed out"),
            Outcome::Cancelled => write!(f, "cancelled"),
        }
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        _ => return None,
    })
}
