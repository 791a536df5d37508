//! What a heap profile says: memory by line, leak suspects, churn.

mod allocators;
mod churn;
mod growth;
mod leaks;
mod lines;

pub use churn::{Churn, churn};
pub use leaks::{GrowthPer, LeakSuspect, leak_suspects};
pub use lines::{HeapLine, LineAmounts, heap_lines, heap_lines_with_callees};
