//! Records allocations: where they are made, how long they live, how many bytes are live.
//!
//! A preload library within the target ([`simprof_preload::heap`]) writes allocations and frees to shared memory. A thread
//! of the recorder reads and sums them while the target runs, so that nothing is lost if the target is killed.
//! [`symbolise`] names the stacks after the target has ended.
//!
//! | module | content |
//! | --- | --- |
//! | `heap_memory`, `rings` | the shared memory and the reader of its ring buffers |
//! | `injection`, `refusal` | the library and memory given to the target; targets that cannot be recorded |
//! | `drain` | the thread, which puts events, step marks and ends of processes in order |
//! | `tally`, `site`, `estimate`, `tick_series`, `timeline` | sums of events |
//! | `images`, `step_marks` | process images; step marks on their way to the thread |
//! | `load_check` | processes into which the library was not loaded |
//! | `profile` | the heap profile: symbolised stacks, provenance and notices |

mod drain;
mod estimate;
mod heap_memory;
mod images;
mod injection;
mod load_check;
mod profile;
mod refusal;
mod rings;
mod site;
mod step_marks;
mod tally;
#[cfg(test)]
mod tests;
mod tick_series;
mod timeline;

pub use profile::{HeapRecording, symbolise};
pub use refusal::{HeapRefusal, check};

pub(crate) use drain::Recorder;
pub(crate) use injection::variable;
pub(crate) use refusal::check_path;

/// The settings of recording allocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeapSampling {
    /// Mean distance between two sampled bytes in the stream of allocated bytes; 1 records every allocation.
    pub interval_bytes: u64,
    /// Seed of the random distances between samples.
    pub seed: u64,
}

impl Default for HeapSampling {
    fn default() -> Self {
        Self { interval_bytes: simprof_preload::heap::format::DEFAULT_INTERVAL, seed: 0 }
    }
}
