//! The summaries of the four phases: their findings as JSON, a stable format for scripts (docs/FORMATS.md).

mod arms;
mod calls;
mod common;
mod component;
mod component_cost;
mod counters;
mod heap;
mod laws;
mod line;
mod macro_;
mod parts;
mod system;
mod thread_statements;
mod thread_time;
mod winner;

pub use crate::analysis::RunSteps;
pub use arms::{Arm, ArmVerdict};
pub use calls::{CallRow, CallsInput, CallsSummary, call_rows};
pub use common::{Bounds, Entry, Head, entries};
pub use component::{
    BenchmarkShape, ComponentSummary, Control, IdleComponent, InSitu, LatencySummary,
    OperationCounters, component_summary,
};
pub use component_cost::{by_share, leading_component};
pub use counters::Counter;
pub(crate) use heap::MEMORY_LINES;
pub use heap::{
    Amount, ChurnSummary, LeakSummary, LeakVerdict, MemoryLine, MemoryPerStep, MemorySummary,
    memory_summary, unexplained_growth,
};
pub use laws::{FittedLaw, Law, RESIDENT_GRANULE, STEP_CPU, TimeLaws, laws, sizes, skipped_sizes};
pub(crate) use line::loop_name;
pub use line::{ChosenBy, FunctionLines, LineCost, LineSummary, LoopLine, LoopLines};
pub use macro_::{
    Bottleneck, CaseInput, CaseSummary, ComponentCost, ComponentPart, FEW_SAMPLES, FunctionSummary,
    LibraryCost, MacroSummary, ProfileSummary, StepSummary, case_summary, profile_summary,
    share_interval,
};
pub use parts::{OutsideSteps, PartSummary};
pub use system::{
    Check, Growth, GrowthVerdict, Prediction, PredictionVerdict, ReadinessVerdict, SystemSummary,
    TIMELINE_PREFIX, TimelinePoint, TimelineSummary,
};
pub use thread_time::{
    CauseShare, IdleThreads, SpinShare, SpinningLine, ThreadSummary, TimeShares, WaitingLine,
    cause_name, waiting_lines,
};
pub use winner::Winner;
