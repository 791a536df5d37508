//! What can go wrong when a process is to be sampled.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// An event that could not be opened, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The event, such as `cycles:uk` (`u`: user code, `k`: kernel code).
    pub event: String,
    /// What refused it, in words.
    pub reason: String,
    /// The system's error number.
    pub errno: i32,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.event, self.reason)
    }
}

/// Why a process could not be sampled.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// No event of the ladder could be opened.
    #[error("process {pid} cannot be sampled: {}; {hint}", list(.refusals))]
    Refused {
        /// The process that was to be sampled.
        pid: u32,
        /// Every event that was tried, in order.
        refusals: Vec<Refusal>,
        /// What would make it work.
        hint: String,
    },
    /// The process ended before its events were open.
    #[error("process {pid} does not exist")]
    NoSuchProcess {
        /// The process that was to be sampled.
        pid: u32,
    },
    /// A parameter is outside its range.
    #[error("{what} is {value}, but must be {range}")]
    OutOfRange {
        /// The parameter.
        what: &'static str,
        /// Its value.
        value: u32,
        /// What it may be.
        range: &'static str,
    },
    /// The memory shared with the kernel could not be had, however small.
    #[error(
        "cannot map the ring buffer of CPU {cpu} ({bytes} bytes); the limits are `ulimit -l` and /proc/sys/kernel/perf_event_mlock_kb"
    )]
    Ring {
        /// The CPU that the buffer belongs to.
        cpu: u32,
        /// The smallest size that was tried, in bytes.
        bytes: usize,
        /// The system's reason.
        source: io::Error,
    },
    /// The system does not say which CPUs it has.
    #[error("cannot learn from {} which CPUs are online", path.display())]
    Cpus {
        /// The file that names them.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The draining thread could not be started or woken.
    #[error("cannot {action} the draining thread")]
    Thread {
        /// What was tried.
        action: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The draining thread ended by a panic, which is a defect of the recorder.
    #[error("the draining thread panicked: {message}")]
    Panicked {
        /// What it said.
        message: String,
    },
}

fn list(refusals: &[Refusal]) -> String {
    refusals.iter().map(Refusal::to_string).collect::<Vec<_>>().join("; ")
}
