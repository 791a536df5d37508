//! What a heap profile says: memory by line, leak suspects, churn.

mod allocators;
mod churn;
mod growth;
mod leaks;
mod lines;
mod stacks;

pub use churn::{Churn, churn};
pub use leaks::{GrowthPer, LeakSuspect, leak_suspects};
pub use lines::{HeapLine, LineAmounts, heap_lines, heap_lines_with_callees};
pub(crate) use stacks::target_stack;
