//! Records allocations: where they are made, how long they live, how much is alive.
//!
//! A library within the target ([`simprof_preload::heap`]) tells of allocations and their ends by shared memory; a thread of the recorder
//! reads and adds up what it tells while the target runs, so that a target that is killed loses nothing; [`symbolise`] names
//! the stacks when it has ended.
//!
//! | module | what |
//! | --- | --- |
//! | `memory`, `lanes` | what is shared: mapped, and read |
//! | `loadable`, `refusal` | what the target is given, and which targets cannot be recorded |
//! | `drain` | the thread: brings events, steps and ends of processes into order |
//! | `tally`, `site`, `sum`, `ticks`, `series` | sums of events |
//! | `images`, `feed` | process images, and step marks on their way |
//! | `absent` | processes that the library was not loaded into |
//! | `profile` | names, and the account of how it was obtained |

mod absent;
mod drain;
mod feed;
mod images;
mod lanes;
mod loadable;
mod memory;
mod profile;
mod refusal;
mod series;
mod site;
mod sum;
mod tally;
#[cfg(test)]
mod tests;
mod ticks;

pub use profile::{HeapRecording, symbolise};
pub use refusal::{HeapRefusal, check};

pub(crate) use drain::Recorder;
pub(crate) use loadable::variable;
pub(crate) use refusal::check_path;

/// How to record allocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeapSampling {
    /// Mean distance between two draws in the stream of allocated bytes; 1 records every allocation.
    pub interval_bytes: u64,
    /// Where the draws begin.
    pub seed: u64,
}

impl Default for HeapSampling {
    fn default() -> Self {
        Self { interval_bytes: simprof_preload::heap::format::DEFAULT_INTERVAL, seed: 0 }
    }
}
