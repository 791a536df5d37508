//! Launches a program and observes it: sampled stacks, symbols, resources, step marks.
//!
//! [`launch`] does all of this. Three processes take part: the caller, which observes; the
//! *guardian*, which starts the target and ends all its processes, even if the caller dies; and the
//! *target*. All times are CLOCK_MONOTONIC nanoseconds, so that samples, steps and resources can be
//! joined.

mod cancel;
mod capabilities;
mod clock;
mod error;
mod file_size;
pub mod guardian;
pub mod heap;
pub mod import;
mod launch;
mod library_limits;
mod machine;
mod marks;
mod outcome;
mod output;
mod preload;
mod program;
mod resources;
pub mod sample;
pub mod source;
mod step_source;
mod tree;

pub use cancel::Cancel;
pub use capabilities::{Capability, Inquiry, State, capabilities, is_python_interpreter};
pub use error::RecordError;
pub use file_size::survive_file_size_limit;
pub use launch::{Guardian, Launch, Leftover, Recording, launch};
pub use machine::{load_average, machine};
pub use outcome::Outcome;
pub use preload::Preload;
pub use program::resolve;
pub use simprof_preload::supported;
