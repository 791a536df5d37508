//! The four summaries: what each phase found, as data that scripts may rely on (docs/FORMATS.md).

mod arms;
mod calls;
mod common;
mod component;
mod counters;
mod laws;
mod line;
mod macro_;
mod memory;
mod python;
mod system;

pub use arms::{Arm, ArmPoint, Winner, arms, winners};
pub use calls::{CallCounts, CallRow, CallsInput, CallsSummary, call_rows, calls_summary};
pub use common::{Bounds, Entry, Head, entries};
pub use component::{
    BenchmarkShape, ComponentSummary, Control, IdleComponent, InSitu, LatencySummary,
    OperationCounters, component_summary,
};
pub use counters::{Counter, counters};
pub use laws::{Law, laws, sizes};
pub use line::{FunctionLines, LineCost, LineSummary};
pub use macro_::{
    Bottleneck, CaseInput, CaseSummary, ComponentCost, FunctionSummary, MacroSummary,
    ProfileSummary, RunSteps, StepSummary, case_summary, profile_summary, share_interval,
};
pub(crate) use memory::MEMORY_LINES;
pub use memory::{
    Amount, ChurnSummary, LeakSummary, MemoryLine, MemoryPerStep, MemorySummary, memory_summary,
    unexplained_growth,
};
pub use python::{CauseShare, TimeShares, WaitingLine, cause_name, time_shares, waiting_lines};
pub use system::{
    Check, Growth, Prediction, ReadinessVerdict, SystemSummary, TimelinePoint, TimelineSummary,
};
