//! Findings from a heap profile: memory by line, leak suspects, short-lived allocations.

mod allocators;
mod churn;
mod growth;
mod intervals;
mod join_stacks;
mod leaks;
mod lines;
mod recorder_frames;

pub use churn::{Churn, churn};
pub use intervals::{bytes_interval, count_interval, sum_interval};
pub use join_stacks::without_small_stacks;
pub use leaks::{GrowthPer, LeakSearch, LeakSuspect, TooLittleData, leak_suspects};
pub use lines::{HeapLine, heap_lines, heap_lines_with_callees};
pub use recorder_frames::charged_to_target;
