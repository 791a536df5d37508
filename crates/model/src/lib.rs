//! The data types of a profiling run, and reading and writing their files. This crate has no analysis.
//!
//! - A [`Profile`] shows where CPU time is spent, a [`HeapProfile`] where memory is allocated.
//! - A [`CallProfile`] contains the calls and times that a tracer recorded.
//! - A [`Measurement`] states how much something costs, with all replicates.
//! - A [`Run`] is the manifest of a run: its plan, its state and its results.

mod calls;
mod calls_sum;
mod heap;
mod machine;
mod measurement;
mod notice;
mod profile;
mod run;
mod steps;
mod store;
mod timeline;

pub use calls::{BUILT_IN_FILE, CallProfile, CalledFunction, CalledId, Caller};
pub use heap::{
    HEAP_SCHEMA, HeapAmount, HeapAmounts, HeapCoverage, HeapInterval, HeapOrigin, HeapProfile,
    HeapProvenance, HeapSite, HeapSizeClass, HeapTick, NORMAL_95, SHORT_LIVED_NS,
};
pub use machine::Machine;
pub use measurement::{Measurement, Metric, Replicate, Status, Value};
pub use notice::{Notice, NoticeId, add_notices, has_notice};
pub use profile::{
    CodeRange, Frame, FrameId, Function, FunctionId, FunctionKind, LoopLine, Module, ModuleId,
    PROFILE_SCHEMA, Profile, ProfileBuilder, Provenance, PythonProvenance, StackId, StackNode,
    StackSample, StateSpan, StringId, Thread, ThreadId, ThreadStates, TightLoop, WaitCause,
    WaitSample, WeightKind,
};
pub use run::{Mode, Phase, PhaseRecord, ProblemCause, RUN_SCHEMA, Run, RunProblem, RunStatus};
pub use steps::{Step, Steps, merged_spans};
pub use store::{StoreError, append_line, read_json, write_atomically, write_json};
pub use timeline::{CpuReading, CpuTime, ResourceSample, ThreadCpu, Timeline};
