//! Provenance: how a profile was recorded, and what is missing in it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Notice, NoticeId, add_notices};

/// How the Python frames of a profile were recorded, and what is missing in them. All counts are numbers of samples.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PythonProvenance {
    /// The interpreters, for example `CPython 3.11.7`.
    pub interpreters: Vec<String>,
    /// Samples of processes that run Python, counted from the time when their Python frames were recorded.
    pub samples: u64,
    /// The part of `samples` from threads that do not run Python.
    pub native: u64,
    /// Samples whose Python stack was lost.
    pub lost: u64,
    /// Samples with at least one Python frame that could not be read.
    pub unreadable: u64,
    /// Samples whose Python stack is truncated because it is too deep. The innermost frames are present.
    pub cut: u64,
    /// Samples whose Python stack is so deep that frames in its middle are missing. The innermost and the outermost frames are
    /// present.
    #[serde(default)]
    pub left_out: u64,
    /// Samples whose Python and native frames could not be merged. All Python frames are present. The innermost native frames follow them
    /// as callees.
    pub unmerged: u64,
    /// Samples in the preload library or in Python code of simprof. They are not part of the program and are excluded from the profile.
    #[serde(default)]
    pub own: u64,
}

impl PythonProvenance {
    /// Returns the share of samples whose Python stack is lost or has unreadable frames, 0 to 1.
    pub fn lost_share(&self) -> f64 {
        (self.lost + self.unreadable) as f64 / self.samples.max(1) as f64
    }

    /// Adds the provenance of another run of the same target.
    pub fn absorb(&mut self, other: &PythonProvenance) {
        add_new(&mut self.interpreters, &other.interpreters);
        self.samples += other.samples;
        self.native += other.native;
        self.lost += other.lost;
        self.unreadable += other.unreadable;
        self.cut += other.cut;
        self.left_out += other.left_out;
        self.unmerged += other.unmerged;
        self.own += other.own;
    }
}

/// How a profile was recorded, and what is missing in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Provenance {
    /// The event that was used, for example `cpu-clock:u`.
    pub event: String,
    /// The events that were tried before the used one, in order. Each is a text with the reason why the event is not available.
    pub fallbacks: Vec<String>,
    /// Requested sampling rate, in samples per second of CPU time.
    pub rate_hz: f64,
    /// Achieved sampling rate, in samples per second of CPU time.
    pub achieved_hz: f64,
    /// Number of recorded samples, including those with a truncated stack.
    pub samples: u64,
    /// Number of samples that the kernel dropped because the buffer was full.
    pub lost: u64,
    /// Number of samples whose stack is truncated: it could not be unwound to the root.
    pub truncated: u64,
    /// Number of samples whose leaf has no symbol.
    pub unsymbolised: u64,
    /// Whether kernel frames were recorded.
    pub kernel: bool,
    /// Bytes of user stack copied per sample.
    pub stack_bytes: u32,
    /// CPU time of the recorder while the target ran, in ns.
    pub recorder_cpu_ns: u64,
    /// Wall time for unwinding and symbolising after the target ended, in ns.
    pub symbolise_ns: u64,
    /// CPU time of the target with all its processes, in ns.
    pub target_cpu_ns: u64,
    /// The part of `target_cpu_ns` in the kernel, in ns. The kernel estimates it by ticks.
    #[serde(default)]
    pub target_system_ns: u64,
    /// How Python frames were recorded. Missing if no process ran Python.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<PythonProvenance>,
    /// Notices about the recording.
    pub notices: Vec<Notice>,
}

impl Provenance {
    /// Adds the provenance of another run of the same target.
    pub fn absorb(&mut self, other: &Provenance) {
        if self.event.is_empty() {
            self.clone_from(other);
            return;
        }
        let cpu_ns = self.target_cpu_ns + other.target_cpu_ns;
        if cpu_ns > 0 {
            self.achieved_hz = (self.achieved_hz * self.target_cpu_ns as f64
                + other.achieved_hz * other.target_cpu_ns as f64)
                / cpu_ns as f64;
        }
        self.target_cpu_ns = cpu_ns;
        self.target_system_ns += other.target_system_ns;
        self.samples += other.samples;
        self.lost += other.lost;
        self.truncated += other.truncated;
        self.unsymbolised += other.unsymbolised;
        self.recorder_cpu_ns += other.recorder_cpu_ns;
        self.symbolise_ns += other.symbolise_ns;
        self.kernel |= other.kernel;
        if let Some(python) = &other.python {
            self.python.get_or_insert_default().absorb(python);
        }
        add_new(&mut self.fallbacks, &other.fallbacks);
        add_notices(&mut self.notices, other.notices.iter().cloned());
        if self.event != other.event {
            let text = format!("Another run was sampled by a different event: {}.", other.event);
            add_notices(&mut self.notices, [Notice::new(NoticeId::EventsDiffer, text)]);
        }
    }
}

/// Appends the texts of `more` that `texts` does not contain yet.
fn add_new(texts: &mut Vec<String>, more: &[String]) {
    for text in more {
        if !texts.contains(text) {
            texts.push(text.clone());
        }
    }
}
