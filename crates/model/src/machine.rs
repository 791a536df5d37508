//! The machine of a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Notice;

/// The machine of a run, with the properties that influence timings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// Processor model.
    pub cpu: String,
    /// Number of cores that simprof may use.
    pub cores: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Kernel release.
    pub kernel: String,
    /// Name and version of the distribution.
    pub os: String,
    /// Hypervisor. Null if the machine is not virtual.
    pub hypervisor: Option<String>,
    /// CPU frequency governor of the first core. Null if there is none.
    pub governor: Option<String>,
    /// Value of `perf_event_paranoid`. Null if it is not readable.
    pub perf_event_paranoid: Option<i32>,
    /// Whether simprof ran as root.
    pub root: bool,
    /// Load average over 1 minute at the start of the run. Null if it is not readable.
    pub load: Option<f64>,
    /// Notices about conditions that make timings on this machine unreliable.
    pub notices: Vec<Notice>,
}
