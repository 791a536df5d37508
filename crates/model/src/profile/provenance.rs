//! How a profile was obtained, and what it lacks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Notice, NoticeId, add_notices};

/// How the Python frames of a profile were obtained, and what they lack. All counts are of samples.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PythonProvenance {
    /// The interpreters that were seen, such as `CPython 3.11.7`.
    pub interpreters: Vec<String>,
    /// Samples of processes that run Python, from the start of their sampling with Python frames on.
    pub samples: u64,
    /// Of those, samples of threads that run no Python.
    pub native: u64,
    /// Samples whose Python stack did not come.
    pub lost: u64,
    /// Samples of which at least one Python frame could not be read.
    pub unreadable: u64,
    /// Samples whose Python stack is deeper than what is kept of it; the innermost frames are there.
    pub cut: u64,
    /// Samples whose Python and native frames do not fit together: the Python frames are there, with the native
    /// ones beneath the innermost.
    pub unmerged: u64,
    /// Samples within the profiler's own library or its own texts in Python. They tell nothing of the program and are not
    /// in the profile.
    #[serde(default)]
    pub own: u64,
}

impl PythonProvenance {
    /// Share of the samples whose Python stack is lost or torn, 0 to 1.
    pub fn lost_share(&self) -> f64 {
        (self.lost + self.unreadable) as f64 / self.samples.max(1) as f64
    }

    /// Joins the record of another run of the same target.
    pub fn absorb(&mut self, other: &PythonProvenance) {
        add_new(&mut self.interpreters, &other.interpreters);
        self.samples += other.samples;
        self.native += other.native;
        self.lost += other.lost;
        self.unreadable += other.unreadable;
        self.cut += other.cut;
        self.unmerged += other.unmerged;
        self.own += other.own;
    }
}

/// How a profile was obtained, and what it lacks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Provenance {
    /// The event really used, such as `cpu-clock:u`.
    pub event: String,
    /// What was tried first and refused, each with its reason, in order.
    pub fallbacks: Vec<String>,
    /// Rate asked for, samples per second of CPU time.
    pub rate_hz: f64,
    /// Samples per second of CPU time that came.
    pub achieved_hz: f64,
    /// Samples recorded, those with a broken stack included.
    pub samples: u64,
    /// Samples that the kernel dropped for want of room.
    pub lost: u64,
    /// Samples whose stack could not be unwound to its root.
    pub truncated: u64,
    /// Samples in which at least the leaf has no symbol.
    pub unsymbolised: u64,
    /// True where frames of the kernel were recorded.
    pub kernel: bool,
    /// Bytes of user stack copied per sample.
    pub stack_bytes: u32,
    /// CPU time that the recorder itself used while the target ran, ns.
    pub recorder_cpu_ns: u64,
    /// Wall time spent to unwind and symbolise after the target ended, ns.
    pub symbolise_ns: u64,
    /// CPU time that the target used (all its processes), ns.
    pub target_cpu_ns: u64,
    /// How Python frames were obtained; none where no process ran Python.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<PythonProvenance>,
    /// What a reader must know about the recording.
    pub notices: Vec<Notice>,
}

impl Provenance {
    /// Joins the record of another run of the same target.
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

/// Adds the texts of `more` that `texts` does not hold yet.
fn add_new(texts: &mut Vec<String>, more: &[String]) {
    for text in more {
        if !texts.contains(text) {
            texts.push(text.clone());
        }
    }
}
