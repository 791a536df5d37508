//! What a heap profile says: memory by line, leak suspects, churn.

mod allocators;
mod churn;
mod draws;
mod growth;
mod leaks;
mod lines;
mod stacks;

pub use churn::{Churn, churn};
pub use draws::{bytes_interval, count_interval, drawn_interval};
pub use leaks::{GrowthPer, LeakSearch, LeakSuspect, leak_suspects};
pub use lines::{HeapLine, LineAmounts, heap_lines, heap_lines_with_callees};
pub(crate) use stacks::target_stack;
