//! Errors of sampling.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// An event that the system refused to open, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The event, such as `cycles:uk` (`u`: user code, `k`: kernel code).
    pub event: String,
    /// The reason, as a phrase for people.
    pub reason: String,
    /// The system's error number.
    pub errno: i32,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.event, self.reason)
    }
}

/// An error of sampling a process.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// The system refused all events.
    #[error("process {pid} cannot be sampled: {}; {hint}", list(.refusals))]
    Refused {
        /// The process.
        pid: u32,
        /// The events that were tried, in order.
        refusals: Vec<Refusal>,
        /// How to make it work.
        hint: String,
    },
    /// The process ended before its events were opened.
    #[error("process {pid} does not exist")]
    NoSuchProcess {
        /// The process.
        pid: u32,
    },
    /// A setting is outside its range.
    #[error("{what} is {value}, but must be {range}")]
    OutOfRange {
        /// The setting.
        what: &'static str,
        /// Its value.
        value: u32,
        /// The values that are allowed.
        range: &'static str,
    },
    /// The system refused even the smallest ring buffer.
    #[error(
        "cannot map the ring buffer of CPU {cpu} ({bytes} bytes); the limits are `ulimit -l` and /proc/sys/kernel/perf_event_mlock_kb"
    )]
    Ring {
        /// The CPU of the buffer.
        cpu: u32,
        /// The smallest size that was tried, in bytes.
        bytes: usize,
        /// The system's error.
        source: io::Error,
    },
    /// The list of online CPUs could not be read.
    #[error("cannot read from {} which CPUs are online", path.display())]
    Cpus {
        /// The file with the list.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The draining thread could not be started or stopped.
    #[error("cannot {action} the draining thread")]
    Thread {
        /// `start` or `stop`.
        action: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The draining thread panicked, which is a bug of simprof.
    #[error("the draining thread panicked: {message}")]
    Panicked {
        /// The message of the panic.
        message: String,
    },
}

fn list(refusals: &[Refusal]) -> String {
    refusals.iter().map(Refusal::to_string).collect::<Vec<_>>().join("; ")
}
