//! The machine that a run was made on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Notice;

/// What a reader must know of the machine to judge a figure.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// Processor model.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: u32,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Kernel release.
    pub kernel: String,
    /// Distribution.
    pub os: String,
    /// Hypervisor, where the machine is virtual.
    pub hypervisor: Option<String>,
    /// Frequency governor of the first core, where there is one.
    pub governor: Option<String>,
    /// Value of perf_event_paranoid, where it is readable.
    pub perf_event_paranoid: Option<i32>,
    /// True where the process runs as root.
    pub root: bool,
    /// Load average (1 minute) when the run began.
    pub load: Option<f64>,
    /// What makes timings on this machine doubtful.
    pub notices: Vec<Notice>,
}
