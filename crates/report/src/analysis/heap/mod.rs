//! What a heap profile says: memory by line, leak suspects, churn.

mod allocators;
mod churn;
mod draws;
mod fold;
mod growth;
mod leaks;
mod lines;
mod stacks;

pub use churn::{Churn, churn};
pub use draws::{bytes_interval, count_interval, drawn_interval};
pub use fold::without_small_stacks;
pub use leaks::{GrowthPer, LeakSearch, LeakSuspect, leak_suspects};
pub use lines::{HeapLine, heap_lines, heap_lines_with_callees};
pub use stacks::charged_to_target;
